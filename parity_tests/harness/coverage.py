"""Which sides of kinks and clamps the probes reach: a bug on a side that no number lies on cannot show."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from parity_tests.harness.measurement import Beyond, Unreached
from parity_tests.harness.recorded import run_by
from parity_tests.harness.rewrites import is_tensor, rewriting
from parity_tests.harness.sides.base import Array, LayerError, NetworkSide, Side
from parity_tests.harness.sides.tree import Tree, changed, floating
from parity_tests.harness.values import fed, values_for

Arguments = tuple[Sequence[Any], Mapping[str, Any]]


def _given(names: Sequence[str], defaults: Sequence[float | None]) -> Callable[[Arguments], list[float]]:
    """Kinks at numbers that are arguments behind the tensor, under these names."""

    def kinks(arguments: Arguments) -> list[float]:
        """The numbers of one call."""
        args, keywords = arguments
        found = [
            args[place] if place < len(args) else keywords.get(name, default)
            for place, (name, default) in enumerate(zip(names, defaults, strict=True), 1)
        ]
        return [float(value) for value in found if isinstance(value, int | float)]

    return kinks


def _at(*kinks: float) -> Callable[[Arguments], list[float]]:
    return lambda arguments: list(kinks)


# operation of PyTorch -> where its kinks are; smooth functions that bend at 0 only by their definition have one there
KINKS: Mapping[str, Callable[[Arguments], list[float]]] = {
    **dict.fromkeys(("relu", "leaky_relu", "prelu", "rrelu", "abs", "elu", "selu", "celu"), _at(0.0)),
    "relu6": _at(0.0, 6.0),
    **dict.fromkeys(("hardswish", "hardsigmoid"), _at(-3.0, 3.0)),
    "hardtanh": _given(("min_val", "max_val"), (-1.0, 1.0)),
    **dict.fromkeys(("clamp", "clip"), _given(("min", "max"), (None, None))),
    "clamp_min": _given(("min",), (None,)),
    "clamp_max": _given(("max",), (None,)),
    "threshold": _given(("threshold",), (None,)),
}


@dataclass
class _Range:
    """The numbers that an operation of a layer was fed."""

    low: float = np.inf
    high: float = -np.inf

    def add(self, values: Array) -> None:
        """Widen it."""
        finite = values[np.isfinite(values)]
        if finite.size:
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))


Key = tuple[str, str, float]  # layer, operation, kink
Ranges = dict[Key, _Range]
SIDES = {Beyond.BELOW: lambda own, kink: own.low < kink, Beyond.ABOVE: lambda own, kink: own.high > kink}


@dataclass(frozen=True)
class Coverage:
    """What the probes reach."""

    unreached: tuple[Unreached, ...] = ()  # the sides of kinks that no probe reaches, in the order of computation
    widened: frozenset[str] = frozenset()  # layers that reach more of them on what `values` makes of their input


def find_coverage(reference: Side, probes: Sequence[Sequence[Array]], other_values: bool = True) -> Coverage:
    """Return which sides of kinks probes reach.

    Args:
        reference: PyTorch, in the mode in which it is looked at.
        probes: inputs that it is run on.
        other_values: whether layers are also fed what `values` makes of their input, as far as that reaches more.
    """
    side, ranges, inputs = run_by(reference), Ranges(), dict[str, Tree]()
    if not isinstance(side, NetworkSide):
        return Coverage()
    for probe in probes:
        _watch(side, partial(side.call, "", probe), ranges, inputs)
    widened: set[str] = set()
    for layer in dict.fromkeys(each.layer for each in _missing(ranges)) if other_values else ():
        before = len(_missing(ranges))
        for values in values_for(inputs[layer]):
            other = changed(inputs[layer], fed(values, inputs[layer]))
            _watch(side, partial(side.call, layer, other), ranges, {}, layer)
        if len(_missing(ranges)) < before:
            widened.add(layer)
    return Coverage(tuple(_missing(ranges)), frozenset(widened))


def _missing(ranges: Ranges) -> list[Unreached]:
    return [
        Unreached(operation, layer, kink, where)
        for (layer, operation, kink), own in ranges.items()
        for where, reached in SIDES.items()
        if not reached(own, kink)
    ]


def _watch(side: NetworkSide, run: Callable[[], Any], ranges: Ranges, inputs: dict[str, Tree], outer: str = "") -> None:
    """Note what operations with kinks are fed as `run` runs PyTorch's layer `outer`, and their layers' first inputs."""
    running: list[tuple[str, Tree]] = []

    def seen(name: str, call: Callable[..., Any], args: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        """Note what an operation is fed."""
        name = name.removesuffix("_")
        if name not in KINKS or not args or not is_tensor(args[0]) or not running:
            return
        layer, given = running[-1]
        values = side.array(args[0])
        for kink in KINKS[name]((args, keywords)) if floating(values) else ():
            ranges.setdefault((layer, name, kink), _Range()).add(values)
            inputs.setdefault(layer, given)

    with suppress(LayerError), side.preserved(outer), side.watched(lambda *_: None) as found, rewriting(seen):
        running = found
        run()
