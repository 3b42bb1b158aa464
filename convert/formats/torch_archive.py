"""PyTorch's zip archives of tensors, read and written without PyTorch.

An archive holds a pickle, data.pkl, whose tensors name their numbers by a key, and the numbers of each key in a member
data/KEY. Only what state dicts and training checkpoints usually consist of is understood here; `torch.py` leaves the
rest to PyTorch.
"""

import io
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from convert.blocks import Buffer, MappedFile
from convert.devices import CPU
from convert.disk import HashedFile, Written
from convert.formats.budget import ExcessError, names_of, opened_zip, operations, require_axes
from convert.formats.pickle import HOSTILE, OPCODES, Stub, Unpickler, checked
from convert.tensors import Array, Checksum, Entry, Stored, TensorSpec, dtype_named

# Types of numbers with a storage of their own, and those that came later.
STORAGES: Mapping[str, str] = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
LATER_TYPES = ("uint16", "uint32", "uint64")
UNTYPED = "torch.storage.UntypedStorage"
STORAGE_OF = {dtype: name for name, dtype in STORAGES.items()}
ALLOWED = OPCODES | {"BINPERSID"}
PLAIN = (str, bytes, int, float, type(None))
ROOT, ALIGNMENT = "archive", 64
LOCAL_HEADER, ZIP64_EXTRA = 30, 20  # bytes before a member's name, and of its sizes in a large archive


@dataclass(frozen=True)
class Kind:
    """A type of numbers, as the name of its storage says it; None where the storage does not say it."""

    dtype: str | None


@dataclass(frozen=True)
class Storage:
    """Numbers of an archive, one behind the other."""

    kind: Kind
    key: str
    count: int  # numbers, or bytes where the kind has no type


class StoredTensor(Stub):
    """A tensor of an archive: which numbers of a storage it consists of."""

    def __init__(self, storage: Storage, dtype: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]):
        numbers = (offset, *shape, *strides)
        if len(shape) != len(strides) or not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("a tensor without a shape")
        require_axes(len(shape))
        self.storage, self.dtype, self.offset, self.shape, self.strides = storage, dtype, offset, shape, strides
        self.itemsize = dtype_named(dtype).itemsize
        self.bytes = storage.count * (self.itemsize if storage.kind.dtype else 1)
        reach = sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True)) + 1 if prod(shape) else 0
        if (offset + reach) * self.itemsize > self.bytes:
            raise ValueError("a tensor of more numbers than its storage has")

    @property
    def is_contiguous(self) -> bool:
        """Whether its numbers lie one behind the other in the order of its axes."""
        expected = 1
        for side, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if side != 1 and stride != expected:
                return not prod(self.shape)
            expected *= side
        return True

    def require_size(self, size: int) -> None:
        """Raise ValueError where its storage does not have so many bytes."""
        if size != self.bytes:
            raise ValueError("a storage of another size")

    def entry(self, file: MappedFile, start: int) -> Entry:
        """The tensor, its storage being the bytes of a file from `start` on."""
        spec, first = TensorSpec(self.shape, self.dtype), start + self.offset * self.itemsize
        if self.is_contiguous:
            return Stored(file, ((first, first + prod(self.shape) * self.itemsize),)).entry(spec)

        def values() -> Array:
            """Its numbers in the order of its axes."""
            numbers = np.frombuffer(
                file.data, dtype_named(self.dtype), (start + self.bytes - first) // self.itemsize, first
            )
            strides = tuple(stride * self.itemsize for stride in self.strides)
            return np.ascontiguousarray(np.lib.stride_tricks.as_strided(numbers, self.shape, strides, writeable=False))

        return Entry(spec, values, transposed=len(self.shape) == 2 and min(self.shape) > 1)


class _Ordered(dict[Any, Any], Stub):
    """An ordered dictionary; what a state dict keeps beside its items is left out."""

    def __setstate__(self, state: Any) -> None:
        """Keep nothing."""


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, _: Any, hooks: Any, *rest: Any) -> StoredTensor:
    if not isinstance(storage, Storage) or storage.kind.dtype is None or hooks or any(rest):
        raise ValueError("a tensor of another kind")
    return StoredTensor(storage, storage.kind.dtype, offset, tuple(shape), tuple(strides))


def _later_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, _: Any, hooks: Any, kind: Any, *rest: Any
) -> Any:
    if not isinstance(storage, Storage) or storage.kind.dtype or not isinstance(kind, Kind) or hooks or any(rest):
        raise ValueError("a tensor of another kind")
    return StoredTensor(storage, str(kind.dtype), offset, tuple(shape), tuple(strides))


def _parameter(tensor: Any, _: Any, hooks: Any) -> StoredTensor:
    if not isinstance(tensor, StoredTensor) or hooks:
        raise ValueError("a parameter of another kind")
    return tensor


def _ordered(*pairs: Any) -> _Ordered:
    if pairs:
        raise ValueError("a dictionary made of pairs")
    return _Ordered()


NAMES: Mapping[str, Callable[..., Any] | Kind] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _later_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "collections.OrderedDict": _ordered,
    UNTYPED: Kind(None),
    **{f"torch.{name}": Kind(dtype) for name, dtype in STORAGES.items()},
    **{f"torch.{dtype}": Kind(dtype) for dtype in LATER_TYPES},
}


class _Reader(Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name; nothing is imported."""
        return NAMES[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> Storage:
        """The numbers that a tensor names."""
        mark, kind, key, _, count = pid
        if mark != "storage" or not isinstance(kind, Kind) or type(key) is not str or type(count) is not int:
            raise ValueError("numbers of another kind")
        return Storage(kind, key, count)


@dataclass(frozen=True)
class Archive:
    """What an archive holds."""

    content: Mapping[Any, Any]  # dictionaries of dictionaries, `StoredTensor` and plain values
    file: MappedFile
    starts: Mapping[str, int]  # key of a storage -> its first byte
    checksums: tuple[Checksum, ...]  # one for each member

    def entry(self, tensor: StoredTensor) -> Entry:
        """One of its tensors."""
        return tensor.entry(self.file, self.starts[tensor.storage.key])


def read(path: Path) -> Archive | None:
    """Open an archive whose pickle consists of what is understood here; None for any other file.

    Raises ExcessError: it asks for more than its size can mean.
    """
    if not zipfile.is_zipfile(path):
        return None
    try:
        with opened_zip(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
            (pickled,) = (name for name in members if name.rpartition("/")[2] == "data.pkl")
            root = pickled.removesuffix("data.pkl")
            order = f"{root}byteorder"
            if order in members and archive.read(order) != b"little":
                return None
            content = _unpickled(archive.read(pickled), path.stat().st_size)
        file = MappedFile(path)
        places = {name: _place(file, member) for name, member in members.items()}
        starts = {name.removeprefix(f"{root}data/"): place for name, place in places.items()}
        for tensor in _tensors(content):
            tensor.require_size(members[f"{root}data/{tensor.storage.key}"].file_size)
    except ExcessError:
        raise
    except Exception:  # damaged or hostile bytes make a reader fail in any way they like; what it is says `torch.py`
        return None
    return Archive(content, file, starts, tuple(_checksum(member, places[name]) for name, member in members.items()))


def _checksum(member: zipfile.ZipInfo, start: int) -> Checksum:
    problem = f"the checksum of '{member.filename}' does not match; get the file again"
    return Checksum(start, start + member.file_size, member.CRC, problem)


def _place(file: MappedFile, member: zipfile.ZipInfo) -> int:
    """Where the bytes of a member begin. Raises ValueError: they are packed, encrypted or not there."""
    mark, name, extra = struct.unpack_from("<4s22xHH", file.data, member.header_offset)
    start = member.header_offset + LOCAL_HEADER + int(name) + int(extra)
    packed = member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size
    if mark != b"PK\x03\x04" or packed or member.flag_bits & 1 or start + member.file_size > len(file.data):
        raise ValueError("a member that cannot be mapped")
    return start


def _unpickled(data: bytes, size: int) -> Mapping[Any, Any]:
    """What a pickle holds. Raises ValueError: something that is not understood, or hostile."""
    if any(HOSTILE.match(name) for name in names_of(checked(operations(data, size), len(data), ALLOWED))):
        raise ValueError("names what runs something")
    content = _Reader(io.BytesIO(data)).load()
    if not isinstance(content, dict):
        raise ValueError("not a dictionary")
    return content


def _tensors(content: Mapping[Any, Any]) -> Iterator[StoredTensor]:
    """Every tensor in dictionaries and lists, each looked at once. Raises ValueError: there are other things."""
    waiting: list[Any] = [content]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, StoredTensor):
            yield value
        elif isinstance(value, dict | list | tuple):
            if id(value) not in seen:
                seen.add(id(value))
                waiting += value.values() if isinstance(value, dict) else value
        elif not isinstance(value, PLAIN):
            raise ValueError("holds something else")


def write(
    path: Path, tensors: Iterable[tuple[str, Iterable[Buffer]]], specs: Mapping[str, TensorSpec], parts: tuple[str, ...]
) -> Written:
    """Write tensors; those named "part.key" go into nested dictionaries {part: {key: tensor}}.

    Args:
        path: the new file.
        tensors: (flat name, the bytes of its values in blocks) in order.
        specs: the same names in the same order, with shape and dtype.
        parts: see above.

    Raises OSError: the file cannot be written, e.g. because the disk is full.
    """
    with HashedFile(path) as file:
        with zipfile.ZipFile(file, "w") as archive:  # type: ignore[call-overload]  # it only writes
            _add(archive, file, "data.pkl", [_pickled(specs, parts)])
            _add(archive, file, "byteorder", [b"little"])
            for number, (_, blocks) in enumerate(tensors):
                _add(archive, file, f"data/{number}", blocks)
            _add(archive, file, "version", [b"3\n"])
        return file.written


def _add(archive: zipfile.ZipFile, file: HashedFile, name: str, blocks: Iterable[Buffer]) -> None:
    """Add a member whose bytes begin at a multiple of ALIGNMENT, as PyTorch's do."""
    member = zipfile.ZipInfo(f"{ROOT}/{name}")
    before = file.size + LOCAL_HEADER + len(member.filename) + ZIP64_EXTRA + 4
    padding = -before % ALIGNMENT
    member.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
    with archive.open(member, "w", force_zip64=True) as target:
        for block in blocks:
            target.write(block)


def _pickled(specs: Mapping[str, TensorSpec], parts: tuple[str, ...]) -> bytes:
    """The pickle that names the tensors in order, as PyTorch writes it."""
    content: dict[str, bytes | dict[str, bytes]] = {}
    for number, (name, spec) in enumerate(specs.items()):
        part, _, key = name.partition(".")
        tensor, inside = _pickled_tensor(spec, str(number)), content.setdefault(part, {}) if part in parts else content
        inside[key if part in parts else name] = tensor  # type: ignore[index]
    return b"\x80\x02" + _dictionary(content) + b"."


def _dictionary(items: Mapping[str, Any]) -> bytes:
    pairs = (_text(name) + (value if isinstance(value, bytes) else _dictionary(value)) for name, value in items.items())
    return b"}(" + b"".join(pairs) + b"u"


def _pickled_tensor(spec: TensorSpec, key: str) -> bytes:
    count, storage = prod(spec.shape), STORAGE_OF.get(spec.dtype)
    module, name = ("torch", storage) if storage else UNTYPED.rsplit(".", 1)
    numbers = count if storage else count * dtype_named(spec.dtype).itemsize
    strides = [prod(max(side, 1) for side in spec.shape[axis + 1 :]) for axis in range(len(spec.shape))]
    return b"".join(
        (
            f"ctorch._utils\n_rebuild_tensor_v{2 if storage else 3}\n((".encode(),
            _text("storage") + f"c{module}\n{name}\n".encode() + _text(key) + _text(CPU) + _number(numbers) + b"tQ",
            _number(0) + _tuple(spec.shape) + _tuple(strides),
            b"\x89ccollections\nOrderedDict\n)R",
            b"" if storage else f"ctorch\n{spec.dtype}\n".encode(),
            b"tR",
        )
    )


def _text(text: str) -> bytes:
    content = text.encode("utf-8", "surrogatepass")
    return b"X" + len(content).to_bytes(4, "little") + content


def _number(number: int) -> bytes:
    return pickle.dumps(number, 2)[2:-1]


def _tuple(numbers: Iterable[int]) -> bytes:
    return b"(" + b"".join(map(_number, numbers)) + b"t"
