"""What a traced run consists of: values, the calls that made them, and the runs of modules that hold the calls."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from convert.errors import InputError


class UnportableError(InputError):
    """Something in the network has no rule: names the operator or layer, and the line of the source."""


@dataclass(eq=False)
class Value:
    """A tensor or a number that the network computes, or that is handed to a module."""

    call: Call | None  # what made it; None: it came in
    path: tuple[Any, ...]  # where it is in what the call returned, or the name of the argument and where in it
    example: Any  # the tensor or number of the traced run
    name: str = ""  # what the source calls it, "" where it does not

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of a tensor, None of a number."""
        return None if isinstance(self.example, int | float) else tuple(int(side) for side in self.example.shape)


@dataclass(frozen=True)
class Held:
    """A tensor that a module holds, by its dotted name; `example` is the tensor."""

    name: str
    example: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.example.shape)


class Own(Held):
    """A parameter or buffer of the network."""


class Constant(Held):
    """An attribute that is no part of the network's state."""


@dataclass(eq=False)
class Call:
    """One call of an operator, or of a module inside the one that runs."""

    op: str  # canonical name of the operator; "" for a module
    args: tuple[Any, ...]  # what it was given, in the same structure: Value, Own, Constant or plain
    kwargs: Mapping[str, Any]
    line: str  # where the source calls it
    module: str = ""  # dotted path of the module that is called
    result: Any = None  # what it returned, in the same structure
    still: bool = False  # whether no gradient flows through it
    into: Own | None = None  # the state of the network that it changes in place
    note: str = ""  # a comment on it

    @property
    def called(self) -> str:
        """What messages call it."""
        return self.op or f"module {self.module}"


@dataclass(eq=False)
class Region:
    """One run of one module: what it was given, the calls that it made, and what it returned."""

    path: str
    inputs: dict[str, Any] = field(default_factory=dict)  # argument -> structure of values, of those that hold any
    calls: list[Call] = field(default_factory=list)
    output: Any = None


Record = Callable[[str, tuple[Any, ...]], Any]


class _Number:
    """A number that keeps how it was computed, and has what is computed from it, or decided by it, recorded."""

    value: Value
    record: Record

    def __new__(cls, number: Any, value: Value, record: Record) -> Any:
        """Make a number that knows its value and who records what is computed from it."""
        made: Any = super().__new__(cls, number)  # type: ignore[call-arg]
        made.value, made.record = value, record
        return made

    def __deepcopy__(self, memo: Any) -> Any:
        return plain(self)

    def __hash__(self) -> int:
        return hash(plain(self))

    def __round__(self, digits: Any = None) -> Any:
        return self.record("round", (self,)) if digits is None else round(plain(self), digits)

    def __neg__(self) -> Any:
        return self.record("mul", (self, -1))

    def __ceil__(self) -> Any:
        return self.record("ceil", (self,))

    def __floor__(self) -> Any:
        return self.record("floor", (self,))

    def __bool__(self) -> bool:
        return bool(self.record("ne", (self, 0)))

    def __pow__(self, other: Any, modulo: Any = None) -> Any:
        return self._with("pow", self, other)

    def _with(self, op: str, first: Any, second: Any) -> Any:
        """Compute with another number, and record it; anything else answers for itself."""
        if not isinstance(first, int | float) or not isinstance(second, int | float) or isinstance(second, bool):
            return NotImplemented
        return self.record(op, (first, second))


def _method(op: str, swapped: bool = False) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        """Compute or compare with another number."""
        return self._with(op, other, self) if swapped else self._with(op, self, other)

    return method


COMPARISONS = frozenset({"lt", "le", "gt", "ge", "eq", "ne"})
for _op in ("add", "sub", "mul", "floordiv", "mod", "div"):
    _name = "truediv" if _op == "div" else _op
    setattr(_Number, f"__{_name}__", _method(_op))
    setattr(_Number, f"__r{_name}__", _method(_op, swapped=True))
for _op in COMPARISONS:
    setattr(_Number, f"__{_op}__", _method(_op))


class Dim(_Number, int):
    """A side of a tensor, or a number computed from sides, that keeps how it was computed."""


class FloatDim(_Number, float):
    """A fraction computed from sides; rounding it gives a side again."""


NUMBERS: Mapping[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "ceil": math.ceil,
    "floor": math.floor,
    "round": round,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
}


class Shape(tuple[int, ...]):
    """The shape of a tensor as numbers that keep where they came from."""

    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self)


def plain(value: Any) -> Any:
    """Return a number as Python's own, without how it was computed; everything else as it is."""
    if isinstance(value, Dim):
        return int(value)
    return float(value) if isinstance(value, FloatDim) else value


def untraced(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Return what a function makes of arguments with plain numbers in them."""
    return func(*mapped(plain, args), **mapped(plain, kwargs))


def mapped(change: Callable[[Any], Any], tree: Any) -> Any:
    """Return a structure of tuples, lists, dictionaries and slices with every leaf changed.

    Named tuples and dataclasses become tuples and dictionaries of what they hold.
    """
    if isinstance(tree, slice):
        return slice(mapped(change, tree.start), mapped(change, tree.stop), mapped(change, tree.step))
    if isinstance(tree, Mapping):
        return {key: mapped(change, each) for key, each in tree.items()}
    if isinstance(tree, list):
        return [mapped(change, each) for each in tree]
    if isinstance(tree, tuple):
        return tuple(mapped(change, each) for each in tree)
    if is_dataclass(tree) and not isinstance(tree, type | Value | Own | Constant | Call):
        return {each.name: mapped(change, getattr(tree, each.name)) for each in fields(tree)}
    return change(tree)


def leaves(tree: Any) -> list[Any]:
    """Return the leaves of a structure, in order."""
    found: list[Any] = []
    mapped(found.append, tree)
    return found
