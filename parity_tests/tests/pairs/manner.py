"""What a manner of writing networks is, and what the tables of manners are made of."""

from collections import namedtuple
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity_tests.tests.pairs.twins import Forward, Layers


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


PICTURE = numbers(2, 3, 8, 8)
VECTORS = numbers(4, 6)
WORDS = np.random.default_rng(1).integers(0, 9, (2, 5))
SERIES = numbers(5, 2, 6)


@dataclass(frozen=True)
class Manner:
    """One way in which networks are written."""

    name: str
    layers: Layers
    forward: Callable[[Any], Forward]
    inputs: Any
    blamed: tuple[str, ...]  # layers that may be blamed for the bug
    wrong: Callable[[Any], Forward] | None = None  # the port's forward function with the bug
    spoil: Callable[[Any], None] | None = None  # what is done to the port's layers instead
    keywords: Mapping[str, Any] = field(default_factory=dict)
    port: Callable[[Any], Forward] | None = None  # the right port's forward function, where it is written otherwise
    dtype: str = "float32"


def bump(path: str, name: str = "weight") -> Callable[[Any], None]:
    """Change one value of a parameter of the port."""

    def spoil(cell: Any) -> None:
        """Add a little."""
        value = dict(cell.parameters_and_names())[f"{path}.{name}" if path else name]
        array = value.asnumpy().copy()
        array.flat[0] += 0.01
        value.set_data(tensor(array))

    return spoil


def tensor(array: Any) -> Any:
    import mindspore

    return mindspore.Tensor(array)


def epsilon(path: str) -> Callable[[Any], None]:
    """Give a norm of the port another epsilon."""

    def spoil(cell: Any) -> None:
        """Replace it."""
        norm = dict(cell.cells_and_names())[path]
        norm.eps = norm.epsilon = 1e-3

    return spoil


Pair = namedtuple("Pair", ("first", "second"))


@dataclass
class Found:
    """What a network returns."""

    score: Any
    extra: Any = None


def chain(lib: Any) -> Forward:
    return lambda net, x: net.b(net.act(net.a(x)))


def chain_without_activation(lib: Any) -> Forward:
    return lambda net, x: net.b(net.a(x))


def convs(lib: Any) -> Mapping[str, Any]:
    return {"a": lib.conv(3, 4), "act": lib.relu(), "b": lib.conv(4, 3)}


def dense(lib: Any) -> Mapping[str, Any]:
    return {"a": lib.linear(6, 5), "b": lib.linear(5, 6)}


def through(*names: str, then: Callable[[Any], Any] = lambda x: x) -> Callable[[Any], Forward]:
    """Layers one after the other."""

    def forward(lib: Any) -> Forward:
        """The same in both frameworks."""

        def run(net: Any, x: Any) -> Any:
            """Run them."""
            for name in names:
                x = getattr(net, name)(x)
            return then(x)

        return run

    return forward
