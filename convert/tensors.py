"""Tensors of files: shape and type, values read only when asked for, hashes, and changes on their way in."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype (numpy's name) of a tensor."""

    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


@dataclass(frozen=True)
class Entry:
    """One tensor of a file, read only when asked for."""

    spec: TensorSpec  # shape and dtype
    read: Callable[[], Array]  # returns the values, C-contiguous
    transposed: bool = False  # the file stores a transposed view, so which way round is meant is ambiguous


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

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """Flat name -> shape and dtype."""
        return {name: entry.spec for name, entry in self.tensors.items()}


def tensor_sha256(array: Array) -> str:
    """Return the sha256 of a tensor's dtype, shape and little-endian bytes: equal only for equal tensors."""
    head = f"{array.dtype}{list(array.shape)}".encode()
    digest = hashlib.sha256(head)
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
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
