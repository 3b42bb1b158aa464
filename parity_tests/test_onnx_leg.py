"""ONNX Runtime as the third leg: layers found in files, planted bugs caught and blamed, files from elsewhere judged."""

import json
from collections import Counter

import onnx
import pytest

from parity_tests.conftest import save_torch, seeded_state, small_part
from parity_tests.harness.capture import layer_calls
from parity_tests.harness.inputs import image
from parity_tests.harness.judge import judge
from parity_tests.harness.mutations_onnx import ONNX_MUTATIONS
from parity_tests.harness.onnx_layers import layer_values, noted_layers
from parity_tests.harness.onnx_leg import measure_onnx, open_onnx, traces
from parity_tests.harness.onnx_mutants import judge_export, onnx_false_alarms, run_onnx_mutants
from parity_tests.harness.pair import build_torch
from toonport.cli import main
from toonport.onnx_export import write_onnx

CAUSES = {
    "onnx-pad-zero": "padding mode",
    "onnx-instance-norm-eps": "epsilon",
    "onnx-adalin-eps": "epsilon",
    "onnx-biased-variance": "biased variance",
    "onnx-leaky-slope": "slope",
    "onnx-resize-linear": "interpolation",
    "onnx-bias-dropped": "bias",
    "onnx-transposed-square": "transposed",
    "onnx-tanh-dropped": "left out",
    "onnx-bgr": "order of colours",
    "onnx-input-range": "range",
}


@pytest.mark.parametrize("mutation", ONNX_MUTATIONS, ids=lambda one: one.name)
def test_planted_bug_is_caught_and_blamed(mutation):
    (outcome,) = run_onnx_mutants(write_onnx, [mutation.name])
    assert outcome.caught_by == ("onnx",), mutation.what
    assert outcome.right, f"blamed {outcome.blamed}"
    assert CAUSES.get(mutation.name, "") in outcome.cause
