"""Checkpoint files: one reading interface for every format, and writing that never leaves half a file.

Formats by suffix: .pt and .pth (PyTorch), .ckpt (MindSpore), .safetensors (either). Read only: .index (TensorFlow),
.tflite, .params and .zip (MXNet), .npy and .npz (numpy).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.errors import InputError
from convert.plan import TensorSpec

__all__ = [
    "FORMATS",
    "Array",
    "Checkpoint",
    "Entry",
    "atomic_path",
    "file_format",
    "open_checkpoint",
    "sha256_of",
    "tensor_sha256",
    "write_checkpoint",
]

Array = NDArray[Any]

FORMATS: Mapping[str, str] = {".pt": "torch", ".pth": "torch", ".ckpt": "ckpt", ".safetensors": "safetensors"}
READ_ONLY: Mapping[str, str] = {
    ".index": "tensorflow",
    ".tflite": "tflite",
    ".params": "mxnet",
    ".zip": "mxnet",
    ".npy": "numpy",
    ".npz": "numpy",
}


@dataclass(frozen=True)
class Entry:
    """One tensor of a file, read only when asked for.

    Attributes:
        spec: shape and dtype.
        read: returns the values, C-contiguous.
        transposed: the file stores a transposed view, so which way round is meant is ambiguous.
    """

    spec: TensorSpec
    read: Callable[[], Array]
    transposed: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint file.

    Attributes:
        path: the file.
        format: "torch", "ckpt", "safetensors" or one of READ_ONLY's.
        tensors: flat dotted name -> entry, in file order; nested dictionaries are joined with dots.
        extras: things in the file that are not tensors, as name -> short text.
    """

    path: Path
    format: str
    tensors: Mapping[str, Entry]
    extras: Mapping[str, str] = field(default_factory=dict)

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """Flat name -> shape and dtype."""
        return {name: entry.spec for name, entry in self.tensors.items()}


def file_format(path: Path, read: bool = False) -> str:
    """Return the format that a path's suffix means, among those that are written or, with `read`, read.

    Raises:
        InputError: lists the suffixes there are.
    """
    known = {**FORMATS, **READ_ONLY} if read else FORMATS
    try:
        return known[path.suffix.lower()]
    except KeyError:
        raise InputError(f"{path}: unknown suffix '{path.suffix}'; use one of {', '.join(known)}") from None


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a checkpoint without loading its tensors.

    Raises:
        InputError: the file is missing, empty, damaged, unsafe, or of another format than its suffix.
    """
    from importlib import import_module

    reader = import_module(f"convert.formats.{file_format(path, read=True)}").read
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    checkpoint: Checkpoint = reader(path)
    if not checkpoint.tensors:
        raise InputError(f"{path}: the file holds no tensors")
    return checkpoint


def write_checkpoint(
    path: Path,
    tensors: Iterable[tuple[str, Array]],
    specs: Mapping[str, TensorSpec],
    parts: tuple[str, ...] = (),
) -> None:
    """Write tensors to `path` in the format of its suffix; on any failure nothing is left behind.

    Args:
        path: target; an existing file is replaced only when the new one is complete.
        tensors: (flat name, values) in order, produced one at a time.
        specs: the same names in the same order, with shape and dtype.
        parts: networks whose names prefix the tensors ("genA2B."); a PyTorch file nests them in
            dictionaries, the other formats keep the flat names.
    """
    from convert.formats import ckpt, safetensors, torch

    kind = file_format(path)
    with atomic_path(path) as temporary:
        if kind == "torch":
            torch.write(temporary, tensors, parts)
        elif kind == "ckpt":
            ckpt.write(temporary, tensors)
        else:
            safetensors.write(temporary, tensors, specs)


@contextmanager
def atomic_path(path: Path, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success rename it, else remove it.

    Args:
        path: the file to write; its folder is made.
        durable: wait until the file is on the disk before it gets its name, so that it outlives a power cut. Not
            needed for what can be made again in a moment, and takes longer than a small picture takes to draw.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent}: cannot make this folder: {error.strerror}") from error
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        if durable:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, as hexadecimal text."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def tensor_sha256(array: Array) -> str:
    """Return the sha256 of a tensor's dtype, shape and little-endian bytes: equal only for equal tensors."""
    head = f"{array.dtype}{list(array.shape)}".encode()
    digest = hashlib.sha256(head)
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
