"""What a pair does as a compiled graph, and what dropout does: conditions under which right layers may be wrong."""

import parity_tests  # noqa: F401, I001  # prepares the environment before any framework is imported

import tracemalloc
from dataclasses import replace
from functools import partial

import mindspore
import numpy as np
import pytest
import torch
from mindspore import nn, ops

from parity_tests.harness import on_disk
from parity_tests.harness.accumulated import measure_accumulated
from parity_tests.harness.dropout import measure_functions
from parity_tests.harness.judge import Outcome, judge, outcome
from parity_tests.harness.measurement import Kind, Measurement, Mode, Probe, Quantity
from parity_tests.harness.pair import pair_networks
from parity_tests.harness.report.console import summary_lines
from parity_tests.harness.run import compare
from parity_tests.harness.sides.borders import RIGHT_ONCE
from parity_tests.harness.sides.mindspore import MindSporeSide
from parity_tests.harness.sides.tree import mapped
from parity_tests.harness.stages import QUICK_LEAVES_OUT, QUICK_MODES
from parity_tests.tests.pairs.manner import numbers
from parity_tests.tests.pairs.twins import carry
from toonport.cli import main

PICTURES = numbers(2, 3, 9, 12)


class Pool(torch.nn.Module):
    """The largest value of each channel."""

    def forward(self, x):
        return x.flatten(2).amax(-1)


class Net(torch.nn.Module):
    """Convolution, pooling and a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv, self.pool, self.fc = torch.nn.Conv2d(3, 6, 3), Pool(), torch.nn.Linear(6, 4)

    def forward(self, x):
        return self.fc(self.pool(self.conv(x)))


class PortedPool(nn.Cell):
    """The same."""

    def construct(self, x):
        return ops.amax(x.reshape(x.shape[0], x.shape[1], -1), -1)


class EagerPool(nn.Cell):
    """The same operation by operation; in a graph, `max` returns no pair, and the first picture is taken."""

    def construct(self, x):
        return x.reshape(x.shape[0], x.shape[1], -1).max(-1)[0]


class PortedNet(nn.Cell):
    """The same with a pooling layer of choice."""

    def __init__(self, pool):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, pad_mode="valid", has_bias=True)
        self.pool, self.fc = pool, nn.Dense(6, 4)

    def construct(self, x):
        return self.fc(self.pool(self.conv(x)))


def _compared(reference, port, modes=("isolated", "gradients")):
    if any(True for _ in reference.parameters()):
        carry(reference, port)
    return compare(reference, port, PICTURES, modes)


def test_what_is_wrong_as_a_graph_only_is_found_at_its_layer():
    right = _compared(Net(), PortedNet(PortedPool()))
    assert right.equal, summary_lines(right)
    compiled = [verdict.measurement for verdict in right.verdicts if verdict.measurement.probe.compiled]
    assert {it.mode for it in compiled} == {Mode.ISOLATED, Mode.BLOCK_GRADIENTS}
    assert not any(it.not_run for it in compiled)
    wrong = _compared(Net(), PortedNet(EagerPool()))
    first = wrong.blamed[0].measurement
    assert (first.layer, first.probe.compiled) == ("pool", True)
    assert all(verdict.equal for verdict in wrong.verdicts if not verdict.measurement.probe.compiled)
    assert any("right operation by operation" in line for line in summary_lines(wrong))


class Padded(torch.nn.Module):
    """A convolution of a picture with a border of zeros."""

    def __init__(self):
        super().__init__()
        self.first, self.pad, self.last = torch.nn.Conv2d(3, 4, 3), torch.nn.ZeroPad2d(1), torch.nn.Conv2d(4, 2, 3)

    def forward(self, x):
        return self.last(self.pad(self.first(x)))


class PortedPadded(nn.Cell):
    """The same with a padding of choice."""

    def __init__(self, pad):
        super().__init__()
        convolution = partial(nn.Conv2d, kernel_size=3, pad_mode="valid", has_bias=True)
        self.first, self.pad, self.last = convolution(3, 4), pad, convolution(4, 2)

    def construct(self, x):
        return self.last(self.pad(self.first(x)))


def test_a_graph_runs_again_unless_it_pads_by_a_constant():
    corners = ((0, 0), (0, 0), (1, 1), (1, 1))
    for pad, reasons in ((nn.Pad(corners), set()), (nn.ZeroPad2d(1), {RIGHT_ONCE})):
        found = _compared(Padded(), PortedPadded(pad), ("gradients",))
        assert found.equal, summary_lines(found)
        measured = [verdict.measurement for verdict in found.verdicts if verdict.measurement.probe.compiled]
        assert {it.not_run for it in measured} - {""} == reasons
        assert {it.probe.call for it in measured if not it.not_run} == ({1} if reasons else {1, 2})


def test_a_graph_that_runs_once_is_wrong_where_its_first_run_is(monkeypatch):
    """A gradient that is off by as little as a kink would be is run again on moved numbers, which is refused here."""
    run = MindSporeSide._transformed_as_graph

    def off(side, cell, *given):
        return mapped(run(side, cell, *given), lambda _, leaf: leaf * 1.02)

    monkeypatch.setattr(MindSporeSide, "_transformed_as_graph", off)
    wrong = _compared(Padded(), PortedPadded(nn.ZeroPad2d(1)), ("gradients",))
    failing = [verdict.measurement for verdict in wrong.verdicts if not verdict.equal]
    assert all(it.probe.compiled for it in failing)
    assert {it.probe.call for it in failing if it.mode is Mode.BLOCK_GRADIENTS} == {1}


def test_what_is_wrong_when_a_graph_runs_again_is_found(monkeypatch):
    """MindSpore itself is made to return other numbers from the second run on, as it does for constant borders."""
    run, seen = MindSporeSide._transformed_as_graph, []

    def again(side, cell, *given):
        seen.append(cell)
        found = run(side, cell, *given)
        return mapped(found, lambda _, leaf: leaf * 1.5) if seen.count(cell) == 2 else found

    monkeypatch.setattr(MindSporeSide, "_transformed_as_graph", again)
    wrong = _compared(Padded(), PortedPadded(nn.Pad(((0, 0), (0, 0), (1, 1), (1, 1)))), ("gradients",))
    failing = [verdict.measurement.probe for verdict in wrong.verdicts if not verdict.equal]
    assert failing
    assert all(probe.compiled and probe.call == 2 for probe in failing)
    assert any("right in a graph's first run" in line for line in summary_lines(wrong))


class Untold(nn.Cell):
    """A port that cannot be compiled: MindSpore wants the first argument to be called self."""

    def construct(me, x):  # noqa: N805
        return ops.relu(x)


def test_a_port_that_makes_no_graph_is_said_so_and_leaves_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = _compared(torch.nn.ReLU(), Untold(), ("isolated",))
    assert found.equal
    assert any("MindSpore makes no graph of it" in line for line in summary_lines(found))
    assert not list(tmp_path.iterdir())


def test_a_quick_comparison_finds_a_wrong_layer_and_says_what_it_left_out(capsys):
    reference, port = Net(), PortedNet(PortedPool())
    carry(reference, port)
    right = compare(reference, port, PICTURES, quick=True)
    assert right.equal
    assert {verdict.measurement.mode for verdict in right.verdicts} == set(QUICK_MODES)
    port.fc.bias.set_data(port.fc.bias + 0.01)
    assert compare(reference, port, PICTURES, quick=True).blamed[0].measurement.layer == "fc"
    assert main(["compare", "dtn", "--part", "encoder", "--quick", "--brief"]) == 0
    printed = capsys.readouterr().out
    assert all(f"left out: {words}" in printed for words in (*QUICK_LEAVES_OUT, "training steps: not asked for"))
    assert main(["compare", "dtn", "--quick", "--mode", "gradients"]) == 2


class Drop(nn.Cell):
    """Dropout, in train mode as a function says."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def construct(self, x):
        return self.function(x) if self.training else x


SAME = np.random.default_rng(0).random((70000,)) > 0.3


def _same_each_time(x):
    kept = SAME[: x.size].reshape(x.shape).astype(np.float32)
    return x * mindspore.Tensor(kept / np.float32(0.7))


def _by_channel(x, rate=0.3):
    return ops.dropout2d(x, rate)


WRONG = {
    "rate": (torch.nn.Dropout(0.3), lambda x: ops.dropout(x, 0.7), "share left out"),
    "no scale": (torch.nn.Dropout(0.3), lambda x: ops.dropout(x, 0.3) * 0.7, "what is left"),
    "never": (torch.nn.Dropout(0.3), lambda x: x, "share left out"),
    "same mask": (torch.nn.Dropout(0.3), _same_each_time, "share left in twice"),
    "by channel": (torch.nn.Dropout(0.3), _by_channel, "share of channels left out in parts"),
    "by element": (torch.nn.Dropout2d(0.3), lambda x: ops.dropout(x, 0.3), "share of channels left out in parts"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_dropout_is_found(name):
    reference, wrong, words = WRONG[name]
    found = _compared(torch.nn.Sequential(reference), nn.SequentialCell(Drop(wrong)), ("isolated",))
    names = [verdict.measurement.quantity.name for verdict in found.verdicts if not verdict.equal]
    assert words in names, summary_lines(found)
    assert found.blamed[0].measurement.layer == "0"


@pytest.mark.parametrize(
    ("reference", "port"),
    [
        (torch.nn.Dropout(0.3), lambda: nn.Dropout(p=0.3)),
        (torch.nn.Dropout(0.0), lambda: nn.Dropout(p=0.0)),
        (torch.nn.Dropout2d(0.3), lambda: nn.Dropout2d(p=0.3)),
        (torch.nn.Dropout(0.5), lambda: Drop(lambda x: x * (ops.rand_like(x) < 0.5) * 2.0)),
    ],
)
def test_right_dropout_is_silent(reference, port):
    for _ in range(3):
        found = _compared(torch.nn.Sequential(reference), nn.SequentialCell(port()), ("isolated",))
        assert found.equal, summary_lines(found)
        assert any(verdict.measurement.quantity.kind is Kind.DROPOUT for verdict in found.verdicts)


def test_where_too_much_cannot_be_judged_the_outcome_is_neither():
    head = Measurement(Mode.ISOLATED, Probe((8, 8)), "a", "Conv2d", Quantity(Kind.OUTPUT), 0, 1, 1.0, 1e-7, 1e-7)
    clear, noisy, wrong = (judge(head), judge(replace(head, noise=0.3)), judge(replace(head, error=0.5)))
    assert (clear.blind, noisy.blind, wrong.equal) == (False, True, False)
    missing = judge(replace(head, not_run="no kernel"))
    assert outcome([clear] * 9 + [noisy]) is Outcome.EQUAL
    assert outcome([clear] * 8 + [noisy] * 2) is outcome([clear] * 8 + [missing] * 2) is Outcome.CANNOT_TELL
    assert outcome([noisy, noisy, wrong]) is Outcome.DIFFERENT


class Functions(torch.nn.Module):
    """Dropout as functions and inside other layers."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 6)
        self.attention = torch.nn.MultiheadAttention(6, 2, 0.2, batch_first=True)

    def forward(self, x):
        x = torch.nn.functional.dropout2d(self.conv(x), 0.3, self.training).mean((2, 3))
        x = torch.nn.functional.dropout(self.fc(x), 0.4, self.training)[:, None]
        return self.attention(x, x, x)[0]


class PortedFunctions(nn.Cell):
    """The same."""

    def __init__(self, rate=0.4, first=ops.dropout2d, always=False):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, pad_mode="valid", has_bias=True)
        self.fc, self.attention = nn.Dense(4, 6), nn.MultiheadAttention(6, 2, 0.2, batch_first=True)
        self.rate, self.first, self.always = rate, first, always

    def construct(self, x):
        x = self.first(self.conv(x), 0.3, self.training).mean((2, 3))
        x = ops.dropout(self.fc(x), self.rate, self.always or self.training).expand_dims(1)
        return self.attention(x, x, x)[0]


def test_dropout_of_functions_rests_and_its_rate_is_compared():
    right = _compared(Functions(), PortedFunctions(), ("isolated", "gradients", "accumulated"))
    assert right.equal, summary_lines(right)
    uses = [it.measurement for it in right.verdicts if it.measurement.quantity.kind is Kind.DROPOUT]
    assert [(it.layer, it.quantity.index) for it in uses] == [("", 0), ("", 1), ("attention", 0)]
    cases = (
        (PortedFunctions(rate=0.6), "share left out"),
        (PortedFunctions(first=ops.dropout), "share left out"),
        (PortedFunctions(always=True), "uses"),
        (PortedFunctions(first=lambda x, *_: x), "uses"),
    )
    for port, name in cases:
        pair = pair_networks(Functions(), port)
        found = [it for training in (False, True) for it in _functions(pair, training) if not judge(it).equal]
        assert {(it.layer, it.quantity.name) for it in found} == {("", name)}


def _functions(pair, training):
    pair.set_training(training)
    return measure_functions(pair, [PICTURES], Probe.of([PICTURES], training))


class Deep(torch.nn.Sequential):
    """Many layers of large numbers."""

    def __init__(self):
        super().__init__(*(torch.nn.Conv2d(3, 3, 1) for _ in range(24)))


def test_a_run_whose_layers_need_more_memory_than_there_is_goes_to_disk(monkeypatch):
    """A layer returns 0.8 MB in float32; all together, on both sides, would be 55 MB."""
    port = nn.SequentialCell([nn.Conv2d(3, 3, 1, pad_mode="valid", has_bias=True) for _ in range(24)])
    pictures, found = numbers(1, 3, 256, 256), []
    port_with_bug = port[11]
    reference = Deep()
    carry(reference, port)
    for limit in (2**40, 0):
        monkeypatch.setattr(on_disk, "IN_MEMORY", limit)
        monkeypatch.setattr(on_disk, "SEGMENT", 2**22)
        pair = pair_networks(reference, port)
        tracemalloc.start()
        measured = list(measure_accumulated(pair, [pictures], Probe.of([pictures], False)))
        found.append((tracemalloc.get_traced_memory()[1], measured))
        tracemalloc.stop()
    (whole, wanted), (streamed, own) = found
    assert whole > 50e6
    assert streamed < 0.4 * whole
    assert [(it.layer, it.noise) for it in own] == [(it.layer, it.noise) for it in wanted]
    assert all(judge(it).equal for it in own)
    port_with_bug.bias.set_data(port_with_bug.bias + 0.01)
    worst = [it for it in measure_accumulated(pair, [pictures], Probe.of([pictures], False)) if not judge(it).equal]
    assert worst[0].layer == "11"
