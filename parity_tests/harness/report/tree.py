"""The report on the console: the network as a tree of layers, each with the numbers of its worst tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from parity_tests.harness.judge import Verdict
from parity_tests.harness.report.data import numbers, verdict_word
from parity_tests.harness.run import Comparison

__all__ = ["TreeLine", "tree_lines"]

NAME_WIDTH = 52
HEADING = (
    f"{'layer':<{NAME_WIDTH}} {'type':<22} {'max|Δ|':>9} {'rel L2':>9} {'torch err':>9} {'port err':>9} "
    f"{'budget':>9} {'×budget':>8}  verdict"
)


@dataclass(frozen=True)
class TreeLine:
    """One line of the tree and whether it stands for something out of budget."""

    text: str
    bad: bool


@dataclass
class _Node:
    """A layer: its own tensors and the layers inside it."""

    path: str
    verdicts: list[Verdict] = field(default_factory=list)
    children: dict[str, _Node] = field(default_factory=dict)


def tree_lines(comparison: Comparison) -> Iterator[TreeLine]:
    """Yield the tree of a comparison in the order of computation, a heading first.

    Each line holds a named layer, its type, and the numbers of whichever of its tensors came closest to its budget
    or left it furthest, over all modes. The layer to look at first is marked.
    """
    root = _grow(comparison)
    first = next((one.measurement.layer for one in comparison.blamed), None)
    yield TreeLine(HEADING, False)
    yield _line(root, comparison.name, first)
    yield from _inside(root, "", first)


def _grow(comparison: Comparison) -> _Node:
    root = _Node("")
    for verdict in sorted(comparison.verdicts, key=_position):
        node = root
        for step in filter(None, verdict.measurement.layer.split(".")):
            path = f"{node.path}.{step}" if node.path else step
            node = node.children.setdefault(step, _Node(path))
        node.verdicts.append(verdict)
    return root


def _position(verdict: Verdict) -> tuple[bool, int]:
    """Weights come last: their order is that of the file, not of the computation."""
    return verdict.measurement.mode == "weights", verdict.measurement.order


def _inside(node: _Node, indent: str, first: str | None) -> Iterator[TreeLine]:
    for number, (name, child) in enumerate(node.children.items(), 1):
        last = number == len(node.children)
        yield _line(child, indent + ("└─ " if last else "├─ ") + name, first)
        yield from _inside(child, indent + ("   " if last else "│  "), first)


def _telling(verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
    """Leave out what was not run, and equal weights, where anything else is known of the layer."""
    beyond = [one for one in verdicts if one.measurement.mode != "weights" or not one.equal] or verdicts
    return [one for one in beyond if not one.measurement.not_run] or beyond


def _line(node: _Node, name: str, first: str | None) -> TreeLine:
    if not node.verdicts:
        return TreeLine(name, False)
    worst = max(_telling(node.verdicts), key=lambda one: one.multiple)
    kind = next((one.measurement.layer_type for one in node.verdicts if one.measurement.mode != "training"), "")
    mark = "  <-- look here first" if not worst.equal and node.path == first else ""
    text = f"{name:<{NAME_WIDTH}} {kind:<22} {numbers(worst)}  {verdict_word(worst)}{mark}"
    return TreeLine(text, not worst.equal)
