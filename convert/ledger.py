"""The ledger beside every converted file: which tensor became which, by what rule, with what hash."""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from convert.blocks import scanned
from convert.disk import LONGEST_NAME, beside, sha256_of, written_place
from convert.errors import InputError, first_line, guarded
from convert.tensors import Checkpoint, tensor_sha256

SCHEMA = "toonport-ledger/1"
ENDING = ".ledger.json"
SHOWN = 20


@dataclass(frozen=True)
class LedgerEntry:
    """One tensor's way: its names in the source and the target, the rule, its type, shape and hash."""

    source: str
    target: str
    rule: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str


def ledger_path(path: Path) -> Path:
    """Return where the ledger of a converted file is written: beside the file itself where `path` is a link to it."""
    return _ledger_beside(Path(os.path.realpath(path)) if os.path.islink(path) else path)


def _ledger_beside(path: Path) -> Path:
    return path.with_name(path.name + ENDING)


def _found_ledger(path: Path) -> Path:
    """The ledger that counts: beside the file itself or, where none is there, beside the link to it."""
    own = ledger_path(path)
    return own if os.path.isfile(own) else _ledger_beside(path)


def require_ledger_place(path: Path) -> None:
    """Raise InputError where the ledger of a file that is to be written could not be written beside it."""
    place = ledger_path(path)
    if len(os.fsencode(place.name)) > LONGEST_NAME:
        raise InputError(f"{path}: cannot be written: its name leaves no room for {ENDING} behind it; shorten it")
    written_place(place)


def pending_path(path: Path) -> Path:
    """Return where the ledger of a file lies that is about to be replaced; it counts once it fits the file there."""
    return beside(ledger_path(path), "pending")


def ledger_text(target: Mapping[str, Any], source: Mapping[str, Any], networks: Sequence[Mapping[str, Any]],
                entries: Sequence[LedgerEntry], left_out: Sequence[str], parts: Mapping[str, str]) -> str:  # fmt: skip
    """Return what a ledger says.

    Args:
        target: facts about the converted file (name, bytes, sha256).
        source: facts about the source file (name, format, bytes, sha256, and what in it is no tensor).
        networks: family, part, constructor arguments, spelling and notes of each network.
        entries: one per tensor.
        left_out: names of tensors of the source that are in no network.
        parts: where the file is one of several that belong together, network -> sha256 of its file; else empty.
    """
    content = {
        "schema": SCHEMA,
        "source": dict(source),
        "target": dict(target),
        **({"set": dict(parts)} if parts else {}),
        "networks": [dict(network) for network in networks],
        "tensors": [asdict(entry) for entry in entries],
        "left_out": list(left_out),
    }
    return json.dumps(content, indent=1) + "\n"


def recorded_families(path: Path) -> tuple[str, ...]:
    """Families of which the ledger beside a file says that its networks may be; empty without a ledger.

    Raises InputError: what lies there is no ledger.
    """
    networks = (_ledger_of(path) or {"networks": []})["networks"]
    return tuple(dict.fromkeys(name for one in networks for name in (one["family"], *one.get("alternatives", ()))))


def recorded_channels(path: Path, part: str) -> str | None:
    """Order of colours that the ledger beside a file gives for one of its networks; None where it gives none.

    Args:
        path: the file; "{part}" in its name stands for the network's.
        part: the network.

    Raises InputError: what lies there is no ledger.
    """
    networks = (_ledger_of(path.with_name(path.name.replace("{part}", part))) or {"networks": []})["networks"]
    return next((one["channels"] for one in networks if one.get("part") == part and "channels" in one), None)


def is_as_converted(path: Path) -> bool:
    """Whether a file is the unchanged result of a conversion, by its ledger; without a readable one it is not."""
    try:
        content = _ledger_of(path)
    except InputError:
        return False
    return content is not None and bool(content["target"]["sha256"] == sha256_of(path))


def verify(checkpoint: Checkpoint, hashed: bool = False) -> str:
    """Check a file by its checksums, and against the ledger beside it, if there is one; it is read once.

    Args:
        checkpoint: opened without having been checked.
        hashed: whether its sha256 is wanted without a ledger, too.

    Returns:
        The sha256, or "".

    Raises InputError: it is damaged, or was changed after it was written; names the tensors.
    """
    path = checkpoint.path
    content = _ledger_of(path)
    digest = ""
    if hashed or content is not None or checkpoint.checksums:
        with guarded(path, "cannot be checked"):
            digest = scanned(path, checkpoint.checksums, hashed or content is not None)
    if content is None or content["target"]["sha256"] == digest:
        return digest
    recorded = {entry["target"]: entry["sha256"] for entry in content["tensors"]}
    changed = [name for name, entry in checkpoint.tensors.items() if recorded.get(name) != tensor_sha256(entry.read())]
    changed += [f"{name} (gone)" for name in recorded if name not in checkpoint.tensors]
    raise InputError(
        f"{path}: was changed after it was converted: {len(changed)} tensors differ from its ledger"
        f"{': ' + ', '.join(changed[:SHOWN]) if changed else ''}; if that is meant, delete {_found_ledger(path).name}"
    )


def verify_set(pattern: Path, files: Mapping[str, Path]) -> None:
    """Check that files which were written together are all there, and from the same conversion.

    Args:
        pattern: what they are called, with "{part}".
        files: network -> file, each of which agrees with its own ledger.

    Raises InputError: one is lacking, or from another conversion; names it.
    """
    hashes: dict[str, str] = {}
    for path in files.values():
        for part, wanted in ((_ledger_of(path) or {}).get("set") or {}).items():
            name = pattern.name.replace("{part}", part)
            if part not in files:
                raise InputError(
                    f"{pattern}: {name} is lacking, which was written together with {path.name}; convert them again"
                )
            hashes[part] = hashes.get(part) or sha256_of(files[part])
            if hashes[part] != wanted:
                raise InputError(
                    f"{pattern}: {name} and {path.name} are from different conversions; convert them again, "
                    f"or, if that is meant, delete their ledgers"
                )


def _ledger_of(path: Path) -> Mapping[str, Any] | None:
    """What the ledger beside a file says, None without one.

    Where a conversion was killed after it had replaced the file, this puts the ledger in place, which was ready.
    """
    pending = pending_path(path)
    if pending.is_file() and path.is_file():
        content = _read_ledger(pending)
        if content["target"]["sha256"] == sha256_of(path):
            with suppress(OSError):
                os.replace(pending, ledger_path(path))
            return content
    ledger = _found_ledger(path)
    return _read_ledger(ledger) if os.path.isfile(ledger) else None


def _read_ledger(path: Path) -> Mapping[str, Any]:
    """What a ledger says. Raises InputError: it is none."""
    try:
        content: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
        for entry in content["tensors"]:
            _require_text(entry["target"], entry["sha256"])
        for network in content["networks"]:
            _require_text(network["family"], network.get("part", ""), *network.get("alternatives", ()))
        _require_text(content["target"]["sha256"])
        for part, digest in (content.get("set") or {}).items():
            _require_text(part, digest)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a ledger ({first_line(error)}); delete it to go on without") from error
    return content


def _require_text(*values: Any) -> None:
    if not all(isinstance(value, str) for value in values):
        raise TypeError("a name or a hash is no text")
