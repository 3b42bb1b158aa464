"""The toolbox of the mutation suite: changes to MindSpore networks and steps that bugs of several families share."""

from collections.abc import Callable
from typing import Any

import mindspore
import numpy as np
from mindspore import nn, ops

from parity_tests.harness.mutants.bugs import Change, planter

Values = Callable[[np.ndarray], np.ndarray]


def layers(cell: Any, kind: str) -> list[tuple[str, Any]]:
    """All layers of a class name, with their paths."""
    return [(path, layer) for path, layer in cell.cells_and_names() if type(layer).__name__ == kind]


@planter
def each(cell: Any, kind: str, change: Change) -> None:
    """Change every layer of a kind."""
    for _, layer in layers(cell, kind):
        change(layer)


@planter
def anew(cell: Any, kind: str, make: Callable[[Any], Any]) -> None:
    """Put what is made of it in the place of every layer of a kind."""
    for path, layer in layers(cell, kind):
        replace(cell, path, make(layer))


def replace(cell: Any, path: str, layer: Any) -> None:
    """Put another layer in the place of the one at `path`."""
    parent, _, leaf = path.rpartition(".")
    holder = dict(cell.cells_and_names())[parent]
    if leaf.isdigit():
        holder[int(leaf)] = layer
    else:
        setattr(holder, leaf, layer)


@planter
def with_attribute(owner: Any, name: str, value: Callable[[Any], Any]) -> None:
    """Put a function of an attribute in its place."""
    setattr(owner, name, value(getattr(owner, name)))


@planter
def around(owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
    """Let a method return wrapper(owner, the method as it was, *arguments)."""
    original = getattr(owner, name)
    setattr(owner, name, lambda *arguments: wrapper(owner, original, *arguments))


def method(kind: str, construct: Callable[..., Any]) -> Change:
    """Let every layer of a kind compute `construct(self, *inputs)`."""
    return each(kind, around("construct", lambda layer, original, *inputs: construct(layer, *inputs)))


def other_output(change_of: Callable[[Any], Any]) -> Change:
    """Let the whole network return a function of its output."""
    return around("construct", lambda network, original, *inputs: change_of(original(*inputs)))


def slope(value: float) -> Change:
    """Give every LeakyReLU another slope."""
    return anew("LeakyReLU", lambda layer: nn.LeakyReLU(value))


@planter
def changed(cell: Any, name: str, change: Values) -> None:
    """Give a parameter a function of its values."""
    parameter = dict(cell.parameters_and_names())[name]
    parameter.set_data(mindspore.Tensor(np.ascontiguousarray(change(parameter.asnumpy()))))


@planter
def all_changed(cell: Any, fits: Callable[[str, Any], bool], change: Values) -> None:
    """Give the parameters that fit (by name and parameter) a function of their values."""
    for name, parameter in cell.parameters_and_names():
        if fits(name, parameter):
            changed(name, change)(cell)


@planter
def swapped(cell: Any, first: str, second: str) -> None:
    """Swap the values of two parameters of one shape."""
    values = {name: value.asnumpy().copy() for name, value in cell.parameters_and_names()}
    changed(first, lambda _: values[second])(cell)
    changed(second, lambda _: values[first])(cell)


def mean_square(first: Any, second: Any) -> Any:
    """Mean squared difference, where the mean absolute one is meant."""
    return ((first - second) ** 2).mean()


class OpsWithSwappedCat:
    """mindspore.ops, except that cat joins its tensors the other way round."""

    def __getattr__(self, name: str) -> Any:
        if name == "cat":
            return lambda tensors, axis=0: ops.cat(tuple(tensors)[::-1], axis)
        return getattr(ops, name)


def late_rate(late: Callable[[Any], int]) -> Change:
    """Let the learning rates of a training step come late: settings -> by how many steps."""
    return around("rate", lambda step, rate, phase, number: step.settings.rate(phase, number - late(step.settings)))


def cut_gradient(parts: tuple[str, ...], run: Callable[[Any, Any], Any]) -> Change:
    """Let the generators' loss run `parts` on all but the batch itself as run(network, x), which cuts a gradient."""

    def objective(step: Any, original: Any, *batch: Any) -> Any:
        """The loss, with other networks for as long as it is computed."""
        kept, real = dict(step.networks), {id(pictures) for pictures in batch}
        for part in parts:
            network = kept[part]
            step.networks[part] = lambda x, network=network: network(x) if id(x) in real else run(network, x)
        try:
            return original(*batch)
        finally:
            step.networks.update(kept)

    return around("generator_objective", objective)
