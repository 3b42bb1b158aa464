"""Every building block on both sides: values and gradients against recorded float64 numbers."""

import json

import numpy as np
import pytest

from ms_models.build import load_mindspore
from parity_tests.harness.inputs import feature, formula_state, noise
from parity_tests.harness.sides.mindspore import MindSporeSide
from parity_tests.harness.sides.torch import TorchSide
from parity_tests.tests.cases import recorded
from parity_tests.tolerances import FLOAT64_RELATIVE, GOLDEN_FLOAT32, ULP
from torch_ref.build import load_torch


def _torch_blocks():
    from torch import nn

    from torch_ref import layers, photo2cartoon

    return {
        "InstanceNorm2d": lambda: nn.InstanceNorm2d(6),
        "ReflectionPad2d_3": lambda: nn.ReflectionPad2d(3),
        "ReflectionPad2d_1": lambda: nn.ReflectionPad2d(1),
        "Upsample2": lambda: nn.Upsample(scale_factor=2.0, mode="nearest"),
        "SpectralNormConv": lambda: nn.utils.spectral_norm(nn.Conv2d(6, 10, 4, 2)),
        "SpectralNormLinear": lambda: nn.utils.spectral_norm(nn.Linear(6, 1, bias=False)),
        **_twins(layers, photo2cartoon),
    }


def _mindspore_blocks():
    from mindspore import nn

    from ms_models import layers, photo2cartoon

    return {
        "InstanceNorm2d": lambda: layers.InstanceNorm2d(6),
        "ReflectionPad2d_3": lambda: nn.ReflectionPad2d(3),
        "ReflectionPad2d_1": lambda: nn.ReflectionPad2d(1),
        "Upsample2": lambda: layers.Upsample(),
        "SpectralNormConv": lambda: layers.SpectralNormConv2d(6, 10, 4, 2),
        "SpectralNormLinear": lambda: layers.SpectralNormLinear(6, 1, bias=False),
        **_twins(layers, photo2cartoon),
    }


def _twins(layers, photo2cartoon):
    return {
        "adaLIN": lambda: layers.AdaLIN(6),
        "SoftAdaLIN": lambda: layers.SoftAdaLIN(6),
        "LIN": lambda: layers.LIN(6),
        "ConvBlock_same": lambda: photo2cartoon.ConvBlock(8, 8),
        "ConvBlock_diff": lambda: photo2cartoon.ConvBlock(6, 8),
        "HourGlass_res": lambda: photo2cartoon.HourGlass(8, 8),
        "HourGlass_nores": lambda: photo2cartoon.HourGlass(8, 8, use_res=False),
        "ResnetBlock": lambda: layers.ResnetBlock(6),
        "ResnetSoftAdaLINBlock": lambda: photo2cartoon.ResnetSoftAdaLINBlock(6),
        "ResnetAdaLINBlock": lambda: layers.ResnetAdaLINBlock(6),
    }


PLAIN = ("InstanceNorm2d", "ReflectionPad2d_3", "ReflectionPad2d_1", "Upsample2")
NAMES = sorted([*PLAIN, "SpectralNormConv", "SpectralNormLinear", *_twins(None, None)])


@pytest.fixture(scope="module")
def blocks(shared):
    return json.loads((shared / "golden" / "ugatit" / "blocks.json").read_text())


def _state(case):
    """Seeded weights; in this recording the spectral-norm vectors start as plain positive numbers."""
    state = formula_state(case["weight_tag"], {name: tuple(shape) for name, shape in case["state_keys"].items()})
    for name in {"weight_u", "weight_v"} & state.keys():
        state[name] = (0.75 + 0.5 * noise(f"{case['weight_tag']}:{name}", state[name].size)).astype(np.float32)
    return state


def _inputs(case):
    arrays = [feature(f"{case['weight_tag']}/in/{name}", tuple(shape)) for name, shape in case["inputs"].items()]
    return arrays, feature(f"{case['weight_tag']}/gout", tuple(case["out"]["shape"]))


def _distances(case, output, gradients):
    """Name -> (largest distance at the recorded samples, size of what is recorded)."""
    rows = {"output": (case["out"], output)}
    rows |= {
        f"gradient of {name}": (case["grad_in"][name], value)
        for name, value in zip(case["inputs"], gradients.inputs, strict=True)
    }
    rows |= {
        f"gradient of {name}": (record, gradients.parameters[name])
        for name, record in case["grad_params"].items()
        if record is not None
    }
    found = {}
    for name, (record, array) in rows.items():
        wanted, values = recorded(record, array)
        found[name] = (float(np.abs(wanted - values).max()), float(max(np.abs(wanted).max(), record["l2"] / 100)))
    return found


@pytest.mark.shared
@pytest.mark.parametrize("name", NAMES)
def test_reference_block_equals_the_original(name, blocks):
    case = blocks[name]
    block = _torch_blocks()[name]()
    load_torch(block, _state(case))
    inputs, cotangent = _inputs(case)
    side = TorchSide(block.train(), "float64")
    with side.preserved():
        (output,) = side.call("", inputs)
    gradients = side.gradients("", inputs, [cotangent])
    for what, (distance, scale) in _distances(case, output, gradients).items():
        assert distance < FLOAT64_RELATIVE * scale, what


@pytest.mark.shared
@pytest.mark.parametrize("name", NAMES)
def test_mindspore_block_equals_the_original(name, blocks):
    import mindspore

    case = blocks[name]
    cell = mindspore.nn.SequentialCell(_mindspore_blocks()[name]())[0]
    state = _state(case)
    load_mindspore(cell, state)
    inputs, cotangent = _inputs(case)
    side = MindSporeSide(cell.set_train())
    with side.preserved():
        (output,) = side.call("", inputs)
    gradients = side.gradients("", inputs, [cotangent])
    noises = _float32_noise(name, case, inputs, cotangent)
    for what, (distance, scale) in _distances(case, output, gradients).items():
        budget = GOLDEN_FLOAT32.factor * noises[what] + GOLDEN_FLOAT32.floor * ULP * scale
        assert distance <= budget, f"{what}: {distance:.1e} with a budget of {budget:.1e}"


def _float32_noise(name, case, inputs, cotangent):
    block = _torch_blocks()[name]()
    load_torch(block, _state(case))
    side = TorchSide(block.train(), "float32")
    with side.preserved():
        (output,) = side.call("", inputs)
    gradients = side.gradients("", inputs, [cotangent])
    return {what: distance for what, (distance, _) in _distances(case, output, gradients).items()}


@pytest.mark.shared
@pytest.mark.parametrize("name", ["SpectralNormConv", "SpectralNormLinear"])
def test_spectral_norm_leaves_the_recorded_vectors(name, blocks):
    case = blocks[name]
    state = _state(case)
    cell = _mindspore_blocks()[name]()
    load_mindspore(cell, state)
    side = MindSporeSide(cell.set_train())
    inputs, _ = _inputs(case)
    side.call("", inputs)
    for key, record in case["uv_after"].items():
        wanted, found = recorded(record, side.state()[key])
        assert np.abs(wanted - found).max() <= GOLDEN_FLOAT32.floor * ULP, key
    side.set_training(False)
    before = side.state()
    side.call("", inputs)
    for key, value in side.state().items():
        assert np.array_equal(value, before[key]), f"{key} moved in eval mode"
