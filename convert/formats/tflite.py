"""TensorFlow Lite models (.tflite): the constant tensors, read through the flatbuffers package.

Tables by field number: Model {2: subgraphs, 4: buffers}, SubGraph {0: tensors}, Tensor {0: shape, 1: type,
2: buffer, 3: name}, Buffer {0: data}.
"""

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import InputError
from convert.formats.budget import LONGEST_KEY, require_axes, require_count
from convert.tensors import Array, Checkpoint, Entry, TensorSpec

DTYPES: Mapping[int, np.dtype] = {
    0: np.dtype("<f4"),
    1: np.dtype("<f2"),
    2: np.dtype("<i4"),
    3: np.dtype("u1"),
    4: np.dtype("<i8"),
    6: np.dtype("?"),
    7: np.dtype("<i2"),
    9: np.dtype("i1"),
    10: np.dtype("<f8"),
}
DAMAGE = (struct.error, IndexError, ValueError, TypeError, OverflowError)


def read(path: Path) -> Checkpoint:
    """Open a TensorFlow Lite model; names and the order of axes are TensorFlow Lite's.

    Raises InputError: damaged or foreign file, several graphs, two tensors of one name.
    """
    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        raise InputError(f"{path}: not a TensorFlow Lite model (its mark TFL3 is missing)")
    try:
        return Checkpoint(path, "tflite", _tensors(path, data))
    except DAMAGE as error:
        raise InputError(f"{path}: not a TensorFlow Lite model, or cut off ({error})") from error


def _tensors(path: Path, data: bytes) -> dict[str, Entry]:
    from flatbuffers.table import Table

    model = Table(bytearray(data), struct.unpack_from("<I", data)[0])
    graphs, buffers = _tables(model, 2), _tables(model, 4)
    if len(graphs) != 1:
        raise InputError(f"{path}: holds {len(graphs)} graphs where one is expected")
    found: dict[str, Entry] = {}
    for tensor in _tables(graphs[0], 0):
        content = _view(buffers[_number(tensor, 2, "<I")], 0)
        if content:
            text = _view(tensor, 3)
            require_count(len(text), "characters in one name", LONGEST_KEY)
            name = bytes(text).decode()
            if name in found:
                raise InputError(f"{path}: tensor {name} occurs twice")
            found[name] = _entry(path, name, tensor, content)
    return found


def _entry(path: Path, name: str, tensor: Any, content: memoryview) -> Entry:
    kind = _number(tensor, 1, "<b")
    if kind not in DTYPES:
        raise InputError(f"{path}: {name} has TensorFlow Lite's type {kind}, which cannot be converted")
    dtype = DTYPES[kind]
    sides = np.frombuffer(_view(tensor, 0, 4), "<i4")
    require_axes(sides.size)
    shape = tuple(int(side) for side in sides)
    if math.prod(shape) * dtype.itemsize != len(content):
        raise InputError(f"{path}: {name} holds {len(content)} bytes, which its shape {list(shape)} does not need")

    def values() -> Array:
        """View the values in the file."""
        return np.frombuffer(content, dtype).reshape(shape)

    return Entry(TensorSpec(shape, dtype.name), values)


def _tables(table: Any, field: int) -> list[Any]:
    """A field that holds a vector of tables."""
    from flatbuffers.table import Table

    place = table.Offset(4 + 2 * field)
    if not place:
        return []
    start = table.Vector(place)
    require_count(table.VectorLen(place))
    return [Table(table.Bytes, table.Indirect(start + 4 * index)) for index in range(table.VectorLen(place))]


def _view(table: Any, field: int, itemsize: int = 1) -> memoryview:
    """A field that holds text or a vector of plain numbers, as bytes of the file; empty when absent."""
    place = table.Offset(4 + 2 * field)
    if not place:
        return memoryview(b"")
    start, length = table.Vector(place), table.VectorLen(place) * itemsize
    if start + length > len(table.Bytes):
        raise ValueError("a vector runs past the end")
    return memoryview(table.Bytes)[start : start + length].toreadonly()


def _number(table: Any, field: int, kind: str) -> int:
    """A field that holds one number; 0 when absent."""
    place = table.Offset(4 + 2 * field)
    return int(struct.unpack_from(kind, table.Bytes, table.Pos + place)[0]) if place else 0
