"""PyTorch checkpoints (.pt, .pth): tensors only, read with weights_only and never unpickled freely."""

import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import InputError, first_line
from convert.tensors import Array, Checkpoint, Entry, TensorSpec

WRAPPERS = ("state_dict",)


def read(path: Path) -> Checkpoint:
    """Open a PyTorch checkpoint; nested dictionaries become dotted names.

    Raises InputError: damaged file, or one that carries anything but tensors, numbers and text.
    """
    content = _load(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a state dict; save net.state_dict()")
    tensors: dict[str, Entry] = {}
    extras: dict[str, str] = {}
    for name, value in _flatten(_unwrap(content)):
        if hasattr(value, "detach"):
            tensors[name] = _entry(path, name, value)
        else:
            extras[name] = f"{type(value).__name__} {str(value)[:40]}"
    return Checkpoint(path, "torch", tensors, extras)


def _load(path: Path) -> Any:
    import torch

    is_zip = zipfile.is_zipfile(path)  # files older than PyTorch 1.6 are not zip archives
    try:
        if is_zip:
            _check_archive(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except InputError:
        raise
    except Exception as error:  # damaged or hostile bytes make the reader fail in any way it likes
        name = _forbidden_name(str(error))
        if name:
            raise InputError(
                f"{path}: refused, the file asks to run code or holds Python objects (it names {name}); "
                "load it where you trust it and save only its state dict"
            ) from error
        raise InputError(f"{path}: not a PyTorch checkpoint, or cut off ({type(error).__name__})") from error


def _forbidden_name(message: str) -> str:
    """The Python object that PyTorch's safe reader refused to make, if that is what its message says."""
    found = re.search(r"(?:GLOBAL|[Cc]lass) ([\w.]+)", message)
    return found[1] if found and ("Unsupported" in message or "not an allowed" in message) else ""


def _check_archive(path: Path) -> None:
    """Verify the checksums of the archive: a flipped bit or a broken download is found here."""
    with zipfile.ZipFile(path) as archive:
        broken = archive.testzip()
    if broken is not None:
        raise InputError(f"{path}: damaged, the checksum of '{broken}' does not match; get the file again")


def _unwrap(content: Mapping[str, Any]) -> Mapping[str, Any]:
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            inner = dict(content[wrapper])
            rest = {name: value for name, value in content.items() if name != wrapper}
            return {**inner, **{f"<{name}>": str(value)[:40] for name, value in rest.items()}}
    return content


def _flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _entry(path: Path, name: str, tensor: Any) -> Entry:
    if tensor.layout is not _strided() or tensor.is_quantized:
        raise InputError(f"{path}: {name} is a sparse or quantized tensor; only dense ones can be converted")
    dtype = str(tensor.dtype).removeprefix("torch.")
    transposed = tensor.dim() == 2 and min(tensor.shape) > 1 and not tensor.is_contiguous()
    return Entry(TensorSpec(tuple(tensor.shape), dtype), lambda: _to_numpy(tensor), transposed)


def _strided() -> Any:
    import torch

    return torch.strided


def _to_numpy(tensor: Any) -> Array:
    import ml_dtypes
    import torch

    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def write(path: Path, tensors: Iterable[tuple[str, Array]], parts: tuple[str, ...]) -> None:
    """Write tensors to a PyTorch file; those named "part.key" go into nested dictionaries {part: {key: tensor}}.

    Raises OSError: the file cannot be written, e.g. because the disk is full.
    """
    import torch

    content: dict[str, Any] = {}
    for name, array in tensors:
        part, _, key = name.partition(".")
        target = content.setdefault(part, {}) if part in parts else content
        target[key if part in parts else name] = _to_torch(array)
    try:
        torch.save(content, path)
    except RuntimeError as error:  # what PyTorch makes of a full disk
        raise OSError(first_line(error)) from error


def _to_torch(array: Array) -> Any:
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(np.array(array).view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(np.array(array, order="C"))
