"""The smallest case that still differs: written, run alone in either framework; and where the code of the layer is."""

import parity_tests  # noqa: F401, I001  # prepares the environment before any framework is imported

import json
import multiprocessing
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from mindspore import nn

from convert.registry import family_named
from parity_tests.harness.capture import measure_isolated
from parity_tests.harness.forked import run_forked
from parity_tests.harness.inputs import feature
from parity_tests.harness.judge import blamed, judge, judge_all
from parity_tests.harness.measurement import Kind, Probe
from parity_tests.harness.pair import pair_networks
from parity_tests.harness.replay.case import smallest_cases
from parity_tests.harness.replay.folder import LARGEST, put
from parity_tests.harness.replay.steps import StepReplay
from parity_tests.harness.training import TrainingReference, measure_training
from parity_tests.harness.training_setup import small_setup
from parity_tests.tests.pairs.twins import carry
from toonport.cli import main

FOLDER = Path(__file__).with_name("replayed")
# planted bug -> layer and tensor that are blamed, and the mode that shows it
BUGS = {
    "gain": ("head", "mask.0", "isolated"),  # an output in a dictionary, a keyword argument, a block without a layer
    "detached": ("head", "gradient of b.bias, of output 1", "gradients"),
    "dilation": ("big", "output", "isolated"),  # of a layer whose weights alone are beyond a megabyte
    "momentum": ("norm", "running_mean afterwards", "isolated"),  # in train mode
    "shape": ("up", "output", "isolated"),
}


class LateWeights(nn.Dense):
    """Wrong in any case, or only where its weights do not repeat themselves."""

    def __init__(self, form):
        super().__init__(80, 80)
        self.form = form

    def construct(self, x):
        weight = self.weight.reshape(-1)
        late = (weight[4093:] - weight[:2307]).abs().max() if self.form == "weights count" else 1
        return super().construct(x) + late


def _compared(folder, bug, mode, *more):
    kwargs = f"{FOLDER / 'net.py'}:Net", f"{FOLDER / 'net_ms.py'}:"
    port = folder / f"port_{bug}.py"
    port.write_text(f"from net_ms import Net\n\n\ndef build():\n    return Net({bug!r})\n")
    (folder / "net_ms.py").write_text((FOLDER / "net_ms.py").read_text())
    own = ["--torch", kwargs[0], "--mindspore", f"{port}:build", "--inputs", "3x16x16", "--mode", mode]
    code = main(["compare", *own, "--brief", "--json", str(folder / "report.json"), *more])
    return code, json.loads((folder / "report.json").read_text())["networks"][0]


def _ran(folder, framework):
    command = [sys.executable, str(folder / f"run_{framework}.py")]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0])


@pytest.mark.sampled(2)
@pytest.mark.parametrize("bug", BUGS)
def test_a_case_runs_alone_in_either_framework_and_shows_the_same(bug, tmp_path, monkeypatch):
    layer, tensor, mode = BUGS[bug]
    code, network = _compared(tmp_path, bug, mode, "--replay", str(tmp_path / "cases"))
    assert code == 1
    first, case = network["blamed"][0], tmp_path / "cases" / "Net"
    assert (first["words"]["layer"], first["words"]["tensor"]) == (layer, tensor)
    assert str(case) in network["case"]
    assert sum(file.stat().st_size for file in case.iterdir()) <= LARGEST
    right, wrong = _ran(case, "torch"), _ran(case, "mindspore")
    assert right <= 1 < wrong
    said = float(network["case"].partition(" × ")[0].rpartition(", ")[2])
    assert wrong == said or abs(wrong - said) <= 0.01 * said  # infinite, where shapes differ
    assert all(len((case / f"run_{name}.py").read_text().splitlines()) <= 45 for name in ("torch", "mindspore"))


def test_what_is_blamed_says_where_its_code_is_on_both_sides(tmp_path):
    _, network = _compared(tmp_path, "gain", "isolated")
    source = {name: (FOLDER / f"{name}.py").read_text().splitlines() for name in ("net", "net_ms")}
    for side, name in (("reference", "net"), ("port", "net_ms")):
        place = network["blamed"][0]["places"][side]
        for key, line in (("definition", "class Head"), ("call", "return self.head(")):
            path, _, number = place[key].rpartition(":")
            assert path.endswith(f"{name}.py")
            assert line in source[name][int(number) - 1]
    words = network["blamed"][0]["words"]["places"]
    assert words.startswith("reference: ")
    assert "; port: " in words


def test_a_right_port_leaves_no_case_and_no_places(tmp_path):
    code, network = _compared(tmp_path, "", "isolated", "--replay", str(tmp_path / "cases"))
    assert (code, network["case"]) == (0, "")
    assert not (tmp_path / "cases").exists()
    assert all(row["places"] is None for row in network["rows"])


def test_a_port_that_cannot_run_and_a_file_for_a_folder_are_said_in_one_line(tmp_path, capsys):
    code, network = _compared(tmp_path, "raises", "isolated", "--replay", str(tmp_path / "cases"))
    assert (code, network["blamed"][0]["layer"]) == (1, "head")
    assert network["case"].startswith("no case to replay: the port cannot run it: ValueError: not today")
    assert not (tmp_path / "cases").exists()
    (tmp_path / "file").write_text("")
    own = ["--torch", "a.py:A", "--mindspore", "b.py:B", "--inputs", "3"]
    assert main(["compare", *own, "--replay", str(tmp_path / "file")]) == 2
    assert "is a file; a folder is needed" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["small", "weights count"])
def test_weights_that_repeat_are_given_up_where_the_port_does_not_differ_with_them(form):
    torch.manual_seed(0)
    module, cell = torch.nn.Sequential(torch.nn.Linear(80, 80)), nn.SequentialCell(LateWeights(form))
    carry(module, cell)
    pair = pair_networks(module, cell)
    inputs = [feature("late", (2, 80))]
    (first,) = blamed([judge(each) for each in measure_isolated(pair, inputs, Probe.of(inputs, False), {"0"})])[:1]
    before = pair.reference.weights()["0.weight"]
    with smallest_cases(pair, inputs, first.measurement) as cases:
        case = next(cases)
        kept = np.array_equal(pair.reference.weights()["0.weight"], before)
        assert kept is (form == "weights count")
        assert not case.verdict.equal
    assert np.array_equal(pair.reference.weights()["0.weight"], before)


def _step_written(steps, folder):
    """Write the case of a right step's first loss term that is not exact; return its multiple."""
    setup = small_setup(family_named("dtn"), steps, 0)
    reference = TrainingReference(setup)
    verdicts = judge_all(measure_training(setup, None, reference))
    last = max(verdict.measurement.probe.step for verdict in verdicts)
    own = [each for each in verdicts if each.measurement.probe.step == last and each.measurement.error]
    loss = next(each for each in own if each.measurement.quantity.kind is Kind.LOSS)
    put(StepReplay(folder, setup, steps, 0, False).files("dtn training", reference, loss), folder)
    return loss.multiple


@pytest.mark.parametrize("steps", [1, 2])
def test_the_script_of_a_training_step_finds_the_error_of_the_step(steps, tmp_path):
    fresh = multiprocessing.get_context("spawn")  # what ran in a process before may move the last bit of a sum
    ((_, multiple),) = run_forked([(0, partial(_step_written, steps, tmp_path))], 1, context=fresh)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= LARGEST
    found = _ran(tmp_path, "mindspore")
    assert found == pytest.approx(multiple, rel=0.01) if steps == 1 else found < 10
