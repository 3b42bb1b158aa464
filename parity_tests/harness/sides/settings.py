"""How a layer is set, but for its weights: what two networks of one class can differ in."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import partial, singledispatch
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np

from parity_tests.harness.sides.tree import Array

PLAIN = (type(None), bool, int, float, complex, str, bytes, Enum, slice, range)
Described = str | Array | list["Described"]


def described(value: Any, array: Callable[[Any], Array | None], known: Mapping[int, str]) -> Described:
    """Describe a value by what it holds, the same in every process: objects by class and attributes.

    Args:
        value: anything, with references to itself, too.
        array: the values of a framework's tensor, None for anything else.
        known: id -> words for objects that are described elsewhere.
    """
    return _Description(array, known).of(value)


class _Description:
    def __init__(self, array: Callable[[Any], Array | None], known: Mapping[int, str]) -> None:
        self._array, self._known = array, known
        self._seen: dict[int, tuple[int, Any]] = {}  # the object is kept, so that its id is no other's

    def of(self, value: Any) -> Described:
        """See `described`."""
        if isinstance(value, PLAIN):
            return f"{type(value).__qualname__} {value!r}"
        found = value if isinstance(value, np.ndarray) and value.dtype != object else self._array(value)
        if found is not None:
            return found
        if id(value) in self._known:
            return self._known[id(value)]
        if id(value) in self._seen:
            return f"as number {self._seen[id(value)][0]}"
        self._seen[id(value)] = len(self._seen), value
        return [f"{type(value).__module__}.{type(value).__qualname__}", *(self.of(part) for part in _parts(value))]


@singledispatch
def _parts(value: Any) -> Iterable[Any]:
    """What an object holds, in an order that is the same in every process."""
    if dataclasses.is_dataclass(value):
        return [getattr(value, each.name) for each in dataclasses.fields(value)]
    return [vars(value)] if type(value).__dictoffset__ else []


@_parts.register(Mapping)
def _(value: Mapping[Any, Any]) -> Iterable[Any]:
    return (part for item in value.items() for part in item)


@_parts.register(list)
@_parts.register(tuple)
def _(value: Iterable[Any]) -> Iterable[Any]:
    return value


@_parts.register(set)
@_parts.register(frozenset)
def _(value: Iterable[Any]) -> Iterable[Any]:
    return sorted(value, key=repr)


@_parts.register(type)
@_parts.register(BuiltinFunctionType)
def _(value: Any) -> Iterable[Any]:
    return value.__module__, value.__qualname__


@_parts.register
def _(value: partial) -> Iterable[Any]:
    return value.func, value.args, value.keywords


@_parts.register
def _(value: MethodType) -> Iterable[Any]:
    return value.__func__, value.__self__


@_parts.register
def _(value: FunctionType) -> Iterable[Any]:
    code = value.__code__
    constants = [constant for constant in code.co_consts if isinstance(constant, PLAIN)]
    held = [cell.cell_contents for cell in value.__closure__ or ()]
    own = value.__module__, value.__qualname__, code.co_code
    return *own, constants, value.__defaults__, value.__kwdefaults__, held
