"""Contenders in processes of their own: one that stays and works when told, or a new one for every run.

Each is looked at from outside while it runs: how much memory it holds, and how much of that is no page of a file.
"""

import multiprocessing
import os
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from convert.errors import InputError, first_line
from toonport.bench import work

P = ParamSpec("P")
T = TypeVar("T")

LOOK = 0.01  # seconds between two looks at a process's memory


@dataclass
class Memory:
    """Largest memory of a process so far, in bytes; 0 where the system does not tell."""

    resident: int = 0  # all of it
    anonymous: int = 0  # without pages of files

    def look(self, pid: int) -> None:
        """Look at a process; one that has ended changes nothing."""
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            return
        held = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}
        self.resident = max(self.resident, held.get("VmHWM", 0))
        self.anonymous = max(self.anonymous, held.get("RssAnon", 0))


class Contender(ABC):
    """Something that is timed; opened before its first run, closed after its last."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.first = 0.0  # seconds of what precedes the runs that count: what is compiled

    def open(self) -> None:  # noqa: B027  # a process for each run has nothing to open
        """Get ready for runs, and make the first one."""

    @abstractmethod
    def run(self) -> tuple[float, float]:
        """Run once; seconds on the clock and of processor time."""

    def close(self) -> None:  # noqa: B027
        """End what was opened."""


class Resident(Contender):
    """A function of `toonport.bench.work` and what it returns, in a process that stays.

    Args:
        what: name of the function.
        arguments: what it is called with.
    """

    def __init__(self, what: str, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self._what, self._arguments = what, dict(arguments)

    def open(self) -> None:
        """See `Contender.open`. Raises InputError: the process failed, or was killed, as for want of memory."""
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, self._what, self._arguments), daemon=True)
        self._process.start()
        other.close()
        self.first = self._answer()[0]

    def run(self) -> tuple[float, float]:
        """See `Contender.run`."""
        self._pipe.send(True)
        return self._answer()

    def close(self) -> None:
        """See `Contender.close`."""
        self._process.terminate()
        self._process.join()

    def _answer(self) -> tuple[float, float]:
        while not self._pipe.poll(LOOK):
            self.memory.look(self._process.pid or 0)
        try:
            answer: tuple[float, float] | str = self._pipe.recv()
        except EOFError:
            answer = "its process ended, as the system does where memory runs out"
        if isinstance(answer, str):
            raise InputError(f"{self._what} {self._arguments}: {answer}")
        self.memory.look(self._process.pid or 0)
        return answer


def _serve(pipe: Any, what: str, arguments: Mapping[str, Any]) -> None:
    """Build what is timed, run it once, and again whenever something arrives."""
    try:
        ready = getattr(work, what)(**arguments)
        while True:
            wall, cpu = time.perf_counter(), time.process_time()
            ready.run()
            pipe.send((time.perf_counter() - wall, time.process_time() - cpu))
            pipe.recv()
    except EOFError:
        return
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {first_line(error)}")


class Launched(Contender):
    """A program, started anew for every run in a folder of its own, so that runs do not replace each other's files.

    Args:
        words: its command line; {run} is the folder.

    Raises InputError: from `run`: the program failed; its last line says why.
    """

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__()
        self._words = words

    def run(self) -> tuple[float, float]:
        """See `Contender.run`."""
        with tempfile.TemporaryDirectory(prefix="toonport_run_") as folder, tempfile.TemporaryFile("w+") as said:
            words = [word.replace("{run}", folder) for word in self._words]
            os.sync()  # what was written before is not this run's work
            started, before = time.perf_counter(), os.times()
            process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=said)
            watch = threading.Thread(target=self._watch, args=(process,))
            watch.start()
            code = process.wait()
            wall, after = time.perf_counter() - started, os.times()
            watch.join()
            if code:
                said.seek(0)
                raise InputError(f"{' '.join(words[:5])} ...: {(said.read().strip().splitlines() or ['failed'])[-1]}")
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return wall, cpu

    def _watch(self, process: "subprocess.Popen[bytes]") -> None:
        while process.returncode is None:
            self.memory.look(process.pid)
            time.sleep(LOOK)


@dataclass(frozen=True)
class Runs:
    """What the runs of one contender have shown."""

    wall: tuple[float, ...]  # seconds on the clock of each run that counts
    cpu: tuple[float, ...]  # and of processor time
    first: float = 0.0  # seconds of the first run, which compiles; 0 for a program
    memory: Memory = field(default_factory=Memory)


def compete(contenders: Mapping[str, Contender], rounds: int) -> dict[str, Runs]:
    """Open every contender, let them run in turns, and close them. Raises InputError: one of them failed."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    opened: list[Contender] = []
    try:
        for contender in contenders.values():
            opened.append(contender)
            contender.open()
        for _ in range(rounds):
            for name, contender in contenders.items():
                times[name].append(contender.run())
    finally:
        for contender in opened:
            contender.close()
    found = {}
    for name, contender in contenders.items():
        wall, cpu = zip(*times[name], strict=True)
        found[name] = Runs(wall, cpu, contender.first, contender.memory)
    return found


def alone(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `work` returns in a new process that does nothing else."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *args, **kwargs).result()
