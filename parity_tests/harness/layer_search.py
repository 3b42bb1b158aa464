"""The search for the map of layers by which a port differs from its reference in fewest places."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count, takewhile
from typing import Any

import numpy as np

from convert.errors import InputError
from convert.owned import owned_layers
from parity_tests.harness.accumulated import layer_calls
from parity_tests.harness.compare import rms
from parity_tests.harness.pair import copied
from parity_tests.harness.port_tensors import Candidate, Tensors
from parity_tests.harness.sides.base import Array, LayerCall, LayerError, inside
from parity_tests.harness.sides.mindspore import MindSporeSide
from parity_tests.harness.sides.torch import TorchSide

CLOSE = 1e-3  # relative difference of numbers that are the same but for rounding
TRIES = 400  # runs of the port after which a search is given up
MANY = 8  # maps that are looked at, of those that differ in as many places
SAID, ONLY_SHAPES, WEIGHTS, ONLY_INPUT, OUTPUT, ORDER = (
    "said by --map",
    "no other layer has these shapes",
    "no other layer holds these weights",
    "no other layer of these shapes is fed this",
    "others of these shapes are fed this, but do not lead to the output",
    "fed other numbers than in the reference; by the order of calls",
)


@dataclass(frozen=True)
class Run:
    """What layers of the port were called with and returned first, in order, and how often."""

    calls: Mapping[str, LayerCall]
    counts: Mapping[str, int]


Taken = Mapping[str, tuple[Candidate, str]]  # layer of the reference -> its counterpart, and why


@dataclass(frozen=True)
class Solution:
    """A map of every layer that has tensors."""

    taken: Taken
    cost: int  # in how many places the port differs by it
    unlikely: int  # how many layers are not the first in the order of calls that they could be
    run: Run

    @property
    def layers(self) -> dict[str, str]:
        """PyTorch path -> MindSpore path."""
        return {path: candidate.layer for path, (candidate, _) in self.taken.items()}


@dataclass(frozen=True)
class _Node:
    """A map on the way."""

    taken: Taken
    unlikely: int = 0  # see `Solution`
    run: Run | None = None  # with the layers taken, None as long as there was none
    path: str | None = None  # the next layer to find, None where all are
    cost: int = 0  # faults, and layers that are unlikely


class Search:
    """The layers of both networks, and the runs that tell them apart."""

    def __init__(self, module: Any, cell: Any, inputs: Sequence[Array]) -> None:
        self.port, self._inputs = MindSporeSide(cell), inputs
        self._tensors = Tensors(cell)
        varied = _varied(module)
        self.reference = TorchSide(varied)
        try:
            self._truth = layer_calls(self.reference, inputs)
        except LayerError as error:
            where = f"layer {error.layer}" if error.layer else "network"
            raise InputError(f"the reference's {where} cannot run on these inputs: {error.reason}") from error
        self.truth = {layer: call for (layer, number), call in self._truth.items() if number == 0}
        owned, own = owned_layers(varied, self.truth), owned_layers(module, self.truth)
        self.candidates = {path: self._tensors.candidates(layer) for path, layer in owned.items()}
        self.equal = {
            path: [it for it in self.candidates[path] if self._tensors.hold(it.values(own[path]))] for path in owned
        }
        needed = {path: it for path, it in owned.items() if self.candidates[path] or not it.optional}
        self.owned = {path: needed[path] for path in _as_entered(self.truth) if path in needed}
        self.uncalled = {path: it for path, it in needed.items() if path not in self.truth}
        self._runs, self._deepest = 0, 0
        self.doubtful = set[str]()  # layers of which several of the port may be the counterpart

    def counts(self) -> Mapping[str, int]:
        """How often the reference calls each layer."""
        return Counter(layer for layer, _ in self._truth)

    def said(self, layers: Mapping[str, str]) -> Taken:
        """What a user has said about layers with tensors."""
        found = ((path, it) for path in self.owned for it in self.candidates[path] if layers.get(path) == it.layer)
        return {path: (candidate, SAID) for path, candidate in found}

    def solutions(self, taken: Taken) -> list[Solution]:
        """Return the maps by which the port differs in fewest places, of those that go on from some layers.

        Best first: a map costs one for each fault (see `_faults`), and one for each layer that is unlikely.

        Raises InputError: a layer has no counterpart in any map, or the layers cannot be told apart in TRIES runs.
        """
        number, found, limit = count(), list[Solution](), TRIES
        ahead = [(0, 0, next(number), _Node(self._necessary(taken)))]
        while ahead and len(found) < MANY:
            cost, _, _, node = heappop(ahead)
            if found and cost > found[0].cost + found[0].unlikely:
                break
            if node.run is None:
                if self._runs > limit:
                    break
                node = self._looked_at(node)
                heappush(ahead, (max(cost, node.cost), -len(node.taken), next(number), node))
            elif node.path is None:
                found.append(Solution(node.taken, node.cost - node.unlikely, node.unlikely, node.run))
                limit = min(limit, 2 * self._runs) if found[0].cost else limit
            else:
                for candidate, more, reason in self._options(node.path, node.taken, node.run):
                    own = _Node({**node.taken, node.path: (candidate, reason)}, node.unlikely + (more > 1))
                    heappush(ahead, (cost + more, -len(own.taken), next(number), own))
        self._require_settled(found)
        return found

    def _require_settled(self, found: Sequence[Solution]) -> None:
        if self._runs > TRIES and not (found and found[0].cost):
            raise InputError(f"the layers cannot be told apart in {TRIES} runs; {self._closest()}")
        if not found:
            raise InputError(f"no map of layers leads from the reference's inputs to its output; {self._closest()}")

    def _looked_at(self, node: "_Node") -> "_Node":
        """A node with a run, what that shows beyond doubt, and the next layer to find."""
        taken, run = self._extended(node.taken)
        self._deepest = max(self._deepest, len(taken))
        path = next((path for path in self.owned if path not in taken), None)
        if path is None:
            run = self.run(taken)
            cost = self._faults(taken, run, whole=True)
        else:
            cost = self._faults(self._before(path, taken), run, whole=False)
        return _Node(taken, node.unlikely, run, path, cost + node.unlikely)

    def _free(self, taken: Taken, paths: Iterable[str]) -> dict[str, list[Candidate]]:
        """Layers of the reference -> those that may be their counterparts, without those of the layers taken."""
        used = {name for candidate, _ in taken.values() for name in candidate.names}
        return {path: [it for it in self.candidates[path] if not it.names & used] for path in paths}

    def _necessary(self, taken: Taken) -> Taken:
        """A map with the layers that have one counterpart only, whatever the others are."""
        found = dict(taken)
        while True:
            free = self._free(found, self.owned)
            single = {path: it[0] for path, it in free.items() if path not in found and len(it) == 1}
            wanted = Counter(name for it in single.values() for name in it.names)
            new = {
                path: (it, ONLY_SHAPES) for path, it in single.items() if all(wanted[name] == 1 for name in it.names)
            }
            if not new:
                return found
            found |= new

    def _extended(self, taken: Taken) -> tuple[Taken, Run]:
        """A map with what one run shows beyond doubt, and that run."""
        while True:
            growing = _Growing(self, taken)
            run = self.run(taken, growing)
            if not growing.doubtful:
                return {**taken, **growing.found}, run
            self.doubtful |= growing.doubtful

    def _options(self, path: str, taken: Taken, run: Run) -> Iterator[tuple[Candidate, int, str]]:
        """Layers of the port that may be one of the reference, what each costs, and why it may be."""
        free = self._free(taken, [path])[path]
        likely = [it for it in self.equal[path] if it in free]
        before = self._before(path, taken)

        def faults(it: Candidate) -> int:
            """How many more there are if it is this layer."""
            own = {**before, path: (it, "")}
            return self._faults(own, run, whole=False) - self._faults(before, run, whole=False)

        if len(free) < 2 or len(likely) == 1:
            reason = ONLY_SHAPES if len(free) < 2 else WEIGHTS
            yield from ((it, faults(it) if it.layer in run.calls else 0, reason) for it in likely or free)
        else:
            yield from self._by_inputs(path, likely or free, run, faults)

    def _by_inputs(
        self, path: str, candidates: Sequence[Candidate], run: Run, faults: Callable[[Candidate], int]
    ) -> Iterator[tuple[Candidate, int, str]]:
        """Of several layers those that are fed the same, then the others: by path, by name, in the order of calls."""
        order, leaf = {layer: place for place, layer in enumerate(run.calls)}, path.rpartition(".")[2]
        likely = sorted(
            candidates,
            key=lambda it: (it.layer != path, it.layer.rpartition(".")[2] != leaf, order.get(it.layer, len(order))),
        )
        fed = [it for it in likely if self.fed_alike(path, run.calls.get(it.layer))]
        reason = ONLY_INPUT if len(fed) == 1 else OUTPUT
        yield from ((it, 0, reason) for it in fed)
        for place, it in enumerate(it for it in likely if it not in fed):
            yield it, faults(it) if not fed and place == 0 else 2, ORDER

    def differing(self, taken: Taken, run: Run) -> list[str]:
        """Layers of the reference that the port feeds other numbers, and "" where it returns others."""
        found = [path for path, (it, _) in taken.items() if path and not self.fed_alike(path, run.calls.get(it.layer))]
        whole = run.calls.get("")
        return found + ([] if whole and same(whole.outputs, self.truth[""].outputs) else [""])

    def _faults(self, taken: Taken, run: Run, whole: bool) -> int:
        """In how many places a port goes wrong: in what its layers are fed and, as a whole, in what it returns.

        What is off by the same numbers counts once: one fault is carried on by every sum that follows. So does all that
        does not run.
        """
        found: list[Array | None] = []
        for path in self.differing(taken, run):
            if not path and not whole:
                continue
            call, truth = run.calls.get(taken[path][0].layer if path else ""), self.truth[path]
            own, wanted = (call and call.inputs, truth.inputs) if path else (call and call.outputs, truth.outputs)
            off = _off(own[0], wanted[0]) if own and wanted else None
            if not any(_alike(off, known) for known in found):
                found.append(off)
        return len(found)

    def _before(self, path: str, taken: Taken) -> Taken:
        """What is taken of the layers that come before one in the reference."""
        return {it: taken[it] for it in takewhile(lambda it: it != path, self.owned) if it in taken}

    def fed_alike(self, path: str, call: LayerCall | None) -> bool:
        """Whether a layer of the port is fed what a layer of the reference is."""
        return call is not None and same(call.inputs[:1], self.truth[path].inputs[:1])

    def run(self, taken: Taken, growing: "_Growing | None" = None) -> Run:
        """Run the port; layers that were found have the reference's weights, and return what it returns."""
        self._runs += 1
        self._tensors.load(dict(pair for path, (it, _) in taken.items() for pair in it.values(self.owned[path])))
        paths = {it.layer: path for path, (it, _) in taken.items() if path}
        calls: dict[str, LayerCall] = {}
        counts: Counter[str] = Counter()

        def visit(call: LayerCall) -> Sequence[Array] | None:
            """Keep a layer's first call, and put the reference's numbers in the place of its own."""
            number = counts[call.layer]
            counts[call.layer] += 1
            calls.setdefault(call.layer, call)
            if growing and number == 0 and call.layer not in paths and (path := growing.path_of(call)):
                paths[call.layer] = path
            truth = self._truth.get((paths[call.layer], number)) if call.layer in paths else None
            shapes = [array.shape for array in call.outputs]
            return truth.outputs if truth and [array.shape for array in truth.outputs] == shapes else None

        try:
            with self.port.preserved():
                self.port.trace_changed(self._inputs, visit)
        except LayerError:
            pass  # a port that cannot run to its end is matched as far as it runs
        return Run(calls, counts)

    def left_over(self, taken: Taken) -> tuple[dict[str, str], list[str]]:
        """Layers that no run reached but only one layer of the port can be, and layers that only the port has."""
        free = self._free(taken, self.uncalled)
        wanted = Counter(it.layer for found in free.values() for it in found)
        single = {path: it[0] for path, it in free.items() if len(it) == 1 and wanted[it[0].layer] == 1}
        held = [*(candidate for candidate, _ in taken.values()), *single.values()]
        used = {name for candidate in held for name in candidate.names}
        left = [name.rpartition(".")[0] for name in self._tensors.shapes if name not in used]
        return {path: it.layer for path, it in single.items()}, list(dict.fromkeys(left))

    def _closest(self) -> str:
        """How far the search came, in words."""
        paths = list(self.owned)
        words = f"{self._deepest} of {len(paths)} layers were found"
        if self._deepest == len(paths):
            return words
        first = paths[self._deepest]
        return f"{words}, none for {first} ({self.owned[first].kind})"


def _as_entered(returned: Iterable[str]) -> list[str]:
    """Layers in the order in which they return, but each before those inside it: it may use its own tensors first."""
    order = {path: place for place, path in enumerate(returned)}
    first = {
        path: min(place for other, place in order.items() if other == path or inside(other, path)) for path in order
    }
    return sorted(order, key=lambda path: (first[path], path.count(".") if path else -1))


class _Growing:
    """What a run shows beyond doubt: layers of which only one of the port is fed the same."""

    def __init__(self, search: Search, taken: Taken) -> None:
        self._search, self._taken = search, taken
        self._used = {name for candidate, _ in taken.values() for name in candidate.names}
        self.found: dict[str, tuple[Candidate, str]] = {}
        self.doubtful: set[str] = set()  # of those found, these have another counterpart, too

    def path_of(self, call: LayerCall) -> str:
        """Return which layer of the reference a layer of the port must be, "" where that is not sure."""
        search, fitting = self._search, self._fitting(call)
        self.doubtful |= {path for path, _ in fitting if path in self.found}
        if len(fitting) != 1 or self.doubtful:
            return ""
        path, candidate = fitting[0]
        if path in search.doubtful or candidate.names & self._used:
            return ""
        self._used |= candidate.names
        several = WEIGHTS if search.equal[path] else ONLY_INPUT
        self.found[path] = candidate, several if len(search.candidates[path]) > 1 else ONLY_SHAPES
        return path

    def _fitting(self, call: LayerCall) -> list[tuple[str, Candidate]]:
        """Layers of the reference that are fed the same, and what the port's layer may hold of each."""
        search = self._search
        return [
            (path, candidate)
            for path in search.owned
            for candidate in search.equal[path] or search.candidates[path]
            if path and path not in self._taken and candidate.layer == call.layer and search.fed_alike(path, call)
        ]


def _varied(module: Any) -> Any:
    """A copy of a network in which no tensor is one number throughout: such tell layers apart as little as zeros."""
    import torch

    network = copied(module).cpu()
    generator = torch.Generator().manual_seed(0)
    for value in [*network.parameters(), *network.buffers()]:
        if value.is_floating_point() and value.numel() and bool((value == value.flatten()[0]).all()):
            value.data += 0.5 * torch.rand(value.shape, generator=generator).to(value.dtype)
    return network.float().eval()


def same(port: Sequence[Array], truth: Sequence[Array]) -> bool:
    """Whether arrays hold the same numbers but for rounding, whatever the order of their axes."""
    if len(port) != len(truth) or any(own.size != other.size for own, other in zip(port, truth, strict=True)):
        return False
    pairs = [(_ordered(own), _ordered(other)) for own, other in zip(port, truth, strict=True)]
    return all(rms(own - other) <= CLOSE * max(rms(other), 1e-30) for own, other in pairs)


def _ordered(array: Array) -> Array:
    """All numbers in ascending order; those that are not finite as 0."""
    return np.sort(
        np.nan_to_num(np.asarray(array, np.complex128 if array.dtype.kind == "c" else np.float64)), axis=None
    )


def _off(port: Array, truth: Array) -> Array:
    """By what a port's numbers are wrong; in another shape the numbers themselves."""
    with np.errstate(invalid="ignore"):
        return np.asarray(1.0 * port - truth if port.shape == truth.shape else port)


def _alike(one: Array | None, other: Array | None) -> bool:
    """Whether two layers are wrong by the same numbers, or both do not run."""
    return one is other if one is None or other is None else same([one], [other])
