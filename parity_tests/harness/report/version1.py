"""Reads reports of the first version, whose rows held words: here alone they are taken apart, into the typed fields.

The batch of a probe was told for files only, and comes back as not known elsewhere.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from parity_tests.harness.measurement import Kind, Probe, Quantity, Values

SCHEMA = "toonport-report/1"
PROBE = re.compile(r"(?:([\dx]+) px|vectors)(?: (train|eval))?(?:, batch (\d+))?(, low spread)?")
NAMED = (  # in the order in which they are tried
    (Kind.STATE, re.compile(r"(?P<name>.+) afterwards")),
    (Kind.INPUT_GRADIENT, re.compile(r"gradient of input (?P<index>\d+)")),
    (Kind.GRADIENT, re.compile(r"gradient(?: of (?P<name>.+))?")),
    (Kind.CHANGE, re.compile(r"change of (?P<name>.+)")),
    (Kind.MEAN, re.compile(r"mean of (?P<name>.+)")),
    (Kind.ROOT_MEAN_SQUARE, re.compile(r"root of the mean square of (?P<name>.+)")),
    (Kind.RATE, re.compile(r"learning rate")),
    (Kind.OUTPUT, re.compile(r"output(?: (?P<index>\d+))?(?:, call (?P<call>\d+))?")),
)
REST = {"weights": Kind.WEIGHT, "training": Kind.LOSS}  # what any other words name; else an output
PHASES = {"discriminator": "D", "generator": "G"}
HINTS = ("ratio", "ring", "channel")  # the others became fields


def upgrade(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report of the first version with the rows of the second."""
    networks = [
        network | {rows: [_row(row) for row in network[rows]] for rows in ("rows", "blamed")}
        for network in data["networks"]
    ]
    return {**data, "networks": networks}


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    training = row["mode"] == "training"
    phase = row["layer_type"].partition(" ")[0] if training else ""
    quantity = Quantity(*_quantity(row), phase=PHASES.get(phase, phase))
    words = {name: row[name] for name in ("layer_type", "tensor", "probe")} | {"layer": row["layer"] or "(network)"}
    hints = row["hints"]
    own = {key: value for key, value in row.items() if key != "tensor"}
    return own | {
        "layer_type": "" if training else row["layer_type"],
        "probe": asdict(_probe(row["probe"])),
        "quantity": asdict(quantity),
        "undecided": hints.get("undecided", 0.0),
        "effects": hints.get("effects", {}),
        "hints": {key: value for key, value in hints.items() if key in HINTS},
        "words": words,
    }


def _quantity(row: Mapping[str, Any]) -> tuple[Kind, str, int | None, int]:
    rest = REST.get(row["mode"], Kind.OUTPUT)
    for kind, pattern in NAMED if rest is not Kind.WEIGHT else ():
        if match := pattern.fullmatch(row["tensor"]):
            found = {key: value for key, value in match.groupdict().items() if value is not None}
            index = int(found["index"]) if "index" in found else None
            return kind, found.get("name", ""), index, int(found.get("call", 1)) - 1
    return rest, row["tensor"], None, 0


def _probe(words: str) -> Probe:
    if words.startswith("step "):
        return Probe(step=int(words.removeprefix("step ")))
    match = PROBE.fullmatch(words)
    if match is None:
        return Probe()
    size, mode, batch, low = match.groups()
    sides = tuple(int(side) for side in size.split("x")) if size else ()
    known = None if mode is None else mode == "train"
    return Probe(sides, int(batch) if batch else None, known, Values.LOW_SPREAD if low else Values.RECORDED)
