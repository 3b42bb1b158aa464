"""Activations of an ONNX file run alone, on numbers that the whole file does not reach."""

from collections.abc import Collection, Mapping
from typing import Any

ACTIVATIONS = frozenset(
    {"Relu", "LeakyRelu", "PRelu", "Clip", "Tanh", "Sigmoid", "Elu", "Selu", "Celu", "Gelu", "Mish", "Softplus",
     "HardSigmoid", "HardSwish", "Softsign", "ThresholdedRelu"}
)  # fmt: skip


def activations(model: Any, values: Mapping[str, int]) -> tuple[Any, dict[str, tuple[str, str]]]:
    """Return a model of all activations side by side, and name of the value -> names of its input and output there.

    Args:
        model: onnx.ModelProto.
        values: name of the value that a layer returns -> its number of axes; those that an activation makes are taken.
    """
    from onnx import TensorProto, helper

    constants = [node for node in model.graph.node if node.op_type == "Constant"]
    fixed = {constant.name for constant in model.graph.initializer} | {node.output[0] for node in constants}
    nodes, names, taken = [], dict[str, tuple[str, str]](), list[Any]()
    for node in model.graph.node:
        fed = _fed(node, fixed)
        if node.op_type in ACTIVATIONS and len(fed) == 1 and node.output[0] in values:
            given, made = names[node.output[0]] = f"alone_{len(names)}", f"made_{len(names)}"
            nodes.append(_copied(node, fed[0], given, made))
            free = [None] * values[node.output[0]]  # some runtimes must know the number of axes
            taken.append(helper.make_tensor_value_info(given, TensorProto.FLOAT, free))
    needed = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        [*constants, *nodes],
        "activations",
        taken,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for _, name in names.values()],
        [constant for constant in model.graph.initializer if constant.name in needed],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version), names


def _fed(node: Any, fixed: Collection[str]) -> list[int]:
    """Places of the inputs of a node that are no constants."""
    return [place for place, name in enumerate(node.input) if name and name not in fixed]


def _copied(node: Any, place: int, given: str, made: str) -> Any:
    """A node with another input at one place and another output."""
    alone = type(node)()
    alone.CopyFrom(node)
    alone.input[place], alone.output[0] = given, made
    return alone
