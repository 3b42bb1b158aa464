"""Saved reports: judged again under the present tolerances, or two of them side by side."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from convert.errors import InputError, guarded
from parity_tests.harness.experiments import Finding
from parity_tests.harness.judge import judge_all
from parity_tests.harness.measurement import (
    Beyond,
    Kind,
    Measurement,
    Mode,
    Probe,
    Quantity,
    Rest,
    Resting,
    Unreached,
    Values,
)
from parity_tests.harness.places import Key, Place, Places, key_of
from parity_tests.harness.report import version1
from parity_tests.harness.report.data import SCHEMA
from parity_tests.harness.rewrites import Cause, Change
from parity_tests.harness.run import Comparison

Row = Mapping[str, Any]


def load_report(path: Path) -> dict[str, Any]:
    """Read a saved report; one of the first version comes back in the present form.

    Raises InputError: not a report of a version that is known.
    """
    with guarded(path, "not a saved report"):
        data = json.loads(path.read_text())
        schema = data.get("schema") if isinstance(data, dict) else None
        if schema == version1.SCHEMA:
            return version1.upgrade(data) | {"schema": SCHEMA}
    if schema != SCHEMA:
        raise InputError(f"{path}: not a saved report (its schema is neither {SCHEMA} nor {version1.SCHEMA})")
    return dict(data)


def judge_again(data: Mapping[str, Any]) -> list[Comparison]:
    """Judge the saved measurements under the present tolerances; nothing is run."""
    return [
        Comparison(
            network["name"],
            tuple(judge_all(map(_measurement, network["rows"]))),
            tuple(network["modes"]),
            network["facts"],
            finding=_finding(network.get("finding")),
            resting=tuple(map(_resting, network.get("resting", ()))),
            places=dict(_places(network["blamed"])),
            case=network.get("case", ""),
            unreached=tuple(
                Unreached(**each | {"side": Beyond(each["side"])}) for each in network.get("unreached", ())
            ),
        )
        for network in data["networks"]
    ]


def _finding(row: Row | None) -> Finding | None:
    if row is None:
        return None
    cause = row["cause"] and Cause(**row["cause"] | {"change": Change(row["cause"]["change"])})
    return Finding(cause, tuple(map(Change, row["excluded"])))


def _places(rows: Iterable[Row]) -> Iterator[tuple[Key, Places]]:
    for row in rows:
        if found := row.get("places"):
            yield key_of(_measurement(row)), Places(Place(**found["reference"]), Place(**found["port"]))


def _resting(row: Row) -> Resting:
    return Resting(Rest(row["kind"]), row["name"], row["value"])


def _measurement(row: Row) -> Measurement:
    own = {field.name: row[field.name] for field in fields(Measurement) if field.name in row}
    quantity = row["quantity"]
    own["mode"] = Mode(row["mode"])
    own["probe"] = _probe(row["probe"])
    own["quantity"] = Quantity(**quantity | {"kind": Kind(quantity["kind"])})
    return Measurement(**own)


def _probe(saved: Row) -> Probe:
    """The probe of a row; reports once said only whether the spread was low."""
    known = {name: value for name, value in saved.items() if name != "low_spread"}
    before = Values.LOW_SPREAD if saved.get("low_spread") else Values.RECORDED
    size = None if saved["size"] is None else tuple(saved["size"])
    return Probe(**known | {"size": size, "values": Values(saved.get("values", before))})


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
        (network["name"], words["layer"], words["tensor"], row["mode"], words["probe"]): row
        for network in data["networks"]
        for row in network["rows"]
        for words in [row["words"]]
    }


def _times(row: Row) -> str:
    return f" ({row['multiple']:.2g} × budget)" if row["multiple"] is not None else ""
