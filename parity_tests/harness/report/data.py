"""Reports: the judged result as JSON data, as console text, and (report_html.py) as one offline page."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from convert.files import atomic_path
from parity_tests.harness.explain import likely_causes
from parity_tests.harness.judge import Verdict, blind_spots
from parity_tests.harness.run import Comparison

__all__ = [
    "HEADING",
    "SCHEMA",
    "line",
    "numbers",
    "report_data",
    "short",
    "summary_lines",
    "verdict_word",
    "versions",
    "write_json",
]

SCHEMA = "toonport-report/1"
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
        "verdict": "equal" if all(one.equal for one in comparisons) else "different",
        "networks": [_network(one) for one in comparisons],
    }


def _network(comparison: Comparison) -> dict[str, Any]:
    failing = Counter(one.measurement.mode for one in comparison.verdicts if not one.equal)
    counts = Counter(one.measurement.mode for one in comparison.verdicts)
    return {
        "name": comparison.name,
        "verdict": "equal" if comparison.equal else "different",
        "facts": dict(comparison.facts),
        "modes": {mode: {"tensors": counts[mode], "out_of_budget": failing[mode]} for mode in counts},
        "blamed": [_row(one) for one in comparison.blamed[:20]],
        "causes": likely_causes(comparison.verdicts),
        "cannot_tell": sum(one.blind for one in comparison.verdicts),
        "cannot_detect": blind_spots(comparison.verdicts),
        "not_run": comparison.not_run,
        "rows": [_row(one) for one in comparison.verdicts],
    }


def _row(verdict: Verdict) -> dict[str, Any]:
    row = asdict(verdict.measurement)
    row |= {"budget": verdict.budget, "multiple": verdict.multiple, "equal": verdict.equal, "blind": verdict.blind}
    return {key: _finite(value) for key, value in row.items()}


def _finite(value: Any) -> Any:
    """JSON has no infinity: it becomes null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write a report; an existing file is replaced only by a complete one."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n")


HEADING = (
    f"{'layer':<52} {'tensor':<22} {'mode':<15} {'probe':<24} {'max|Δ|':>9} {'rel L2':>9} "
    f"{'torch err':>9} {'port err':>9} {'budget':>9} {'×budget':>8}  verdict"
)


def line(verdict: Verdict) -> str:
    """Return one measured tensor as a line of text, in the columns of `HEADING`."""
    one = verdict.measurement
    where = one.layer or "(network)"
    word = verdict_word(verdict)
    head = f"{where:<52} {one.tensor:<22} {one.mode:<15} {one.probe:<24}"
    return f"{head} {numbers(verdict)}  {word}"


def numbers(verdict: Verdict) -> str:
    """Return max|Δ|, relative L2, both errors, the budget and its multiple in columns; or why there are none."""
    one = verdict.measurement
    if one.problem or one.not_run:
        return one.problem or one.not_run
    columns = " ".join(f"{n:9.1e}" for n in (one.difference, one.relative, one.noise, one.error, verdict.budget))
    return f"{columns} {short(verdict.multiple):>8}"


def verdict_word(verdict: Verdict) -> str:
    """Return the verdict in words."""
    if verdict.measurement.not_run:
        return "not run"
    return "cannot tell" if verdict.blind else "equal" if verdict.equal else "DIFFERENT"


def short(multiple: float) -> str:
    """Return a multiple of a budget as a short text."""
    return "inf" if math.isinf(multiple) else f"{multiple:.2f}" if multiple < 1000 else f"{multiple:.1e}"


def summary_lines(comparison: Comparison) -> list[str]:
    """Return the outcome in a few lines: the verdict per mode, the first layer out of budget and why."""
    out = []
    for mode in dict.fromkeys(one.measurement.mode for one in comparison.verdicts):
        own = [one for one in comparison.verdicts if one.measurement.mode == mode and not one.measurement.not_run]
        if not own:
            continue
        failing = sum(not one.equal for one in own)
        worst = max((one.multiple for one in own), default=0.0)
        state = "equal" if not failing else f"{failing} out of budget"
        out.append(f"  {mode:<15} {len(own):>5} tensors, {state}, worst {short(worst)} × budget")
    out += [f"  not run: {count} tensors: {reason}" for reason, count in comparison.not_run.items()]
    blind = [one for one in comparison.verdicts if one.blind]
    if blind:
        out.append(f"  cannot tell a bug from noise in {len(blind)} tensors, e.g. {_describe(blind[0])}")
    for bug, layers in blind_spots(comparison.verdicts).items():
        out.append(f"  cannot detect {bug} in {len(layers)} layers on these probes, e.g. {layers[0]}")
    if comparison.equal:
        return [f"{comparison.name}: equal", *out]
    first = comparison.blamed[0]
    out.append(f"  first out of budget: {_describe(first)}")
    out += [f"  likely cause: {cause}" for cause in likely_causes(comparison.verdicts)]
    in_file = comparison.first_of("onnx")
    if in_file is not None and in_file is not first:
        out.append(f"  first out of budget in the ONNX file: {_describe(in_file)}")
    along = comparison.first_of("accumulated")
    if along is not None and along.measurement.layer != first.measurement.layer:
        out.append(f"  first seen in the whole run at: {_describe(along)}")
    if along is not None:
        out.append(f"  {_amplification(along)}")
    return [f"{comparison.name}: DIFFERENT", *out]


def _amplification(verdict: Verdict) -> str:
    one = verdict.measurement
    before = "not measurable" if one.input_error is None else f"{one.input_error:.1f} × the noise"
    after = f"{one.error / one.noise:.1f} × the noise" if one.noise else "out of nothing"
    return f"in the whole run, error at the input of {one.layer or '(network)'}: {before}; at its output: {after}"


def _describe(verdict: Verdict) -> str:
    one = verdict.measurement
    where = f"{one.layer or '(network)'} ({one.layer_type or 'unknown type'}), {one.tensor}, {one.mode}"
    return f"{where}: {one.problem or f'{short(verdict.multiple)} × budget, max|Δ| {one.difference:.1e}'}"
