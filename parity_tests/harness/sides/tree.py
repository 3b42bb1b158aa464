"""What a layer takes and returns: arrays in order, and the structure of containers and constants around them.

Nested tuples, lists, dictionaries, named tuples and dataclasses are kept as they are; `None`, numbers, strings and
other objects among them are constants.
"""

from __future__ import annotations

import copy
from collections import namedtuple
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, make_dataclass
from typing import Any, overload

import numpy as np
import optree
from numpy.typing import NDArray

Array = NDArray[Any]
AsArray = Callable[[Any], "Array | None"]  # a leaf as an array, or None where it is a constant
NAMESPACE = "toonport"


@dataclass(frozen=True)
class Slot:
    """The place of an array in a structure."""

    index: int


@dataclass(frozen=True)
class Tree(Sequence[Array]):
    """Arrays in order, and the structure that they were taken from."""

    arrays: tuple[Array, ...]
    form: Any  # the structure, with a `Slot` in the place of each array
    paths: tuple[str, ...]  # where each array lies in the structure, e.g. "mask.0"; "" where it is the structure

    @classmethod
    def of(cls, structure: Any, as_array: AsArray) -> Tree:
        """Take the arrays out of a structure."""
        arrays: list[Array] = []
        paths: list[str] = []

        def take(path: tuple[Any, ...], leaf: Any) -> Any:
            """Put a slot in the place of an array."""
            array = as_array(leaf)
            if array is None:
                return leaf
            arrays.append(array)
            paths.append(".".join(map(str, path)))
            return Slot(len(arrays) - 1)

        form = mapped(structure, take)
        return cls(tuple(arrays), form, tuple(paths))

    @property
    def plain(self) -> bool:
        """Whether these are the arguments of a call that has nothing but arrays, one after the other."""
        return bool(self.form == (tuple(map(Slot, range(len(self.arrays)))), {}))

    def filled(self, items: Sequence[Any]) -> Any:
        """Return the structure with an item in the place of each array."""
        return mapped(self.form, lambda _, leaf: items[leaf.index] if isinstance(leaf, Slot) else leaf)

    @overload
    def __getitem__(self, index: int) -> Array: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Array]: ...

    def __getitem__(self, index: int | slice) -> Array | Sequence[Array]:
        return self.arrays[index]

    def __len__(self) -> int:
        return len(self.arrays)


def mapped(structure: Any, change: Callable[[tuple[Any, ...], Any], Any], path: tuple[Any, ...] = ()) -> Any:
    """Return a structure of the same containers with `change(path, leaf)` in the place of every leaf."""

    def at(inner: tuple[Any, ...], leaf: Any) -> Any:
        """Look into dataclasses, which optree takes for leaves."""
        if not is_dataclass(leaf) or isinstance(leaf, type | Slot):
            return change((*path, *inner), leaf)
        found = copy.copy(leaf)
        for field in fields(leaf):
            value = mapped(getattr(leaf, field.name), change, (*path, *inner, field.name))
            object.__setattr__(found, field.name, value)
        return found

    with optree.dict_insertion_ordered(True, namespace=NAMESPACE):
        return optree.tree_map_with_path(at, structure, none_is_leaf=True, namespace=NAMESPACE)


def changed(values: Sequence[Array], arrays: Iterable[Array]) -> Sequence[Array]:
    """Return other arrays in the structure of `values`."""
    if isinstance(values, Tree):
        return Tree(tuple(arrays), values.form, values.paths)
    return tuple(arrays)


def arguments(values: Sequence[Array], items: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and keyword arguments of a call, with an item in the place of each of its arrays.

    A plain sequence of arrays has no keywords.
    """
    if isinstance(values, Tree):
        args, keywords = values.filled(items)
        return tuple(args), dict(keywords)
    return tuple(items), {}


def as_arguments(args: Sequence[Any], keywords: dict[str, Any], as_array: AsArray) -> Tree:
    """Take the arrays out of the arguments of a call; their paths begin with the argument's position or keyword."""
    found = Tree.of((tuple(args), dict(keywords)), as_array)
    return Tree(found.arrays, found.form, tuple(path.partition(".")[2] for path in found.paths))


def number(leaf: Any) -> Array | None:
    """Return a Python or numpy number as an array without dimensions, None for anything else."""
    return np.asarray(leaf) if isinstance(leaf, bool | int | float | complex | np.number | np.bool_) else None


def text(leaf: Any) -> Array | None:
    """Return a string as the numbers of its characters, None for anything else."""
    return np.array([ord(character) for character in leaf], np.int64) if isinstance(leaf, str) else None


def floating(array: Array) -> bool:
    """Whether an array holds real floating-point numbers: only these are cast, moved by a unit, or differentiated."""
    return array.dtype.kind == "f"


def tuple_of(outputs: Any) -> tuple[Any, ...]:
    """Return what a layer returns as a tuple, also where it is one tensor."""
    return tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)


def leaves(structure: Any) -> list[Any]:
    """Return everything in a structure that is not a container, in order."""
    found: list[Any] = []
    mapped(structure, lambda _, leaf: found.append(leaf))
    return found


def encoded(form: Any) -> Any:
    """Return a structure of slots and constants as JSON can hold it.

    Of named tuples and dataclasses it holds their names and those of their fields, not their code.

    Raises TypeError: it holds something else than containers, None, numbers, strings and slots.
    """
    kind = type(form)
    if form is None or kind in (bool, int, float, str):
        return form
    if kind is list:
        return list(map(encoded, form))
    if kind is tuple:
        return {"tuple": list(map(encoded, form))}
    if kind is dict:
        return {"dict": [[encoded(key), encoded(value)] for key, value in form.items()]}
    if kind is Slot:
        return {"slot": form.index}
    if optree.is_namedtuple_instance(form):
        return {"namedtuple": [kind.__name__, list(optree.namedtuple_fields(kind)), list(map(encoded, form))]}
    if is_dataclass(kind):
        names = [field.name for field in fields(kind)]
        return {"dataclass": [kind.__name__, names, [encoded(getattr(form, name)) for name in names]]}
    raise TypeError(kind.__name__)


def decoded(data: Any) -> Any:
    """Return the structure that `encoded` made `data` of, with named tuples and dataclasses of the same fields."""
    if isinstance(data, list):
        return [decoded(inner) for inner in data]
    if not isinstance(data, dict):
        return data
    ((kind, inner),) = data.items()
    if kind == "slot":
        return Slot(inner)
    if kind in ("namedtuple", "dataclass"):
        name, names, values = inner
        made = namedtuple(name, names) if kind == "namedtuple" else make_dataclass(name, names)
        return made(*map(decoded, values))
    return tuple(map(decoded, inner)) if kind == "tuple" else {decoded(key): decoded(value) for key, value in inner}
