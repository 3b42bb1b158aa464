"""Units of many photos: what one worker of many does after each other, and goes on with after a kill.

Every unit has its own record, so that workers on other machines need nothing but the same folders. A unit that was
under way when its worker died goes on behind the last photo on record; the photo in hand is begun again, at most
`TRIES` times.
"""

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from convert.disk import beside, locked
from convert.errors import InputError
from toonport.photo.batch import KILLED, Maker, Outcome, Record, Task, attempted, is_lasting
from toonport.photo.shards import TABLE, photos_in, table_facts, table_files, write_table

TRIES = 3  # of a photo that a worker dies of
PATIENCE = 60.0  # seconds that a worker which lost its command may go on
PER_WORKER, LARGEST = 32, 64  # units that each worker gets where there are enough photos; photos of a unit
HIDDEN = ".units"  # folder of the records of units, below the results
RECORD = "record.jsonl"


@dataclass(frozen=True)
class Unit:
    """Photos that one worker does after each other."""

    record: str  # the file that says what was done
    tasks: tuple[Task, ...] = ()  # the photos; none: those of a shard
    shard: str = ""  # a table or an archive of photos
    column: str | None = None  # of a table, that of the photos
    folder: str = ""  # where the results of a shard go
    table: str = ""  # the Parquet table that results are gathered in; "" leaves them as files


class UnitWorker:
    """Does units of photos with one worker's networks.

    Args:
        make: loads what the work on a photo needs, and returns the function that does it.
        settings: what a result depends on, for the record.
    """

    def __init__(self, make: Callable[[], Maker], settings: Mapping[str, Any]) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._make, self._settings = make, settings
        self._work: Maker | None = None

    def __call__(self, unit: Unit) -> list[Outcome]:
        """Do what is not done yet; returns what became of every photo.

        Raises InputError: what the work needs cannot be loaded, or nothing can be written.
        """
        own = Path(unit.table or unit.record)
        with locked(own, PATIENCE, place=beside(own, "unit")):
            record = Record(Path(unit.record), self._settings)
            if unit.table:
                return self._in_table(unit, record)
            known = record.finished(_whole(unit)) if unit.shard else None
            return list(self._outcomes(unit, record)) if known is None else known

    def _in_table(self, unit: Unit, record: Record) -> list[Outcome]:
        """Do a unit whose files are gathered in a table: meanwhile they lie beside the record, in its own folder."""
        table, staged = Path(unit.table), record.folder
        about = record.about((_whole(unit),) if unit.shard else unit.tasks)
        kept = table_facts(table)
        outcomes = [Outcome(**line) for line in kept["outcomes"]] if kept.get("about") == about else None
        if outcomes is None or not _lasting(outcomes):
            if Path(unit.record).is_file():  # some could not be done, and are tried again
                for name, picture in table_files(table):
                    (staged / name).parent.mkdir(parents=True, exist_ok=True)
                    (staged / name).write_bytes(picture)
            outcomes = _gathered(list(self._outcomes(unit, record)), staged, table, about)
        if _lasting(outcomes):
            shutil.rmtree(staged, ignore_errors=True)
        return outcomes

    def _outcomes(self, unit: Unit, record: Record) -> Iterator[Outcome]:
        done = []
        try:
            for task in _tasks(unit):
                yield record.known(task) or self._done(task, record, Path(f"{unit.record}.begun"))
                done.append(task.source)
        except UnreadableShardError as error:
            yield Outcome(unit.shard, problem=str(error).removeprefix(f"{unit.shard}: "))
        else:
            if unit.shard:
                record.add(Outcome(unit.shard, facts={"photos": done}), _whole(unit))

    def _done(self, task: Task, record: Record, begun: Path) -> Outcome:
        """Do a photo, and put it on record; `begun` names the photo in hand, for whoever goes on after a kill."""
        tries = _tries(begun, task)
        if tries >= TRIES:
            outcome = Outcome(task.source, problem=KILLED)
        else:
            begun.parent.mkdir(parents=True, exist_ok=True)
            begun.write_text(json.dumps([task.source, tries + 1]))
            if self._work is None:
                self._work = self._make()
            outcome = attempted(self._work, task)
        record.add(outcome, task)
        begun.unlink(missing_ok=True)
        return outcome


class UnreadableShardError(Exception):
    """A table or an archive that cannot be read, or not to its end."""


def _lasting(outcomes: Sequence[Outcome]) -> bool:
    return all(is_lasting(outcome.problem) for outcome in outcomes)


def _gathered(outcomes: Sequence[Outcome], staged: Path, table: Path, about: str) -> list[Outcome]:
    """Move the files of outcomes from a folder into a table, which is `about` them; returns them with their places."""
    files = [(outcome, Path(file)) for outcome in outcomes for file in outcome.files]
    rows = (
        {"name": os.path.relpath(file, staged), "source": outcome.source, "picture": file.read_bytes(),
         "warnings": outcome.warnings, "facts": json.dumps(outcome.facts)}
        for outcome, file in files
    )  # fmt: skip
    named = [replace(it, files=tuple(f"{table}/{os.path.relpath(file, staged)}" for file in it.files))
             for it in outcomes]  # fmt: skip
    write_table(table, rows, {"about": about, "outcomes": [asdict(outcome) for outcome in named]})
    for _, file in files:
        file.unlink(missing_ok=True)
    return named


def _whole(unit: Unit) -> Task:
    """A shard as one task, on record when all its photos are."""
    return Task(unit.shard, unit.folder)


def _tasks(unit: Unit) -> Iterator[Task]:
    yield from unit.tasks
    photos = photos_in(Path(unit.shard), unit.column) if unit.shard else iter(())
    while True:
        try:
            name, content = next(photos)
        except StopIteration:
            return
        except InputError as error:
            raise UnreadableShardError(str(error)) from error
        yield Task(f"{unit.shard}/{name}", str(Path(unit.folder) / f"{name}.png"), content)


def _tries(begun: Path, task: Task) -> int:
    """How often a photo was begun and never ended."""
    with suppress(OSError, ValueError):
        source, tries = json.loads(begun.read_text())
        return int(tries) if source == task.source else 0
    return 0


def plan_units(tasks: Sequence[Task], folder: Path, jobs: int) -> list[Unit]:
    """Return units for photos whose results stay files; their records lie in a hidden folder below `folder`."""
    size = min(max(len(tasks) // (PER_WORKER * jobs), 1), LARGEST)
    parts = [tuple(tasks[start : start + size]) for start in range(0, len(tasks), size)]
    return [Unit(str(folder / HIDDEN / f"{_digest(part)}.jsonl"), part) for part in parts]


def _digest(tasks: Sequence[Task]) -> str:
    return hashlib.sha256("\0".join(task.source for task in tasks).encode(errors="surrogateescape")).hexdigest()[:32]


def plan_tables(tasks: Sequence[Task], folder: Path) -> list[Unit]:
    """Return units for photos whose results are gathered in tables: by name, so that most stay as photos are added.

    Raises InputError: `folder` holds tables of other photos.
    """
    count = 1
    while count * LARGEST < len(tasks):
        count *= 2
    parts: dict[int, list[Task]] = {}
    for task in tasks:
        name = os.path.relpath(task.target, folder)
        parts.setdefault(zlib.crc32(name.encode(errors="surrogateescape")) % count, []).append(task)
    units = []
    for number, part in sorted(parts.items()):
        name = f"part-{number:05d}-of-{count:05d}"
        staged = folder / HIDDEN / name
        own = tuple(replace(it, target=str(staged / os.path.relpath(it.target, folder))) for it in part)
        units.append(Unit(str(staged / RECORD), own, table=str(folder / f"{name}{TABLE}")))
    _remove_stale({unit.table for unit in units}, {task.source for task in tasks}, folder)
    return units


def _remove_stale(tables: Set[str], sources: Set[str], folder: Path) -> None:
    """Remove tables of an earlier plan. Raises InputError: their photos are there, but not among these `sources`."""
    stale = [path for path in sorted(folder.glob(f"part-*-of-*{TABLE}")) if str(path) not in tables]
    for path in stale:
        for line in table_facts(path).get("outcomes", ()):
            if line["source"] not in sources and Path(line["source"]).exists():
                raise InputError(f"{path}: holds results of other photos ({line['source']}); choose another --out")
    for path in stale:
        path.unlink()


def plan_shards(shards: Mapping[str, Path], folder: Path, column: str | None, tables: bool) -> list[Unit]:
    """Return a unit for each shard, by the name of its results below `folder`: a folder of files, or a table."""
    units = []
    for name, path in shards.items():
        own = folder / HIDDEN / name if tables else folder / name
        table = str(folder / f"{name}{TABLE}") if tables else ""
        units.append(Unit(str(own / RECORD), (), str(path), column, str(own), table))
    return units
