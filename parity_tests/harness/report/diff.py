"""Saved reports: judged again under the present tolerances, or two of them side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from convert.errors import InputError
from parity_tests.harness.compare import Measurement
from parity_tests.harness.judge import judge_all
from parity_tests.harness.report.data import SCHEMA
from parity_tests.harness.run import Comparison

__all__ = ["changes", "judge_again", "load_report"]

Row = Mapping[str, Any]


def load_report(path: Path) -> dict[str, Any]:
    """Read a saved report.

    Raises:
        InputError: not a report of this version.
    """
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a saved report ({error})") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise InputError(f"{path}: not a saved report (its schema is not {SCHEMA})")
    return data


def judge_again(data: Mapping[str, Any]) -> list[Comparison]:
    """Judge the saved measurements under the present tolerances; nothing is run."""
    known = {one.name for one in fields(Measurement)}
    comparisons = []
    for network in data["networks"]:
        measurements = [
            Measurement(**{key: value for key, value in row.items() if key in known}) for row in network["rows"]
        ]
        modes = tuple(network["modes"])
        comparisons.append(Comparison(network["name"], tuple(judge_all(measurements)), modes, network["facts"]))
    return comparisons


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return one line per tensor whose verdict changed, appeared or vanished between two reports."""
    first, second = _rows(before), _rows(after)
    out = []
    for key in dict.fromkeys([*first, *second]):
        old, new = first.get(key), second.get(key)
        if old is None or new is None:
            out.append(f"{' '.join(key)}: {'only in the second' if old is None else 'only in the first'}")
        elif old["equal"] != new["equal"]:
            words = [("equal" if row["equal"] else "different") + _times(row) for row in (old, new)]
            out.append(f"{' '.join(key)}: {words[0]} -> {words[1]}")
    return out


def _rows(data: Mapping[str, Any]) -> dict[tuple[str, ...], Row]:
    return {
        (network["name"], row["layer"] or "(network)", row["tensor"], row["mode"], row["probe"]): row
        for network in data["networks"]
        for row in network["rows"]
    }


def _times(row: Row) -> str:
    return f" ({row['multiple']:.2g} × budget)" if row["multiple"] is not None else ""
