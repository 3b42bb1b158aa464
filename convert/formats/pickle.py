"""Arrays out of a pickle without unpickling: the opcodes are read as data, and nothing that they name is called.

Only what numpy writes for arrays in dictionaries and lists is understood; anything else is refused.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["read_pickle"]


@dataclass
class _Call:
    """What a pickle would call, with which arguments, and the state it would set."""

    name: str
    arguments: Any
    state: Any = None


class _Mark:
    """Where on the stack a group of values begins."""


@dataclass(frozen=True)
class _Name:
    text: str


CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
VALUES = frozenset(
    (
        *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "INT", "LONG", "BINFLOAT", "FLOAT"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINSTRING", "SHORT_BINSTRING", "STRING"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    )
)
PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
GETS = frozenset(("GET", "BINGET", "LONG_BINGET"))
SKIPPED = frozenset(("PROTO", "FRAME", "STOP"))
RECONSTRUCT = frozenset(("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"))


def read_pickle(data: bytes) -> Any:
    """Return dictionaries, lists, numbers, text and arrays.

    Raises:
        ValueError: the pickle is damaged or asks for anything but arrays.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(data):
            machine.run(opcode.name, argument)
        return _value(machine.stack.pop())
    except (IndexError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"damaged ({type(error).__name__})") from error


class _Machine:
    """The stack of a pickle, on which calls stay calls."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.operations: Mapping[str, Callable[[], None]] = {
            "MARK": lambda: self.stack.append(_Mark()),
            "EMPTY_DICT": lambda: self.stack.append({}),
            "EMPTY_LIST": lambda: self.stack.append([]),
            "TUPLE": lambda: self.stack.append(tuple(self.group())),
            "LIST": lambda: self.stack.append(self.group()),
            "DICT": lambda: self.stack.append(_pairs(self.group())),
            "TUPLE1": lambda: self.stack.append(self.last(1)),
            "TUPLE2": lambda: self.stack.append(self.last(2)),
            "TUPLE3": lambda: self.stack.append(self.last(3)),
            "SETITEM": lambda: self.extend_dict(list(self.last(2))),
            "SETITEMS": lambda: self.extend_dict(self.group()),
            "APPEND": lambda: self.extend_list(list(self.last(1))),
            "APPENDS": lambda: self.extend_list(self.group()),
            "REDUCE": self.reduce,
            "BUILD": self.build,
            "STACK_GLOBAL": lambda: self.stack.append(_Name(" ".join(self.last(2)))),
            "MEMOIZE": lambda: self.memo.__setitem__(len(self.memo), self.stack[-1]),
        }

    def run(self, name: str, argument: Any) -> None:
        """Carry out one opcode."""
        if name in VALUES:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in PUTS:
            self.memo[int(argument)] = self.stack[-1]
        elif name in GETS:
            self.stack.append(self.memo[int(argument)])
        elif name == "GLOBAL":
            self.stack.append(_Name(argument))
        elif name in self.operations:
            self.operations[name]()
        elif name not in SKIPPED:
            raise ValueError(f"asks for more than arrays ({name})")

    def last(self, count: int) -> tuple[Any, ...]:
        found = tuple(self.stack[-count:])
        del self.stack[-count:]
        return found

    def group(self) -> list[Any]:
        """Everything since the last mark."""
        place = max(index for index, one in enumerate(self.stack) if isinstance(one, _Mark))
        found = self.stack[place + 1 :]
        del self.stack[place:]
        return found

    def extend_dict(self, items: list[Any]) -> None:
        self.stack[-1].update(_pairs(items))

    def extend_list(self, items: list[Any]) -> None:
        self.stack[-1].extend(items)

    def reduce(self) -> None:
        function, arguments = self.last(2)
        if not isinstance(function, _Name):
            raise ValueError("calls something that is not a name")
        self.stack.append(_Call(function.text, arguments))

    def build(self) -> None:
        (state,) = self.last(1)
        self.stack[-1].state = state


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _value(node: Any) -> Any:
    """Turn calls into arrays, in depth."""
    if isinstance(node, dict):
        return {_value(key): _value(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_value(one) for one in node]
    if isinstance(node, _Call):
        if node.name in RECONSTRUCT:
            return _array(node.state)
        raise ValueError(f"asks to call {node.name.replace(' ', '.')}")
    if isinstance(node, _Name | _Mark):
        raise ValueError("holds something that is not data")
    return node


def _array(state: Any) -> Any:
    """The array of numpy's state (version, shape, dtype, Fortran order, values); an object of shape () is itself."""
    _, shape, dtype, fortran, content = state
    kind = _dtype(dtype)
    if kind is None:
        if shape != () or len(content) != 1:
            raise ValueError("holds an array of objects")
        return _value(content[0])
    data = _bytes(content)
    if math.prod(shape) * kind.itemsize != len(data):
        raise ValueError("an array holds another number of bytes than its shape needs")
    return np.frombuffer(data, kind).reshape(shape, order="F" if fortran else "C")


def _dtype(node: Any) -> np.dtype | None:
    """The type of an array, None for objects."""
    if not isinstance(node, _Call) or node.name != "numpy dtype":
        raise ValueError("an array has no type")
    code = node.arguments[0]
    if code in {"O", "O8", "O4"}:
        return None
    if code[0] not in "fiub" or not code[1:].isdigit():
        raise ValueError(f"an array of type {code}")
    order = node.state[1] if node.state else "|"
    return np.dtype(f"{order}{code}")


def _bytes(node: Any) -> bytes:
    if isinstance(node, _Call) and node.name == "_codecs encode" and node.arguments[1] == "latin1":
        return str(node.arguments[0]).encode("latin1")
    return node.encode("latin1") if isinstance(node, str) else bytes(node)
