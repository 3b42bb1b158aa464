"""Other precisions than float32, and captures that are kept and replayed."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from convert.errors import InputError
from ms_models.cyclegan_zoo_layers import ZooInstanceNorm2d
from parity_tests.harness.capture import measure_isolated
from parity_tests.harness.compare import ulp_neighbour
from parity_tests.harness.identity import code_version, identity_of
from parity_tests.harness.judge import judge, judge_all
from parity_tests.harness.measurement import Kind, Measurement, Mode, Probe, Quantity
from parity_tests.harness.mutants.run import compare_subject
from parity_tests.harness.pair import pair_networks
from parity_tests.harness.recorded import RecordedSide, recorded
from parity_tests.harness.report.console import line, summary_lines, tree_lines
from parity_tests.harness.report.words import verdict_word
from parity_tests.harness.run import compare
from parity_tests.harness.sides.mindspore import MindSporeSide
from parity_tests.harness.sides.torch import TorchSide
from parity_tests.tests.cases import OWN_INPUTS, own_pair
from parity_tests.tolerances import ULPS


def test_a_right_port_is_equal_in_float16_and_a_bug_is_still_named():
    assert compare(*own_pair(), OWN_INPUTS, dtype="float16").equal
    wrong = compare(*own_pair("slope"), OWN_INPUTS, dtype="float16")
    assert wrong.blamed[0].measurement.layer == "act"


@pytest.mark.parametrize("subject", [("photo2cartoon", "disLA"), ("ugatit", "genA2B")])
def test_right_ports_raise_no_alarm_in_float16(subject):
    verdicts, _ = compare_subject(subject, modes=("isolated", "accumulated"), dtype="float16")
    assert [one.measurement.layer for one in verdicts if not one.equal] == []
    assert all(not one.measurement.not_run for one in verdicts)


def test_what_has_no_float64_kernel_is_not_run_and_never_called_equal():
    result = compare(*own_pair(), OWN_INPUTS, dtype="float64")
    words = {
        one.measurement.layer: verdict_word(one) for one in result.verdicts if one.measurement.mode is Mode.ISOLATED
    }
    assert words == {"conv": "not run", "act": "equal", "head": "equal", "": "not run"}
    assert any("no float64 kernel" in text for text in summary_lines(result))
    assert any(one.text.split()[-2:] == ["not", "run"] for one in tree_lines(result))
    refused = next(one for one in result.verdicts if one.measurement.not_run)
    assert line(refused).endswith("not run")


def test_float64_sees_a_bug_that_float32_cannot():
    head = Measurement(Mode.ISOLATED, Probe(), "act", "LeakyReLU", Quantity(Kind.OUTPUT), 0)
    head = replace(head, scale=1.0, noise=5e-8, error=1.5e-7)
    assert judge(head).equal
    assert not judge(replace(head, dtype="float64", noise=0.0)).equal


def test_a_precision_in_which_nothing_runs_is_refused():
    with pytest.raises(InputError, match="nothing could be run in bfloat16"):
        compare(*own_pair(), OWN_INPUTS, modes=("accumulated",), dtype="bfloat16")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_neighbours_in_other_precisions_differ_by_about_one_unit(dtype):
    values = np.linspace(0.5, 1.0, 1001).astype(np.float32)
    moved = ulp_neighbour(values, 1, dtype)
    steps = np.abs(moved.astype(np.float64) / values - 1) / ULPS[dtype]
    assert 0.5 < steps.max() <= 2
    assert ulp_neighbour(values, 0, dtype) is values


def _captured(folder, bug=None, training=False, replay_port=False):
    pair = recorded(pair_networks(*own_pair(bug)), folder, replay_port)
    pair.set_training(training)
    verdicts = judge_all(measure_isolated(pair, [OWN_INPUTS], Probe()))
    return [one.measurement.error for one in verdicts], pair


def test_reference_captures_are_replayed_and_the_port_runs_anew(tmp_path):
    errors, first = _captured(tmp_path)
    assert first.truth.runs > 0 < first.reference.runs
    again, second = _captured(tmp_path)
    assert again == errors
    assert (second.truth.runs, second.reference.runs) == (0, 0)
    assert second.port.runs == first.port.runs
    replayed, third = _captured(tmp_path, replay_port=True)
    assert replayed == errors
    assert third.port.runs == 0


def test_another_network_mode_or_program_is_never_answered_from_captures(tmp_path):
    _captured(tmp_path)
    wrong, changed = _captured(tmp_path, bug="weight", replay_port=True)
    assert changed.port.runs > 0  # its weights differ
    assert max(wrong) > 1e-6
    _, training = _captured(tmp_path, training=True, replay_port=True)
    assert training.truth.runs > 0 < training.port.runs


@pytest.mark.parametrize(("rate", "kept"), [(1e18, True), (0.0, False)])
def test_what_is_large_and_quick_to_compute_is_not_kept(tmp_path, monkeypatch, rate, kept):
    monkeypatch.setattr("parity_tests.harness.recorded.LARGE", 0)
    monkeypatch.setattr("parity_tests.harness.recorded.AS_QUICK", rate)
    errors, _ = _captured(tmp_path)
    again, second = _captured(tmp_path)
    assert again == errors
    assert (second.truth.runs == 0) == kept
    assert bool(list(tmp_path.rglob("*.safetensors"))) == kept


def test_captures_of_one_network_only_are_all_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("parity_tests.harness.recorded.LARGE", 0)
    monkeypatch.setattr("parity_tests.harness.recorded.AS_QUICK", 0.0)
    side = TorchSide(torch.nn.Linear(3, 2))
    for _ in range(2):
        own = RecordedSide(side, tmp_path, {}, replay=True, identity="run a")
        own.call("", [np.ones((1, 3), np.float32)])
    assert own.runs == 0


def test_captures_know_the_source_of_a_users_network(tmp_path):
    pair = pair_networks(*own_pair())
    assert code_version(pair.port) == code_version(pair_networks(*own_pair()).port)
    assert code_version(pair.port) != code_version(_foreign(tmp_path).port)


class _Scaled(torch.nn.Module):
    def __init__(self, function, scale, hook=None):
        super().__init__()
        self.inner, self.function, self.scale = torch.nn.Conv2d(3, 3, 3), function, scale
        self.own = [self, []]
        self.own[1].append(self.own)  # circles
        if hook:
            self.inner.register_forward_pre_hook(hook)


def test_captures_know_how_layers_of_the_same_weights_are_set():
    def slope_of(slope):
        return lambda x: torch.nn.functional.leaky_relu(x, slope)

    def identity(module):
        return identity_of(TorchSide(module))

    known = [
        torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3, padding=padding), torch.nn.LeakyReLU(slope))
        for padding, slope in ((0, 0.2), (1, 0.2), (0, 0.3))
    ]
    scaled = [
        _Scaled(function, torch.tensor([scale]), hook)
        for function, scale, hook in (
            (slope_of(0.2), 2.0, None),
            (slope_of(0.3), 2.0, None),
            (slope_of(0.2), 3.0, None),
            (partial(torch.nn.functional.leaky_relu, negative_slope=0.2), 2.0, None),
            (partial(torch.nn.functional.leaky_relu, negative_slope=0.3), 2.0, None),
            (slope_of(0.2), 2.0, lambda module, inputs: inputs),
        )
    ]
    assert len({identity(network) for network in [*known, *scaled]}) == 9
    again = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3), torch.nn.LeakyReLU(0.2)).eval()
    assert identity(again) == identity(known[0])


def test_captures_know_how_cells_are_set():
    def identity(reference_exact):
        return identity_of(MindSporeSide(ZooInstanceNorm2d(2, reference_exact)))

    assert identity(True) != identity(False)
    assert identity(True) == identity(True)


def _foreign(folder):
    import importlib.util
    import sys

    import mindspore

    path = folder / "foreign.py"
    path.write_text("from mindspore import nn\n\n\nclass Net(nn.Dense):\n    pass\n")
    spec = importlib.util.spec_from_file_location("foreign", path)
    sys.modules["foreign"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    reference, port = torch.nn.Linear(3, 2), module.Net(3, 2)
    for name, parameter in port.parameters_and_names():
        parameter.set_data(mindspore.Tensor(reference.state_dict()[name].numpy()))
    return pair_networks(reference, port)


def test_the_tree_shows_every_layer_with_its_numbers_and_marks_what_to_look_at_first():
    rows = list(tree_lines(compare(*own_pair("slope"), OWN_INPUTS)))
    marked = [one for one in rows if "look here first" in one.text]
    assert [one.text.split()[1] for one in marked] == ["act"]
    assert marked[0].bad
    conv = next(one for one in rows if one.text.split()[1:3] == ["conv", "Conv2d"])
    assert not conv.bad
    assert len([float(word) for word in conv.text.split()[3:9]]) == 6
    assert {one.text.split()[1] for one in rows[2:]} == {"conv", "act", "head"}
