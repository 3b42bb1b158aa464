"""Tasks in forked processes of a process that has imported the frameworks but run nothing, each with a time limit."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any


@dataclass(frozen=True)
class Failure:
    """A task that ended without a result."""

    reason: str


@dataclass
class _Running:
    key: Any
    process: Any
    pipe: Connection
    deadline: float


def run_forked(tasks: Iterable[tuple[Any, Callable[[], Any]]], jobs: int, timeout: float) -> Iterator[tuple[Any, Any]]:
    """Run each task in a process of its own and yield (its key, its result or a Failure) as they end.

    Args:
        tasks: (key, function without arguments whose result can be pickled).
        jobs: how many processes run at a time.
        timeout: seconds that a task may take.
    """
    waiting, running = iter(tasks), list[_Running]()
    exhausted = False
    while running or not exhausted:
        while len(running) < jobs and not exhausted:
            task = next(waiting, None)
            if task is None:
                exhausted = True
            else:
                running.append(_start(*task, timeout))
        for each in _ended(running):
            running.remove(each)
            yield each.key, _result(each)


def _start(key: Any, task: Callable[[], Any], timeout: float) -> _Running:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(task, theirs), daemon=True)
    process.start()
    theirs.close()
    return _Running(key, process, ours, time.monotonic() + timeout)


def _run(task: Callable[[], Any], pipe: Connection) -> None:
    """Send the result, and leave without the clean-up of threads that a fork does not have."""
    _silence()
    try:
        pipe.send(task())
    except BaseException as error:  # a mutant can raise anything
        pipe.send(Failure(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"))
    finally:
        pipe.close()
        os._exit(0)


def _silence() -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)


def _ended(running: list[_Running]) -> list[_Running]:
    if not running:
        return []
    ready = wait([each.pipe for each in running], timeout=0.5)
    now = time.monotonic()
    return [each for each in running if each.pipe in ready or now > each.deadline]


def _result(ended: _Running) -> Any:
    try:
        return ended.pipe.recv() if ended.pipe.poll() else Failure("took too long")
    except EOFError:
        return Failure("the process died")
    finally:
        ended.pipe.close()
        ended.process.kill()
        ended.process.join()
