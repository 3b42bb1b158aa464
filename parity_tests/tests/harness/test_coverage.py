"""Sides of kinks and clamps that the probes do not reach are said, and no others."""

import parity_tests  # noqa: F401, I001  # prepares the environment before any framework is imported

import numpy as np
import pytest
import torch
from mindspore import nn as ms_nn
from mindspore import ops
from torch import nn
from torch.nn import functional

from parity_tests.harness.coverage import find_coverage
from parity_tests.harness.inputs import feature
from parity_tests.harness.measurement import Beyond, Unreached
from parity_tests.harness.run import compare
from parity_tests.harness.sides.torch import TorchSide
from parity_tests.tests.pairs.twins import carry

INPUT = feature("coverage", (2, 3, 5, 7))


class Function(nn.Module):
    """One function of a picture, in a layer of its own or not."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


# what is run -> sides that are not reached
CASES = {
    "relu6, its own layer": (nn.ReLU6(), []),  # fed numbers that are twenty times as large
    "relu6 of half": (Function(lambda x: functional.relu6(x / 2)), []),
    "relu6 of a share": (Function(lambda x: functional.relu6(torch.sigmoid(x) - 0.5)), [("relu6", 6.0, Beyond.ABOVE)]),
    "relu of a square": (Function(lambda x: torch.relu(x * x)), [("relu", 0.0, Beyond.BELOW)]),
    "clamp to one side": (Function(lambda x: torch.tanh(x).clamp(max=3)), [("clamp", 3.0, Beyond.ABOVE)]),
    "clamp, both ends": (Function(lambda x: torch.clamp(x / 2, -0.1, 0.1)), []),
    "hard tangent of a share": (nn.Sequential(nn.Sigmoid(), nn.Hardtanh()), [("hardtanh", -1.0, Beyond.BELOW)]),
    "hard tangent of a share, both ends": (
        Function(lambda x: functional.hardtanh(torch.sigmoid(x), 0.0, 1.0)),
        [("hardtanh", 0.0, Beyond.BELOW), ("hardtanh", 1.0, Beyond.ABOVE)],
    ),
    "smooth": (Function(torch.tanh), []),
    "hard swish": (Function(lambda x: functional.hardswish(x)), []),
    "in place": (Function(lambda x: functional.leaky_relu_(x.abs(), 0.2)), [("leaky_relu", 0.0, Beyond.BELOW)]),
}


@pytest.mark.parametrize("name", CASES)
def test_what_no_number_lies_on_is_said(name):
    module, expected = CASES[name]
    network = nn.Sequential(nn.Identity(), module)
    found = find_coverage(TorchSide(network), [[INPUT]]).unreached
    assert [(each.operation, each.kink, each.side) for each in found] == expected
    assert all(each.layer.startswith("1") for each in found)


def test_several_probes_count_together_and_integers_are_passed_over():
    side = TorchSide(nn.Sequential(Function(lambda x: torch.relu(x * 1.0))))
    below, above = -np.abs(INPUT), np.abs(INPUT) + 1
    one = find_coverage(side, [[above]], other_values=False)
    assert one.unreached == (Unreached("relu", "0", 0.0, Beyond.BELOW),)
    assert find_coverage(side, [[above], [below]], other_values=False).unreached == ()
    whole = Function(lambda x: torch.clamp(x.long(), 0, 9))
    assert find_coverage(TorchSide(nn.Sequential(whole)), [[INPUT]]).unreached == ()


class Hinge(nn.Module):
    """A block with a layer inside, and a kink of its own that pictures in [-1, 1] do not reach."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return torch.relu(4 - self.conv(x))


class PortedHinge(ms_nn.Cell):
    """The same, or without the kink."""

    def __init__(self, kink=True):
        super().__init__()
        self.conv, self.kink = ms_nn.Conv2d(3, 3, 1, has_bias=True), kink

    def construct(self, x):
        y = 4 - self.conv(x)
        return ops.relu(y) if self.kink else y


@pytest.mark.parametrize("kink", [True, False])
def test_blocks_are_fed_what_reaches_their_kinks(kink):
    torch.manual_seed(0)
    module, cell = nn.Sequential(Hinge()), ms_nn.SequentialCell(PortedHinge(kink))
    carry(module, cell)
    result = compare(module, cell, INPUT, modes=("isolated",))
    assert result.equal is kink
    assert result.unreached == ()
    assert {each.measurement.layer for each in result.verdicts if not each.equal} == (set() if kink else {"0"})
