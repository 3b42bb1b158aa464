"""Which files a conversion may replace without being told to: the unchanged results of earlier conversions."""

import os
from collections.abc import Iterable
from pathlib import Path

from convert.errors import InputError
from convert.ledger import is_as_converted


def require_replaceable(target: Path, parts: Iterable[str]) -> None:
    """Raise InputError where a file lies at the target that no conversion wrote, or that was changed since.

    Args:
        target: what is to be written; "{part}" in the name stands for each network's.
        parts: names of the networks.
    """
    for name in dict.fromkeys(target.name.replace("{part}", part) for part in parts):
        path = target.with_name(name)
        if os.path.isfile(path) and not is_as_converted(path):
            raise InputError(
                f"{path}: is there already, and not the unchanged result of a conversion; --force replaces it"
            )
