"""How a layer is constructed: the callee and its arguments, of which the numbers may differ between instances."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from toonport.porting.expressions import Slot, literal

REQUIRED = object()  # the default of an argument that is always written


@dataclass(frozen=True)
class Argument:
    """One argument of a constructor."""

    name: str  # what it is called, and an argument that takes its place in other instances
    value: Any  # a plain literal
    default: Any = REQUIRED  # left out where the value is this
    positional: bool = False


@dataclass(frozen=True)
class Made:
    """A constructor's call."""

    callee: str
    arguments: Sequence[Argument] = ()
    children: Sequence[tuple[str, Made]] = ()  # of a sequence or a list: name and layer
    named: bool = False  # whether the names of children are written
    own: frozenset[str] = field(default=frozenset())  # what the file of layers has to hold for it
    key: str = ""  # tells classes of the same name apart

    @property
    def skeleton(self) -> str:
        """What is the same in all instances of one class."""
        inside = ",".join(f"{name}:{child.skeleton}" for name, child in self.children)
        return f"{self.callee}{self.key}({','.join(each.name for each in self.arguments)};{inside})"

    def slots(self) -> Iterator[Slot]:
        """The values that may differ, in order."""
        for each in self.arguments:
            yield Slot(each.value, each.name)
        for _, child in self.children:
            yield from child.slots()

    def needs(self) -> set[str]:
        """What the file of layers has to hold."""
        return set(self.own).union(*(child.needs() for _, child in self.children))

    def text(self, names: Iterator[str | None]) -> str:
        """The code; `names` gives for each slot the argument that stands for it, None for the literal."""
        words = []
        for each in self.arguments:
            said = next(names)
            if said is None and each.default is not REQUIRED and same(each.value, each.default):
                continue
            word = said or literal(each.value)
            words.append(word if each.positional else f"{each.name}={word}")
        inside = [(name, child.text(names)) for name, child in self.children]
        cells = [text for _, text in inside]
        if self.named:
            cells = ["OrderedDict([" + ", ".join(f'("{name}", {text})' for name, text in inside) + "])"]
        elif self.callee in SEQUENCES:
            cells = sequence(self.callee, cells)
        return f"{self.callee}({', '.join([*cells, *words])})"


SEQUENCES = {"nn.CellList", "nn.SequentialCell"}
REPEATED = 3  # layers written alike that are written once


def sequence(callee: str, cells: list[str]) -> list[str]:
    """Return what the constructor of a sequence of layers is given."""
    if len(cells) >= REPEATED and len(set(cells)) == 1:
        return [f"[{cells[0]} for _ in range({len(cells)})]"]
    return [f"[{', '.join(cells)}]"] if callee == "nn.CellList" or len(cells) == 1 else cells


class Raw(str):
    """A literal that is written as it is, such as a type."""

    def __repr__(self) -> str:
        return str(self)


def same(first: Any, second: Any) -> bool:
    """Whether two literals are written alike."""
    return type(first) is type(second) and repr(first) == repr(second)


def layer(callee: str, *positional: tuple[str, Any], **named: Any) -> Made:
    """Return a constructor's call.

    Args:
        callee: a class of MindSpore's, "nn.NAME", or one that the file of layers has to hold.
        positional: name and value of arguments that are written by their place.
        named: further arguments; a pair is a value and the default for which it is left out.
    """
    arguments = [Argument(name, value, positional=True) for name, value in positional]
    for name, value in named.items():
        pair = isinstance(value, Optional)
        arguments.append(Argument(name, value.value if pair else value, value.default if pair else REQUIRED))
    return Made(callee, arguments, own=frozenset() if callee.startswith("nn.") else frozenset({callee}))


@dataclass(frozen=True)
class Optional:
    """A value that is left out where it is the default."""

    value: Any
    default: Any
