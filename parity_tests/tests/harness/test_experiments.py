"""Causes found by experiment: a bug planted in a small port is named, and an unknown one is not given a name."""

import numpy as np
import pytest

from parity_tests.harness.experiments import Finding
from parity_tests.harness.measurement import Mode
from parity_tests.harness.mutants.judging import judge_bug
from parity_tests.harness.mutants.ugatit import NETWORK_BUGS
from parity_tests.harness.report.words import finding_words
from parity_tests.harness.rewrites import Cause, Change
from parity_tests.harness.run import compare

PICTURE = np.random.default_rng(0).standard_normal((2, 4, 6, 8)).astype(np.float32)
SHIFTED = "shifted by one pixel across, around"


def _moved(x, ops):
    return ops.cat((x[..., -1:], x[..., :-1]), -1)


def _pair(layer, cell):
    """One layer between two convolutions on either side, with the same weights."""
    import mindspore
    import torch

    torch.manual_seed(0)
    reference = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3), layer, torch.nn.Conv2d(4, 4, 1))
    plain = {"pad_mode": "valid", "has_bias": True}
    port = mindspore.nn.SequentialCell(
        mindspore.nn.Conv2d(4, 4, 3, **plain), cell, mindspore.nn.Conv2d(4, 4, 1, **plain)
    )
    for index in (0, 2):
        for name in ("weight", "bias"):
            value = getattr(reference[index], name).detach().numpy()
            getattr(port[index], name).set_data(mindspore.Tensor(value))
    return reference, port


def _found(layer, cell):
    return compare(*_pair(layer, cell), PICTURE, modes=("weights", "isolated")).finding


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.1])
def test_a_slope_is_named(slope):
    import mindspore
    import torch

    cell = mindspore.nn.LeakyReLU(slope) if slope else mindspore.nn.ReLU()
    assert _found(torch.nn.LeakyReLU(0.2), cell) == Finding(Cause(Change.SLOPE, f"{slope:g}", "leaky_relu"))


@pytest.mark.parametrize(
    ("cell", "cause"),
    [
        (lambda x, ops: ops.pad(x, (1, 1, 1, 1), mode="replicate"), Cause(Change.PADDING_MODE, "replicate")),
        (lambda x, ops: ops.pad(x, (2, 0, 2, 0), mode="reflect"), Cause(Change.PADDING_SIDE, "before")),
        (lambda x, ops: _moved(ops.pad(x, (1, 1, 1, 1), mode="reflect"), ops), Cause(Change.OUTPUT, SHIFTED)),
        (lambda x, ops: ops.pad(x, (1, 1, 1, 1), mode="reflect") * 1.5, Cause(Change.OUTPUT, "× 1.5")),
        (lambda x, ops: ops.pad(x, (1, 1, 1, 1), mode="reflect") + 0.1 * ops.sin(9 * ops.pad(x, (1, 1, 1, 1))), None),
    ],
)
def test_a_padding_is_named_and_an_unknown_bug_is_not(cell, cause):
    import mindspore
    import torch

    class Padding(mindspore.nn.Cell):
        """Pads in another way."""

        def construct(self, x):
            """[N, C, H, W] -> [N, C, H + 2, W + 2]."""
            return cell(x, mindspore.ops)

    finding = _found(torch.nn.ReflectionPad2d(1), Padding())
    assert finding.cause == cause
    words = finding_words(finding)
    if cause:
        assert cause.value in words
    else:
        assert words.startswith("cause not identified; excluded:")
        assert Change.PADDING_MODE in finding.excluded


@pytest.mark.parametrize(
    ("reference", "port", "words"),
    [
        (lambda x: (x * 2.0, x - 1.0), lambda x, ops: (x * 2.0, x - 1.5), "1 → 1.5"),
        (
            lambda x: {"a": x * 2.0, "b": x.tanh() + 0.1},
            lambda x, ops: {"a": x * 2.0, "b": ops.tanh(x) + 0.2},
            "0.1 → 0.2",
        ),
        (lambda x: x.clone().mul_(0.3).add_(1.0), lambda x, ops: x * 0.3 + 1.2, "1 → 1.2"),
        (lambda x: x.sum(1) * 0.5, lambda x, ops: x.sum(1, keepdims=True) * 0.5, None),
        (lambda x: abs(x) * 0.1, lambda x, ops: ops.Complex()(x * 0.1, x), None),  # real and complex numbers
    ],
)
def test_a_network_of_any_structure_is_tried(reference, port, words):
    import mindspore
    import torch

    class Network(torch.nn.Module):
        """Computes alone."""

        def forward(self, x):
            """See the case."""
            return reference(x)

    class Port(mindspore.nn.Cell):
        """Computes otherwise."""

        def construct(self, x):
            """See the case."""
            return port(x, mindspore.ops)

    found = compare(Network(), Port(), PICTURE, modes=("isolated",))
    assert not found.equal
    assert (found.finding and found.finding.cause and found.finding.cause.value) == words


def test_a_cause_must_hold_on_pictures_of_another_shape():
    import mindspore
    import torch

    class Norm(torch.nn.Module):
        """Divides by the root of the mean square over channels."""

        def forward(self, x):
            """Normalize."""
            return x / torch.sqrt((x * x).mean(1, keepdim=True) + 1e-6)

    class Port(mindspore.nn.Cell):
        """Takes the mean over all pixels: on a row of them, that is the mean along it."""

        def construct(self, x):
            """Normalize otherwise."""
            return x / mindspore.ops.sqrt((x * x).mean((2, 3), keep_dims=True) + 1e-6)

    assert _found(Norm(), Port()).cause is None


def test_a_layer_whose_gradient_is_farther_off_than_its_output_has_its_cause_named():
    outcome = judge_bug(next(bug for bug in NETWORK_BUGS if bug.name == "biased-variance"))
    assert {Mode.ISOLATED, Mode.GRADIENTS} <= set(outcome.caught_by)
    assert outcome.cause.startswith("variance: n instead of n - 1")


def test_a_running_statistic_that_does_not_move_is_named():
    import mindspore
    import torch

    class Resting(mindspore.nn.BatchNorm2d):
        """Keeps its running variance."""

        def construct(self, x):
            """Normalize, and put the running variance back."""
            before = self.moving_variance.value().copy()
            normalized = super().construct(x)
            mindspore.ops.assign(self.moving_variance, before)
            return normalized

    assert _found(torch.nn.BatchNorm2d(4), Resting(4)) == Finding(Cause(Change.STATE, "left as it was", "running_var"))


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        (lambda x, mean, ops: 0.3 * ops.sqrt(x * x + 1) + (mean + 3) / -2, ("2 → -2", "add → sub")),
        (lambda x, mean, ops: 0.3 * ops.sqrt(x * x + 1) - (mean + 3) / 2, ("2 → -2", "add → sub")),
        (lambda x, mean, ops: 0.3 * ops.sqrt(x * x + 1) + (mean + 3), ("first operand alone", "2 → 1")),
        (lambda x, mean, ops: 0.3 * ops.square(x * x + 1) + (mean + 3) / 2, ("sqrt → square",)),
        (lambda x, mean, ops: 0.3 * ops.sqrt(x * x + 2) + (mean + 3) / 2, ("1 → 2",)),
        (lambda x, mean, ops: 0.3 * ops.sqrt(x * x + 1) + 2 / (mean + 3), ("operands exchanged",)),
        (lambda x, mean, ops: 0.37 * ops.sqrt(x * x + 1) + (mean + 3) / 2, ("0.3 → 0.37",)),
        (lambda x, mean, ops: 0.3 * ops.sqrt(x * x + 1) + (mean + 3) / 3.21, ("2 → 3.21",)),
        (lambda x, mean, ops: 0.3 * ops.sqrt(x * x + 1.6) + (mean + 3) / 2, ("1 → 1.6",)),
        (lambda x, mean, ops: 0.3 * ops.sqrt(x - x * x + 1) + (mean + 3) / 2, ()),
        (lambda x, mean, ops: 0.37 * ops.sqrt(x * x + 1.4) + (mean + 3) / 2, ()),
    ],
)
def test_arithmetic_that_a_layer_has_itself_is_named_with_its_line(formula, words):
    import mindspore
    import torch

    class Mixed(torch.nn.Module):
        """Computes with numbers of its own."""

        def forward(self, x):
            """Mix every pixel with the mean of its channel."""
            return 0.3 * torch.sqrt(x * x + 1) + (x.mean((2, 3), keepdim=True) + 3) / 2

    class Port(mindspore.nn.Cell):
        """Computes otherwise."""

        def construct(self, x):
            """Mix otherwise."""
            return formula(x, x.mean((2, 3), keep_dims=True), mindspore.ops)

    found = _found(Mixed(), Port())
    if words:
        assert found.cause.change is Change.ARITHMETIC
        assert found.cause.value in words
        assert "test_experiments.py:" in found.cause.where
    else:
        assert found.cause is None
        assert Change.ARITHMETIC in found.excluded


def test_a_weight_is_named_by_its_numbers():
    import mindspore
    import torch

    reference, port = _pair(torch.nn.ReLU(), mindspore.nn.ReLU())
    turned = reference[2].weight.detach().numpy().swapaxes(0, 1)
    port[2].weight.set_data(mindspore.Tensor(np.ascontiguousarray(turned)))
    finding = compare(reference, port, PICTURE, modes=("weights", "isolated")).finding
    assert finding == Finding(Cause(Change.WEIGHT, "axes 0 and 1 exchanged", "2.weight"))
    assert compare(*_pair(torch.nn.ReLU(), mindspore.nn.ReLU()), PICTURE, modes=("isolated",)).finding is None
