"""Training steps of SAGAN-CycleGAN and DTN, gradient penalty, frozen networks."""

import copy
import json
import random
from dataclasses import replace

import numpy as np
import pytest

from convert.family import resolve
from convert.plan import build_plan
from convert.recipes.dtn import DtnSettings
from convert.recipes.pool import ImagePool
from convert.recipes.sagan_cyclegan import SaganCycleGanSettings
from convert.registry import family_named, part_named
from ms_models.build import build_mindspore
from parity_tests.harness.compare import measure, ulp_neighbour
from parity_tests.harness.judge import judge, judge_all
from parity_tests.harness.measurement import Kind, Measurement, Mode, Probe, Quantity
from parity_tests.harness.training import measure_training
from parity_tests.harness.training_setup import small_setup
from parity_tests.tests.cases import seeded_state, small_part
from parity_tests.tests.golden_others import distance, image, parameters, uniform
from parity_tests.tolerances import (
    FLOAT64_RELATIVE,
    FLOAT64_STATE_RELATIVE,
    FLOAT64_TRAINING_RELATIVE,
    GRADIENT_SCALE_FLOOR,
    LOSS_SCALE_FLOOR,
    ULP,
)
from torch_ref.build import build_torch

MODES = ("sn", "sn+gp", "wgangp", "wgan", "vanilla", "lsgan")
SA_G, SA_D = {"architecture": "sa", "z_dim": 100, "conv_dim": 64}, {"architecture": "sa", "conv_dim": 64}
PATCH, HALF = {"architecture": "patch", "ndf": 64, "n_layers": 3}, {"z_dim": 100, "conv_dim": 64}
TERMS = {
    "sagan_cyclegan": ["G.A.adv", "G.B.adv", "G.cycle_A", "G.cycle_B"],
    "dtn": ["G.fake", "G.rec", "G.consistency", "G.reconstruction", "D.real", "D.fake", "D.rec"],
}


class Recorded:
    """Stands for the step's random numbers: the recorded mixing weights, in order."""

    def __init__(self):
        self.drawn = 0

    def uniform(self, size):
        self.drawn += 1
        return uniform(f"alpha:{self.drawn - 1}", size, 0, 1)


def _recorded_networks(family, kwargs, gains):
    networks = {}
    for name, arguments in kwargs.items():
        part = part_named(family_named(family), name)
        layout = build_plan(part, arguments).shapes
        networks[name] = build_torch(part, arguments, parameters(layout, gains[name], f"{name}.")).double()
    return networks


def _check_state(networks, state, step):
    """Weights and vectors after a step. A bias before an instance norm has no gradient but rounding, of which Adam
    makes a part of a step, so that states are less sharp than losses."""
    for key, record in state.items():
        part, _, name = key.partition(".")
        if part != "criterionGAN":
            value = networks[part].state_dict()[name].numpy()
            assert distance(record, value) < FLOAT64_STATE_RELATIVE, (step, key)


def _check_losses(number, record, losses, identity):
    """The terms in their recorded order, then the sums of both discriminators."""
    names = [*TERMS["sagan_cyclegan"], *identity]
    names += [f"D.{domain}.{kind}" for domain in "AB" for kind in ("real", "fake")]
    found = {key: losses[key] for key in names}
    for domain in "AB":
        found[f"loss_D_{domain}"] = sum(losses[key] for key in losses if key.startswith(f"D.{domain}."))
    values = [value for _, value in record["seq"]] + [record["loss_D_A"], record["loss_D_B"]]
    for (key, value), wanted in zip(found.items(), values, strict=True):
        limit = FLOAT64_TRAINING_RELATIVE[number] * max(abs(wanted), LOSS_SCALE_FLOOR) + 1e-11
        assert abs(value - wanted) <= limit, (number, key)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["sn", "sn+gp_idt", "wgangp"])
def test_reference_steps_equal_the_original_in_float64(name, shared):
    import torch

    run = json.loads((shared / "golden" / "others" / "lzw_train.json").read_text())["runs"][name]
    from torch_ref.steps.sagan_cyclegan import SaganCycleGanStep

    judge_kwargs = PATCH if name == "wgangp" else SA_D
    kwargs = {"netG_A": SA_G, "netG_B": SA_G, "netD_A": judge_kwargs, "netD_B": judge_kwargs}
    networks = _recorded_networks("sagan_cyclegan", kwargs, {part: run["gain"][part[3]] for part in kwargs})
    identity = run["opt"]["lambda_idt"] if run["opt"]["use_idt"] else 0.0
    settings = SaganCycleGanSettings(gan_mode=run["opt"]["gan_mode"], identity=identity, reference_exact=True)
    step = SaganCycleGanStep(networks, settings)
    step.random = Recorded()
    for number, record in enumerate(run["f64"]["steps"]):
        losses = step(*(torch.from_numpy(image(f"{side}{number}", (2, 3, 64, 64))).double() for side in "AB"))
        _check_losses(number, record, losses, ["G.identity_A", "G.identity_B"] if identity else [])
        _check_state(networks, record["state"], number)


@pytest.mark.shared
def test_reference_steps_of_dtn_equal_the_original_in_float64(shared):
    import torch

    from torch_ref.steps.dtn import DtnStep

    run = json.loads((shared / "golden" / "others" / "lzw_dtn_train.json").read_text())["runs"]["sn"]
    kwargs = {"encoder": HALF, "decoder": HALF, "net_D": {"conv_dim": 64}}
    gains = {"encoder": run["gain"], "decoder": run["gain"], "net_D": run["gain_net_D"]}
    networks = _recorded_networks("dtn", kwargs, gains)
    step = DtnStep(networks, DtnSettings(reference_exact=True))
    for number, record in enumerate(run["f64"]["steps"]):
        losses = step(*(torch.from_numpy(image(f"{side}{number}", (2, 3, 64, 64))).double() for side in "ST"))
        for key, (_, wanted) in zip(TERMS["dtn"], record["seq"], strict=True):
            limit = FLOAT64_TRAINING_RELATIVE[number] * max(abs(wanted), LOSS_SCALE_FLOOR) + 1e-11
            assert abs(losses[key] - wanted) <= limit, (number, key)
        _check_state(networks, record["state"], number)


def test_port_step_with_penalty_and_identity_equals_the_reference():
    setup = small_setup(family_named("sagan_cyclegan"), steps=1)
    setup = replace(setup, settings={"gan_mode": "sn+gp", "identity": 0.05})
    verdicts = judge_all(measure_training(setup))
    assert {one.measurement.quantity.name for one in verdicts} >= {"D.A.penalty", "G.identity_B"}
    assert [(one.measurement.layer, one.measurement.quantity) for one in verdicts if not one.equal] == []


def _steps(family, settings, parts):
    """Steps of both frameworks on small networks with the same weights."""
    training = family_named(family).training
    built = {"torch_ref": {}, "ms_models": {}}
    for name in parts:
        part, kwargs = small_part(family, name)
        state = seeded_state(family, name)
        built["torch_ref"][name] = build_torch(part, kwargs, state)
        built["ms_models"][name] = build_mindspore(part, kwargs, state)
    return [
        resolve(package, training.step)(networks, training.settings(**settings)) for package, networks in built.items()
    ]


SAGAN = ("netG_A", "netG_B", "netD_A", "netD_B")  # both kinds of generators and discriminators


def _double(step):
    for network in (*step.networks.values(), step.criterion):
        network.double()


def _check_near(found, plain, wanted, ulps):
    """MindSpore's losses are as near to float64 as PyTorch's, give or take some last places."""
    for key, truth in wanted.items():
        value = float(truth.detach())
        limit = 10 * abs(float(plain[key].detach()) - value) + ulps * ULP * max(1.0, abs(value))
        assert abs(float(found[key].asnumpy()) - value) <= limit, key


def _judged(step, tensors):
    """Loss terms of the discriminators, for real pictures of A and B and fakes of both."""
    return step.run_phase("D", *tensors[:2], tuple(tensors[2:]))[0]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("mode", MODES)
def test_discriminators_train_alike_in_every_mode(mode):
    import mindspore
    import torch

    reference, port = _steps("sagan_cyclegan", {"gan_mode": mode, "pool_size": 1, "clip": 0.05}, SAGAN)
    truth, _ = _steps("sagan_cyclegan", {"gan_mode": mode, "pool_size": 1, "clip": 0.05}, SAGAN)
    _double(truth)
    for number in range(2):  # in the second, the pools are full and may answer with the first
        pictures = [image(f"{one}{number}", (2, 3, 64, 64)) for one in ("A", "B", "fake A", "fake B")]
        found = _judged(port, [mindspore.Tensor(one) for one in pictures])
        plain = _judged(reference, [torch.from_numpy(one) for one in pictures])
        wanted = _judged(truth, [torch.from_numpy(one).double() for one in pictures])
        assert list(found) == list(wanted)
        _check_near(found, plain, wanted, 64 if number == 0 else 4096)
    assert port.random.bit_generator.state == reference.random.bit_generator.state
    assert (len(port.pools["A"].images), len(port.pools["B"].images)) == (1, 1)
    weights = port.networks["netD_A"].trainable_params() + port.networks["netD_B"].trainable_params()
    assert mode != "wgan" or max(float(weight.abs().max()) for weight in weights) <= 0.05 + ULP


@pytest.mark.parametrize("mode", ["sn", "wgan", "vanilla", "lsgan"])
def test_every_mode_of_dtn_trains_and_clips(mode):
    import torch

    step, _ = _steps("dtn", {"gan_mode": mode, "clip": 0.02}, ("encoder", "decoder", "net_D"))
    pictures = [torch.from_numpy(image(side, (2, 3, 64, 64))) for side in "ST"]
    losses = [step(*pictures) for _ in range(2)]
    assert all(np.isfinite(value) for one in losses for value in one.values())
    assert losses[1]["G.reconstruction"] < losses[0]["G.reconstruction"]
    if mode == "wgan":
        trained = [one for one in step.networks["net_D"].parameters() if one.requires_grad]
        assert max(float(one.detach().abs().max()) for one in trained) <= 0.02


@pytest.mark.parametrize("mode", ["sn+gp", "wgangp"])
def test_dtn_refuses_modes_with_a_penalty_that_it_does_not_have(mode):
    with pytest.raises(ValueError, match="no gradient penalty"):
        DtnSettings(gan_mode=mode)


def test_generators_rest_between_the_steps_of_the_critic():
    import torch

    reference, _ = _steps("sagan_cyclegan", {"n_critic": 2}, SAGAN)
    part, kwargs = small_part("sagan_cyclegan", "netG_A")
    networks = {**reference.networks, "netG_B": build_torch(part, kwargs, seeded_state("sagan_cyclegan", "netG_A"))}
    step = type(reference)(networks, reference.settings)
    weight = networks["netG_A"].last[0].weight
    start = weight.detach().clone()
    pictures = [torch.from_numpy(image(side, (1, 3, 64, 64))) for side in "AB"]
    first = step(*pictures)
    assert torch.equal(weight, start)
    assert all(name.startswith("D.") for name in first)
    second = step(*pictures)
    assert not torch.equal(weight, start)
    assert "G.total" in second


def test_reference_exact_counts_identity_a_twice():
    totals = {}
    for exact in (False, True):
        settings = SaganCycleGanSettings(identity=0.1, cycle_a=10.0, cycle_b=20.0, reference_exact=exact)
        terms = {"G.A.adv": 1.0, "G.B.adv": 2.0, "G.cycle_A": 3.0, "G.cycle_B": 4.0}
        terms |= {"G.identity_A": 5.0, "G.identity_B": 6.0}
        totals[exact] = sum(weight * terms[name] for name, weight in settings.weights("G").items())
    assert totals[False] == pytest.approx(3 + 30 + 80 + 0.1 * (50 + 120))
    assert totals[True] == pytest.approx(3 + 30 + 80 + 0.1 * (50 + 50))


@pytest.mark.shared
def test_image_pool_answers_as_recorded(shared):
    record = json.loads((shared / "golden" / "others" / "lzw_networks_losses.json").read_text())["image_pool"]
    for name, seed, size, batch in (("seed0_pool4_batch2", 0, 4, 2), ("seed7_pool3_batch1", 7, 3, 1)):
        source = random.Random(seed)

        class Draws:
            def uniform(self, source=source):
                return source.uniform(0, 1)

            def integers(self, count, source=source):
                return source.randint(0, count - 1)

        pool = ImagePool(size, Draws())
        for number, wanted in enumerate(record[name]):
            ids = np.arange(number * batch, (number + 1) * batch, dtype=np.float32)
            answer = pool.query(np.broadcast_to(ids[:, None, None, None], (batch, 3, 2, 2)))
            assert answer[:, 0, 0, 0].tolist() == wanted, (name, number)


@pytest.mark.shared
@pytest.mark.parametrize("recipe", [SaganCycleGanSettings, DtnSettings])
def test_learning_rate_of_each_epoch_is_as_recorded(recipe, shared):
    record = json.loads((shared / "golden" / "others" / "lzw_networks_losses.json").read_text())["lr_by_epoch"]
    for name, constant, decay in (("niter100_decay100_lr1e-4", 100, 100), ("niter3_decay4_lr1e-4", 3, 4)):
        settings = recipe(constant_epochs=constant, decay_epochs=decay, steps_per_epoch=5)
        for epoch, wanted in record[name].items():
            for step in (5 * int(epoch) + 1, 5 * int(epoch) + 5):
                assert settings.rate("G", step) == pytest.approx(wanted, rel=FLOAT64_RELATIVE, abs=1e-20)
                assert settings.rate("D", step) == pytest.approx(4 * wanted, rel=FLOAT64_RELATIVE, abs=1e-20)


@pytest.mark.parametrize("part", ["netD_A", "netD_B"])
@pytest.mark.parametrize("seed", [0, 1])
def test_second_order_gradients_of_the_port_equal_float64(part, seed):
    import mindspore
    import torch

    from ms_models.gradient_penalty import gradient_penalty as port_penalty
    from ms_models.gradient_penalty import input_gradient
    from torch_ref.gradient_penalty import gradient_penalty

    found, kwargs = small_part("sagan_cyclegan", part)
    state = seeded_state("sagan_cyclegan", part, f"penalty{seed}")
    cell = build_mindspore(found, kwargs, state)
    points = image(f"points{seed}", (2, 3, 64, 64))
    names = [(name, value) for name, value in cell.parameters_and_names() if value.requires_grad]
    places = mindspore.Tensor(points)
    slope = input_gradient(cell, places)
    weights = mindspore.ParameterTuple([value for _, value in names])
    penalty, gradients = mindspore.value_and_grad(lambda: port_penalty(cell, places, slope), None, weights)()

    def run(inputs, dtype):
        network = build_torch(found, kwargs, state).to(dtype)
        value = gradient_penalty(network, torch.from_numpy(inputs).to(dtype))
        value.backward()
        return float(value.detach()), {
            key: np.zeros(one.shape) if one.grad is None else one.grad.numpy()
            for key, one in network.named_parameters()
            if one.requires_grad
        }

    value, wanted = run(points, torch.float64)
    controls = [run(ulp_neighbour(points, number), torch.float32)[1] for number in range(3)]
    assert abs(float(penalty) - value) < 256 * ULP * value
    largest = max(np.sqrt(np.mean(one**2)) for one in wanted.values())
    for (name, _), gradient in zip(names, gradients, strict=True):
        head = Measurement(Mode.GRADIENTS, Probe(), name, "", Quantity(Kind.GRADIENT), 0)
        scale = GRADIENT_SCALE_FLOOR * largest
        references = [one[name] for one in controls]
        verdict = judge(measure(head, wanted[name], references, gradient.asnumpy(), scale))
        assert verdict.equal, (name, verdict.multiple)


def test_layer_without_a_directional_derivative_is_refused():
    import mindspore

    from ms_models.gradient_penalty import tangent

    with pytest.raises(TypeError, match="ReLU; add it to RULES"):
        tangent(mindspore.nn.ReLU(), None, None)


def _same(first, second):
    return all(value.equal(second[name]) for name, value in first.items())


@pytest.mark.parametrize(("family", "part"), [("sagan_cyclegan", "netG_A"), ("dtn", "decoder"), ("dtn", "net_D")])
def test_frozen_networks_repeat_and_equal_the_next_run_of_the_moving_one(family, part):
    import mindspore
    import torch

    from ms_models.spectral_wrapper import freeze as port_freeze
    from torch_ref.spectral_wrapper import freeze

    found, kwargs = small_part(family, part)
    state = seeded_state(family, part, "frozen")
    module, cell = build_torch(found, kwargs, state), build_mindspore(found, kwargs, state)
    shape = (2, 100, 1, 1) if part == "decoder" else (2, 3, 64, 64)
    inputs = image("frozen", shape)
    start = copy.deepcopy(module.state_dict())
    with torch.no_grad():
        frozen, port = freeze(module), port_freeze(cell)
        outputs = [frozen(torch.from_numpy(inputs)).numpy() for _ in range(2)]
        again = [port(mindspore.Tensor(inputs)).asnumpy() for _ in range(2)]
        assert _same(module.state_dict(), start)
        moving = module(torch.from_numpy(inputs)).numpy()
    assert np.array_equal(*outputs)
    assert np.array_equal(*again)
    assert np.abs(outputs[0] - moving).max() < 64 * ULP
    assert np.abs(outputs[0] - again[0]).max() < 1024 * ULP
    names = " ".join([*frozen.state_dict(), *(name for name, _ in port.parameters_and_names())])
    assert "weight_u" not in names
    assert (freeze(frozen), port_freeze(port)) == (frozen, port)


def test_frozen_generator_exports_to_onnx_and_the_moving_one_would_not_repeat(tmp_path):
    from parity_tests.harness.onnx.write import export_onnx
    from torch_ref.build import for_inference

    found, kwargs = small_part("sagan_cyclegan", "netG_A")
    module = for_inference(build_torch(found, kwargs, seeded_state("sagan_cyclegan", "netG_A")))
    export = export_onnx(module, image("onnx", (1, 3, 64, 64)), found.outputs, tmp_path / "netG_A.onnx")
    assert all(verdict.equal for verdict in export.verdicts)
    assert export.path.is_file()
