"""Many photos: which ones, under which names, in several processes, resumable, none able to stop the others."""

import hashlib
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from convert.cores import pool_of
from convert.errors import InputError
from toonport.photo.faces import NO_FACE
from toonport.photo.files import name_photos

AHEAD = 2  # photos handed to each process before it asks for more
KILLED = "the program that reads it was killed by this file"


@dataclass(frozen=True)
class Task:
    """One photo and what is to be written."""

    source: str  # the photo; "-" when `content` holds it
    target: str  # the file to write; further faces and sheets get names derived from it
    content: bytes | None = None  # the photo itself, when it came through standard input


@dataclass(frozen=True)
class Outcome:
    """What became of one photo."""

    source: str  # the photo
    files: tuple[str, ...] = ()  # the files written; empty when there was a problem
    problem: str = ""  # why nothing was written, or ""
    warnings: tuple[str, ...] = ()  # what the user should know
    facts: Mapping[str, Any] = field(default_factory=dict)  # numbers about the portraits, for the record
    notes: tuple[str, ...] = ()  # what the user should know of all photos; shown once


Maker = Callable[[Task], Outcome]  # raises InputError for a photo that cannot be used


def plan_tasks(photos: Sequence[str], folder: Path) -> list[Task]:
    """Return a task for every photo that is named or lies in a folder that is named, with names by `name_photos`.

    Raises InputError: no picture at all, or a result would replace a photo or lie among the photos.
    """
    for argument in photos:
        if Path(argument).is_dir() and Path(argument).resolve() == folder.resolve():
            raise InputError(f"{argument}: photos and results need different folders; choose another --out")
    named = name_photos(photos, folder)
    tasks = [Task(str(photo), str(folder / f"{name}.png")) for name, photo in named.items()]
    require_kept(tasks)
    return tasks


def require_kept(tasks: Sequence[Task]) -> None:
    """Refuse targets that are photos. Raises InputError: names the first."""
    photos = {Path(task.source).resolve() for task in tasks if task.content is None}
    for task in tasks:
        if Path(task.target).resolve() in photos:
            raise InputError(f"{task.target}: the result would replace the photo; choose another --out")


def sample(tasks: list[Task], count: int) -> list[Task]:
    """Return `count` tasks at equal intervals, beginning with the first; all of them when there are no more."""
    if count >= len(tasks):
        return tasks
    return [tasks[index * len(tasks) // count] for index in range(count)]


def is_lasting(problem: str) -> bool:
    """Whether a photo need not be tried again: it was done, or has no face; all else may have gone away."""
    return problem in ("", NO_FACE)


class Record:
    """What became of every photo, one JSON line each, so that a second run goes on where the first ended.

    A line counts only for the same photo (by size and time), the same settings and target, and while its files are
    there, not empty and no other photo's. Of what was not done, only "no face" counts: all else may have gone away.

    Raises InputError: the record cannot be read, or, when something is added, not be written.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self._path = path
        self._settings = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        self._lines: dict[str, dict[str, Any]] = {}
        self._owners: dict[str, str] = {}  # file -> the photo that was written to it last
        for text in self._texts():
            try:
                self._keep(json.loads(text))
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # a line cut short when the program was stopped

    @property
    def folder(self) -> Path:
        """Where the record and the results lie."""
        return self._path.parent

    def beside(self, path: Path) -> "Record":
        """Return another record of work with the same settings."""
        other = Record(path, {})
        other._settings = self._settings
        return other

    def _texts(self) -> list[str]:
        try:
            return self._path.read_text(errors="replace").splitlines() if self._path.is_file() else []
        except OSError as error:
            raise InputError(f"{self._path}: cannot be read: {error.strerror}") from error

    def _keep(self, line: dict[str, Any]) -> None:
        self._lines[line["source"]] = line
        self._owners.update(dict.fromkeys(line["files"], line["source"]))

    def known(self, task: Task) -> Outcome | None:
        """Return what became of a photo in an earlier run, or None when it is to be done (again)."""
        line = self._lines.get(task.source)
        wanted = {"settings": self._settings, "state": state_of(task), "target": self._name(task.target)}
        if not line or any(line.get(key) != value for key, value in wanted.items()):
            return None
        files = tuple(line["files"])
        if not all(self._is_there(name) and self._owners[name] == task.source for name in files):
            return None
        if not is_lasting(line["problem"]):
            return None
        return self._outcome(line)

    def finished(self, whole: Task) -> list[Outcome] | None:
        """Return what became of every photo of a shard, where none is to be done (again)."""
        known = self.known(whole)
        lines = [self._lines[source] for source in known.facts["photos"]] if known else []
        lasting = all(line["settings"] == self._settings and is_lasting(line["problem"]) for line in lines)
        whole_files = all(self._is_there(name) for line in lines for name in line["files"])
        return [self._outcome(line) for line in lines] if known and lasting and whole_files else None

    def about(self, tasks: Sequence[Task]) -> str:
        """Return a hash of the settings and of the present state of photos."""
        content = [self._settings, *([task.source, state_of(task)] for task in tasks)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _outcome(self, line: Mapping[str, Any]) -> Outcome:
        names = tuple(str(self._path.parent / name) for name in line["files"])
        return Outcome(line["source"], names, line["problem"], tuple(line["warnings"]), line["facts"])

    def add(self, outcome: Outcome, task: Task) -> None:
        """Append what became of a photo, where that is not what the record says already."""
        facts = {"settings": self._settings, "state": state_of(task), "target": self._name(task.target)}
        line = {**asdict(outcome), "files": [self._name(name) for name in outcome.files], **facts}
        text = json.dumps(line)
        line = json.loads(text)
        if self._lines.get(outcome.source) == line:
            return  # tried again, with the same end
        self._keep(line)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "a+b") as file:
                cut = file.tell() and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
                file.write(b"\n" * bool(cut) + text.encode() + b"\n")
        except OSError as error:
            raise InputError(f"{self._path}: cannot be written: {error.strerror}") from error

    def _is_there(self, name: str) -> bool:
        """Whether a file is there and was not emptied, as a power cut may leave it."""
        file = self._path.parent / name
        return file.is_file() and file.stat().st_size > 0

    def _name(self, file: str) -> str:
        return os.path.relpath(file, self._path.parent)


def state_of(task: Task) -> list[int | str]:
    """Return what tells that a photo has changed: size and time of a file, size and hash of a content."""
    if task.content is not None:
        return [len(task.content), hashlib.sha256(task.content).hexdigest()]
    try:
        about = os.stat(task.source)
    except OSError:
        return []
    return [about.st_size, about.st_mtime_ns]


def run_tasks(make: Callable[[], Maker], tasks: Sequence[Task], jobs: int) -> Iterator[Outcome]:
    """Yield what becomes of every photo, as it is done.

    Args:
        make: loads what the work needs and returns the function that does it; called once per process, and
            must be picklable (a partial of a module's class).
        tasks: the photos.
        jobs: processes; 1 works in this one.

    Raises InputError: what the work needs cannot be loaded.
    """
    if jobs == 1:
        work = make()
        yield from (attempted(work, task) for task in tasks)
        return
    waiting, suspects = list(tasks), list[Task]()
    while waiting or suspects:
        if waiting:
            suspects += yield from _run_pool(make, waiting, jobs)
        else:  # each of those that were under way when a process died, alone
            task = suspects.pop(0)
            if (yield from _run_pool(make, [task], 1)):
                yield Outcome(task.source, problem=KILLED)


def _run_pool(make: Callable[[], Maker], waiting: list[Task], jobs: int) -> Generator[Outcome, None, list[Task]]:
    """Work through `waiting`, emptying it; returns the tasks under way when a process died."""
    context = multiprocessing.get_context("spawn")  # threads of OpenCV and the frameworks do not survive a fork
    running: dict[Future[Outcome], Task] = {}
    pool = pool_of(jobs, context)
    try:
        while waiting or running:
            while waiting and len(running) < jobs * AHEAD:
                task = waiting.pop(0)
                running[pool.submit(_work, make, task)] = task
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                outcome = future.result()
                del running[future]
                yield outcome
        return []
    except BrokenProcessPool:
        return list(running.values())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


_maker: Maker | None = None  # what this process has loaded


def _work(make: Callable[[], Maker], task: Task) -> Outcome:
    global _maker
    if _maker is None:
        _maker = make()
        if "cv2" in sys.modules:
            sys.modules["cv2"].setNumThreads(1)
    return attempted(_maker, task)


def attempted(work: Maker, task: Task) -> Outcome:
    """Do one photo; whatever goes wrong with it is its own outcome."""
    try:
        return work(task)
    except InputError as error:
        return Outcome(task.source, problem=str(error).removeprefix(f"{task.source}: "))
    except Exception as error:  # one bad photo must not stop the others
        return Outcome(task.source, problem=f"failed inside: {type(error).__name__}: {error}")
