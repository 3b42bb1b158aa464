"""The reference in float64 against recorded numbers, and both frameworks in float32 within the stated noise."""

import json

import numpy as np
import pytest

from convert.plan import build_plan
from convert.registry import family_named, part_named
from ms_models.build import build_mindspore
from parity_tests.harness.inputs import feature, formula_state, image, noise, sample
from parity_tests.harness.sides.mindspore import MindSporeSide
from parity_tests.harness.sides.torch import TorchSide
from parity_tests.tests.cases import recorded
from parity_tests.tests.record_goldens import CASES, run_case
from parity_tests.tolerances import FLOAT64_RELATIVE, GOLDEN_FLOAT32, GRADIENT_SCALE_FLOOR, ULP
from torch_ref.build import build_torch

HOW = "if the change is meant: python -m parity_tests.tests.record_goldens"
KINDS = {
    "p2c_gen": ("photo2cartoon", "genA2B"),
    "p2c_dis": ("photo2cartoon", "disGA"),
    "ug_gen": ("ugatit", "genA2B"),
    "mbf": ("mobilefacenet", "mobilefacenet"),
}
FORWARD = [
    "disG_ndf8_128_b2_eval",
    "disG_ndf8_96_b2_train",
    "disG_ndf8_96_b2_train3",
    "disL_ndf32_256_b1_eval",
    "disL_ndf8_64_b2_train",
    "gen_full_ngf8_64_b2",
    "gen_light_ngf32_256_b1",
    "gen_light_ngf32_64_b1",
    "gen_light_ngf8_64_b2",
    "mobilefacenet_112_b2_eval",
    "ugatit_gen_full_ngf8_64_b2",
    "ugatit_gen_light_ngf8_64_b2",
]
GRADIENTS = [name for name in FORWARD if name.endswith(("train", "b2")) and "full" not in name]


def _far(record, array):
    """Largest relative distance from a recorded statistic: samples, norm and extremes."""
    assert list(array.shape) == record["shape"]
    wanted, found = recorded(record, array)
    scale = max(np.abs(wanted).max(), 1e-300)
    norm = abs(np.linalg.norm(array) - record["l2"]) / max(record["l2"], 1e-300)
    return max(np.abs(wanted - found).max() / scale, norm)


def test_hash_and_inputs_equal_the_published_check_values():
    assert noise("open/genA2B:ConvBlock1.1.weight", 3).tolist() == [
        0.31546422943938524,
        0.6263800429878756,
        0.3388170708203688,
    ]
    wanted = np.array([-0.89760602, -0.11727117, 0.68844956, 0.50510979, 0.68367404])
    assert np.abs(feature("open/x", (5,)) - wanted).max() < ULP
    pixels = image("open/real_A", 2, 64, 64).reshape(-1)[[0, 1, 4095, 12288]]
    assert np.abs(pixels - [-0.03114597, -0.01422887, 0.07784815, 0.47021902]).max() < ULP


@pytest.mark.quick
@pytest.mark.parametrize("name", CASES)
def test_reference_equals_the_projects_own_record(name, golden):
    outputs = golden("outputs.json")[name]["outputs"]
    found = run_case(name, CASES[name])
    assert list(found) == list(outputs), HOW
    for key, value in found.items():
        wanted = outputs[key]
        assert list(value.shape) == wanted["shape"]
        scale = max(np.abs(wanted["sample"]).max(), 1e-300)
        assert np.abs(sample(value, 12).reshape(-1) - wanted["sample"]).max() / scale < FLOAT64_RELATIVE, (key, HOW)


def _case(shared, name):
    case = json.loads((shared / "golden" / "ugatit" / f"{name}.json").read_text())
    part = part_named(family_named(KINDS[case["kind"]][0]), KINDS[case["kind"]][1])
    plan = build_plan(part, case["ctor"])
    state = formula_state(case["weight_tag"], plan.shapes)
    batch, _, height, width = case["input_shape"]
    return case, part, plan, state, image(case["input_tag"], batch, height, width)


@pytest.mark.shared
@pytest.mark.parametrize("name", FORWARD)
def test_reference_equals_the_original_in_float64_layer_by_layer(name, shared):
    case, part, _, state, inputs = _case(shared, name)
    side = TorchSide(build_torch(part, case["ctor"], state), "float64")
    side.set_training(case["mode"] == "train")
    for _ in range(case["calls"] - 1):
        side.call("", [inputs])
    layers = {}
    side.trace([inputs], lambda call: layers.__setitem__(call.layer, call.outputs))
    far = {key: _far(case["f64"][key], value) for key, value in zip(_outputs(case), layers[""], strict=True)}
    far |= {key: _far(record, layers[key][0]) for key, record in case["f64"]["modules"].items()}
    far |= {key: _far(record, side.state()[key]) for key, record in case["f64"].get("uv_after", {}).items()}
    assert max(far.values()) < FLOAT64_RELATIVE, max(far, key=far.get)


def _outputs(case):
    return [key for key in ("out", "cam_logit", "heatmap") if key in case["f64"]]


@pytest.mark.shared
@pytest.mark.parametrize("name", [name for name in FORWARD if "full" not in name])
def test_mindspore_float32_is_within_the_stated_noise_of_the_original(name, shared):
    case, part, plan, state, inputs = _case(shared, name)
    arrays = plan.to_mindspore(state)
    side = MindSporeSide(build_mindspore(part, case["ctor"], arrays))
    side.set_training(case["mode"] == "train")
    for _ in range(case["calls"]):
        outputs = side.call("", [inputs])
    factor, floor = GOLDEN_FLOAT32.factor, GOLDEN_FLOAT32.floor * ULP
    for key, value, stated in zip(_outputs(case), outputs, case["f32_vs_f64_maxabs"], strict=False):
        wanted, found = recorded(case["f64"][key], value)
        assert np.abs(wanted - found).max() <= factor * stated + floor * np.abs(wanted).max(), key
    for key, record in case["f64"].get("uv_after", {}).items():
        assert _far(record, side.state()[key]) < floor, key


@pytest.mark.shared
@pytest.mark.parametrize("name", GRADIENTS)
def test_reference_gradients_equal_the_original_in_float64(name, shared):
    import torch

    case, part, _, state, inputs = _case(shared, name)
    network = build_torch(part, case["ctor"], state).double().train(case["mode"] == "train")
    tensor = torch.from_numpy(inputs).double().requires_grad_()
    outputs = network(tensor)
    cotangents = [
        torch.from_numpy(feature(f"{case['input_tag']}/g_{short}", tuple(output.shape))).double()
        for short, output in zip(("out", "cam", "heat"), outputs, strict=True)
    ]
    loss = sum((output * seed).mean() for output, seed in zip(outputs, cotangents, strict=True))
    loss.backward()
    wanted_gradients = case["grad_f64"]
    assert abs(float(loss.detach()) - wanted_gradients["loss"]) < FLOAT64_RELATIVE * max(
        1.0, abs(wanted_gradients["loss"])
    )
    assert _far(wanted_gradients["input"], tensor.grad.numpy()) < FLOAT64_RELATIVE
    largest = max(float(value.grad.norm()) for value in network.parameters() if value.grad is not None)
    for key, record in wanted_gradients["params"].items():
        gradient = dict(network.named_parameters())[key].grad
        if record is None:
            assert gradient is None, f"{key} takes no part in the original"
            continue
        wanted, found = recorded(record, gradient.numpy())
        assert np.abs(wanted - found).max() < FLOAT64_RELATIVE * max(record["l2"], GRADIENT_SCALE_FLOOR * largest), key
