"""How values are written as MindSpore code: texts with marks for names and numbers that are settled later."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from convert.layers import find_rule
from toonport.porting.values import Constant, Own, UnportableError, Value

COMPARED, ADDED, MULTIPLIED, SIGNED, ATOM = range(5)  # how tightly an expression holds together
OMIT = object()  # an argument that is not written


@dataclass(frozen=True)
class Expr:
    """An expression as text."""

    text: str
    level: int = ATOM


@dataclass(frozen=True)
class Slot:
    """A number in the code that may be another one in another instance of the same class."""

    value: Any
    name: str  # what an argument for it would be called


@dataclass
class Writer:
    """Writes the arguments of calls in one body.

    Names stand in marks, `«3»` for the third value, and numbers too, `‹3›` for the third slot, so that bodies that
    differ in numbers only are recognised as one.
    """

    path: str  # of the module whose body it is
    training: bool  # the mode that was traced
    attribute: Callable[[str], str]  # dotted path of a module or tensor -> dotted path in MindSpore
    kinds: Callable[[str], tuple[str, ...]]  # dotted path of a module -> names of its class and base classes
    slots: list[Slot] = field(default_factory=list)
    functions: set[str] = field(default_factory=set)  # of the file of layers
    inlined: dict[int, Expr] = field(default_factory=dict)  # id of a value -> what stands for it
    numbers: dict[int, int] = field(default_factory=dict)  # id of a value -> its number in the marks
    hint: str = ""  # of the call that is being written
    written: Counter[int] = field(default_factory=Counter)  # how often the call that is being written uses a value

    def expr(self, value: Any) -> Expr:
        """Return anything that a call is given as an expression."""
        if isinstance(value, Value):
            self.written[id(value)] += 1
            return self.inlined.get(id(value)) or Expr(self.mark(value))
        if isinstance(value, Expr):
            return value
        if isinstance(value, Own | Constant):
            return Expr(self.held(value))
        if isinstance(value, tuple | list):
            return self._several(value)
        if isinstance(value, slice):
            return Expr(_sliced([self.bound(value.start), self.bound(value.stop), self.bound(value.step)]))
        if isinstance(value, Mapping):
            return Expr("{" + ", ".join(f"{key!r}: {self.text(each)}" for key, each in value.items()) + "}")
        return self._literal(value)

    def text(self, value: Any, level: int = 0) -> str:
        """The same as text, in parentheses where it holds together less tightly than `level`."""
        found = self.expr(value)
        return found.text if found.level >= level else f"({found.text})"

    def atom(self, value: Any) -> str:
        """The text of what a method is called of."""
        return self.text(value, ATOM)

    def call(self, function: str, *args: Any, **keywords: Any) -> Expr:
        """A call; keyword arguments that are OMIT are left out."""
        words = [self.text(each) for each in args]
        words += [f"{name}={self.text(each)}" for name, each in keywords.items() if each is not OMIT]
        return Expr(f"{function}({', '.join(words)})")

    def method(self, owner: Any, name: str, *args: Any, **keywords: Any) -> Expr:
        """A call of a method."""
        return Expr(f"{self.atom(owner)}.{self.call(name, *args, **keywords).text}")

    def own_function(self, name: str, *args: Any, **keywords: Any) -> Expr:
        """A call of a function of the file of layers."""
        self.functions.add(name)
        return self.call(name, *args, **keywords)

    def mark(self, value: Value) -> str:
        """The mark of a value's name."""
        return f"«{self.numbers.setdefault(id(value), len(self.numbers))}»"

    def number(self, value: Any) -> str:
        """The mark of a number."""
        self.slots.append(Slot(value, self.hint))
        return f"‹{len(self.slots) - 1}›"

    def held(self, tensor: Own | Constant) -> str:
        """A parameter or constant, as the module reaches it."""
        owner, _, leaf = tensor.name.rpartition(".")
        prefix = f"{self.path}." if self.path else ""
        if owner != self.path and not owner.startswith(prefix):
            raise UnportableError(f"{tensor.name}: used in {self.path}, which does not hold it")
        rule = find_rule(self.kinds(owner)) if owner != self.path else None
        there = self.attribute(owner)
        inside = there.removeprefix(self.attribute(self.path)).strip(".") if owner != self.path else ""
        leaf = rule.names.get(leaf, leaf) if rule else self.attribute(tensor.name).rpartition(".")[2]
        return reach(inside) + f".{leaf}"

    def bound(self, value: Any) -> str:
        """One of the numbers of a slice."""
        return "" if value is None else self.text(value)

    def _several(self, values: tuple[Any, ...] | list[Any]) -> Expr:
        words = ", ".join(self.text(each) for each in values)
        if isinstance(values, list):
            return Expr(f"[{words}]")
        return Expr(f"({words},)" if len(values) == 1 else f"({words})")

    def _literal(self, value: Any) -> Expr:
        if value is None or isinstance(value, bool | str) or value is Ellipsis:
            return Expr("..." if value is Ellipsis else repr(value))
        if isinstance(value, int | float):
            return Expr(self.number(value), ATOM if value >= 0 else SIGNED)
        if isinstance(value, torch.dtype):
            return Expr(dtype_name(value))
        raise UnportableError(f"an argument of type {type(value).__name__}, which is not written")


def _sliced(bounds: list[str]) -> str:
    start, stop, step = bounds
    return f"{start}:{stop}" + (f":{step}" if step else "")


def reach(path: str) -> str:
    """Return how a cell reaches one inside it by its dotted path: places in lists stand in brackets."""
    found = "self"
    for part in path.split(".") if path else ():
        found += f"[{part}]" if part.isdigit() else f".{part}"
    return found


def dtype_name(dtype: torch.dtype) -> str:
    """Return PyTorch's type of tensors as MindSpore's."""
    name = str(dtype).removeprefix("torch.")
    return {"bool": "ms.bool_"}.get(name, f"ms.{name}")


def literal(value: Any) -> str:
    """Return a number as code."""
    if isinstance(value, float) and value != value:
        return 'float("nan")'
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return f'float("{value}")'
    return repr(value)
