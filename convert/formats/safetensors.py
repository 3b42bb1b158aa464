"""Safetensors files (.safetensors): checked by the safetensors library, streamed tensor by tensor."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from convert.blocks import Buffer, MappedFile
from convert.disk import HashedFile, Written
from convert.errors import InputError
from convert.formats.budget import require_count, unique
from convert.formats.torch import scaled
from convert.tensors import Checkpoint, Entry, Stored, TensorSpec

DTYPES: Mapping[str, np.dtype] = {
    "F64": np.dtype("float64"),
    "F32": np.dtype("float32"),
    "F16": np.dtype("float16"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "BOOL": np.dtype("bool"),
    **{f"I{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
}
LONGEST_HEADER = 1 << 24
FAMILY = "toonport.family"  # metadata: the families whose networks the tensors may be, with commas between
TYPE_NAMES = {dtype.name: name for name, dtype in DTYPES.items()}


def read(path: Path) -> Checkpoint:
    """Open a safetensors file.

    Raises InputError: damaged or foreign file, or a tensor type that cannot be converted.
    """
    from safetensors import SafetensorError, safe_open

    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        require_count(length, "bytes in its header", LONGEST_HEADER)
        text = file.read(length)
    try:
        with safe_open(path, framework="numpy") as opened:  # validates header, sizes and offsets
            metadata = dict(opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a safetensors file, or cut off ({error})") from error
    header = json.loads(text, object_pairs_hook=unique)
    header.pop("__metadata__", None)
    data = MappedFile(path)
    ordered = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    tensors = {name: _entry(path, name, row, data, 8 + length) for name, row in ordered}
    families = metadata.pop(FAMILY, "")
    return Checkpoint(path, "safetensors", tensors, metadata, tuple(filter(None, families.split(","))))


def _entry(path: Path, name: str, row: Mapping[str, Any], file: MappedFile, begin: int) -> Entry:
    if row["dtype"] not in DTYPES:
        what = f"{name} has the type {row['dtype']}"
        if not row["dtype"].startswith(("F8", "F4", "F6")):
            raise InputError(f"{path}: {what}, which cannot be converted")
        raise scaled(path, what, "__import__('safetensors.torch').torch.load_file({file})")
    start, end = row["data_offsets"]
    return Stored(file, ((begin + start, begin + end),)).entry(
        TensorSpec(tuple(row["shape"]), DTYPES[row["dtype"]].name)
    )


def write(
    path: Path,
    tensors: Iterable[tuple[str, Iterable[Buffer]]],
    specs: Mapping[str, TensorSpec],
    families: Sequence[str] = (),
) -> Written:
    """Write tensors to a safetensors file, and whose networks they may be; see `ckpt.write`."""
    said = {FAMILY: ",".join(families)} if families else {}
    header: dict[str, object] = {"__metadata__": {"producer": "toonport", **said}}
    offset = 0
    for name, spec in specs.items():
        ends = [offset, offset + spec.nbytes]
        header[name] = {"dtype": TYPE_NAMES[spec.dtype], "shape": list(spec.shape), "data_offsets": ends}
        offset = ends[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with HashedFile(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, blocks in tensors:
            for block in blocks:
                file.write(block)
        return file.written
