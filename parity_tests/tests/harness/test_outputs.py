"""Outputs of files against the network that they were made from: runs of the reference, and what is measured."""

import numpy as np
import torch

from parity_tests.harness.inputs import image
from parity_tests.harness.judge import judge_all
from parity_tests.harness.measurement import Mode
from parity_tests.harness.outputs import WHOLE, file_head, measure_outputs, run_references


def test_the_reference_runs_in_both_precisions_and_stays_as_it_is():
    network, inputs = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.Tanh()).eval(), image("runs", 2, 8, 8)
    references = run_references(network, inputs, "float16", layers=True)
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}
    assert list(references.truth) == [("0", 0), ("1", 0), WHOLE]
    assert references.truth[WHOLE].outputs[0].dtype == np.float64
    exact, moved = (run[WHOLE].outputs[0] for run in references.runs)
    assert exact.dtype == np.float16
    assert (exact != moved).any()
    assert references.types == {"": "Sequential", "0": "Conv2d", "1": "Tanh"}


def test_outputs_are_judged_in_order_and_one_that_the_network_lacks_is_a_problem():
    inputs = image("outputs", 1, 8, 8)
    found = {"good": np.tanh(inputs), "more": inputs}
    head = file_head(Mode.ONNX, "ONNX Runtime", inputs)
    references = run_references(torch.nn.Tanh(), inputs)
    good, more = judge_all(measure_outputs(head, references, found))
    assert good.equal
    assert good.measurement.quantity.name == "good"
    assert not more.equal
    assert more.measurement.problem == "the reference has no such tensor"
    assert [verdict.measurement.order for verdict in (good, more)] == [0, 1]
    (wrong,) = judge_all(measure_outputs(head, references, {"wrong": 1.01 * found["good"]}))
    assert not wrong.equal
