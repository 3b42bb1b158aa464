"""TorchScript archives (.pt, .ptl): only their weights are read; the programs in them are neither compiled nor run.

The archive's data.pkl keeps each module as an object of a class "__torch__....", whose state is a dictionary of its
attributes: tensors by their names, and the modules inside it. Read as dictionaries, they give what `state_dict()` does.
"""

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from convert.errors import InputError
from convert.formats.budget import ExcessError, names_of, opened_zip, operations
from convert.formats.content import FROZEN_SCRIPT, QUANTIZED_SCRIPT
from convert.formats.pickle import HOSTILE, hostile
from convert.formats.torch import check_archive, gathered, load
from convert.tensors import Checkpoint

MODULE, LISTS = "__torch__.", "torch.jit._pickle."  # what the names of modules and of typed lists begin with
QUANTIZED = "__torch__.torch.classes.quantized."


def read(path: Path) -> Checkpoint:
    """Open a TorchScript archive; modules within modules become dotted names, as in a state dict.

    Raises InputError: damaged; quantized; without named weights, as a frozen program is.
    """
    check_archive(path)
    with opened_zip(path) as archive:
        root = next(name for name in archive.namelist() if name.endswith("data.pkl")).removesuffix("data.pkl")
        modules = _objects(path, archive.read(f"{root}data.pkl"))
        if any(name.startswith(QUANTIZED) for name in modules):
            raise QUANTIZED_SCRIPT.refusal(path)
        with _plain(archive, root) as plain:
            found = gathered(path, load(path, plain, modules))
    if not found.tensors:
        raise FROZEN_SCRIPT.refusal(path)
    return replace(found, format="torchscript", extras={}, dictionaries=frozenset())


def _objects(path: Path, data: bytes) -> set[str]:
    """Names of the modules and typed lists that a pickle is made of."""
    try:
        named = set(names_of(operations(data, path.stat().st_size)))
    except ExcessError:
        raise
    except ValueError as error:
        raise InputError(f"{path}: a TorchScript archive that is damaged; get the file again ({error})") from error
    if forbidden := next(filter(HOSTILE.match, sorted(named)), ""):
        raise InputError(hostile(path, forbidden))
    return {name for name in named if name.startswith((MODULE, LISTS))}


@contextmanager
def _plain(archive: zipfile.ZipFile, root: str) -> Iterator[BinaryIO]:
    """The archive's tensors as a file without a program, which PyTorch's reader of weights takes."""
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w") as plain:
            for member in archive.infolist():
                inside = member.filename.removeprefix(root)
                if inside in {"data.pkl", "version", "byteorder"} or inside.startswith("data/"):
                    with archive.open(member) as source, plain.open(f"archive/{inside}", "w", force_zip64=True) as copy:
                        shutil.copyfileobj(source, copy)
        yield file
