"""Every mutation of an ONNX file: attributes, inputs, nodes and initializers, one at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import AttributeProto, helper, numpy_helper

from parity_tests.harness.sides.base import Array

MODES = {
    "reflect": "edge",
    "edge": "reflect",
    "constant": "edge",
    "nearest": "linear",
    "linear": "nearest",
    "floor": "ceil",
    "ceil": "floor",
    "round_prefer_floor": "ceil",
    "asymmetric": "half_pixel",
    "half_pixel": "asymmetric",
    "align_corners": "half_pixel",
    "pytorch_half_pixel": "asymmetric",
}


@dataclass(frozen=True)
class GraphMutant:
    """One edit of an onnx.ModelProto."""

    name: str  # stable: place in the graph, kind
    kind: str  # of the edit
    what: str  # the edit in words
    node: str  # output of the node that is edited or that takes the initializer
    plant: Callable[[Any], None]  # edits a model in place


def graph_mutants(model: Any) -> Iterator[GraphMutant]:
    """Yield every edit of a model, in the order of its nodes and then of its initializers."""
    for place, node in enumerate(model.graph.node):
        yield from _attributes(place, node)
        yield from _wiring(place, node)
    users = {name: node.output[0] for node in reversed(model.graph.node) for name in node.input}
    for place, constant in enumerate(model.graph.initializer):
        yield from _initializer(place, constant.name, numpy_helper.to_array(constant), users.get(constant.name, ""))


def _attributes(place: int, node: Any) -> Iterator[GraphMutant]:
    for index, attribute in enumerate(node.attribute):
        for number, value in enumerate(_others(attribute)):
            what = f"{node.op_type} {node.output[0]}: {attribute.name} {value}"
            name = f"node {place} {attribute.name} {number}"
            yield GraphMutant(name, "attribute", what, node.output[0], _set_attribute(place, index, value))


def _others(attribute: Any) -> Iterator[Any]:
    value = helper.get_attribute_value(attribute)
    if attribute.type == AttributeProto.INT:
        yield from (value + 1, value - 1)
    elif attribute.type == AttributeProto.FLOAT:
        yield from (value * 2, value + 1, 0.0)
    elif attribute.type == AttributeProto.INTS:
        for index in range(len(value)):
            yield [*value[:index], value[index] + 1, *value[index + 1 :]]
        if list(value) != list(value)[::-1]:
            yield list(value)[::-1]
    elif attribute.type == AttributeProto.STRING and value.decode() in MODES:
        yield MODES[value.decode()]


def _set_attribute(place: int, index: int, value: Any) -> Callable[[Any], None]:
    def plant(model: Any) -> None:
        """Give an attribute another value."""
        attribute = model.graph.node[place].attribute[index]
        attribute.CopyFrom(helper.make_attribute(attribute.name, value))

    return plant


def _wiring(place: int, node: Any) -> Iterator[GraphMutant]:
    head = f"{node.op_type} {node.output[0]}"
    for index in range(len(node.input) - 1):
        if node.input[index] != node.input[index + 1]:
            name = f"node {place} inputs {index}"
            what = f"{head}: inputs {index} and {index + 1} exchanged"
            yield GraphMutant(name, "inputs exchanged", what, node.output[0], _exchange(place, index))
    for index, source in enumerate(node.input):
        if source and node.op_type not in ("Constant", "Shape"):
            name = f"node {place} bypassed {index}"
            yield GraphMutant(
                name, "node bypassed", f"{head}: its input {index}", node.output[0], _bypass(place, index)
            )


def _exchange(place: int, index: int) -> Callable[[Any], None]:
    def plant(model: Any) -> None:
        """Exchange two inputs."""
        inputs = model.graph.node[place].input
        inputs[index], inputs[index + 1] = inputs[index + 1], inputs[index]

    return plant


def _bypass(place: int, index: int) -> Callable[[Any], None]:
    def plant(model: Any) -> None:
        """Hand an input on unchanged."""
        node = model.graph.node[place]
        node.CopyFrom(helper.make_node("Identity", [node.input[index]], [node.output[0]], node.name))

    return plant


def _initializer(place: int, name: str, value: Array, user: str) -> Iterator[GraphMutant]:
    for kind, changed in array_mutations(value, place):
        what = f"{name} {list(value.shape)}: {kind}"
        yield GraphMutant(f"initializer {place} {kind}", kind, what, user, _set_initializer(place, changed))


def _set_initializer(place: int, changed: Array) -> Callable[[Any], None]:
    def plant(model: Any) -> None:
        """Give an initializer other values."""
        constant = model.graph.initializer[place]
        constant.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(changed), constant.name))

    return plant


def array_mutations(value: Array, seed: int) -> Iterator[tuple[str, Array]]:
    """Yield (kind, changed values) of everything that can be done to a tensor alone and changes it."""
    generator = np.random.default_rng(seed)
    for kind, changed in _candidates(value, generator):
        if changed.shape == value.shape and not np.array_equal(changed, value):
            yield kind, changed.astype(value.dtype)


def _candidates(value: Array, generator: np.random.Generator) -> Iterator[tuple[str, Array]]:
    yield "sign", -value
    yield "scaled", value * 2
    if value.size:
        element = value.copy()
        place = tuple(int(generator.integers(side)) for side in value.shape)
        element[place] = value[place] + max(1, abs(value[place]))
        yield "one element", element
    if value.ndim and value.shape[0] > 1:
        yield "permuted", value[generator.permutation(value.shape[0])]
    if value.ndim >= 2 and value.shape[0] == value.shape[1]:
        yield "transposed", np.swapaxes(value, 0, 1)
    if value.dtype == np.float32:
        yield "rounded to float16", value.astype(np.float16).astype(np.float32)
