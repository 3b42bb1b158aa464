"""Which files a conversion may replace without being told to: the unchanged results of earlier conversions."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from convert.disk import sha256_of
from convert.errors import InputError
from convert.ledger import ledger_path


def require_replaceable(target: Path, parts: Iterable[str]) -> None:
    """Raise InputError where a file lies at the target that no conversion wrote, or that was changed since.

    Args:
        target: what is to be written; "{part}" in the name stands for each network's.
        parts: names of the networks.
    """
    for name in dict.fromkeys(target.name.replace("{part}", part) for part in parts):
        path = target.with_name(name)
        if os.path.isfile(path) and not _unchanged(path):
            raise InputError(
                f"{path}: is there already, and not the unchanged result of a conversion; --force replaces it"
            )


def _unchanged(path: Path) -> bool:
    """Whether the ledger beside a file tells of this very file."""
    try:
        recorded = json.loads(ledger_path(path).read_text("utf-8"))["target"]["sha256"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False
    return bool(recorded == sha256_of(path))
