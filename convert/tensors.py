"""Tensors of files: shape and type, values read only when asked for, hashes, and changes on their way in."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from convert.blocks import BLOCK, Checksum, MappedFile

Array = NDArray[Any]


@dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype (numpy's name) of a tensor."""

    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return prod(self.shape) * dtype_named(self.dtype).itemsize


@dataclass(frozen=True)
class Entry:
    """One tensor of a file, read only when asked for."""

    spec: TensorSpec  # shape and dtype
    read: Callable[[], Array]  # returns the values, C-contiguous
    transposed: bool = False  # the file stores a transposed view, so which way round is meant is ambiguous
    stored: "Stored | None" = None  # where its bytes lie, when they do so as they are

    def blocks(self) -> Iterator[memoryview]:
        """Yield the bytes of the values in order, little-endian, in blocks of at most BLOCK."""
        return self.stored.blocks() if self.stored else blocks_of(self.read())


@dataclass(frozen=True)
class Stored:
    """Where the values of a tensor lie in a file, C-contiguous and little-endian."""

    file: MappedFile
    ranges: tuple[tuple[int, int], ...]  # first byte, and the one behind the last; of the pieces that follow each other

    def blocks(self) -> Iterator[memoryview]:
        """Yield the bytes in blocks; pages that were read are given back."""
        for start, end in self.ranges:
            yield from self.file.blocks(start, end)

    def entry(self, spec: TensorSpec) -> Entry:
        """The tensor; one that is cut within a number is only read as a whole."""
        whole = all((end - start) % dtype_named(spec.dtype).itemsize == 0 for start, end in self.ranges)
        return Entry(spec, lambda: self._values(spec), stored=self if whole else None)

    def _values(self, spec: TensorSpec) -> Array:
        pieces = [np.frombuffer(self.file.data, np.uint8, end - start, start) for start, end in self.ranges]
        joined = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        return joined.view(dtype_named(spec.dtype)).reshape(spec.shape)


def dtype_named(name: str) -> np.dtype[Any]:
    """The numpy type of a name as `TensorSpec` has it, "bfloat16" among them."""
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def blocks_of(array: Array) -> Iterator[memoryview]:
    """Yield the bytes of an array as `Entry.blocks` does."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    content = np.ascontiguousarray(little).reshape(-1).view(np.uint8).data
    for start in range(0, len(content), BLOCK):
        yield content[start : start + BLOCK]


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint file."""

    path: Path  # the file
    format: str  # its name among `convert.formats`
    tensors: Mapping[str, Entry]  # flat dotted name -> entry, in file order; nested dictionaries are joined with dots
    # things in the file that are not tensors, as name -> short text
    extras: Mapping[str, str] = field(default_factory=dict)
    # families whose networks the file says it holds; empty when it says nothing
    families: tuple[str, ...] = ()
    dictionaries: frozenset[str] = frozenset()  # dotted paths of what are dictionaries in the file, not just dots
    beside: tuple[Path, ...] = ()  # other files that hold its values
    checksums: tuple[Checksum, ...] = ()  # by which the file can be checked, see `convert.ledger.verify`

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """Flat name -> shape and dtype."""
        return {name: entry.spec for name, entry in self.tensors.items()}


def tensor_digest(spec: TensorSpec) -> "hashlib._Hash":
    """Return the sha256 to which the little-endian bytes of a tensor are to be added."""
    return hashlib.sha256(str(spec).encode())


def tensor_sha256(array: Array) -> str:
    """Return the sha256 of a tensor's dtype, shape and little-endian bytes: equal only for equal tensors."""
    digest = tensor_digest(TensorSpec(tuple(array.shape), str(array.dtype)))
    for block in blocks_of(array):
        digest.update(block)
    return digest.hexdigest()


def transposed(entry: Entry, axes: tuple[int, ...]) -> Entry:
    """The tensor with its axes in another order, as numpy.transpose takes it."""
    shape = tuple(entry.spec.shape[axis] for axis in axes)
    return Entry(TensorSpec(shape, entry.spec.dtype), lambda: np.ascontiguousarray(entry.read().transpose(axes)))


def numpys_own(array: Array) -> Array:
    """Values of any shape in a type of numpy's own: bfloat16, which frameworks do not take, exactly as float32."""
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def as_float32(entry: Entry) -> Entry:
    """A half-precision tensor as float32, which is exact; other tensors as they are."""
    if entry.spec.dtype not in {"float16", "bfloat16"}:
        return entry
    return Entry(TensorSpec(entry.spec.shape, "float32"), lambda: entry.read().astype(np.float32))


def changed(entry: Entry, change: Callable[[Array], Array]) -> Entry:
    """The tensor with other values of the same shape and type."""
    return Entry(entry.spec, lambda: change(entry.read()).astype(entry.spec.dtype))
