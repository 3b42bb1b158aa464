"""Reading a file as every program does, watched: what it may do to the process that reads it."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from convert.errors import InputError
from convert.identify import identify, open_source

MIB = 2**20
SECONDS = 30  # after which reading a file of the corpus counts as hanging
RUNNING = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn", "subprocess.Popen",
           "ctypes.dlopen", "shutil.rmtree", "socket.connect", "webbrowser.open")  # fmt: skip
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_seen: list[str] = []
_watching = False


def _audit(event: str, _: object) -> None:
    if _watching and event in RUNNING:
        _seen.append(event)


sys.addaudithook(_audit)


@dataclass(frozen=True)
class Reading:
    """What came of a file."""

    problem: str  # the message about it; empty where it could be read
    fault: str  # what must not happen: another error than the one for strange files, code that ran, a hang
    seconds: float
    peak: int  # bytes that the process grew by meanwhile, 0 where the system does not tell


class _HangError(BaseException):
    """Reading took too long; no handler of errors catches it."""


def read(path: Path) -> Reading:
    """Open a file, look for networks in it, and take its smaller tensors."""
    problem = fault = ""
    before, start = _peak(reset=True), time.perf_counter()
    with _watched():
        try:
            _read(path)
        except InputError as error:
            problem = str(error)
        except _HangError:
            fault = f"still reading after {SECONDS} s"
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"[:300]
        if _seen:
            fault = f"ran {', '.join(_seen)}"
    return Reading(problem, fault, time.perf_counter() - start, max(_peak() - before, 0))


def _read(path: Path) -> None:
    checkpoint = open_source(path)
    try:
        identify(checkpoint)
    finally:
        for entry in list(checkpoint.tensors.values())[:50]:
            if entry.spec.shape and max(entry.spec.shape) < 2**16:
                entry.read()


@contextmanager
def _watched() -> Iterator[None]:
    global _watching

    def stop(number: int, frame: FrameType | None) -> None:
        raise _HangError

    before = signal.signal(signal.SIGALRM, stop)
    _seen.clear()
    signal.alarm(SECONDS)
    _watching = True
    try:
        yield
    finally:
        _watching = False
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _peak(reset: bool = False) -> int:
    """The largest memory of this process since the last reset, in bytes."""
    if not os.access(RESET, os.W_OK):
        return 0
    if reset:
        RESET.write_text("5")
    found = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(found["VmHWM"].split()[0]) * 1024
