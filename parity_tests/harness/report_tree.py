"""The report on the console: the network as a tree of layers, open where something is out of budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from parity_tests.harness.judge import Verdict
from parity_tests.harness.report import short
from parity_tests.harness.run import Comparison

__all__ = ["TreeLine", "tree_lines"]

OPEN_DEPTH = 1
NAME_WIDTH = 58


@dataclass(frozen=True)
class TreeLine:
    """One line of the tree and whether it stands for something out of budget."""

    text: str
    bad: bool


@dataclass
class _Node:
    """A layer: its own tensors and the layers inside it."""

    path: str
    name: str
    verdicts: list[Verdict] = field(default_factory=list)
    children: dict[str, _Node] = field(default_factory=dict)

    def all_verdicts(self) -> list[Verdict]:
        return [*self.verdicts, *(one for child in self.children.values() for one in child.all_verdicts())]

    def layers(self) -> int:
        return sum(1 + child.layers() for child in self.children.values())


def tree_lines(comparison: Comparison) -> Iterator[TreeLine]:
    """Yield the tree of a comparison; parts without a fault are closed below the first level.

    Each line: layer, its type, the worst multiple of a budget among its tensors, how many tensors there were,
    and the verdict. The layer to look at first is marked.
    """
    root = _grow(comparison)
    first = next((one.measurement.layer for one in comparison.blamed), None)
    yield TreeLine(f"{'layer':<{NAME_WIDTH}} {'type':<24} {'worst × budget':>14} {'tensors':>8}  verdict", False)
    yield _line(root, "", root.verdicts, comparison.name, first)
    yield from _inside(root, "", 0, first)


def _grow(comparison: Comparison) -> _Node:
    root = _Node("", "")
    for verdict in sorted(comparison.verdicts, key=_position):
        node = root
        for step in filter(None, verdict.measurement.layer.split(".")):
            path = f"{node.path}.{step}" if node.path else step
            node = node.children.setdefault(step, _Node(path, step))
        node.verdicts.append(verdict)
    return root


def _position(verdict: Verdict) -> tuple[bool, int]:
    """Weights come last: their order is that of the file, not of the computation."""
    return verdict.measurement.mode == "weights", verdict.measurement.order


def _inside(node: _Node, indent: str, depth: int, first: str | None) -> Iterator[TreeLine]:
    children = list(node.children.values())
    for child in children:
        last = child is children[-1]
        everything = child.all_verdicts()
        wrong = any(not one.equal for one in _verdicts_inside(child))
        is_open = bool(child.children) and (wrong or depth < OPEN_DEPTH)
        closed = f" (+{child.layers()})" if child.children and not is_open else ""
        shown = child.verdicts if is_open else everything
        yield _line(child, indent + ("└─ " if last else "├─ "), shown, child.name + closed, first)
        if is_open:
            yield from _inside(child, indent + ("   " if last else "│  "), depth + 1, first)


def _verdicts_inside(node: _Node) -> list[Verdict]:
    return [one for child in node.children.values() for one in child.all_verdicts()]


def _line(node: _Node, indent: str, verdicts: Sequence[Verdict], name: str, first: str | None) -> TreeLine:
    bad = any(not one.equal for one in verdicts)
    worst = max((one.multiple for one in verdicts), default=0.0)
    kind = next((one.measurement.layer_type for one in node.verdicts if _is_class(one)), "")
    ran = [one for one in verdicts if not one.measurement.not_run]
    word = "DIFFERENT" if bad else "equal" if ran else "not run" if verdicts else ""
    numbers = f"{short(worst) if ran else '':>14} {len(ran) or '':>8}"
    mark = "  <-- look here first" if bad and node.path == first else ""
    return TreeLine(f"{indent + name:<{NAME_WIDTH}} {kind:<24} {numbers}  {word}{mark}", bad)


def _is_class(verdict: Verdict) -> bool:
    """Training rows name a phase where the others name the layer's class."""
    return verdict.measurement.mode != "training" and bool(verdict.measurement.layer_type)
