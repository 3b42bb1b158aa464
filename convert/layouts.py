"""Changes of a tensor on its way in: another order of axes, another type, other values. Read only when asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from convert.files import Array, Entry
from convert.plan import TensorSpec

__all__ = ["as_float32", "changed", "transposed"]


def transposed(entry: Entry, axes: tuple[int, ...]) -> Entry:
    """The tensor with its axes in another order, as numpy.transpose takes it."""
    shape = tuple(entry.spec.shape[axis] for axis in axes)
    return Entry(TensorSpec(shape, entry.spec.dtype), lambda: np.ascontiguousarray(entry.read().transpose(axes)))


def as_float32(entry: Entry) -> Entry:
    """A half-precision tensor as float32, which is exact; other tensors as they are."""
    if entry.spec.dtype != "float16":
        return entry
    return Entry(TensorSpec(entry.spec.shape, "float32"), lambda: entry.read().astype(np.float32))


def changed(entry: Entry, change: Callable[[Array], Array]) -> Entry:
    """The tensor with other values of the same shape and type."""
    return Entry(entry.spec, lambda: change(entry.read()).astype(entry.spec.dtype))
