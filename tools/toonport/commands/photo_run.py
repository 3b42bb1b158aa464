"""The run of a command over many photos: processes, progress, what was skipped and why, the summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from convert.errors import InputError
from toonport.commands.ui import bar, out
from toonport.photo.batch import Maker, Outcome, Record, Task, cores, run_tasks

__all__ = ["jobs_for", "require_folder", "run_photos"]

FEW = 4  # photos for which further processes would cost more time than they save
err = Console(stderr=True, soft_wrap=True, highlight=False)


def jobs_for(photos: int, asked: int | None, device: str = "cpu") -> int:
    """Return the number of processes: what was asked for, or the cores when that saves time."""
    if asked:
        return min(asked, photos)
    return 1 if photos < FEW or device != "cpu" else min(cores(), photos)


def run_photos(
    make: Callable[[], Maker], tasks: list[Task], jobs: int, record: Record | None = None, title: str = "photos"
) -> int:
    """Run over photos, print what was not done and why, and a summary; 0 when every photo was done, else 2."""
    outcomes = []
    with bar(title) as progress:
        for outcome in _with_record(make, tasks, jobs, record):
            outcomes.append(outcome)
            progress(len(outcomes), len(tasks), Path(outcome.source).name)
            for text in outcome.warnings:
                err.print(f"{outcome.source}: {text}", markup=False)
            if outcome.problem:
                err.print(f"{outcome.source}: {outcome.problem}; nothing written", style="red", markup=False)
    out.print("\n".join(_summary(outcomes)), markup=False)
    return 2 if any(outcome.problem for outcome in outcomes) else 0


def _with_record(make: Callable[[], Maker], tasks: list[Task], jobs: int, record: Record | None) -> Iterator[Outcome]:
    """Yield what earlier runs left on record, then do and record the rest."""
    waiting = []
    for task in tasks:
        known = record.known(task) if record else None
        if known:
            yield known
        else:
            waiting.append(task)
    if not waiting:
        return
    targets = {task.source: task.target for task in waiting}
    for outcome in run_tasks(make, waiting, min(jobs, len(waiting))):
        if record:
            record.add(outcome, targets[outcome.source])
        yield outcome


def _summary(outcomes: list[Outcome]) -> list[str]:
    files = sum(len(outcome.files) for outcome in outcomes)
    done = sum(not outcome.problem for outcome in outcomes)
    lines = [f"{done} of {len(outcomes)} photos done, {files} files written or there already"]
    reasons = Counter(outcome.problem for outcome in outcomes if outcome.problem)
    return lines + [f"  {count} skipped: {reason}" for reason, count in reasons.most_common()]


def require_folder(path: Path) -> Path:
    """Return a target folder.

    Raises:
        InputError: it is a file.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is a file; --out must be a folder for several photos")
    return path
