"""Which layer of a MindSpore network is which of a PyTorch network, where the two call them otherwise.

Layers with tensors are matched by the shapes that the naming rules allow, then by what flows into them: the layers
found so far get the reference's weights, both networks run, and a layer of the port can only be the next one of the
reference if it is fed the same numbers. Where several are, each is tried, and what does not lead to the reference's
output is given up. Two maps that both lead there are refused: nobody could tell them apart.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Any

import numpy as np

from convert.errors import InputError
from convert.plan import owned_layers
from parity_tests.harness.accumulated import Calls, layer_calls
from parity_tests.harness.compare import rms
from parity_tests.harness.sides.base import Array, LayerCall
from parity_tests.harness.sides.mindspore import MindSporeSide, held
from parity_tests.harness.sides.torch import TorchSide

CLOSE = 1e-3  # relative difference of numbers that are the same but for rounding
TRIES = 400  # runs of the port after which a search is given up
SAID, CONTAINER, ONLY_SHAPES, ONLY_INPUT, OUTPUT = (
    "said by --map",
    "holds the same layers, and computes the same",
    "no other layer has these shapes",
    "no other layer of these shapes is fed this",
    "others of these shapes are fed this, but do not lead to the output",
)


@dataclass(frozen=True)
class Match:
    """One layer of the reference, or container of layers, and its counterpart."""

    torch: str
    mindspore: str
    reason: str


@dataclass(frozen=True)
class Matching:
    """What belongs together, and what was left over."""

    matches: tuple[Match, ...]
    # torch, mindspore: layers with tensors that have no counterpart
    torch: tuple[str, ...]
    mindspore: tuple[str, ...]

    @property
    def layers(self) -> dict[str, str]:
        """PyTorch path -> MindSpore path."""
        return {match.torch: match.mindspore for match in self.matches}


def _containers(layers: Mapping[str, str]) -> dict[str, str]:
    """The innermost containers on both sides that hold the same layers."""
    found: dict[str, str] = {}
    for path in layers:
        parent = path.rpartition(".")[0]
        while parent and parent not in found:
            own = [there for here, there in layers.items() if here.startswith(f"{parent}.")]
            other = _common(own)
            if other and own == [there for there in layers.values() if there.startswith(f"{other}.")]:
                found[parent] = other
            parent = parent.rpartition(".")[0]
    return found


def _common(paths: Sequence[str]) -> str:
    """The deepest container of all paths."""
    levels = zip(*(path.split(".")[:-1] for path in paths), strict=False)
    return ".".join(names[0] for names in takewhile(lambda names: len(set(names)) == 1, levels))


def match_layers(module: Any, cell: Any, inputs: Sequence[Array], known: Mapping[str, str] | None = None) -> Matching:
    """Match the layers of two networks; the cell's weights are changed, both must be in eval mode.

    Args:
        module: torch.nn.Module, with weights that tell layers apart.
        cell: mindspore.nn.Cell.
        inputs: what both are called with.
        known: PyTorch path -> MindSpore path of layers that the user has matched.

    Raises InputError: a network cannot run on the inputs, no map leads to the reference's output, or two do.
    """
    search = _Search(module, cell, inputs)
    found = list(islice(search.maps(search.known(known or {})), 2))
    if not found:
        raise InputError(f"no map of layers leads from the reference's inputs to its output; {search.closest()}")
    if len(found) > 1:
        first, second = found
        differing = [f"{path} = {other} or {second[path]}" for path, other in first.items() if other != second[path]]
        raise InputError(f"two maps lead to the reference's output, say which by hand: {'; '.join(differing)}")
    return search.matching(found[0])


class _Search:
    """The layers of both networks, and the runs that tell them apart."""

    def __init__(self, module: Any, cell: Any, inputs: Sequence[Array]) -> None:
        self._port, self._inputs = MindSporeSide(cell), inputs
        self._parameters = dict(held(cell))
        self._initial = {name: value.asnumpy().copy() for name, value in self._parameters.items()}
        self._truth = _first_calls(layer_calls(TorchSide(module), inputs))
        owned = owned_layers(module)
        self._owned = {path: owned[path] for path in self._truth if path in owned}
        self._uncalled = [path for path in owned if path not in self._truth]
        self._shapes: dict[str, dict[str, tuple[int, ...]]] = {}
        for name, value in self._parameters.items():
            layer, _, leaf = name.rpartition(".")
            self._shapes.setdefault(layer, {})[leaf] = tuple(value.shape)
        self._runs, self._deepest = 0, 0
        self._reasons: dict[str, str] = {}

    def known(self, layers: Mapping[str, str]) -> dict[str, str]:
        """What a user has said about layers with tensors."""
        said = {path: other for path, other in layers.items() if path in self._owned and other in self._shapes}
        self._reasons |= dict.fromkeys(said, SAID)
        return said

    def maps(self, taken: dict[str, str]) -> Iterator[dict[str, str]]:
        """Yield every map of layers that goes on from some and leads to the reference's output."""
        rest = [path for path in self._owned if path not in taken]
        self._deepest = max(self._deepest, len(taken))
        if not rest:
            if self._same(self._run(taken)[""].outputs, self._truth[""].outputs):
                yield dict(taken)
            return
        path = rest[0]
        for other in self._candidates(path, taken):
            yield from self.maps({**taken, path: other})

    def _candidates(self, path: str, taken: Mapping[str, str]) -> list[str]:
        """Layers of the port that may be one of the reference, the likeliest first."""
        free = [layer for layer in self._shapes if layer not in taken.values()]
        fitting = [layer for layer in free if self._owned[path].places(self._shapes[layer])]
        if len(fitting) < 2:
            self._reasons[path] = ONLY_SHAPES
            return fitting
        calls = self._run(taken)
        wanted = self._truth[path].inputs[:1]
        fed = [layer for layer in fitting if layer in calls and self._same(calls[layer].inputs[:1], wanted)]
        self._reasons[path] = ONLY_INPUT if len(fed) == 1 else OUTPUT
        leaf = path.rpartition(".")[2]
        return sorted(fed, key=lambda layer: (layer != path, layer.rpartition(".")[2] != leaf))

    def _run(self, taken: Mapping[str, str]) -> dict[str, LayerCall]:
        """What the port does with the weights of the layers that were found."""
        import mindspore

        self._runs += 1
        if self._runs > TRIES:
            raise InputError(f"the layers cannot be told apart in {TRIES} runs; {self.closest()}")
        for name, values in self._initial.items():
            layer = name.rpartition(".")[0]
            if layer not in taken.values():
                self._parameters[name].set_data(mindspore.Tensor(values))
        for path, layer in taken.items():
            for leaf, (name, change) in (self._owned[path].places(self._shapes[layer]) or {}).items():
                values = self._owned[path].values[leaf]
                own = np.array(change.to_mindspore(values) if change else values)
                self._parameters[f"{layer}.{name}".lstrip(".")].set_data(mindspore.Tensor(own))
        return _first_calls(layer_calls(self._port, self._inputs))

    def _alike(self, port: LayerCall, truth: LayerCall) -> bool:
        return self._same(port.inputs, truth.inputs) and self._same(port.outputs, truth.outputs)

    @staticmethod
    def _same(port: Sequence[Array], truth: Sequence[Array]) -> bool:
        """Whether arrays hold the same numbers, whatever the order of their axes."""
        if len(port) != len(truth) or any(own.size != other.size for own, other in zip(port, truth, strict=True)):
            return False
        pairs = [(np.sort(own, axis=None), np.sort(other, axis=None)) for own, other in zip(port, truth, strict=True)]
        return all(rms(own - other) <= CLOSE * max(rms(other), 1e-30) for own, other in pairs)

    def closest(self) -> str:
        """How far the search came, in words."""
        paths = list(self._owned)
        words = f"{self._deepest} of {len(paths)} layers were found"
        if self._deepest == len(paths):
            return f"{words}, the output is another one"
        first = paths[self._deepest]
        return f"{words}, none for {first} ({self._owned[first].kind})"

    def matching(self, found: Mapping[str, str]) -> Matching:
        """The result, with a reason for each layer."""
        calls = self._run(found)
        containers = {
            path: other
            for path, other in _containers(found).items()
            if path in self._truth and other in calls and self._alike(calls[other], self._truth[path])
        }
        reasons = self._reasons | dict.fromkeys(containers, CONTAINER)
        matches = tuple(Match(path, other, reasons[path]) for path, other in {**containers, **found}.items())
        left = tuple(layer for layer in self._shapes if layer not in found.values())
        return Matching(matches, tuple(self._uncalled), left)


def _first_calls(calls: Calls) -> dict[str, LayerCall]:
    return {layer: call for (layer, number), call in calls.items() if number == 0}
