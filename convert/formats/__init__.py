"""Checkpoint files: one way to open every format, and to write those of PyTorch, MindSpore and safetensors."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from convert.blocks import Buffer, scanned
from convert.disk import Written, atomic_path
from convert.errors import InputError, guarded
from convert.formats import (
    ckpt,
    content,
    mxnet,
    numpy,
    safetensors,
    tensorflow,
    tflite,
    torch,
    torch_archive,
    torchscript,
)
from convert.formats.budget import require_within
from convert.tensors import Array, Checkpoint, Entry, TensorSpec, blocks_of

__all__ = ["FORMATS", "READABLE", "file_format", "open_checkpoint", "write_checkpoint", "write_in_place"]

FORMATS: Mapping[str, str] = {".pt": "torch", ".pth": "torch", ".ckpt": "ckpt", ".safetensors": "safetensors"}
READERS: Mapping[str, Callable[[Path], Checkpoint]] = {
    "torch": torch.read,
    "torchscript": torchscript.read,
    "ckpt": ckpt.read,
    "safetensors": safetensors.read,
    "tensorflow": tensorflow.read,
    "tflite": tflite.read,
    "mxnet": mxnet.read,
    "numpy": numpy.read,
    "pickle": numpy.read_pickled,
}
NAMES: Mapping[str, str] = {
    "torch": "PyTorch",
    "torchscript": "TorchScript",
    "ckpt": "MindSpore",
    "safetensors": "safetensors",
    "tensorflow": "TensorFlow",
    "tflite": "TensorFlow Lite",
    "mxnet": "MXNet",
    "numpy": "numpy",
    "pickle": "pickle",
}
# Suffixes that files of the formats that are read usually have; only a file whose content tells nothing is read by it.
READABLE: Mapping[str, str] = {
    **FORMATS,
    ".index": "tensorflow",
    ".tflite": "tflite",
    ".params": "mxnet",
    ".zip": "mxnet",
    ".npy": "numpy",
    ".npz": "numpy",
    ".bin": "torch",
    ".tar": "torch",
    ".pkl": "pickle",
    ".pickle": "pickle",
}


def file_format(path: Path) -> str:
    """Return the format in which a path's suffix is written: "torch", "ckpt" or "safetensors".

    Raises InputError: lists the suffixes there are.
    """
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise InputError(f"{path}: unknown suffix '{path.suffix}'; use one of {', '.join(FORMATS)}") from None


def open_checkpoint(path: Path, verify: bool = True) -> Checkpoint:
    """Open a checkpoint without loading its tensors; its format is told by its content.

    Args:
        path: the file.
        verify: whether to check it by its checksums, where it has any. Who does not must do so with `scanned`.

    Raises InputError: the file is missing, empty, damaged, unsafe, or of a format that is not read; what to do.
    """
    with guarded(path, "not a file of weights, or damaged"):
        if not path.is_file():
            raise content.absent(path)
        if path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty")
        known = content.recognised(path) or READABLE.get(path.suffix.lower())
        if known is None:
            raise content.unknown(path)
    damaged = f"not a {NAMES[known]} file of weights, or cut off, or made to do harm"
    with guarded(path, damaged):
        checkpoint = READERS[known](path)
        if verify and checkpoint.checksums:
            scanned(path, checkpoint.checksums)
        require_within(checkpoint, sum(file.stat().st_size for file in (path, *checkpoint.beside)))
    if not checkpoint.tensors:
        raise InputError(f"{path}: the file holds no tensors")
    tensors = {
        name: replace(entry, read=partial(_values, path, damaged, entry)) for name, entry in checkpoint.tensors.items()
    }
    return replace(checkpoint, tensors=tensors)


def _values(path: Path, damaged: str, entry: Entry) -> Array:
    with guarded(path, damaged):
        return entry.read()


def write_checkpoint(
    path: Path, tensors: Iterable[tuple[str, Array]], specs: Mapping[str, TensorSpec], parts: tuple[str, ...] = ()
) -> None:
    """Write tensors to `path` in the format of its suffix; on any failure nothing is left behind.

    Args:
        path: target; an existing file is replaced only when the new one is complete.
        tensors: (flat name, values) in order, produced one at a time.
        specs: the same names in the same order, with shape and dtype; without it all values are taken into memory.
        parts: networks whose names prefix the tensors ("genA2B."); a PyTorch file nests them in
            dictionaries, the other formats keep the flat names.
    """
    file_format(path)
    with atomic_path(path) as temporary:
        if not specs:
            held = dict(tensors)
            tensors, specs = held.items(), {name: TensorSpec(a.shape, a.dtype.name) for name, a in held.items()}
        blocks = ((name, blocks_of(array)) for name, array in tensors)
        write_in_place(path, temporary, blocks, specs, parts)


def write_in_place(
    path: Path,
    place: Path,
    tensors: Iterable[tuple[str, Iterable[Buffer]]],
    specs: Mapping[str, TensorSpec],
    parts: tuple[str, ...] = (),
    families: tuple[str, ...] = (),
    crcs: Mapping[str, int] = {},
) -> Written:
    """Write tensors, as (name, bytes in blocks), to `place` in the format of the suffix of `path`.

    Otherwise as `write_checkpoint`; `crcs` as in `ckpt.write`; `families` stands in a safetensors file's metadata.

    Raises OSError: it cannot be written, e.g. because the disk is full.
    """
    kind = file_format(path)
    if kind == "torch":
        return torch_archive.write(place, tensors, specs, parts)
    if kind == "ckpt":
        return ckpt.write(place, tensors, specs, crcs)
    return safetensors.write(place, tensors, specs, families)
