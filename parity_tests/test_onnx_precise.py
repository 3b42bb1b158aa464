"""Sums rewritten in ONNX files: the same numbers, rounded as finely as PyTorch does."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from toonport.onnx_precise import rewrite_sums

SIDE = 256


def _model(kind, scale=1.0, bias=0.0, **attributes):
    """One node over pictures [N, 2, SIDE, SIDE]."""
    affine = [numpy_helper.from_array(np.full(2, value, np.float32), name) for name, value in
              (("scale", scale), ("bias", bias))]  # fmt: skip
    axes = attributes.pop("axes", None)
    constants = affine if axes is None else [numpy_helper.from_array(np.array(axes), "axes")]
    node = helper.make_node(kind, ["x", *(one.name for one in constants)], ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _run(model, values):
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": values})[0]


@pytest.fixture(scope="module")
def values():
    return np.random.default_rng(0).normal(3, 1, (2, 2, SIDE, SIDE)).astype(np.float32)


def _instance_norm(x, scale, bias):
    x = x.astype(np.float64)
    return (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-3) * scale + bias


@pytest.mark.parametrize(("scale", "bias"), [(1.0, 0.0), (0.5, 2.0)])
def test_instance_norm_is_more_exact_and_the_same_function(values, scale, bias):
    model, wanted = _model("InstanceNormalization", scale, bias, epsilon=1e-3), _instance_norm(values, scale, bias)
    before = np.abs(_run(model, values) - wanted)
    assert rewrite_sums(model) == 1
    after = np.abs(_run(model, values) - wanted)
    assert after.max() < 1e-5
    assert after.mean() < before.mean() / 3


@pytest.mark.parametrize("kind", ["ReduceMean", "ReduceSum"])
@pytest.mark.parametrize("axes", [(2, 3), (-1, -2), (1, 2, 3)])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reductions_keep_their_value_and_shape(values, kind, axes, keepdims):
    model = _model(kind, axes=axes, keepdims=keepdims)
    assert rewrite_sums(model) == 1
    wanted = getattr(values.astype(np.float64), kind.removeprefix("Reduce").lower())(axes, keepdims=bool(keepdims))
    found = _run(model, values)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_other_nodes_stay_as_they_are():
    for model in (_model("ReduceMean", axes=(1,)), _model("ReduceMax", axes=(2, 3))):
        before = model.SerializeToString()
        assert rewrite_sums(model) == 0
        assert model.SerializeToString() == before
