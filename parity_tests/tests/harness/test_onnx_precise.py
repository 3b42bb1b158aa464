"""Sums rewritten in ONNX files: the same numbers, rounded as finely as PyTorch does."""

from functools import partial

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from parity_tests.harness.measurement import Mode
from parity_tests.harness.onnx.precise import rewrite_sums
from parity_tests.tolerances import BUDGETS, ULP

SIDE = 256


def _model(kind, scale=1.0, bias=0.0, side=SIDE, **attributes):
    """One node over pictures [N, 2, side, side]."""
    affine = [numpy_helper.from_array(np.full(2, value, np.float32), name) for name, value in
              (("scale", scale), ("bias", bias))]  # fmt: skip
    axes = attributes.pop("axes", None)
    constants = affine if axes is None else [numpy_helper.from_array(np.array(axes), "axes")]
    node = helper.make_node(kind, ["x", *(one.name for one in constants)], ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, side, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, _output_shape(kind, axes, attributes, side))],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _output_shape(kind, axes, attributes, side):
    shape = ["N", 2, side, side]
    for axis in sorted((axis % 4 for axis in axes or ()), reverse=True):
        shape[axis : axis + 1] = [1] if attributes.get("keepdims", 1) else []
    return shape


def _run(model, values):
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": values})[0]


@pytest.fixture(scope="module")
def values():
    return np.random.default_rng(0).normal(30, 1, (2, 2, SIDE, SIDE)).astype(np.float32)


@pytest.mark.parametrize(("side", "rewritten"), [(SIDE, 1), ("free", 1), (32, 0)])
@pytest.mark.parametrize(("scale", "bias"), [(1.0, 0.0), (0.5, 2.0)])
def test_instance_norm_rounds_like_pytorch(values, scale, bias, side, rewritten):
    model = _model("InstanceNormalization", scale, bias, side, epsilon=1e-3)
    assert rewrite_sums(model) == rewritten
    values = values[:, :, :side, :side] if isinstance(side, int) else values
    affine = torch.full((2,), scale), torch.full((2,), bias)
    x = torch.from_numpy(values)
    norm = partial(torch.nn.functional.instance_norm, eps=1e-3)
    wanted = norm(x.double(), weight=affine[0].double(), bias=affine[1].double()).numpy()
    noise = norm(x, weight=affine[0], bias=affine[1]).numpy() - wanted
    error = _run(model, values) - wanted
    budget = BUDGETS[Mode.ISOLATED]
    scale_of_sums = np.abs(values).mean()
    assert np.sqrt((error**2).mean()) <= budget.factor * np.sqrt((noise**2).mean()) + budget.floor * ULP * scale_of_sums


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
