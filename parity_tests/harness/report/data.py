"""The judged result as plain data for JSON; `schema.json` describes it."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

from parity_tests.harness.judge import Verdict, blind_spots, worst
from parity_tests.harness.places import key_of
from parity_tests.harness.report.words import causes, places_words, resting_words, unreached_words, words_of
from parity_tests.harness.run import SHOWN, Comparison

SCHEMA = "toonport-report/2"
PACKAGES = ("mindspore", "torch", "numpy", "onnx", "onnxruntime")


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that matter, by name."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def report_data(comparisons: Sequence[Comparison], device: str, not_run: Sequence[str] = ()) -> dict[str, Any]:
    """Return the whole report as plain data for JSON.

    Args:
        comparisons: one per network.
        device: where the port ran.
        not_run: what was not run and why, in words.
    """
    return {
        "schema": SCHEMA,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(),
        "device": device,
        "not_run": list(not_run),
        "verdict": str(worst(comparison.outcome for comparison in comparisons)),
        "networks": [_network(comparison) for comparison in comparisons],
    }


def _network(comparison: Comparison) -> dict[str, Any]:
    verdicts = comparison.verdicts
    failing = Counter(verdict.measurement.mode for verdict in verdicts if not verdict.equal)
    counts = Counter(verdict.measurement.mode for verdict in verdicts)
    return {
        "name": comparison.name,
        "verdict": str(comparison.outcome),
        "facts": dict(comparison.facts),
        "modes": {str(mode): {"tensors": counts[mode], "out_of_budget": failing[mode]} for mode in counts},
        "blamed": [_row(verdict, comparison) for verdict in comparison.blamed[:SHOWN]],
        "case": comparison.case,
        "causes": causes(verdicts, comparison.finding),
        "finding": asdict(comparison.finding) if comparison.finding else None,
        "cannot_tell": sum(verdict.unproven for verdict in verdicts),
        "cannot_detect": blind_spots(verdicts),
        "resting": [asdict(resting) | {"words": resting_words(resting)} for resting in comparison.resting],
        "unreached": [asdict(each) for each in comparison.unreached],
        "not_reached": {words: layers for words, layers in unreached_words(comparison.unreached)},
        "not_run": comparison.not_run,
        "coverage": {"layers": comparison.layer_count, "within_others": comparison.covered},
        "rows": [_row(verdict, comparison) for verdict in verdicts],
    }


def _row(verdict: Verdict, comparison: Comparison) -> dict[str, Any]:
    places = comparison.places.get(key_of(verdict.measurement))
    words = words_of(verdict.measurement) | {"places": places_words(places)}
    row = asdict(verdict.measurement) | {"words": words, "places": asdict(places) if places else None}
    judged = {"budget": verdict.budget, "multiple": verdict.multiple, "equal": verdict.equal, "blind": verdict.blind}
    return {key: _finite(value) for key, value in (row | judged).items()}


def _finite(value: Any) -> Any:
    """JSON has no infinity: it becomes null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
