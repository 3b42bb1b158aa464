"""Numpy files: .npz archives of arrays, .npy files and pickles of a dictionary of arrays, read without unpickling."""

import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from convert.errors import InputError
from convert.formats.budget import opened_zip, require_count, unique
from convert.formats.pickle import read_pickle, require_harmless
from convert.tensors import Array, Checkpoint, Entry, TensorSpec


def read(path: Path) -> Checkpoint:
    """Open a numpy file; nested dictionaries and lists become dotted names, e.g. "conv1_1.0".

    Raises InputError: damaged, or holding anything but arrays.
    """
    try:
        arrays = unique(_flatten(_archive(path) if zipfile.is_zipfile(path) else _dictionary(path)))
        foreign = [name for name, value in arrays.items() if not isinstance(value, np.ndarray)]
        if foreign:
            raise ValueError(f"'{foreign[0]}' is not an array")
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        require_harmless(path, _pickled(path), str(error))
        raise InputError(f"{path}: not a numpy file of named arrays, or not safe to read ({error})") from error
    return Checkpoint(path, "numpy", {name: _entry(value) for name, value in arrays.items()})


def read_pickled(path: Path) -> Checkpoint:
    """Open a pickle of dictionaries and lists of arrays, as `pickle.dump` writes; what else it holds is only named.

    Raises InputError: damaged, or holding objects; how to save their arrays.
    """
    content = path.read_bytes()
    try:
        values = unique(_flatten(read_pickle(content)))
    except ValueError as error:
        require_harmless(path, content, str(error))
        target = repr(str(path.with_name(f"{path.stem}.pth")))
        raise InputError(
            f"{path}: a pickle of more than numpy arrays, and reading it would run what it says ({error}); where you "
            f"trust it, save it anew: import pickle, torch; held = pickle.load(open({str(path)!r}, 'rb')); "
            f"torch.save(held.state_dict() if hasattr(held, 'state_dict') else held, {target})"
        ) from error
    extras = {name: type(value).__name__ for name, value in values.items() if not isinstance(value, np.ndarray)}
    return Checkpoint(
        path, "numpy", {name: _entry(value) for name, value in values.items() if name not in extras}, extras
    )


def _archive(path: Path) -> dict[str, Array]:
    with opened_zip(path) as members, np.load(path, allow_pickle=False) as archive:
        require_count(len(members.namelist()), "arrays")
        return {name: archive[name] for name in archive.files}


def _pickled(path: Path) -> bytes:
    """The pickle in a .npy file; nothing where there is none."""
    with open(path, "rb") as file, suppress(ValueError):
        _header(file)
        return file.read()
    return b""


def _header(file: BinaryIO) -> tuple[Any, Any]:
    """Shape and type of the array in a .npy file; the file is left where its values begin."""
    major, _ = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _dictionary(path: Path) -> Any:
    with open(path, "rb") as file:
        shape, dtype = _header(file)
        if not dtype.hasobject or shape != ():
            raise ValueError("a single array without names")
        return read_pickle(file.read())


def _flatten(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what lies in dictionaries and lists, under dotted names."""
    if isinstance(content, dict | list):
        pairs = content.items() if isinstance(content, dict) else enumerate(content)
        for name, value in pairs:
            yield from _flatten(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, content


def _entry(value: Array) -> Entry:
    return Entry(TensorSpec(tuple(value.shape), value.dtype.name), lambda: np.ascontiguousarray(value))
