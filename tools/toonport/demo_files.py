"""The folder of a demo: it replaces what an earlier demo wrote there and nobody changed since, and no other file."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convert.disk import atomic_path, folder_locked, sha256_of
from convert.errors import InputError
from convert.ledger import ledger_path

RECORD = ".demo.json"  # name of what a demo wrote -> its sha256
CONVERTED = (
    "photo2cartoon.ckpt", "photo2cartoon_back.pt", "mobilefacenet_y1_128_torch.ckpt", "model_mobilefacenet.ckpt"
)  # fmt: skip
NAMES = (
    "photo2cartoon_seeded.pt", *CONVERTED, *(ledger_path(Path(name)).name for name in CONVERTED), "parity.json",
    "parity.html", "photo2cartoon.onnx", "cartoon.png", "summary.json", "summary.html",
)  # fmt: skip


@contextmanager
def demo_folder(out: Path) -> Iterator[None]:
    """Make the folder, keep other processes out of it, and note at the end what lies there.

    Raises InputError: a file that no demo wrote, or that was changed since, has a name of what a demo writes; or the
        folder cannot be written.
    """
    with folder_locked(out):
        known = _recorded(out)
        for name in NAMES:
            if os.path.lexists(out / name) and known.get(name) != _hash(out / name):
                raise InputError(
                    f"{out / name}: is not the unchanged result of a demo; move it away or choose another --out"
                )
        try:
            yield
        finally:
            note_files(out)


def note_files(out: Path) -> None:
    """Note what the demo has written so far: a later one may replace it."""
    found = {name: _hash(out / name) for name in NAMES if (out / name).is_file()}
    with atomic_path(out / RECORD, durable=False) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def _hash(path: Path) -> str:
    return sha256_of(path) if path.is_file() else ""


def _recorded(out: Path) -> dict[str, object]:
    """What earlier demos noted; nothing where that cannot be read, so that nothing is replaced."""
    try:
        found = json.loads((out / RECORD).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
