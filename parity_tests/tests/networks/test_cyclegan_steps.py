"""CycleGAN training: the step against the recorded one, the pool, the losses and the learning rate."""

import importlib
import json
import random as python_random
import re

import numpy as np
import pytest

from convert.plan import build_plan
from convert.recipes.cyclegan import CycleGanSettings
from convert.recipes.pool import ImagePool
from convert.registry import family_named, part_named
from ms_models.build import build_mindspore
from parity_tests.harness.inputs import formula_state
from parity_tests.harness.inputs import image as small_image
from parity_tests.tests.golden_others import image, parameters
from parity_tests.tolerances import FLOAT64_RELATIVE, RECORDED_FLOAT32_STEPS, ULP
from torch_ref.build import build_torch

RECORDED = ("ResNet_pynative", "ResNet_graph", "DepthResNet_pynative")
KINDS = {"ResNet": "zoo_resnet", "DepthResNet": "zoo_depth_resnet"}
STORED = {"gamma": 1.0, "beta": 0.0, "moving_mean": 0.0, "moving_variance": 1.0}
# What the model zoo calls a term -> our term and its weight. Its G_A is the loss of G_A's fakes, which its D_B judges.
TERMS = {
    "G": ("G.total", 1.0),
    "G_A": ("G.B.adv", 1.0),
    "G_B": ("G.A.adv", 1.0),
    "C_A": ("G.cycle_A", 10.0),
    "C_B": ("G.cycle_B", 10.0),
    "idt_A": ("G.idt_B", 5.0),
    "idt_B": ("G.idt_A", 5.0),
}


def _networks(run, build):
    """The four model-zoo networks of a recorded run, with the recorded weights."""
    arguments, networks = run["args"], {}
    for name in ("G_A", "G_B", "D_A", "D_B"):
        part = part_named(family_named("cyclegan"), name)
        kwargs = {"architecture": "zoo_patch", "ndf": arguments["ndf"]}
        if name.startswith("G"):
            kind = KINDS[arguments["model"]]
            kwargs = {"architecture": kind, "ngf": arguments["ngf"], "n_blocks": arguments["gl_num"]}
        kwargs["reference_exact"] = True
        state = {}
        for row in build_plan(part, kwargs).rows:
            leaf = row.torch.rpartition(".")[2]
            gain = next(factor for rule, factor in run["gain"][name[0]] if re.search(rule, row.torch))
            value = parameters({row.torch: row.spec.shape}, gain, f"{name}.")[row.torch]
            state[row.torch] = np.full_like(value, STORED[leaf]) if leaf in STORED else value
        networks[name] = build(part, kwargs, state)
    return networks


@pytest.mark.shared
@pytest.mark.parametrize("name", RECORDED)
def test_reference_steps_equal_the_model_zoos(name, shared):
    import torch

    from torch_ref.steps.cyclegan import CycleGanStep

    run = json.loads((shared / "golden" / "others" / "ms_train.json").read_text())["runs"][name]
    networks = {part: network.double() for part, network in _networks(run, build_torch).items()}
    step = CycleGanStep(networks, CycleGanSettings(decay="zoo", reference_exact=True))
    shape = (run["batch"], 3, run["size"], run["size"])
    for number, record in enumerate(run["steps"]):
        terms = step(*(torch.from_numpy(image(f"{domain}{number}", shape)).double() for domain in "AB"))
        close = RECORDED_FLOAT32_STEPS[number]
        for theirs, (ours, weight) in TERMS.items():
            assert weight * terms[ours] == pytest.approx(record["losses"][theirs], rel=close), (number, theirs)
        assert terms["D.total"] == pytest.approx(record["D"], rel=close), number
        for key, wanted in record["state"].items():
            part, _, rest = key.partition(".")
            if rest.endswith(("weight", "moving_variance")):  # the gradient of biases is rounding
                norm = float(networks[part].state_dict()[rest].norm())
                assert norm == pytest.approx(wanted["l2"], rel=close), (number, key)


@pytest.mark.shared
@pytest.mark.parametrize("name", RECORDED[::2])
def test_mindspore_steps_equal_the_model_zoos(name, shared):
    import mindspore

    from ms_models.steps.cyclegan import CycleGanStep

    run = json.loads((shared / "golden" / "others" / "ms_train.json").read_text())["runs"][name]
    step = CycleGanStep(_networks(run, build_mindspore), CycleGanSettings(decay="zoo", reference_exact=True))
    shape = (run["batch"], 3, run["size"], run["size"])
    for number, record in enumerate(run["steps"]):
        terms = step(*(mindspore.Tensor(image(f"{domain}{number}", shape)) for domain in "AB"))
        for theirs, (ours, weight) in TERMS.items():
            close = RECORDED_FLOAT32_STEPS[number]
            assert weight * terms[ours] == pytest.approx(record["losses"][theirs], rel=close), (number, theirs)


def _steps(package, changes, batch=2, steps=3):
    """Loss terms of some steps of small junyanz networks, and the step itself."""
    if package == "torch_ref":
        import torch

        from torch_ref.steps.cyclegan import CycleGanStep

        build, tensor = build_torch, lambda one: torch.from_numpy(one.copy())
    else:
        import mindspore

        from ms_models.steps.cyclegan import CycleGanStep

        build, tensor = build_mindspore, lambda one: mindspore.Tensor(one.copy())
    networks = {}
    for name in ("G_A", "G_B", "D_A", "D_B"):
        part = part_named(family_named("cyclegan"), name)
        kwargs = {"architecture": "patch", "ndf": 4, "n_layers": 2}
        kwargs = {"architecture": "resnet", "ngf": 4, "n_blocks": 1} if name.startswith("G") else kwargs
        layout = build_plan(part, kwargs).shapes
        networks[name] = build(part, kwargs, formula_state(f"steps/{name}", layout))
    step = CycleGanStep(networks, CycleGanSettings(**changes))
    terms = []
    for number in range(steps):
        pictures = [small_image(f"steps/{domain}{number}", batch, 32, 32) for domain in "AB"]
        terms.append(step(*map(tensor, pictures)))
    return terms, step


def test_vanilla_loss_without_identity_and_a_full_pool_are_alike_on_both_sides():
    changes = {"gan_mode": "vanilla", "identity": 0.0, "pool_size": 2, "seed": 3}
    (first, reference), (second, port) = (_steps(package, changes) for package in ("torch_ref", "ms_models"))
    assert set(first[0]) == {
        *(f"G.{judge}.adv" for judge in "AB"),
        *(f"G.cycle_{domain}" for domain in "AB"),
        *(f"D.{judge}.{kind}" for judge in "AB" for kind in ("real", "fake")),
        "G.total",
        "D.total",
    }
    for one, other in zip(first, second, strict=True):
        assert one == pytest.approx(other, rel=RECORDED_FLOAT32_STEPS[-1])
    for domain in "AB":
        assert len(reference.pools[domain].images) == len(port.pools[domain].images) == 2
    assert reference.random.bit_generator.state == port.random.bit_generator.state


def test_totals_are_the_weighted_sums():
    (terms,), _ = _steps("torch_ref", {"cycle_a": 3.0, "cycle_b": 5.0, "identity": 0.5}, steps=1)
    weights = {"G.A.adv": 1, "G.B.adv": 1, "G.cycle_A": 3, "G.cycle_B": 5, "G.idt_A": 2.5, "G.idt_B": 1.5}
    assert terms["G.total"] == pytest.approx(sum(weight * terms[name] for name, weight in weights.items()), rel=1e-5)
    judged = [value for name, value in terms.items() if name[0] == "D" and name != "D.total"]
    assert len(judged) == 4
    assert terms["D.total"] == pytest.approx(sum(judged) / 2, rel=1e-5)


def test_the_discriminator_of_the_other_domain_judges_in_model_zoo_networks():
    from torch_ref.cyclegan import build_discriminator, build_generator
    from torch_ref.steps.cyclegan import CycleGanStep

    generators = {name: build_generator("resnet", ngf=4, n_blocks=1) for name in ("G_A", "G_B")}
    for kind, judges in (("patch", {"A": "D_B", "B": "D_A"}), ("zoo_patch", {"A": "D_A", "B": "D_B"})):
        networks = {**generators, **{name: build_discriminator(kind, ndf=4) for name in ("D_A", "D_B")}}
        assert CycleGanStep(networks, CycleGanSettings()).judges == judges


class _PythonDraws:
    """Python's own random numbers, from which the recorded pools were drawn."""

    def __init__(self, seed: int) -> None:
        self.source = python_random.Random(seed)

    def uniform(self) -> float:
        return self.source.uniform(0, 1)

    def integers(self, high: int) -> int:
        return self.source.randint(0, high - 1)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "seed", "size", "batch"), [("seed0_pool4_batch2", 0, 4, 2), ("seed7_pool3_batch1", 7, 3, 1)]
)
def test_pool_hands_out_the_recorded_sequence(name, seed, size, batch, shared):
    record = json.loads((shared / "golden" / "others" / "ms_train.json").read_text())["pool"][name]
    pool = ImagePool(size, _PythonDraws(seed))
    for query, wanted in enumerate(record):
        numbers = np.arange(query * batch, (query + 1) * batch, dtype=np.float32)
        found = pool.query(numbers[:, None, None, None] * np.ones((1, 3, 2, 2), np.float32))
        assert found[:, 0, 0, 0].tolist() == wanted


def test_a_pool_of_size_zero_keeps_nothing():
    pool = ImagePool(0, np.random.default_rng(0))
    images = np.ones((2, 3, 2, 2), np.float32)
    assert pool.query(images) is images
    assert pool.images == []


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "mode", "real"), [(f"{m}|{r}", m, r) for m in ("lsgan", "vanilla") for r in (True, False)]
)
def test_adversarial_losses_have_the_recorded_modes(name, mode, real, shared):
    import mindspore
    import torch

    from ms_models.steps.cyclegan import gan_loss as port_loss
    from torch_ref.steps.cyclegan import gan_loss

    assert name in json.loads((shared / "golden" / "others" / "ms_train.json").read_text())["ganloss"]
    logits = np.random.default_rng(0).standard_normal((2, 1, 5, 5))
    wanted = ((logits - real) ** 2).mean() if mode == "lsgan" else np.logaddexp(0, -logits if real else logits).mean()
    assert float(gan_loss(torch.from_numpy(logits), real, mode)) == pytest.approx(wanted, rel=FLOAT64_RELATIVE)
    port = port_loss(mindspore.Tensor(logits.astype(np.float32)), real, mode)
    assert float(port.asnumpy()) == pytest.approx(wanted, rel=RECORDED_FLOAT32_STEPS[0])
    for one in (gan_loss, port_loss):
        with pytest.raises(ValueError, match="unknown gan_mode 'hinge'"):
            one(None, True, "hinge")


def test_learning_rate_falls_between_epochs_whatever_the_batch():
    settings = CycleGanSettings
    for batch in (1, 2, 4):
        steps = 8 // batch  # eight pictures, five epochs of which two are constant
        one = settings(lr=1.0, total_steps=5 * steps, steps_per_epoch=steps, constant_epochs=2)
        rates = [one.rate("G", epoch * steps + step + 1) for epoch in range(5) for step in range(steps)]
        assert rates == pytest.approx(np.repeat([1, 1, 0.75, 0.5, 0.25], steps))
        zoo = settings(lr=1.0, total_steps=5 * steps, steps_per_epoch=steps, constant_epochs=2, decay="zoo")
        rates = [zoo.rate("G", epoch * steps + 1) for epoch in range(5)]
        assert rates == pytest.approx([1, 1, 1, 2 / 3, 1 / 3])
    assert settings(lr=1.0, total_steps=10, steps_per_epoch=1).rate("G", 99) == 0
    assert settings(lr=1.0, total_steps=10, steps_per_epoch=1, decay="none").rate("G", 99) == 1
    late = settings(lr=1.0, total_steps=10, steps_per_epoch=2, decay="zoo", reference_exact=True, batch_size=4)
    assert [late.rate("G", step) for step in (1, 10)] == [1, 1]
    with pytest.raises(ValueError, match="unknown decay 'cosine'"):
        settings(decay="cosine")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "pictures", "epochs", "constant"), [("dataset3_max4_n2", 3, 4, 2), ("dataset2_max6_n3", 2, 6, 3)]
)
def test_learning_rate_equals_the_model_zoos_list(name, pictures, epochs, constant, shared):
    record = json.loads((shared / "golden" / "others" / "ms_train.json").read_text())["lr"][name]
    one = CycleGanSettings(
        total_steps=pictures * epochs, steps_per_epoch=pictures, constant_epochs=constant, decay="zoo"
    )
    assert [one.rate("G", step + 1) for step in range(len(record))] == pytest.approx(
        record, rel=RECORDED_FLOAT32_STEPS[0]
    )


def _early_eps_steps(scale, compiled):
    """A weight after each of four steps of MindSpore's own Adam, of ours in both frameworks, and of PyTorch's."""
    import mindspore
    import torch

    from ms_models.optim import Adam
    from torch_ref.step import add_eps_early

    draws = np.random.default_rng(3)
    start = draws.standard_normal((4, 3)).astype(np.float32)
    settings = {"beta1": 0.5, "beta2": 0.999}
    zoos, ours = (mindspore.Parameter(mindspore.Tensor(start), name="w") for _ in range(2))
    reference, plain = (torch.nn.Parameter(torch.from_numpy(start.copy()).double()) for _ in range(2))
    own = mindspore.nn.Adam([zoos], learning_rate=1e-2, **settings)
    port = Adam([ours], 1e-2, **settings, weight_decay=0.0, early_eps=True)
    port.compiled = compiled
    early, late = (torch.optim.Adam([value], 1e-2, betas=(0.5, 0.999)) for value in (reference, plain))
    early.register_step_pre_hook(add_eps_early)
    for _ in range(4):
        gradient = (scale * draws.standard_normal((4, 3))).astype(np.float32)
        own((mindspore.Tensor(gradient),))
        port((mindspore.Tensor(gradient),))
        for value, optimizer in ((reference, early), (plain, late)):
            value.grad = torch.from_numpy(gradient).double()
            optimizer.step()
        yield zoos.asnumpy(), ours.asnumpy(), reference.detach().numpy(), plain.detach().numpy()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("scale", [1e-9, 1e-8, 1e-7, 1e-6, 1e-4, 1.0])
def test_adam_with_early_eps_is_mindspores_own_step_for_step(scale, compiled):
    for number, (zoos, ours, reference, plain) in enumerate(_early_eps_steps(scale, compiled)):
        close = 4 * (number + 1) * ULP
        np.testing.assert_allclose(ours, zoos, rtol=0, atol=close)
        np.testing.assert_allclose(reference, zoos, rtol=0, atol=close)
        if scale < 1e-5:
            assert np.abs(plain - zoos).max() > 100 * close


@pytest.mark.parametrize("package", ["torch_ref", "ms_models"])
def test_only_the_model_zoos_own_training_adds_eps_early(package):
    assert not _steps(package, {"reference_exact": True}, steps=0)[1].early_eps
    run = {"args": {"model": "ResNet", "ndf": 4, "ngf": 4, "gl_num": 1}, "gain": {part: [("", 1.0)] for part in "GD"}}
    build = build_torch if package == "torch_ref" else build_mindspore
    module = importlib.import_module(f"{package}.steps.cyclegan")
    for exact in (False, True):
        step = module.CycleGanStep(_networks(run, build), CycleGanSettings(reference_exact=exact))
        assert step.early_eps == exact
