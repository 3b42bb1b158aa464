"""TensorFlow checkpoints (NAME.index beside NAME.data-00000-of-00001), read without TensorFlow.

The index is a LevelDB table: blocks of prefix-compressed keys, found through a footer of 48 bytes. Its empty key
holds a BundleHeaderProto, every other key a BundleEntryProto {1: dtype, 2: shape, 3: shard, 4: offset, 5: size,
6: masked CRC-32C, 7: slices}. The data files are raw little-endian numbers.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from convert.errors import InputError
from convert.formats.budget import LONGEST_KEY, ExcessError, require_axes, require_count, unique
from convert.formats.protobuf import fields, varint
from convert.tensors import Array, Checkpoint, Entry, TensorSpec

MAGIC = bytes.fromhex("57fb808b247547db")
FOOTER, TRAILER = 48, 5
DTYPES: Mapping[int, np.dtype] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    4: np.dtype("u1"),
    5: np.dtype("<i2"),
    6: np.dtype("i1"),
    9: np.dtype("<i8"),
    10: np.dtype("?"),
    14: np.dtype(ml_dtypes.bfloat16),
    19: np.dtype("<f2"),
}
STRING = 7


def read(path: Path) -> Checkpoint:
    """Open a TensorFlow checkpoint by its .index file; names and the order of axes are TensorFlow's.

    Raises InputError: damaged or foreign index, missing data file, unsupported type or sliced variable.
    """
    try:
        records = unique((key.decode(), value) for key, value in _records(path.read_bytes()))
        header = _message(records.pop("", b""))
        entries = {name: _message(value) for name, value in records.items()}
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not the index of a TensorFlow checkpoint, or cut off ({error})") from error
    if header.get(2, 0):
        raise InputError(f"{path}: written on a big-endian machine, which is not supported")
    shards = int(header.get(1, 1))
    tensors: dict[str, Entry] = {}
    extras: dict[str, str] = {}
    for name, fields_of in entries.items():
        if fields_of.get(1) == STRING:
            extras[name] = "text"
        else:
            tensors[name] = _entry(path, name, fields_of, shards)
    files = sorted({_data_file(path, known, shards) for name, known in entries.items() if name in tensors})
    return Checkpoint(path, "tensorflow", tensors, extras, beside=tuple(files))


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of the table."""
    footer = len(data) - FOOTER
    if footer < 0 or data[-len(MAGIC) :] != MAGIC:
        raise ValueError("the table's magic number is missing")
    _, position = _handle(data, footer)  # of the meta index, which TensorFlow leaves empty
    (start, size), _ = _handle(data, position)
    left = len(data)  # blocks lie side by side, so together they are no larger than the file
    for _, value in _block(data, start, size):
        (first, length), _ = _handle(value, 0)
        left -= length
        if left < 0:
            raise ExcessError("its blocks lie over each other")
        yield from _block(data, first, length)


def _handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    offset, position = varint(data, position, len(data))
    size, position = varint(data, position, len(data))
    return (offset, size), position


def _block(data: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    block, trailer = data[start : start + size], data[start + size : start + size + TRAILER]
    if len(trailer) < TRAILER or size < 4:
        raise ValueError("a block runs past the end")
    if trailer[0]:
        raise ValueError("a block is compressed")
    if int.from_bytes(trailer[1:], "little") != masked(crc32c(block + trailer[:1])):
        raise ValueError("the checksum of a block does not match")
    end = size - 4 - 4 * int.from_bytes(block[-4:], "little")
    position, key = 0, b""
    while position < end:
        shared, position = varint(block, position, end)
        unshared, position = varint(block, position, end)
        length, position = varint(block, position, end)
        if position + unshared + length > end or shared > len(key):
            raise ValueError("a key runs past the end of its block")
        require_count(shared + unshared, "characters in one name", LONGEST_KEY)
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        yield key, block[position : position + length]
        position += length


def _message(data: bytes) -> dict[int, int | bytes]:
    """Field number -> number or bytes; of a repeated field the last, which no field used here is."""
    return {number: first if end < 0 else data[first:end] for number, first, end in fields(data, 0, len(data))}


def _shape(data: int | bytes) -> tuple[int, ...]:
    """TensorShapeProto {2: dimensions {1: size}}."""
    if isinstance(data, int):
        raise ValueError("a shape is not a message")
    sides = []
    for number, first, end in fields(data, 0, len(data)):
        if number == 2 and end >= 0:
            sides.append(int(_message(data[first:end]).get(1, 0)))
            require_axes(len(sides))
    return tuple(sides)


def _entry(path: Path, name: str, known: Mapping[int, int | bytes], shards: int) -> Entry:
    kind, offset, size = (int(known.get(number, 0)) for number in (1, 4, 5))
    if kind not in DTYPES:
        raise InputError(f"{path}: {name} has TensorFlow's type {kind}, which cannot be converted")
    if 7 in known:
        raise InputError(f"{path}: {name} is stored in slices; save it unpartitioned")
    shape, dtype = _shape(known.get(2, b"")), DTYPES[kind]
    if math.prod(shape) * dtype.itemsize != size:
        raise InputError(f"{path}: {name} holds {size} bytes, which its shape {list(shape)} does not need")
    file = _data_file(path, known, shards)
    if not file.is_file():
        raise InputError(f"{file}: no such file; the values of {path.name} are in it, put it beside the index")

    def values() -> Array:
        """Read and check the values."""
        with open(file, "rb") as stream:
            stream.seek(offset)
            content = stream.read(size)
        if len(content) < size or masked(crc32c(content)) != known.get(6):
            raise InputError(f"{file}: damaged, the checksum of {name} does not match; get the file again")
        return np.frombuffer(content, dtype).reshape(shape)

    return Entry(TensorSpec(shape, dtype.name), values)


def _data_file(path: Path, known: Mapping[int, int | bytes], shards: int) -> Path:
    return path.with_name(f"{path.stem}.data-{int(known.get(3, 0)):05d}-of-{shards:05d}")


def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


TABLE = _table()


def crc32c(data: bytes) -> int:
    """The CRC-32C (Castagnoli) of some bytes."""
    crc, table = 0xFFFFFFFF, TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """A CRC as LevelDB stores it: rotated and shifted by a constant, so that a CRC of CRCs is none."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
