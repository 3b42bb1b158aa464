"""What an evaluation shows and saves."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from convert.disk import atomic_path, sha256_of
from parity_tests.harness.report.html import write_page
from toonport import __version__
from toonport.evaluate.evaluator import Evaluator
from toonport.evaluate.metrics import Evaluation, Metric
from toonport.evaluate.select import Candidate
from toonport.photo.folder import PictureFolder

SCHEMA = "toonport-evaluation/1"


def _number(metric: Metric) -> str:
    spread = "" if metric.spread is None else f" ± {metric.spread:.4f}"
    return f"{metric.value:.4f}{spread}"


def evaluation_rows(evaluation: Evaluation) -> list[list[str]]:
    """Return a table row per number: what, value, which way is better, of how many pictures."""
    rows = []
    for metric in evaluation.metrics:
        counted = ", ".join(f"{count} {what}" for what, count in metric.counts.items())
        rows.append([metric.name, _number(metric), f"{metric.better} is better", counted])
    return rows


def candidate_rows(found: Sequence[Candidate], chosen: Candidate, by: str) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows of a table of checkpoints, the chosen one and the number that decided marked."""
    keys = list(dict.fromkeys(metric.key for candidate in found for metric in candidate.metrics))
    headings = ["", "step", *(f"{key} (decides)" if key == by else key for key in keys)]
    rows = []
    for candidate in found:
        known = {metric.key: _number(metric) for metric in candidate.metrics}
        failed = [f"failed: {candidate.problem}", *[""] * (len(keys) - 1)]
        cells = [known.get(key, "-") for key in keys] if known else failed
        rows.append(["*" if candidate is chosen else "", str(candidate.step), *cells])
    return headings, rows


def note_lines(evaluation: Evaluation, sets: Sequence[PictureFolder]) -> list[str]:
    """Return what was not run and why, the warnings, and the files that were left out."""
    lines = [f"{missing.name}: not run ({missing.reason})" for missing in evaluation.not_run]
    lines += [f"warning: {text}" for text in evaluation.warnings]
    lines += [pictures.left_out for pictures in sets if pictures.left_out]
    return lines + [f"left out, cannot be read: {path}" for pictures in sets for path in sorted(pictures.unreadable)]


def definition_lines(evaluation: Evaluation, evaluator: Evaluator, with_keys: bool = False) -> list[str]:
    """Return how each number is computed, and what the features are."""
    shown = [f"{metric.key}: " * with_keys + f"{metric.name}: {metric.definition}" for metric in evaluation.metrics]
    return shown + [
        f"features {network.name}: {network.how}; {network.path.name}, sha256 {network.sha256[:16]}"
        for network in evaluator.networks.features
    ]


def facts(
    evaluator: Evaluator, fake: PictureFolder | None, found: Sequence[Candidate], by: str | None
) -> dict[str, Any]:
    """Return everything there is to say about an evaluation, for the record.

    Args:
        evaluator: what measured.
        fake: the folder of ready-made cartoons, if they were.
        found: the generators evaluated; a folder of cartoons counts as one without weights, step 0.
        by: short name of the metric that decided between checkpoints, None without a choice.
    """
    sets = {"real": evaluator.real, "photos": evaluator.photos, "generated": fake}
    return {
        "schema": SCHEMA,
        "toonport": __version__,
        "seed": evaluator.seed,
        "kid": evaluator.protocol,
        "decided_by": by,
        "pictures": {
            name: {"folder": str(folder.path), "found": len(folder), "skipped": [*map(str, sorted(folder.unreadable))]}
            for name, folder in sets.items()
            if folder
        },
        "networks": evaluator.networks.facts(),
        "evaluations": [_candidate_facts(candidate, fake) for candidate in found],
    }


def _candidate_facts(found: Candidate, fake: PictureFolder | None) -> dict[str, Any]:
    source: dict[str, Any] = {"step": found.step} if found.step else {}
    if fake is None:
        readable = found.weights.is_file()
        source |= {"weights": str(found.weights), "sha256": sha256_of(found.weights) if readable else None}
    numbers = asdict(found.evaluation) if found.evaluation else {"problem": found.problem}
    return {**source, **numbers}


def write_evaluation_page(content: dict[str, Any], path: Path) -> None:
    """Write a record as one page that needs no network.

    Raises InputError: the file cannot be written.
    """
    write_page(path, Path(__file__).with_name("page.html.j2"), **{"selected": None, **content})


def write_report(content: dict[str, Any], path: Path) -> None:
    """Write a record as JSON; on any failure nothing is left behind."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
