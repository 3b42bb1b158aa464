"""What `toonport preprocess` and `toonport cartoonize` share: options of portraits, and the run over many photos."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from convert.cores import cores
from convert.devices import CPU
from convert.disk import folder_locked
from convert.errors import InputError
from toonport.commands.options import number
from toonport.commands.ui import bar, out, print_json
from toonport.exit_codes import ExitCode
from toonport.photo.backends import LANDMARK_NAMES, MATTE_NAMES
from toonport.photo.batch import Maker, Outcome, Record, Task, run_tasks
from toonport.photo.files import left_out
from toonport.terminal import Terminal

if TYPE_CHECKING:
    from toonport.photo.portrait import PortraitOptions


FEW = 4  # photos for which further processes would cost more time than they save
err = Terminal(stderr=True)


def add_portrait_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a face is found and cut out, and in how many processes."""
    add = parser.add_argument
    add("--all-faces", action="store_true", help="every face, left to right (default: the largest)")
    add("--landmarks", choices=LANDMARK_NAMES, default=LANDMARK_NAMES[0], help="what sets the 68 landmarks")
    text = "what cuts the person out; head is the reference's"
    add("--matte", choices=MATTE_NAMES, default=MATTE_NAMES[0], help=text)
    text = "as the reference's scripts do: only upright faces are found, faces are turned by less than 90 degrees, "
    text += "hidden colours under transparency count, the matte also covers the corners filled with white"
    add("--reference-exact", action="store_true", help=text)
    add("--jobs", type=number, help="processes (default: as many as there are cores, for many photos)")


def portrait_options(args: argparse.Namespace, keep_background: bool = False) -> PortraitOptions:
    """Return the portrait options that the command line means."""
    from toonport.photo.portrait import PortraitOptions

    return PortraitOptions(
        landmarks=args.landmarks,
        matte="" if keep_background else args.matte,
        every=args.all_faces,
        as_reference=args.reference_exact,
        device=args.device,
    )


def jobs_for(photos: int, asked: int | None, device: str = CPU) -> int:
    """Return the number of processes: what was asked for, or the cores when that saves time."""
    if asked:
        return min(asked, photos)
    return 1 if photos < FEW or device != CPU else min(cores(), photos)


def run_photos(
    make: Callable[[], Maker],
    tasks: list[Task],
    jobs: int,
    record: Record | None = None,
    title: str = "photos",
    notes: Sequence[str] = (),
    json_target: str | None = None,
) -> int:
    """Run over photos, print what was not done and why, and a summary; 0 when every photo was done, else 2.

    Args:
        make, tasks, jobs: as for `run_tasks`.
        record: what earlier runs did.
        title: of the bar that shows how far the run is.
        notes: lines that end the summary.
        json_target: where --json wants the outcomes, see `print_json`.
    """
    with folder_locked(record.folder) if record else nullcontext():
        return tell(_with_record(make, tasks, jobs, record), len(tasks), title, notes, json_target)


def tell(
    outcomes: Iterator[Outcome], total: int, title: str, notes: Sequence[str] = (), json_target: str | None = None
) -> int:
    """Print, as photos are done, what was not done and why, and in the end a summary; see `run_photos`.

    Args:
        outcomes: what becomes of every photo.
        total: how many there are; fewer where that is not known yet.
        title, notes, json_target: see `run_photos`.
    """
    told = set[str]()
    kept, reasons, done, files = [], Counter[str](), 0, 0
    with bar(title) as progress:
        for done, outcome in enumerate(outcomes, 1):
            kept += [asdict(outcome)] if json_target else []
            files += len(outcome.files)
            reasons.update([outcome.problem] if outcome.problem else [])
            progress(done, max(done, total), Path(outcome.source).name)
            for text in (text for text in outcome.notes if text not in told):
                err.print(text)
            told.update(outcome.notes)
            for text in outcome.warnings:
                err.print(f"{outcome.source}: {text}")
            if outcome.problem:
                err.print(f"{outcome.source}: {outcome.problem}; nothing written", style="red")
    out.print(f"{done - reasons.total()} of {done} photos done, {files} files written or there already")
    for reason, count in reasons.most_common():
        out.print(f"  {count} skipped: {reason}")
    for note in notes:
        out.print(f"  {note}")
    print_json(json_target, {"photos": kept, "notes": list(notes)})
    return ExitCode.BAD_INPUT if reasons else ExitCode.DONE


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
    by_source = {task.source: task for task in waiting}
    for outcome in run_tasks(make, waiting, min(jobs, len(waiting))):
        if record:
            record.add(outcome, by_source[outcome.source])
        yield outcome


def folder_notes(photos: Sequence[str], results: Path) -> list[str]:
    """Return a line for each folder of photos with files that are no photos; what lies among the results is none."""
    return [line for photo in photos if Path(photo).is_dir() and (line := left_out(Path(photo), results))]


def require_folder(path: Path) -> Path:
    """Return a target folder. Raises InputError: it is a file."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is a file; --out must be a folder for several photos")
    return path
