"""White-box and FacialCartoonization: the reference and the port against the numbers of the original systems."""

import json

import numpy as np
import pytest

from convert.conversion import load_networks, mindspore_arrays, torch_arrays
from convert.families.whitebox import VGG_LAYERS
from convert.plan import build_plan
from convert.registry import family_named, part_named
from ms_models.build import build_mindspore
from parity_tests.harness.judge import judge_all
from parity_tests.harness.measurement import Kind
from parity_tests.harness.sides.mindspore import MindSporeSide
from parity_tests.harness.sides.torch import TorchSide
from parity_tests.harness.training import measure_training
from parity_tests.harness.training_setup import small_setup
from parity_tests.tests.golden_others import image, parameters, u01
from parity_tests.tolerances import (
    FLOAT64_RELATIVE,
    FLOAT64_TRAINING_RELATIVE,
    GOLDEN_FLOAT32,
    TENSORFLOW_ABSOLUTE,
    ULP,
    WHITEBOX_FILTERED,
    WHITEBOX_RAW,
)
from torch_ref.build import build_torch

PARTS = {"G": "generator", "D": "disc_gray"}
NETWORKS = ["G_c32_b4", "G_c16_b2", "Dt_train", "Dt_eval", "Ds_train", "Ds_eval"]


def _read(shared, name):
    return json.loads((shared / "golden" / "others" / f"{name}.json").read_text())


def _weights(part, kwargs, gain, prefix=""):
    return parameters(build_plan(part, kwargs).shapes, gain, prefix)


def _assert_near(array, record, limit=FLOAT64_RELATIVE):
    """Compare an array with recorded statistics: the samples and the norm, relative to the largest sample."""
    array = np.asarray(array, np.float64)
    if "samples" in record:
        flat = array.reshape(-1)
        places = [int((k + 0.5) * flat.size / 16) for k in range(16)] if flat.size >= 16 else range(flat.size)
        scale = max(np.abs(record["samples"]).max(), 1e-300)
        assert np.abs(flat[list(places)] - record["samples"]).max() <= limit * scale
    assert abs(np.linalg.norm(array) - record["l2"]) <= limit * record["l2"]


def _case(shared, name):
    """A recorded network: what it is, its weights, its input and how often it runs in train mode first."""
    case = _read(shared, "fc_networks")["nets"][name]
    part = part_named(family_named("facialcartoonization"), PARTS[name[0]])
    kwargs = {**part.kwargs, **case["ctor"]}
    weights = _weights(part, kwargs, case["gain"])
    given = case["inputs"][0]
    warm_up = 10 if case.get("warmup") else 0
    return case, part, kwargs, weights, image(given["name"], tuple(given["shape"])), warm_up


@pytest.mark.shared
@pytest.mark.parametrize("name", NETWORKS)
def test_reference_equals_facialcartoonization_layer_by_layer(name, shared):
    case, part, kwargs, weights, inputs, warm_up = _case(shared, name)
    side = TorchSide(build_torch(part, kwargs, weights), "float64")
    side.set_training(True)
    for _ in range(warm_up):
        side.call("", [inputs])
    side.set_training(case["mode"] == "train")
    layers = {}
    side.trace([inputs], lambda call: layers.__setitem__(call.layer, call.outputs[0]))
    recorded = np.load(shared / "golden" / "others" / "fc_arrays.npz")[f"{name}.out_f64"]
    assert np.abs(layers[""] - recorded).max() < FLOAT64_RELATIVE * np.abs(recorded).max()
    seen = {key: record for key, record in case["f64"]["modules"].items() if key in layers}
    # what is recorded and not run: the dead ends of the skip connections, and the inside of spectral norm
    assert all("ConvReLU" in key or "parametrizations" in key for key in case["f64"]["modules"].keys() - seen.keys())
    for key, record in seen.items():
        _assert_near(layers[key], record)
    for key, record in case["f64"].get("state_after", {}).items():
        if key.endswith(("_u", "_v")):
            _assert_near(side.state()[key], record)


@pytest.mark.shared
@pytest.mark.parametrize("name", NETWORKS)
def test_port_is_within_the_stated_noise_of_facialcartoonization(name, shared):
    case, part, kwargs, weights, inputs, warm_up = _case(shared, name)
    names = {row.torch: row.mindspore for row in build_plan(part, kwargs).rows}
    side = MindSporeSide(build_mindspore(part, kwargs, {names[key]: value for key, value in weights.items()}))
    side.set_training(True)
    for _ in range(warm_up):
        side.call("", [inputs])
    side.set_training(case["mode"] == "train")
    found = side.call("", [inputs])[0]
    wanted = np.load(shared / "golden" / "others" / "fc_arrays.npz")[f"{name}.out_f64"]
    allowed = GOLDEN_FLOAT32.factor * case["f32_minus_f64_maxabs"] + GOLDEN_FLOAT32.floor * ULP * np.abs(wanted).max()
    assert np.abs(found - wanted).max() <= allowed


@pytest.mark.shared
def test_reference_equals_whitebox_in_tensorflow(shared):
    from torch_ref.filters import guided_filter

    case = _read(shared, "wbc_tf")
    recorded = np.load(shared / "golden" / "others" / "wbc_tf.npz")
    part = part_named(family_named("whitebox"), "generator")
    record = case["generator"]
    side = TorchSide(build_torch(part, part.kwargs, _weights(part, part.kwargs, record["gain"])), "float64")
    photo = image(record["input"]["name"], tuple(record["input"]["shape"]))
    import torch

    out = side.call("", [photo])[0]
    assert np.abs(out - recorded["generator_out"]).max() < TENSORFLOW_ABSOLUTE
    x, y = torch.from_numpy(photo).double(), torch.from_numpy(out)
    assert np.abs(guided_filter(x, y, 1, 5e-3).numpy() - recorded["guided_test"]).max() < TENSORFLOW_ABSOLUTE
    for name, filtered in (
        ("guided_r1_eps0.01_train_default", guided_filter(x, y, 1, 1e-2)),
        ("guided_self_photo_r5_eps0.2", guided_filter(x, x, 5, 0.2)),
    ):
        _assert_near(filtered.numpy(), record[name], TENSORFLOW_ABSOLUTE)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["disc_blur", "disc_gray"])
def test_reference_discriminator_equals_whitebox_in_tensorflow(name, shared):
    """TensorFlow keeps no v: it takes v from u and then the new u from v, as PyTorch's older spectral norm does."""
    record = _read(shared, "wbc_tf")[name]
    part = part_named(family_named("whitebox"), name)
    names = [f"{name}.conv{index}_{half}" for index in range(3) for half in (1, 2)] + [f"{name}.conv_out"]
    weights = {}
    for row in build_plan(part, part.kwargs).rows:
        layer, _, leaf = row.torch.rpartition(".")
        layers = list(dict.fromkeys(one.layer for one in build_plan(part, part.kwargs).rows))
        theirs = f"{names[layers.index(layer)]}.{ {'weight_orig': 'kernel', 'weight_u': 'u'}.get(leaf, leaf) }"
        if leaf == "weight_v":
            weights[row.torch] = np.zeros(row.spec.shape, np.float32)  # taken from u before it is used
        elif leaf == "weight_u":
            drawn = 2 * u01(theirs, row.spec.shape[0]) - 1
            weights[row.torch] = (drawn / np.linalg.norm(drawn)).astype(np.float32)
        else:
            weights[row.torch] = parameters({theirs: row.spec.shape}, record["gain"])[theirs]
    side = TorchSide(build_torch(part, part.kwargs, weights), "float64")
    side.set_training(True)
    inputs = image(record["input"]["name"], tuple(record["input"]["shape"]))
    _assert_near(side.call("", [inputs])[0], record["output"], TENSORFLOW_ABSOLUTE)
    after = {key: value for key, value in side.state().items() if key.endswith("weight_u")}
    for value, recorded in zip(after.values(), record["u_after_one_forward"].values(), strict=True):
        _assert_near(value, recorded, TENSORFLOW_ABSOLUTE)


def _vgg(kind="torch"):
    """VGG19 with the recorded runs' weights."""
    part = family_named("vgg19").parts[0]
    plan = build_plan(part, part.kwargs)
    named = {f"conv.{place}": name for place, name, _ in VGG_LAYERS}
    weights = {}
    for row in plan.rows:
        layer, _, leaf = row.torch.rpartition(".")
        theirs = f"vgg.{named[layer]}.{leaf}"
        weights[row.torch] = parameters({theirs: row.spec.shape}, 2**0.5)[theirs]
    if kind == "torch":
        return build_torch(part, part.kwargs, weights)
    return build_mindspore(part, part.kwargs, weights)


@pytest.mark.shared
def test_features_content_and_structure_equal_facialcartoonization(shared):
    import torch

    from torch_ref.losses_whitebox import feature_distance

    record = _read(shared, "fc_losses")["items"]["vgg19_content"]
    vgg = _vgg().double()
    photo, target = (torch.from_numpy(image(name, (2, 3, 64, 64))).double() for name in ("photo", "super"))
    fake = torch.from_numpy(image("fake", (2, 3, 64, 64))).double().requires_grad_()
    outputs = {}
    TorchSide(vgg, "float64").trace([photo.numpy()], lambda call: outputs.__setitem__(call.layer, call.outputs[0]))
    for place, name, _ in VGG_LAYERS:
        _assert_near(outputs[f"conv.{place.split('.')[0]}"], record["f64"][f"photo:{name}"])
    _assert_near(outputs[""], record["f64"]["photo:out"])
    for name, other in (("content", photo), ("structure", target)):
        loss = feature_distance(vgg(other).detach(), vgg(fake))
        assert abs(float(loss.detach()) / record["f64"][f"{name}_loss"] - 1) < FLOAT64_RELATIVE
        (gradient,) = torch.autograd.grad(300 * loss, fake)
        _assert_near(gradient.numpy(), record["f64"][f"{name}_grad_fake"])


@pytest.mark.shared
def test_guided_filter_and_its_gradients_equal_facialcartoonization(shared):
    import torch

    from torch_ref.filters import guided_filter

    record = _read(shared, "fc_losses")["items"]["guided_filter"]["f64"]
    weight = torch.from_numpy(image("gw", (2, 3, 64, 64))).double()
    x, y = (torch.from_numpy(image(name, (2, 3, 64, 64))).double().requires_grad_() for name in ("photo", "fake"))
    for radius, eps in ((1, 0.1), (1, 0.005), (2, 0.01)):
        out = guided_filter(x, y, radius, eps)
        for_x, for_y = torch.autograd.grad((out * weight).sum(), (x, y))
        for name, value in (("", out.detach()), (".grad_x", for_x), (".grad_y", for_y)):
            _assert_near(value.numpy(), record[f"r{radius}_eps{eps}{name}"])
    own = guided_filter(y, y, 5, 0.2)
    _assert_near(own.detach().numpy(), record["surface_r5_eps0.2_self"])
    _assert_near(torch.autograd.grad((own * weight).sum(), y)[0].numpy(), record["surface_r5_eps0.2_self.grad"])
    gray = torch.from_numpy(image("gray", (2, 1, 64, 64))).double()
    _assert_near(guided_filter(gray, y, 2, 0.05).detach().numpy(), record["gray_guide_r2_eps0.05"])


@pytest.mark.shared
def test_texture_and_variation_equal_facialcartoonization(shared):
    import torch

    from convert.recipes.whitebox import SHIFTS
    from parity_tests.tests.golden_others import uniform
    from torch_ref.filters import colour_shift
    from torch_ref.losses_whitebox import total_variation

    items = _read(shared, "fc_losses")["items"]
    maps = [uniform(f"shift:{index}", (2, 1, 64, 64), *limits) for index, limits in enumerate(SHIFTS.values())]
    weights = tuple(torch.from_numpy(one).double() for one in maps)
    for name in ("fake", "cartoon"):
        picture = torch.from_numpy(image(name, (2, 3, 64, 64))).double()
        # the original adds the three weights in float32, also in its float64 run
        _assert_near(
            colour_shift(picture, weights, "rgb").numpy(), items["color_shift_uniform"]["f64"][f"gray_{name}"], ULP
        )
    fake = torch.from_numpy(image("fake", (2, 3, 64, 64))).double().requires_grad_()
    for distance in (1, 2):
        loss = total_variation(fake, distance)
        assert abs(float(loss.detach()) / items["tv"]["f64"][f"tv_k{distance}"] - 1) < FLOAT64_RELATIVE
        (gradient,) = torch.autograd.grad(1e4 * loss, fake)
        _assert_near(gradient.numpy(), items["tv"]["f64"][f"tv_k{distance}.grad"])


class _RecordedDraws:
    """Stands in for the random generator: the numbers of the recorded runs, in the order in which they are drawn."""

    def __init__(self):
        self.count = 0

    def uniform(self, low, high, size):
        drawn = low + (high - low) * u01(f"shift:{self.count}", int(np.prod(size)))
        self.count += 1
        return drawn.astype(np.float32).reshape(size)


LOSSES = {
    "tv": "G.variation",
    "blur": "G.surface",
    "gray": "G.texture",
    "photo": "G.content",
    "superpixel": "G.structure",
    "g": "G.total",
    "d": "D.total",
}
ROLES = {"generator": "G", "disc_gray": "Dt", "disc_blur": "Ds"}


def _step(shared, run, frozen, **settings):
    import torch

    from convert.recipes.whitebox import FacialSettings
    from torch_ref.steps.whitebox import WhiteboxStep

    record = _read(shared, "fc_train")["runs"][run]
    networks = {}
    for name, role in ROLES.items():
        part = part_named(family_named("facialcartoonization"), name)
        changes = record["ctor"].get(role) or record["ctor"] if role == "G" else record["ctor"].get(role, {})
        kwargs = {**part.kwargs, **changes}
        gains = record["gain"] if isinstance(record["gain"], dict) else {"G": record["gain"], "D": 1.5}
        networks[name] = build_torch(part, kwargs, _weights(part, kwargs, gains[role[0]], f"{role}.")).double()
    step = WhiteboxStep(networks, FacialSettings(**settings), frozen)
    step.random = _RecordedDraws()
    return record["f64"]["steps"], step, lambda name: torch.from_numpy(image(name, (2, 3, 64, 64))).double()


@pytest.mark.shared
def test_reference_training_steps_equal_facialcartoonization(shared):
    records, step, picture = _step(shared, "defaults_w", _vgg().double())
    for number, record in enumerate(records):
        limit = FLOAT64_TRAINING_RELATIVE[number]
        losses = step(picture(f"photo{number}"), picture(f"cartoon{number}"))
        for theirs, ours in LOSSES.items():
            assert abs(losses[ours] / record["losses"][theirs] - 1) < limit, (number, ours)
        for name, role in ROLES.items():
            for key, value in step.networks[name].state_dict().items():
                wanted = record["state"][f"{role}.{key}"]["l2"]
                assert abs(float(value.norm()) / wanted - 1) < limit, (number, name, key)


@pytest.mark.shared
def test_reference_pretraining_equals_facialcartoonization(shared):
    records, step, picture = _step(shared, "pretrain", None, pretrain=True)
    for number, record in enumerate(records):
        limit = FLOAT64_TRAINING_RELATIVE[number]
        losses = step(picture(f"photo{number}"), None)
        assert abs(losses["G.reconstruction"] / record["loss"] - 1) < limit
        for key, value in step.networks["generator"].state_dict().items():
            assert abs(float(value.norm()) / record["state"][key]["l2"] - 1) < limit, (number, key)


@pytest.mark.shared
def test_whitebox_weights_in_mindspore_reproduce_the_recorded_pictures(shared, tmp_path):
    """The released fp16 TensorFlow Lite file, converted, against what TensorFlow Lite made of it."""
    import mindspore

    from convert.conversion import convert_file
    from ms_models.filters import finish_whitebox

    record = np.load(shared / "weights" / "whitebox_reference_0.npz")
    photo, raw, filtered = (np.ascontiguousarray(record[name].transpose(2, 0, 1)[None]) for name in ("x", "raw", "y"))
    convert_file(shared / "weights" / "whitebox_cartoon_gan_fp16.tflite", tmp_path / "wb.pth")
    convert_file(tmp_path / "wb.pth", tmp_path / "wb.ckpt")
    (network,) = load_networks(tmp_path / "wb.ckpt")
    assert (network.family.name, network.part.name) == ("whitebox", "generator")
    output = build_mindspore(network.part, network.kwargs, mindspore_arrays(network))(mindspore.Tensor(photo))
    assert np.abs(output.asnumpy() - raw).max() < WHITEBOX_RAW
    finished = finish_whitebox(mindspore.Tensor(photo), output)
    assert np.abs(finished.asnumpy() - filtered).max() < WHITEBOX_FILTERED
    (known,) = load_networks(shared / "weights" / "whitebox_unet_arthurin_keys_fp32.pth", "whitebox")
    found = torch_arrays(network)
    assert all(np.array_equal(found[name], value) for name, value in torch_arrays(known).items())


@pytest.mark.parametrize("family", ["whitebox", "facialcartoonization"])
def test_port_steps_equal_the_reference(family):
    verdicts = judge_all(measure_training(small_setup(family_named(family), steps=2)))
    assert len(verdicts) > 350
    assert [(one.measurement.layer, one.measurement.quantity) for one in verdicts if not one.equal] == []
    assert sum(one.blind for one in verdicts) <= len(verdicts) // 100


def test_published_form_leaves_its_dead_weights_alone():
    """Both sides train the same parameters: ConvReLU of the up-sampling is not among them."""
    from dataclasses import replace

    setup = small_setup(family_named("facialcartoonization"), steps=1)
    setup = replace(setup, settings={**setup.settings, "pretrain": True})
    measured = list(measure_training(setup))
    assert all(one.equal for one in judge_all(measured))
    moved = {one.layer for one in measured if one.quantity.kind is Kind.MEAN and one.quantity.phase == "G"}
    assert not any(layer.startswith("generator.UpSample") and "ConvReLU" in layer for layer in moved)
    assert any(layer.startswith("generator.UpSample1.FirstConv") for layer in moved)
