"""Rewrites an ONNX graph so that ONNX Runtime adds up large pictures precisely.

ONNX Runtime's CPU kernels for instance norm and for means over several axes add one number after the other; over
256x256 pixels that costs up to thirty times PyTorch's rounding error, enough to change grey levels. Here both are
written as means over one axis at a time, which computes the same and rounds like PyTorch. Instance norms of small
feature maps stay as they are: they round as finely, and one node opens and runs faster than nine.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

RANK = 4  # of pictures and feature maps [N, C, H, W]
SHORT = 32 * 32  # pixels up to which an instance norm stays: photo2cartoon is off by 5.1e-6 so, by 7.7e-6 with 64 * 64


def rewrite_sums(model: Any) -> int:
    """Rewrite a model in place; returns the number of nodes that were replaced."""
    writer = _Writer(model)
    nodes, replaced = [], 0
    for node in model.graph.node:
        new = list(writer.rewritten(node))
        replaced += bool(new)
        nodes.extend(new or [node])
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    if replaced:
        _drop_unused(model.graph)
    return replaced


def _drop_unused(graph: Any) -> None:
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    kept = [constant for constant in graph.initializer if constant.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


class _Writer:
    """Makes the nodes that replace others, and the constants they share."""

    def __init__(self, model: Any) -> None:
        from onnx import helper, numpy_helper, shape_inference

        self._make, self._packed = helper.make_node, numpy_helper.from_array
        self._graph = model.graph
        self._constants = {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}
        known = shape_inference.infer_shapes(model).graph
        values = [*known.value_info, *known.input, *known.output]
        self._shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values}

    def rewritten(self, node: Any) -> Iterator[Any]:
        """Yield the nodes that replace `node`; nothing when it stays as it is."""
        shape = self._shapes.get(node.input[0], []) if node.input else []
        if len(shape) != RANK:
            return
        if node.op_type == "InstanceNormalization":
            if not 0 < shape[2] * shape[3] <= SHORT:  # 0: free
                yield from self._instance_norm(node)
        elif node.op_type in ("ReduceMean", "ReduceSum") and len(self._axes(node)) > 1:
            yield from self._reduction(node)

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
        return self._make(kind, inputs, [output], name=output, **attributes)

    def _axes(self, node: Any) -> list[int]:
        """Axes of a reduction, the last first; none when they are not constant."""
        axes = self._constants.get(node.input[1]) if len(node.input) > 1 else None
        return [] if axes is None else sorted((int(axis) % RANK for axis in axes), reverse=True)

    def _constant(self, name: str, value: Any) -> str:
        name = f"rewrite_sums.{name}"
        if name not in self._constants:
            self._constants[name] = value
            self._graph.initializer.append(self._packed(value, name))
        return name

    def _axis(self, axis: int) -> str:
        return self._constant(f"axis_{axis}", np.array([axis], np.int64))

    def _reduction(self, node: Any) -> Iterator[Any]:
        axes, value = self._axes(node), node.input[0]
        keep = next((attribute.i for attribute in node.attribute if attribute.name == "keepdims"), 1)
        for step, axis in enumerate(axes):
            result = node.output[0] if keep and step == len(axes) - 1 else f"{node.output[0]}.over_{axis}"
            yield self._node(node.op_type, [value, self._axis(axis)], result, keepdims=1)
            value = result
        if not keep:
            name = "_".join(str(axis) for axis in axes)
            dropped = self._constant(f"axes_{name}", np.array(sorted(axes), np.int64))
            yield self._node("Squeeze", [value, dropped], node.output[0])

    def _mean(self, value: str, name: str) -> Iterator[Any]:
        """Mean over the pixels of each channel, [N, C, H, W] -> [N, C, 1, 1], called `name`."""
        yield self._node("ReduceMean", [value, self._axis(3)], f"{name}.rows")
        yield self._node("ReduceMean", [f"{name}.rows", self._axis(2)], name)

    def _instance_norm(self, node: Any) -> Iterator[Any]:
        value, scale, bias = node.input
        if scale not in self._constants or bias not in self._constants:
            return
        name = node.output[0]
        epsilon = next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-5)
        eps = self._constant(f"epsilon_{epsilon}", np.array(epsilon, np.float32))
        affine = self._affine(name, scale, bias)
        yield from self._mean(value, f"{name}.mean")
        yield self._node("Sub", [value, f"{name}.mean"], f"{name}.centred")
        yield self._node("Mul", [f"{name}.centred", f"{name}.centred"], f"{name}.squared")
        yield from self._mean(f"{name}.squared", f"{name}.variance")
        yield self._node("Add", [f"{name}.variance", eps], f"{name}.above_zero")
        yield self._node("Sqrt", [f"{name}.above_zero"], f"{name}.deviation")
        yield self._node("Div", [f"{name}.centred", f"{name}.deviation"], f"{name}.normed" if affine else name)
        yield from affine

    def _affine(self, name: str, scale: str, bias: str) -> list[Any]:
        """Nodes for a learnt scale and bias; none where they have no effect."""
        factors, shifts = self._constants[scale], self._constants[bias]
        if (factors == 1).all() and (shifts == 0).all():
            return []
        factor = self._constant(f"{name}.scale", factors.reshape(1, -1, 1, 1))
        shift = self._constant(f"{name}.bias", shifts.reshape(1, -1, 1, 1))
        return [
            self._node("Mul", [f"{name}.normed", factor], f"{name}.scaled"),
            self._node("Add", [f"{name}.scaled", shift], name),
        ]
