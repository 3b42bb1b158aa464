"""MXNet parameters (.params with NAME-symbol.json beside it, or both in a .zip), read without MXNet.

The file: mark 0x112, a reserved number, the count; each array as mark, storage type, shape, device, type and
values; then the names, "arg:" for weights and "aux:" for running statistics. The symbol holds what the arrays do
not: the epsilon of each batch norm, and whether its gamma is fixed to 1. Both are worked into the arrays, so that
they mean what a PyTorch batch norm with eps 1e-5 takes them to mean.
"""

import json
import math
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import InputError
from convert.formats.budget import opened_zip, require_count, unique
from convert.tensors import Array, Checkpoint, Entry, TensorSpec

LIST_MARK = 0x112
MOST_AXES = 8
ARRAY_MARKS = {0xF993FAC9: True, 0xF993FAC8: False}  # mark -> whether a storage type follows
DTYPES = tuple(np.dtype(name) for name in ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8"))
TORCH_EPS, MXNET_EPS = 1e-5, 1e-3  # defaults of the batch norms


@dataclass(frozen=True)
class _BatchNorm:
    eps: float
    fix_gamma: bool


def read(path: Path) -> Checkpoint:
    """Open MXNet parameters; names as in the file, without "arg:" and "aux:".

    Raises InputError: damaged or foreign file, no symbol beside it, a sparse array.
    """
    data, symbol = _contents(path)
    try:
        arrays = unique(_arrays(data))
    except (struct.error, ValueError, IndexError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not MXNet parameters, or cut off ({error})") from error
    norms = _batch_norms(path, symbol)
    return Checkpoint(path, "mxnet", {name: _entry(_worked_in(name, value, norms)) for name, value in arrays.items()})


def _contents(path: Path) -> tuple[bytes, bytes]:
    """The bytes of the parameters and of the symbol."""
    if zipfile.is_zipfile(path):
        return _from_zip(path)
    symbol = path.with_name(f"{path.stem.rpartition('-')[0]}-symbol.json")
    if not symbol.is_file():
        raise InputError(f"{symbol}: no such file; put it beside {path.name}, it holds the epsilon of the batch norms")
    return path.read_bytes(), symbol.read_bytes()


def _from_zip(path: Path) -> tuple[bytes, bytes]:
    try:
        with opened_zip(path) as archive:
            found = []
            for ending in (".params", "-symbol.json"):
                names = [name for name in archive.namelist() if name.endswith(ending)]
                if len(names) != 1:
                    raise InputError(f"{path}: holds {len(names)} files *{ending} where one is expected")
                found.append(archive.read(names[0]))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{path}: a damaged or encrypted archive ({error})") from error
    return found[0], found[1]


class _Reader:
    """Numbers one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def numbers(self, layout: str) -> tuple[int, ...]:
        """Numbers of a layout of `struct`, little-endian."""
        found = struct.unpack_from(f"<{layout}", self.data, self.position)
        self.position += struct.calcsize(f"<{layout}")
        return found

    def take(self, size: int) -> bytes:
        """The next bytes."""
        if size < 0 or self.position + size > len(self.data):
            raise ValueError(f"{size} bytes run past the end")
        self.position += size
        return self.data[self.position - size : self.position]


def _arrays(data: bytes) -> Iterator[tuple[str, Array]]:
    reader = _Reader(data)
    mark, _, count = reader.numbers("QQQ")
    if mark != LIST_MARK or count > len(data):
        raise ValueError("the mark of a parameter file is missing")
    require_count(count, "arrays")
    values = [_array(reader) for _ in range(count)]
    (names,) = reader.numbers("Q")
    if names != count:
        raise ValueError(f"{names} names for {count} arrays")
    for value in values:
        name = reader.take(reader.numbers("Q")[0]).decode()
        yield name.removeprefix("arg:").removeprefix("aux:"), value


def _array(reader: _Reader) -> Array:
    (mark,) = reader.numbers("I")
    if mark not in ARRAY_MARKS:
        raise ValueError(f"an array starts with the unknown mark {mark:#x}")
    if ARRAY_MARKS[mark] and reader.numbers("i")[0] != 0:
        raise ValueError("a sparse array")
    (axes,) = reader.numbers("I")
    if axes > MOST_AXES:
        raise ValueError(f"an array of {axes} axes")
    shape = reader.numbers(f"{axes}q")
    _, _, kind = reader.numbers("iii")
    dtype = DTYPES[kind]
    return np.frombuffer(reader.take(math.prod(shape) * dtype.itemsize), dtype).reshape(shape)


def _batch_norms(path: Path, symbol: bytes) -> dict[str, _BatchNorm]:
    """Name of each batch norm -> what the symbol says of it."""
    try:
        nodes = json.loads(symbol)["nodes"]
        found = [(node["name"], _attributes(node)) for node in nodes if node["op"] == "BatchNorm"]
        return {
            name: _BatchNorm(float(known.get("eps", MXNET_EPS)), known.get("fix_gamma", "True") in {"True", "1"})
            for name, known in found
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: its symbol is not an MXNet graph ({error})") from error


def _attributes(node: Mapping[str, Any]) -> Mapping[str, str]:
    """A node's settings, under the names of three generations of MXNet."""
    return node.get("attrs") or node.get("attr") or node.get("param") or {}


def _worked_in(name: str, value: Array, norms: Mapping[str, _BatchNorm]) -> Array:
    """The array with its batch norm's epsilon and fixed gamma worked in; other arrays as they are."""
    for leaf in ("_moving_var", "_gamma"):
        norm = norms.get(name.removesuffix(leaf)) if name.endswith(leaf) else None
        if norm and leaf == "_moving_var":
            return (value.astype(np.float64) + (norm.eps - TORCH_EPS)).astype(value.dtype)
        if norm and norm.fix_gamma:
            return np.ones_like(value)
    return value


def _entry(value: Array) -> Entry:
    return Entry(TensorSpec(tuple(value.shape), value.dtype.name), lambda: value)
