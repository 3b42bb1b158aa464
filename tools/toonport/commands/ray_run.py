"""The photo commands with --ray: photos, tables and archives of them, on the actors of Ray."""

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from convert.cores import cores
from convert.devices import GPU
from convert.disk import atomic_path, folder_locked
from convert.errors import InputError
from toonport.cluster import ADDRESS_HELP, HERE, on_ray
from toonport.commands.photo_run import folder_notes, require_folder, tell
from toonport.photo.batch import Maker, Outcome, Record, Task, plan_tasks
from toonport.photo.shards import expanded, name_shards
from toonport.photo.units import HIDDEN, Unit, UnitWorker, plan_shards, plan_tables, plan_units

FAILED = "failed.jsonl"
MANY = {"1 million": 10**6, "100 million": 10**8}
PRICE = 0.05  # US dollars for an hour of a process; assumed


def add_ray_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of many photos on many machines."""
    text = "PHOTO may then also be a pattern, a Parquet table, a .tar archive of WebDataset, or a folder of them"
    group = parser.add_argument_group("on Ray", text)
    group.add_argument("--ray", metavar="ADDRESS", nargs="?", const=HERE, help=ADDRESS_HELP)
    group.add_argument("--tables", action="store_true", help="gather the results in Parquet tables")
    group.add_argument("--column", metavar="NAME", help="which column of the tables given holds the photos")


def require_ray(args: argparse.Namespace) -> None:
    """Raise InputError where options are given that only --ray heeds."""
    if args.tables or args.column:
        raise InputError("--tables and --column go with --ray")


def run_on_ray(
    args: argparse.Namespace,
    make: Callable[[], Maker],
    settings: Mapping[str, Any],
    name: str,
    choose: Callable[[list[Task]], list[Task]] = list,
) -> int:
    """Run over photos on Ray, print what was not done and why, and a summary; 0 when every photo was done, else 2.

    What was not done also lies in `failed.jsonl` among the results.

    Args:
        args: of the command.
        make: loads what the work on a photo needs; must be picklable.
        settings: what a result depends on, for the record.
        name: of the record of photos whose results are files.
        choose: photos to do, of all.

    Raises InputError: also where Ray is not there.
    """
    if not args.out:
        raise InputError("--out is needed: the folder of the results")
    folder = require_folder(Path(args.out))
    photos = expanded(args.photos)
    shards = name_shards(photos, folder)
    timed = partial(_Timed, partial(UnitWorker, make, settings))
    notes: list[str] = []

    def run(units: Sequence[Unit]) -> Iterator[list[Outcome]]:
        """Do units, and note what many more photos would cost."""
        photos, seconds = 0, 0.0
        for outcomes, spent in on_ray(timed, units, args.ray, args.jobs, args.device == GPU):
            photos, seconds = photos + len(outcomes) * bool(spent), seconds + spent
            yield outcomes
        notes.extend([projected(photos, seconds)] if photos else [])

    with folder_locked(folder):
        tasks = [] if shards else choose(plan_tasks(photos, folder))
        if shards:
            found = run(plan_shards(shards, folder, args.column, args.tables))
        elif args.tables:
            found = run(plan_tables(tasks, folder))
        else:
            found = _recorded(tasks, Record(folder / name, settings), args.jobs or cores(), run)
        outcomes = _noted((outcome for unit in found for outcome in unit), folder / FAILED)
        notes += [] if shards else folder_notes(photos, folder)
        return tell(outcomes, len(tasks), args.command, notes, args.json)


class _Timed:
    """A worker that also says how many seconds a unit took; 0 of its first, for which it loads what it needs."""

    def __init__(self, make: Callable[[], UnitWorker]) -> None:
        self._work, self._loaded = make(), False

    def __call__(self, unit: Unit) -> tuple[list[Outcome], float]:
        begun, loaded = time.perf_counter(), self._loaded
        outcomes, self._loaded = self._work(unit), True
        return outcomes, (time.perf_counter() - begun) * loaded


def projected(photos: int, seconds: float) -> str:
    """Return what many photos would cost at the rate of a run.

    Args:
        photos: that were done.
        seconds: of one process that it took.
    """
    hours = {name: seconds / photos * count / 3600 for name, count in MANY.items()}
    many = "; ".join(f"{name}: {taken:,.0f} hours, {taken * PRICE:,.0f} USD" for name, taken in hours.items())
    assumed = f"{PRICE} USD for an hour of a process, every one as fast, disks and network that keep up"
    return f"a photo took {seconds / photos:.3f} seconds of a process; at that rate {many} (assumed: {assumed})"


def _recorded(
    tasks: list[Task], record: Record, jobs: int, run: Callable[[Sequence[Unit]], Iterator[list[Outcome]]]
) -> Iterator[list[Outcome]]:
    """Do photos whose results are files, with the same record of all of them as without Ray."""
    waiting, hidden = [], record.folder / HIDDEN
    before = [record.beside(path) for path in sorted(hidden.glob("*.jsonl"))]  # of a run that was killed
    for task in tasks:
        known = record.known(task)
        if known is None and (known := next(filter(None, (other.known(task) for other in before)), None)):
            record.add(known, task)
        if known:
            yield [known]
        else:
            waiting.append(task)
    shutil.rmtree(hidden, ignore_errors=True)
    if not waiting:
        return
    by_source = {task.source: task for task in waiting}
    for outcomes in run(plan_units(waiting, record.folder, jobs)):
        for outcome in outcomes:
            record.add(outcome, by_source[outcome.source])
        yield outcomes
    shutil.rmtree(hidden, ignore_errors=True)


def _noted(outcomes: Iterator[Outcome], path: Path) -> Iterator[Outcome]:
    """Write a line for every photo that was not done; in the end all of them lie there."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for outcome in outcomes:
            if outcome.problem:
                file.write(json.dumps({"source": outcome.source, "problem": outcome.problem}) + "\n")
                file.flush()
            yield outcome
