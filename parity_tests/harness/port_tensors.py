"""The tensors of a port, and which of its layers may be a layer of the reference by the shapes of their tensors."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from convert.owned import Owned, Placed
from parity_tests.harness.pair import array_of, target_of
from parity_tests.harness.sides.base import Array, inside
from parity_tests.harness.sides.mindspore import buffers_of, held


@dataclass(frozen=True)
class Candidate:
    """A layer of the port that may be one of the reference."""

    layer: str
    placed: Placed
    names: frozenset[str]  # of its tensors

    def full(self, name: str) -> str:
        """The full name of the tensor that is `name` in the reference's layer."""
        return f"{self.layer}.{self.placed.places[name][0]}".lstrip(".")

    def values(self, owned: Owned) -> Iterator[tuple[str, Array]]:
        """Full name and values of its tensors if it is this layer of the reference."""
        for name, (_, change) in self.placed.places.items():
            values = owned.values[name]
            yield self.full(name), np.array(change.to_mindspore(values) if change else values)


class Tensors:
    """The tensors of the port."""

    def __init__(self, cell: Any) -> None:
        self.shapes = target_of(cell).shapes
        self._parameters, self._buffers = dict(held(cell)), dict(buffers_of(cell))
        found = self._parameters | {name: owner[key] for name, (owner, key) in self._buffers.items()}
        self._initial = {name: array_of(value) for name, value in found.items()}
        self._loaded: dict[str, Array] = {}
        self._groups = self._grouped(target_of(cell).layers)

    def _grouped(self, layers: Any) -> list[tuple[str, dict[str, tuple[int, ...]]]]:
        """Each layer with its own tensors, and with all that are inside it."""
        found = []
        for layer in layers:
            below = {
                name.removeprefix(f"{layer}.") if layer else name: shape
                for name, shape in self.shapes.items()
                if inside(name, layer)
            }
            own = {name: shape for name, shape in below.items() if "." not in name}
            found += [(layer, group) for group in ([own, below] if own != below else [below]) if group]
        return found

    def candidates(self, owned: Owned) -> list[Candidate]:
        """Layers that may be one of the reference; of those around each other the one that the rules mean."""
        found: dict[frozenset[str], Candidate] = {}
        for layer, group in self._groups:
            placed = owned.placed(group) if len(group) <= len(owned.held) else None
            if placed is None:
                continue
            own = Candidate(layer, placed, frozenset(f"{layer}.{name}".lstrip(".") for name in group))
            known = found.get(own.names)
            if known is None or _rank(own) > _rank(known):
                found[own.names] = own
        order = {layer: place for place, (layer, _) in enumerate(self._groups)}
        return sorted(found.values(), key=lambda it: order[it.layer])

    def hold(self, values: Iterator[tuple[str, Array]]) -> bool:
        """Whether tensors were loaded with these values, of which some differ among each other."""
        pairs = [(self._initial[name], array) for name, array in values]
        telling = any(array.size > 1 and np.ptp(array) > 0 for _, array in pairs if array.dtype.kind == "f")
        return telling and all(np.array_equal(own, array) for own, array in pairs)

    def load(self, values: Mapping[str, Array]) -> None:
        """Give tensors these values, and all others those that they came with."""
        import mindspore

        for name, initial in self._initial.items():
            array = values.get(name, initial)
            if self._loaded.get(name, initial) is array:
                continue
            self._loaded[name] = array
            if name in self._parameters:
                self._parameters[name].set_data(mindspore.Tensor(array))
            else:
                owner, key = self._buffers[name]
                owner[key] = mindspore.Tensor(array)


def _rank(candidate: Candidate) -> tuple[bool, int, int]:
    """Names as the rules say them first go before others, then the innermost layer."""
    return candidate.placed.plain, -len(candidate.placed.renamed), candidate.layer.count(".")
