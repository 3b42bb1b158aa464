"""The ledger beside every converted file: which tensor became which, by what rule, with what hash."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from convert.disk import atomic_path, sha256_of
from convert.errors import InputError
from convert.tensors import Checkpoint, tensor_sha256

SCHEMA = "toonport-ledger/1"


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
    """Return where the ledger of a converted file lies."""
    return path.with_name(path.name + ".ledger.json")


def write_ledger(target: Path, source: Mapping[str, Any], networks: list[Mapping[str, Any]],
                 entries: list[LedgerEntry], left_out: Sequence[str] = ()) -> Path:  # fmt: skip
    """Write the ledger of `target`.

    Args:
        target: the converted file, already complete.
        source: facts about the source file (name, format, bytes, sha256, and what in it is no tensor).
        networks: family, part, constructor arguments, spelling and notes of each network.
        entries: one per tensor.
        left_out: names of tensors of the source that are in no network.
    """
    content = {
        "schema": SCHEMA,
        "source": dict(source),
        "target": {"file": target.name, "bytes": target.stat().st_size, "sha256": sha256_of(target)},
        "networks": [dict(network) for network in networks],
        "tensors": [asdict(entry) for entry in entries],
        "left_out": list(left_out),
    }
    path = ledger_path(target)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    return path


def recorded_families(path: Path) -> tuple[str, ...]:
    """Families of which the ledger beside a file says that its networks may be; empty without a ledger.

    Raises InputError: what lies there is no ledger.
    """
    if not ledger_path(path).is_file():
        return ()
    networks = _read_ledger(ledger_path(path))["networks"]
    return tuple(dict.fromkeys(name for one in networks for name in (one["family"], *one.get("alternatives", ()))))


def recorded_channels(path: Path, part: str) -> str | None:
    """Order of colours that the ledger beside a file gives for one of its networks; None where it gives none.

    Args:
        path: the file; "{part}" in its name stands for the network's.
        part: the network.

    Raises InputError: what lies there is no ledger.
    """
    ledger = ledger_path(path.with_name(path.name.replace("{part}", part)))
    networks = _read_ledger(ledger)["networks"] if ledger.is_file() else []
    return next((one["channels"] for one in networks if one.get("part") == part and "channels" in one), None)


def _read_ledger(path: Path) -> Mapping[str, Any]:
    try:
        content: Mapping[str, Any] = json.loads(path.read_text())
        _ = [entry["target"] + entry["sha256"] for entry in content["tensors"]], content["target"]["sha256"]
        _ = [network["family"] for network in content["networks"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a ledger ({error}); delete it to go on without") from error
    return content


def remove_ledger(path: Path) -> None:
    """Remove the ledger of a file that is about to be replaced, if there is one."""
    try:
        ledger_path(path).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{ledger_path(path)}: cannot be replaced: {error.strerror}") from error


def verify_ledger(checkpoint: Checkpoint) -> bool:
    """Check a file against the ledger beside it, if there is one.

    Returns:
        True if the file agrees with its ledger, False if it has none.

    Raises InputError: the file was changed after it was written; names the tensors.
    """
    path = ledger_path(checkpoint.path)
    if not path.is_file():
        return False
    content = _read_ledger(path)
    recorded = {entry["target"]: entry["sha256"] for entry in content["tensors"]}
    if content["target"]["sha256"] == sha256_of(checkpoint.path):
        return True
    changed = [name for name, entry in checkpoint.tensors.items() if recorded.get(name) != tensor_sha256(entry.read())]
    changed += [f"{name} (gone)" for name in recorded if name not in checkpoint.tensors]
    raise InputError(
        f"{checkpoint.path}: was changed after it was converted: {len(changed)} tensors differ from its ledger"
        f"{': ' + ', '.join(changed[:20]) if changed else ''}; if that is meant, delete {path.name}"
    )
