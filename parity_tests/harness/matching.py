"""Which layer of a MindSpore network is which of a PyTorch network, where the two call them otherwise.

Layers with tensors are matched by the shapes that the naming rules allow, by equal weights where both sides hold them,
and by what flows into them: the layers found so far get the reference's weights and return the reference's numbers, so
that a bug in one does not hide the others, and a layer of the port can be the next one of the reference if it is fed
the same. Of all maps those count by which the port differs from the reference in fewest places. Two of them are
refused, unless names tell which is meant, or in a port that differs the order of calls.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from convert.errors import InputError
from parity_tests.harness.layer_search import Search, Solution, same
from parity_tests.harness.sides.base import Array, LayerCall, inside

CONTAINER, FUNCTION, KIND, TENSOR, UNUSED = (
    "holds the same layers",
    "fed the same, and returns the same",
    "fed the same, and of the same kind",
    "a tensor, called otherwise",
    "not run; no other layer has these shapes",
)


@dataclass(frozen=True)
class Match:
    """One layer of the reference, container of layers or tensor, and its counterpart."""

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
    differing: tuple[str, ...] = ()  # layers of the reference that the port feeds other numbers; "": the output differs

    @property
    def layers(self) -> dict[str, str]:
        """PyTorch path -> MindSpore path."""
        return {match.torch: match.mindspore for match in self.matches}


def match_layers(module: Any, cell: Any, inputs: Sequence[Array], known: Mapping[str, str] | None = None) -> Matching:
    """Match the layers of two networks; the cell's weights are changed, both must be in eval mode.

    Args:
        module: torch.nn.Module; it stays as it is.
        cell: mindspore.nn.Cell; weights that it has in common with the module help to tell layers apart.
        inputs: what both are called with.
        known: PyTorch path -> MindSpore path of layers that the user has matched.

    Raises InputError: the reference cannot run on the inputs, a layer has no counterpart, or two maps are as good.
    """
    search = Search(module, cell, inputs)
    best = _chosen(search.solutions(search.said(known or {})))
    differing = search.differing(best.taken, best.run)
    unused, left = search.left_over(best.taken)
    matches = [
        *(Match(path, other, CONTAINER) for path, other in _containers(search, best, differing).items()),
        *(Match(path, candidate.layer, reason) for path, (candidate, reason) in best.taken.items()),
        *_functions(search, best),
        *(Match(path, other, UNUSED) for path, other in unused.items()),
        *_tensors(best),
    ]
    uncalled = tuple(path for path in search.uncalled if path not in unused)
    return Matching(tuple(matches), uncalled, tuple(left), tuple(differing))


def _chosen(solutions: Sequence[Solution]) -> Solution:
    """The one map, of several the one that keeps more names, or where the port differs anyway the order of calls."""

    def evidence(solution: Solution) -> tuple[int, int, int]:
        """Equal paths, equal names, and pairs of layers that are not called in the reference's order."""
        pairs = solution.layers.items()
        whole = sum(path == other for path, other in pairs)
        leaves = sum(path.rpartition(".")[2] == other.rpartition(".")[2] for path, other in pairs)
        return whole, leaves, -_disorder(solution) if solution.cost else 0

    ranked = sorted(solutions, key=evidence, reverse=True)
    if len(ranked) > 1 and evidence(ranked[0]) == evidence(ranked[1]):
        first, second = ranked[0].layers, ranked[1].layers
        differing = [f"{path} = {other} or {second[path]}" for path, other in first.items() if other != second[path]]
        raise InputError(f"two maps lead to the reference's output, say which by hand: {'; '.join(differing)}")
    return ranked[0]


def _disorder(solution: Solution) -> int:
    order = {layer: place for place, layer in enumerate(solution.run.calls)}
    places = [order[other] for other in solution.layers.values() if other in order]
    return sum(second < first for index, first in enumerate(places) for second in places[index + 1 :])


def _tensors(best: Solution) -> Iterator[Match]:
    """The tensors that have other names than the rules say."""
    for path, (candidate, _) in best.taken.items():
        for name in candidate.placed.renamed:
            yield Match(f"{path}.{name}".lstrip("."), candidate.full(name), TENSOR)


def _containers(search: Search, best: Solution, differing: Sequence[str]) -> dict[str, str]:
    """Containers on both sides that hold the same layers, and are fed and return the same."""
    found: dict[str, str] = {}
    for path in best.layers:
        parent = path.rpartition(".")[0]
        while parent and parent not in found and parent not in best.taken:
            other = next(_around(search, best, parent, differing, {*found.values(), *best.layers.values()}), None)
            if other:
                found[parent] = other
            parent = parent.rpartition(".")[0]
    return found


def _around(search: Search, best: Solution, path: str, differing: Sequence[str], taken: set[str]) -> Iterator[str]:
    """Containers of the port that may be one of the reference, the likeliest first."""
    own = {there for here, there in best.layers.items() if inside(here, path)}
    if path not in search.truth:
        return
    possible: list[str] = []
    other = _common(list(own))
    while other and own == {there for there in best.layers.values() if inside(there, other)}:
        if other in best.run.calls and other not in taken:
            possible.append(other)
        other = other.rpartition(".")[0]
    truth = search.truth[path]
    fed = [it for it in possible if same(best.run.calls[it].inputs[:1], truth.inputs[:1])]
    yield from (it for it in fed if same(best.run.calls[it].outputs, truth.outputs))
    if _goes_wrong(search, path, differing):
        yield from (it for it in fed if _sizes(best.run.calls[it]) == _sizes(truth))


def _goes_wrong(search: Search, path: str, differing: Sequence[str]) -> bool:
    """Whether the port differs inside a container, or in what follows it."""
    order = list(search.truth)
    after = [it for it in order[order.index(path) + 1 :] if it in search.owned and it and not inside(path, it)]
    return any(inside(it, path) for it in differing if it) or (after[0] if after else "") in differing


def _sizes(call: LayerCall) -> list[int]:
    return [array.size for array in call.outputs]


def _common(paths: Sequence[str]) -> str:
    """The deepest container of all paths."""
    levels = zip(*(path.split(".")[:-1] for path in paths), strict=False)
    return ".".join(names[0] for names in takewhile(lambda names: len(set(names)) == 1, levels))


def _functions(search: Search, best: Solution) -> Iterator[Match]:
    """Layers without tensors and layers inside, of which only one of the port is fed and returns the same."""
    run, counts = best.run, search.counts()
    types, others = search.reference.layer_types(), search.port.layer_types()
    taken = set(best.layers.values())
    free = [it for it in run.calls if _alone(it, others) and not any(it == own or inside(it, own) for own in taken)]
    for path, truth in search.truth.items():
        if path in best.taken or not _alone(path, types):
            continue
        calls = {it: run.calls[it] for it in free if run.counts[it] == counts[path]}
        found, reason = _doing_the_same(truth, calls, {it for it in calls if others[it] == types[path]})
        if len(found) == 1:
            free.remove(found[0])
            yield Match(path, found[0], reason)


def _doing_the_same(truth: LayerCall, calls: Mapping[str, LayerCall], kind: Set[str]) -> tuple[list[str], str]:
    """Layers of the port that are fed and return the same, or are fed the same, and why; of several those of a kind."""
    fed = [it for it, call in calls.items() if same(call.inputs, truth.inputs)]
    returned = [it for it in fed if same(calls[it].outputs, truth.outputs)]
    if len(returned) == 1:
        return returned, FUNCTION
    return [it for it in returned or fed if it in kind], FUNCTION if returned else KIND


def _alone(path: str, types: Mapping[str, str]) -> bool:
    """Whether a layer holds no others."""
    return bool(path) and not any(inside(other, path) for other in types)
