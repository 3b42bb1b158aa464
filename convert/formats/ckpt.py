"""MindSpore checkpoints (.ckpt), read and written without MindSpore, one tensor at a time.

The file is a protocol-buffers message: Checkpoint { repeated Value value = 1 }, Value { string tag = 1;
TensorProto tensor = 2 }, TensorProto { repeated int64 dims = 1; string tensor_type = 2; bytes
tensor_content = 3 }. A tensor above 512 MiB is cut into consecutive values with the same tag. An optional
tail of 17 bytes holds "crc_num" and the CRC-32 of all before it.
"""

import math
import mmap
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from convert.blocks import Buffer, MappedFile, crc32_combined, scanned
from convert.disk import HashedFile, Written
from convert.errors import InputError
from convert.formats.budget import LONGEST_KEY, require_axes, require_count
from convert.formats.protobuf import fields
from convert.tensors import Checkpoint, Checksum, Entry, Stored, TensorSpec

SLICE_BYTES = 512 * 1024 * 1024
CRC_MARK = b"crc_num"
CRC_TAIL = len(CRC_MARK) + 10
LENGTH_DELIMITED = 2

DTYPES: Mapping[str, np.dtype] = {
    **{
        name.capitalize(): np.dtype(name)
        for name in ("int8", "int16", "int32", "int64", "float16", "float32", "float64", "bool")
    },
    **{f"UInt{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    "BFloat16": np.dtype(ml_dtypes.bfloat16),
}
TYPE_NAMES = {dtype.name: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class _Value:
    tag: str
    dims: tuple[int, ...]
    tensor_type: str
    content: tuple[int, int]  # start and end in the file


def read(path: Path) -> Checkpoint:
    """Open a MindSpore checkpoint.

    Raises InputError: damaged, encrypted or foreign file; a tensor twice or with too few bytes.
    """
    file = MappedFile(path)
    end, checksums = _checksum(file.data)
    try:
        values = list(_values(file.data, end))
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        scanned(path, checksums)
        raise InputError(f"{path}: not a MindSpore checkpoint, or cut off, or encrypted ({error})") from error
    tensors: dict[str, Entry] = {}
    extras: dict[str, str] = {}
    for group in _slices(values):
        head = group[0]
        if head.tensor_type == "str":
            extras[head.tag] = "text"
        elif head.tag in tensors:
            raise InputError(f"{path}: tensor {head.tag} occurs twice")
        else:
            tensors[head.tag] = _entry(path, file, group)
    return Checkpoint(path, "ckpt", tensors, extras, checksums=checksums)


def _checksum(data: mmap.mmap) -> tuple[int, tuple[Checksum, ...]]:
    """Where the message ends, and its checksum if the file carries one."""
    end = len(data) - CRC_TAIL
    if end < 0 or data[end : end + len(CRC_MARK)] != CRC_MARK:
        return len(data), ()
    stored = int.from_bytes(data[end + len(CRC_MARK) :], "big")
    return end, (Checksum(0, end, stored, "its checksum does not match; get or convert the file again"),)


def _values(data: mmap.mmap, end: int) -> Iterator[_Value]:
    for count, (number, start, stop) in enumerate(fields(data, 0, end)):
        require_count(count, "parameters")
        if number != 1 or stop < 0:
            raise ValueError("a field that is not a parameter")
        yield _value(data, start, stop)


def _value(data: mmap.mmap, start: int, stop: int) -> _Value:
    tag, tensor = None, None
    for number, first, last in fields(data, start, stop):
        if number == 1 and last >= 0:
            require_count(last - first, "characters in one name", LONGEST_KEY)
            tag = data[first:last].decode()
        elif number == 2 and last >= 0:
            tensor = (first, last)
        else:
            raise ValueError("a map parameter, which has no PyTorch counterpart")
    if tag is None or tensor is None:
        raise ValueError("a parameter without name or values")
    return _Value(tag, *_tensor(data, *tensor))


def _tensor(data: mmap.mmap, start: int, stop: int) -> tuple[tuple[int, ...], str, tuple[int, int]]:
    """Shape, type, and where the values begin and end."""
    dims, tensor_type, content = [], "", (0, 0)
    for number, first, last in fields(data, start, stop):
        if number == 1 and last < 0:
            dims.append(first)
            require_axes(len(dims))
        elif number == 2 and last >= 0:
            tensor_type = data[first:last].decode()
        elif number == 3 and last >= 0:
            content = (first, last)
        else:
            raise ValueError("an unknown tensor field")
    return tuple(dims), tensor_type, content


def _slices(values: list[_Value]) -> Iterator[list[_Value]]:
    """Group the consecutive values that are slices of one large tensor."""
    group: list[_Value] = []
    lacking = 0
    for value in values:
        if group and (value.tag != group[0].tag or lacking <= 0):
            yield group
            group = []
        if not group:
            dtype = DTYPES.get(value.tensor_type)
            lacking = math.prod(value.dims) * dtype.itemsize if dtype else 0
        lacking -= value.content[1] - value.content[0]
        group.append(value)
    if group:
        yield group


def _entry(path: Path, file: MappedFile, group: list[_Value]) -> Entry:
    head = group[0]
    if head.tensor_type not in DTYPES:
        raise InputError(f"{path}: {head.tag} has the type {head.tensor_type}, which cannot be converted")
    dtype = DTYPES[head.tensor_type]
    shape = () if head.dims == (0,) else head.dims  # MindSpore's old spelling of a scalar
    wanted = math.prod(shape) * dtype.itemsize
    held = sum(value.content[1] - value.content[0] for value in group)
    if held != wanted:
        raise InputError(f"{path}: {head.tag} holds {held} bytes where its shape {list(shape)} needs {wanted}")

    return Stored(file, tuple(value.content for value in group)).entry(TensorSpec(shape, dtype.name))


def write(
    path: Path,
    tensors: Iterable[tuple[str, Iterable[Buffer]]],
    specs: Mapping[str, TensorSpec],
    crcs: Mapping[str, int] = {},
) -> Written:
    """Write tensors to a MindSpore checkpoint with checksum; memory holds a few blocks at a time.

    Args:
        path: the new file.
        tensors: (name, the bytes of its values in blocks) in order.
        specs: the same names, with shape and dtype.
        crcs: the CRC-32 of the bytes of those tensors of which it is known, and need not be computed.
    """
    crc = 0
    with HashedFile(path) as file:
        for name, blocks in tensors:
            spec = specs[name]
            known = name in crcs and 0 < spec.nbytes <= SLICE_BYTES
            for number, piece in enumerate(_pieces(name, spec, blocks)):
                if number == 0 or not known:
                    crc = zlib.crc32(piece, crc)
                file.write(piece)
            if known:
                crc = crc32_combined(crc, crcs[name], spec.nbytes)
        file.write(CRC_MARK + crc.to_bytes(10, "big"))
        return file.written


def _pieces(name: str, spec: TensorSpec, blocks: Iterable[Buffer]) -> Iterator[Buffer]:
    """What a tensor is in the file: one value, or several of SLICE_BYTES, each with a head of its own."""
    done = 0
    if not spec.nbytes:
        yield _head(name, spec.shape, TYPE_NAMES[spec.dtype], 0)
    for block in blocks:
        rest = block
        while rest:
            if done % SLICE_BYTES == 0:
                yield _head(name, spec.shape, TYPE_NAMES[spec.dtype], min(SLICE_BYTES, spec.nbytes - done))
            piece = rest[: SLICE_BYTES - done % SLICE_BYTES]
            yield piece
            done, rest = done + len(piece), rest[len(piece) :]


def _head(name: str, shape: tuple[int, ...], tensor_type: str, size: int) -> bytes:
    """Everything of one serialized value that comes before the tensor's bytes."""
    dims = b"".join(b"\x08" + _encode(side) for side in shape)
    tensor = dims + _delimited(2, tensor_type.encode()) + b"\x1a" + _encode(size)
    tag = _delimited(1, name.encode())
    value = tag + b"\x12" + _encode(len(tensor) + size) + tensor
    return b"\x0a" + _encode(len(value) + size) + value


def _delimited(number: int, content: bytes) -> bytes:
    return _encode(number << 3 | LENGTH_DELIMITED) + _encode(len(content)) + content


def _encode(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
