"""The toolbox of the mutation suite: changes to MindSpore networks that bugs of several families have in common."""

from collections.abc import Callable
from typing import Any

import mindspore
import numpy as np
from mindspore import nn, ops

Change = Callable[[Any], None]


def layers(cell: Any, kind: str) -> list[tuple[str, Any]]:
    """All layers of a class name, with their paths."""
    return [(path, layer) for path, layer in cell.cells_and_names() if type(layer).__name__ == kind]


def set_parameter(cell: Any, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace a parameter's values by a function of them."""
    parameter = dict(cell.parameters_and_names())[name]
    parameter.set_data(mindspore.Tensor(np.ascontiguousarray(change(parameter.asnumpy()))))


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Give a parameter a function of its values."""
    return lambda cell: set_parameter(cell, name, change)


def replace(cell: Any, path: str, layer: Any) -> None:
    """Put another layer in the place of the one at `path`."""
    parent, _, leaf = path.rpartition(".")
    holder = dict(cell.cells_and_names())[parent]
    if leaf.isdigit():
        holder[int(leaf)] = layer
    else:
        setattr(holder, leaf, layer)


def method(kind: str, construct: Callable[..., Any]) -> Change:
    """Let every layer of a kind compute `construct(self, *inputs)`."""

    def change(cell: Any) -> None:
        """Bind the computation to every layer of the kind."""
        for _, layer in layers(cell, kind):
            layer.construct = construct.__get__(layer)

    return change


def other_output(change_of: Callable[[Any], Any]) -> Change:
    """Let the whole network return a function of its output."""

    def change(cell: Any) -> None:
        """Wrap the network's computation."""
        original = cell.construct
        cell.construct = lambda x: change_of(original(x))

    return change


def with_attribute(kind: str, name: str, value: Callable[[Any], Any]) -> Change:
    """Give every layer of a kind a function of its attribute instead."""

    def change(cell: Any) -> None:
        """Set the attribute of every layer of the kind."""
        for _, layer in layers(cell, kind):
            setattr(layer, name, value(getattr(layer, name)))

    return change


def slope(value: float) -> Change:
    """Give every LeakyReLU another slope."""

    def change(cell: Any) -> None:
        """Replace every LeakyReLU."""
        for path, _ in layers(cell, "LeakyReLU"):
            replace(cell, path, nn.LeakyReLU(value))

    return change


def swapped(first: str, second: str) -> Change:
    """Swap two parameters of one shape."""

    def change(cell: Any) -> None:
        """Swap the two parameters' values."""
        values = {name: value.asnumpy().copy() for name, value in cell.parameters_and_names()}
        set_parameter(cell, first, lambda _: values[second])
        set_parameter(cell, second, lambda _: values[first])

    return change


def mean_square(first: Any, second: Any) -> Any:
    """Mean squared difference, where the mean absolute one is meant."""
    return ((first - second) ** 2).mean()


class OpsWithSwappedCat:
    """mindspore.ops, except that cat joins its tensors the other way round."""

    def __getattr__(self, name: str) -> Any:
        if name == "cat":
            return lambda tensors, axis=0: ops.cat(tuple(tensors)[::-1], axis)
        return getattr(ops, name)


def late_rate(late: Callable[[Any], int]) -> Callable[[Any], None]:
    """Return what makes the learning rates of a training step come late: settings -> by how many steps."""

    def change(step: Any) -> None:
        """Ask for the rates of an earlier step."""
        step.rate = lambda phase, number: step.settings.rate(phase, number - late(step.settings))

    return change
