"""CycleGAN: every architecture against the original systems' recorded keys and numbers, on both sides."""

import json

import numpy as np
import pytest

from convert.families.cyclegan import discriminator_kwargs, generator_kwargs
from convert.plan import build_plan
from convert.registry import family_named, part_named
from ms_models.build import build_mindspore
from parity_tests.harness.compare import measure, ulp_neighbour
from parity_tests.harness.inputs import formula_state, seeded_weights
from parity_tests.harness.inputs import image as small_image
from parity_tests.harness.judge import judge
from parity_tests.harness.measurement import Kind, Measurement, Mode, Probe, Quantity
from parity_tests.harness.sides.mindspore import MindSporeSide
from parity_tests.harness.sides.torch import TorchSide
from parity_tests.tests.golden_others import distance, image, parameters, positions
from parity_tests.tolerances import FLOAT64_RELATIVE, GOLDEN_FLOAT32, ULP
from torch_ref.build import build_torch

RESNET = {"architecture": "resnet", "input_nc": 3, "output_nc": 3, "ngf": 64, "n_blocks": 9, "dropout": False}
UNET = {"architecture": "unet", "input_nc": 3, "output_nc": 3, "num_downs": 8, "ngf": 64, "dropout": False}
PATCH = {"architecture": "patch", "input_nc": 3, "ndf": 64, "n_layers": 3}
ZOO = {"ngf": 64, "n_blocks": 9, "slope": 0.2}
JUNYANZ_KEYS = {
    "jz_resnet_6blocks_instance": {**RESNET, "n_blocks": 6, "norm": "instance"},
    "jz_resnet_9blocks_instance": {**RESNET, "norm": "instance"},
    "jz_resnet_9blocks_batch": {**RESNET, "norm": "batch"},
    "jz_resnet_9blocks_dropout_instance": {**RESNET, "norm": "instance", "dropout": True},
    "jz_unet_128_instance": {**UNET, "num_downs": 7, "norm": "instance"},
    "jz_unet_256_instance": {**UNET, "norm": "instance"},
    "jz_unet_256_batch": {**UNET, "norm": "batch"},
    "jz_nlayer_D_instance": {**PATCH, "norm": "instance"},
    "jz_nlayer_D_batch": {**PATCH, "norm": "batch"},
}
ZOO_KEYS = {
    **{
        f"ms_cyclegan_{name}_{norm}_{pad}": {"architecture": kind, **ZOO, "norm": norm, "pad_mode": pad}
        for name, kind in (("ResNet", "zoo_resnet"), ("DepthResNet", "zoo_depth_resnet"))
        for norm in ("instance", "batch")
        for pad in ("CONSTANT", "REFLECT")
    },
    **{
        f"ms_cyclegan_UNet_{norm}_CONSTANT": {
            "architecture": "zoo_unet",
            "num_downs": 7,
            "ngf": 64,
            "norm": norm,
            "dropout": False,
        }
        for norm in ("instance", "batch")
    },
    **{
        f"ms_cyclegan_D_{norm}": {"architecture": "zoo_patch", "ndf": 64, "n_layers": 3, "slope": 0.2, "norm": norm}
        for norm in ("instance", "batch")
    },
}
GOLDEN = {
    "resnet_9blocks": {"architecture": "resnet"},
    "unet_128_ngf16": {"architecture": "unet", "num_downs": 7, "ngf": 16},
    "nlayer_D": {"architecture": "patch"},
}
GOLDEN_ZOO = {
    "ResNet_default": {"architecture": "zoo_resnet"},
    "ResNet_ngf16_reflect_slope0": {
        "architecture": "zoo_resnet",
        "ngf": 16,
        "n_blocks": 4,
        "slope": 0.0,
        "pad_mode": "REFLECT",
    },
    "ResNet_ngf8_batchnorm": {"architecture": "zoo_resnet", "ngf": 8, "n_blocks": 3, "norm": "batch"},
    "DepthResNet_default": {"architecture": "zoo_depth_resnet"},
    "UNet_gl5_ngf16": {"architecture": "zoo_unet", "num_downs": 5, "ngf": 16},
    "D_default": {"architecture": "zoo_patch"},
    "D_batch_ndf16": {"architecture": "zoo_patch", "ndf": 16, "norm": "batch"},
}
STORED = {"gamma": 1.0, "beta": 0.0, "moving_mean": 0.0, "moving_variance": 1.0}
VARIANTS = {
    "resnet, dropout": ({"architecture": "resnet", "ngf": 4, "n_blocks": 1, "dropout": True}, (2, 16, 20)),
    "resnet, affine": ({"architecture": "resnet", "ngf": 4, "n_blocks": 1, "norm": "affine instance"}, (2, 16, 20)),
    "resnet, batch": ({"architecture": "resnet", "ngf": 4, "n_blocks": 1, "norm": "batch"}, (2, 16, 20)),
    "unet": ({"architecture": "unet", "ngf": 4, "num_downs": 5}, (2, 32, 64)),
    "unet, affine": ({"architecture": "unet", "ngf": 4, "num_downs": 6, "norm": "affine instance"}, (1, 64, 64)),
    "patch, affine": ({"architecture": "patch", "ndf": 4, "n_layers": 2, "norm": "affine instance"}, (2, 17, 33)),
    "zoo resnet": ({"architecture": "zoo_resnet", "ngf": 4, "n_blocks": 3}, (2, 16, 20)),
    "zoo resnet, reflect": (
        {"architecture": "zoo_resnet", "ngf": 4, "n_blocks": 2, "pad_mode": "REFLECT"},
        (1, 16, 16),
    ),
    "zoo depth": ({"architecture": "zoo_depth_resnet", "ngf": 4, "n_blocks": 6}, (2, 32, 40)),
    "zoo depth, reflect": (
        {"architecture": "zoo_depth_resnet", "ngf": 4, "n_blocks": 6, "pad_mode": "REFLECT", "norm": "batch"},
        (2, 32, 40),
    ),
    "zoo unet": ({"architecture": "zoo_unet", "ngf": 4, "num_downs": 5}, (2, 32, 32)),
    "zoo patch": ({"architecture": "zoo_patch", "ndf": 4, "norm": "batch"}, (2, 24, 40)),
}


def _part(kwargs):
    return part_named(family_named("cyclegan"), "D_A" if kwargs["architecture"].endswith("patch") else "G_A")


def _keys(shared, name):
    return json.loads((shared / "keys" / f"{name}.json").read_text())


@pytest.mark.shared
@pytest.mark.parametrize("name", JUNYANZ_KEYS)
def test_junyanz_keys_are_equal_in_names_order_and_shapes(name, shared):
    kwargs, wanted = JUNYANZ_KEYS[name], _keys(shared, name)
    rows = build_plan(_part(kwargs), kwargs).rows
    assert [(row.torch, list(row.spec.shape)) for row in rows] == list(wanted.items())
    infer = discriminator_kwargs if kwargs["architecture"] == "patch" else generator_kwargs
    assert infer({key: tuple(shape) for key, shape in wanted.items()}) == kwargs


@pytest.mark.shared
@pytest.mark.parametrize("name", ZOO_KEYS)
def test_model_zoo_keys_are_equal_in_names_order_and_shapes(name, shared):
    from convert.family import resolve

    kwargs, wanted = ZOO_KEYS[name], _keys(shared, name)
    part = _part(kwargs)
    rows = [row for row in build_plan(part, kwargs).rows if not row.carried]
    assert {row.mindspore: list(row.spec.shape) for row in rows} == wanted
    cell = resolve("ms_models", part.class_name)(**kwargs)
    assert [(key, list(value.shape)) for key, value in cell.parameters_and_names()] == list(wanted.items())
    infer = discriminator_kwargs if kwargs["architecture"] == "zoo_patch" else generator_kwargs
    assert infer({key: tuple(shape) for key, shape in wanted.items()}) == kwargs
    assert infer({row.torch: row.spec.shape for row in rows}) == kwargs


def _recorded(shared, name, kwargs, file):
    """The record, part, plan rows, weights by PyTorch name, and input of one recorded network."""
    record = json.loads((shared / "golden" / "others" / file).read_text())["nets"][name]
    part = _part(kwargs)
    rows = build_plan(part, kwargs).rows
    zoo = file.startswith("ms")
    values = parameters({row.mindspore if zoo else row.torch: row.spec.shape for row in rows}, record["gain"])
    if zoo and record["norm_mode"] == "instance":
        for key, value in values.items():
            if key.rpartition(".")[2] in STORED:
                value[:] = STORED[key.rpartition(".")[2]]
    state = {row.torch: values[row.mindspore if zoo else row.torch] for row in rows if row.spec.shape}
    return record, part, rows, state, image(record["input"]["name"], tuple(record["input"]["shape"]))


@pytest.mark.shared
@pytest.mark.parametrize("name", GOLDEN)
def test_junyanz_reference_equals_the_record_in_float64_layer_by_layer(name, shared):
    record, part, _, state, inputs = _recorded(shared, name, GOLDEN[name], "jz_networks.json")
    side = TorchSide(build_torch(part, GOLDEN[name], state), "float64")
    side.set_training(True)
    layers = {}
    side.trace([inputs], lambda call: layers.__setitem__(call.layer, call.outputs[0]))
    # The system's leaky ReLU works in place, so the input that a U-Net level joins is recorded after it: a ReLU
    # follows, and makes both the same.
    joined = {path for path, kind in side.layer_types().items() if kind == "UnetSkipConnectionBlock"}
    far = {
        path: distance(wanted, layers[path]) for path, wanted in record["f64"]["modules"].items() if path not in joined
    }
    far |= {"output": distance(record["f64"]["output"], layers[""])}
    assert len(far) > 10
    assert max(far.values()) < FLOAT64_RELATIVE, max(far, key=far.get)


@pytest.mark.shared
@pytest.mark.parametrize("name", GOLDEN_ZOO)
def test_model_zoo_reference_equals_the_record(name, shared):
    kwargs = {**GOLDEN_ZOO[name], "reference_exact": True}
    record, part, rows, state, inputs = _recorded(shared, name, kwargs, "ms_networks.json")
    side = TorchSide(build_torch(part, kwargs, state), "float64")
    side.set_training(True)
    layers, calls = {}, {}

    def visit(call):
        calls[call.layer] = calls.get(call.layer, 0) + 1
        number = f"#{calls[call.layer] - 1}" if calls[call.layer] > 1 else ""
        layers[call.layer + number] = call.outputs[0]

    side.trace([inputs], visit)
    assert distance(record["f64_replica_output"], layers[""]) < FLOAT64_RELATIVE
    noise = GOLDEN_FLOAT32.factor * record["f32_minus_f64_maxabs"]
    for path, wanted in record["f32"]["cells"].items():
        if path in layers:
            assert _near(wanted, layers[path], noise), path
    names = {row.mindspore: row.torch for row in rows}
    for key, wanted in (record["bn_after"] or {}).items():
        assert _near(wanted, side.state()[names[key]], noise), key


def _near(record, array, noise):
    """Whether the recorded samples of a float32 run are within its stated noise of an array."""
    found = np.asarray(array, np.float64).reshape(-1)[positions(array.size)]
    wanted = np.array(record["samples"])
    floor = GOLDEN_FLOAT32.floor * ULP * max(np.abs(wanted).max(), 1.0)
    return list(array.shape) == record["shape"] and np.abs(found - wanted).max() <= noise + floor


@pytest.mark.shared
@pytest.mark.parametrize("name", [*GOLDEN, *GOLDEN_ZOO])
def test_mindspore_float32_is_within_the_stated_noise_of_the_record(name, shared):
    zoo = name in GOLDEN_ZOO
    kwargs = {**GOLDEN_ZOO[name], "reference_exact": True} if zoo else GOLDEN[name]
    file = "ms_networks.json" if zoo else "jz_networks.json"
    record, part, rows, state, inputs = _recorded(shared, name, kwargs, file)
    arrays = {row.mindspore: state[row.torch] for row in rows if not row.carried}
    side = MindSporeSide(build_mindspore(part, kwargs, arrays))
    side.set_training(True)
    (output,) = side.call("", [inputs])
    wanted = record["f64_replica_output"] if zoo else record["f64"]["output"]
    noise = GOLDEN_FLOAT32.factor * record["f32_minus_f64_maxabs"]
    assert _near(wanted, output, noise)
    for key, after in (record.get("bn_after") or {}).items():
        assert _near(after, side.state()[key], noise), key


@pytest.mark.shared
def test_transposed_convolution_of_the_model_zoo_is_shifted_by_one_pixel(shared):
    import mindspore
    import torch

    from ms_models.cyclegan_zoo_layers import SameConvTranspose2d as Port
    from torch_ref.cyclegan_zoo_layers import SameConvTranspose2d

    record = json.loads((shared / "golden" / "others" / "ms_networks.json").read_text())["conv2dtranspose_same_k3s2"]
    inputs, weight = image("ct_x", (2, 4, 5, 7)), parameters({"ct_w": (4, 6, 3, 3)}, 1)["ct_w"]
    layer, port = SameConvTranspose2d(4, 6, False).double(), Port(4, 6, False)
    layer.weight.data = torch.from_numpy(weight).double()
    port.weight.set_data(mindspore.Tensor(weight))
    with torch.no_grad():
        found = layer(torch.from_numpy(inputs).double()).numpy()
        straight = torch.nn.functional.conv_transpose2d(
            torch.from_numpy(inputs).double(), layer.weight, None, 2, 1, output_padding=1
        ).numpy()
    assert _near(record["output"], found, 0.0)
    assert np.array_equal(found[:, :, 1:, 1:], straight[:, :, :-1, :-1])
    assert (
        np.abs(port(mindspore.Tensor(inputs)).asnumpy() - found).max()
        < GOLDEN_FLOAT32.floor * ULP * np.abs(found).max()
    )


RUNS = [(name, mode) for name in VARIANTS for mode in (False, True) if not (mode and "dropout" in name)]


@pytest.mark.parametrize(("name", "training"), RUNS)
def test_both_sides_of_every_variant_agree(name, training):
    kwargs, shape = VARIANTS[name]
    part = _part(kwargs)
    rows = build_plan(part, kwargs).rows
    state = formula_state(f"variants/{name}", {row.torch: row.spec.shape for row in rows})
    truth = TorchSide(build_torch(part, kwargs, state), "float64")
    reference = TorchSide(build_torch(part, kwargs, state))
    names = {row.mindspore: row.torch for row in rows if not row.carried}
    port = MindSporeSide(build_mindspore(part, kwargs, {one: state[other] for one, other in names.items()}), names)
    inputs = small_image("variants", *shape)
    for side in (truth, reference, port):
        side.set_training(training)
    runs = []
    for side, seed in ((truth, 0), (reference, 0), (reference, 1), (port, 0)):
        with side.preserved():
            outputs = side.call("", [ulp_neighbour(inputs, seed)])
            state = {name: value for name, value in side.state().items() if value.dtype.kind == "f"}
            runs.append({"output": outputs[0], **(state if training else {})})
    wanted, first, second, found = runs
    for key in wanted:
        head = Measurement(Mode.ACCUMULATED, Probe(), "", "", Quantity(Kind.OUTPUT, key), 0)
        measured = measure(head, wanted[key], [first[key], second[key]], found[key])
        assert judge(measured).equal, key


@pytest.mark.parametrize("package", ["torch_ref", "ms_models"])
def test_dropout_rests_in_eval_and_works_in_train_mode(package):
    kwargs, shape = VARIANTS["resnet, dropout"]
    part = _part(kwargs)
    rows = build_plan(part, kwargs).rows
    state = formula_state("dropout", {row.torch: row.spec.shape for row in rows})
    build, sides = {"torch_ref": (build_torch, TorchSide), "ms_models": (build_mindspore, MindSporeSide)}[package]
    side = sides(build(part, kwargs, state))
    inputs = small_image("dropout", *shape)
    assert np.array_equal(side.call("", [inputs])[0], side.call("", [inputs])[0])
    side.set_training(True)
    assert not np.array_equal(side.call_drawing("", [inputs])[0], side.call_drawing("", [inputs])[0])


@pytest.mark.parametrize("package", ["torch_ref", "ms_models"])
def test_instance_norm_of_the_model_zoo_does_not_mix_pictures_unless_asked_to(package):
    kwargs = {"architecture": "zoo_patch", "ndf": 4}
    part = _part(kwargs)
    state = seeded_weights(part, kwargs, "zoo norm")
    build, sides = {"torch_ref": (build_torch, TorchSide), "ms_models": (build_mindspore, MindSporeSide)}[package]
    inputs = small_image("zoo norm", 2, 32, 32)
    inputs[1] *= 0.3
    for exact in (False, True):
        side = sides(build(part, {**kwargs, "reference_exact": exact}, state))
        alone = np.concatenate([side.call("", [one[None]])[0] for one in inputs])
        together = side.call("", [inputs])[0]
        assert (np.abs(alone - together).max() > 0.05) == exact


def _check_fresh(name, values):
    if values.ndim == 4 and values.size > 5000:
        assert 0.018 < values.std() < 0.022, name
    elif name.endswith("bias"):
        assert not values.any(), name


@pytest.mark.parametrize("architecture", ["resnet", "unet", "patch", "zoo_depth_resnet"])
def test_fresh_weights_have_the_papers_spread_on_both_sides(architecture):
    from convert.family import resolve

    kwargs = {"architecture": architecture, **({"norm": "batch"} if architecture != "patch" else {})}
    kwargs |= {} if architecture == "patch" else {"ngf": 16}
    part = _part(kwargs)
    module, cell = resolve("torch_ref", part.class_name)(**kwargs), resolve("ms_models", part.class_name)(**kwargs)
    port = {name: value.asnumpy() for name, value in cell.parameters_and_names()}
    for row in build_plan(part, kwargs).rows:
        wanted = module.state_dict()[row.torch].numpy()
        _check_fresh(row.torch, wanted)
        _check_fresh(row.torch, port.get(row.mindspore, wanted))
    if architecture == "resnet":
        assert 0.9 < port["model.2.gamma"].mean() < 1.1
        assert 0.002 < port["model.2.gamma"].std() < 0.05


def test_unknown_norms_are_refused():
    from ms_models import cyclegan as port
    from ms_models.cyclegan_zoo import ResNet as PortResNet
    from torch_ref import cyclegan as reference
    from torch_ref.cyclegan_zoo import ResNet

    for build in (port.build_generator, reference.build_generator):
        with pytest.raises(ValueError, match="unknown norm 'layer'; norms: instance, affine instance, batch"):
            build("resnet", norm="layer")
    for network in (PortResNet, ResNet):
        with pytest.raises(ValueError, match="unknown norm 'layer'; norms: instance, batch"):
            network(norm="layer")
