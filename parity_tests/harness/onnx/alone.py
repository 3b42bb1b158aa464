"""Activations and norms of an ONNX file run alone, on numbers that the whole file does not reach."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from parity_tests.harness.measurement import Values

ACTIVATIONS = (
    "Relu", "LeakyRelu", "PRelu", "Clip", "Tanh", "Sigmoid", "Elu", "Selu", "Celu", "Gelu", "Mish", "Softplus",
    "HardSigmoid", "HardSwish", "Softsign", "ThresholdedRelu",
)  # fmt: skip
NORMS = ("InstanceNormalization", "LayerNormalization", "GroupNormalization")
# type of a node -> what it is fed: beyond clamps and into saturation; a spread at which a wrong epsilon shows
ALONE = dict.fromkeys(ACTIVATIONS, Values.LARGE) | dict.fromkeys(NORMS, Values.LOW_SPREAD)


@dataclass(frozen=True)
class Alone:
    """A node that is run alone."""

    source: str  # name of its input in the file
    given: str  # name of its input where it is alone
    made: str  # name of its output
    values: Values  # what it is fed


def nodes_alone(model: Any, values: Mapping[str, int]) -> tuple[Any, dict[str, Alone]]:
    """Return a model of activations and norms side by side, and name of the value -> the node that makes it there.

    Args:
        model: onnx.ModelProto.
        values: name of the value that a layer returns -> its number of axes; those that one such node makes are taken.
    """
    from onnx import TensorProto, helper

    constants = [node for node in model.graph.node if node.op_type == "Constant"]
    fixed = _types(model)
    nodes, names, taken = [], dict[str, Alone](), list[Any]()
    for node in model.graph.node:
        fed = _fed(node, fixed)
        if node.op_type in ALONE and len(fed) == 1 and node.output[0] in values and _in_float32(node, fixed):
            own = Alone(node.input[fed[0]], f"alone_{len(names)}", f"made_{len(names)}", ALONE[node.op_type])
            names[node.output[0]] = own
            nodes.append(_copied(node, fed[0], own.given, own.made))
            free = [None] * values[node.output[0]]  # some runtimes must know the number of axes
            taken.append(helper.make_tensor_value_info(own.given, TensorProto.FLOAT, free))
    needed = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        [*constants, *nodes],
        "alone",
        taken,
        [helper.make_tensor_value_info(own.made, TensorProto.FLOAT, None) for own in names.values()],
        [constant for constant in model.graph.initializer if constant.name in needed],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version), names


def _types(model: Any) -> dict[str, int]:
    """Name of every constant -> its type, a number of onnx.TensorProto; 0 where it does not say."""
    found = {constant.name: constant.data_type for constant in model.graph.initializer}
    constants = (node for node in model.graph.node if node.op_type == "Constant")
    return found | {node.output[0]: value.t.data_type for node in constants for value in node.attribute}


def _in_float32(node: Any, fixed: Mapping[str, int]) -> bool:
    """Whether no constant of a node is a floating-point number of another type."""
    from onnx import TensorProto

    others = {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
    return not others & {fixed.get(name, 0) for name in node.input}


def _fed(node: Any, fixed: Collection[str]) -> list[int]:
    """Places of the inputs of a node that are no constants."""
    return [place for place, name in enumerate(node.input) if name and name not in fixed]


def _copied(node: Any, place: int, given: str, made: str) -> Any:
    """A node with another input at one place and another output."""
    alone = type(node)()
    alone.CopyFrom(node)
    alone.input[place], alone.output[0] = given, made
    return alone
