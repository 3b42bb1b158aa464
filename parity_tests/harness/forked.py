"""Tasks in processes that are forked from one which has imported the frameworks but run nothing.

What a task leaves in memory, such as graphs of MindSpore, ends with its process. Each has its share of the cores.
"""

import multiprocessing
import os
import pickle
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import util
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from convert.cores import end_with_parent, keep_to_cores, share_of_cores

LEAVING = 5.0  # seconds in which a process that has said its result gives back what outlives it
T = TypeVar("T")
Say = Callable[[str], None]


class ProcessError(RuntimeError):
    """A task in a process of its own that failed there, with the traceback as text, or a process that died."""


@dataclass(frozen=True)
class Failure:
    """A task that ended without a result."""

    reason: str
    error: Exception | None = None  # what it raised, if that can be passed on
    trace: str = ""  # its traceback


@dataclass
class _Running:
    key: Any
    process: Any
    pipe: Connection
    deadline: float
    place: int  # among the processes that run at a time

    def remaining(self, longest: float) -> float:
        """Seconds until the deadline, at most `longest` and at least 0."""
        return max(0.0, min(longest, self.deadline - time.monotonic()))


def run_elsewhere(tasks: Sequence[Callable[[Say], T]], jobs: int, preload: Sequence[str], say: Say) -> list[T]:
    """Return the results of tasks in their order, or raise what the first one raised that failed.

    They are forked from a process that has only imported, so that it does not matter what ran in this one.

    Args:
        tasks: functions that can be pickled, of what they call to say how far they are; they are begun in this order.
        jobs: how many run at a time.
        preload: modules that are imported once for all.
        say: what they say goes here.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    found: dict[int, T] = {}
    for number, result in run_forked(enumerate(tasks), min(jobs, len(tasks) or 1), say=say, context=context):
        if isinstance(result, Failure):
            raise result.error or ProcessError(result.reason) from ProcessError(result.trace)
        found[number] = result
    return [found[number] for number in range(len(tasks))]


def run_forked(
    tasks: Iterable[tuple[Any, Callable[..., Any]]],
    jobs: int,
    timeout: float = float("inf"),
    say: Say | None = None,
    context: Any = None,
) -> Iterator[tuple[Any, Any]]:
    """Run each task in a process of its own and yield (its key, its result or a Failure) as they end.

    Args:
        tasks: (key, function whose result can be pickled).
        jobs: how many processes run at a time.
        timeout: seconds that a task may take.
        say: where what a task says goes; the functions then take what says it as their argument, else none.
        context: of multiprocessing; None: forks of this process.
    """
    context = context or multiprocessing.get_context("fork")
    waiting, running = iter(tasks), list[_Running]()
    exhausted = False
    try:
        while running or not exhausted:
            while len(running) < jobs and not exhausted:
                task = next(waiting, None)
                if task is None:
                    exhausted = True
                else:
                    place = min(set(range(jobs)) - {each.place for each in running})
                    run = partial(_run, task[1], saying=bool(say), cores=share_of_cores(place, jobs))
                    running.append(_start(context, task[0], run, time.monotonic() + timeout, place))
            for each in _ready(running):
                ended, message = _message(each)
                if not ended and say:
                    say(message)
                    continue
                running.remove(each)
                _end(each, patience=each.remaining(LEAVING))
                yield each.key, message
    finally:
        for each in running:
            _end(each)


def _start(context: Any, key: Any, run: Callable[[Connection], None], deadline: float, place: int) -> _Running:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=run, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return _Running(key, process, ours, deadline, place)


def _run(task: Callable[..., Any], pipe: Connection, saying: bool, cores: Collection[int]) -> None:
    """Send the result, and leave without the clean-up of threads that a fork does not have."""
    _silence()
    try:
        end_with_parent()
        keep_to_cores(cores)
        result = task(partial(_send, pipe, False)) if saying else task()
    except BaseException as error:  # a mutant can raise anything
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        result = Failure(reason, _passed_on(error), "".join(traceback.format_exception(error)))
    try:
        _send(pipe, True, result)
    finally:
        pipe.close()
        util._run_finalizers(0)  # type: ignore[attr-defined]  # gives back semaphores, which outlive a process
        os._exit(0)


def _send(pipe: Connection, ended: bool, message: Any) -> None:
    # by value: multiprocessing's own pickling leaves tensors of PyTorch with the process, which ends
    pipe.send_bytes(pickle.dumps((ended, message)))


def _passed_on(error: BaseException) -> Exception | None:
    """The error, if another process can read it."""
    with suppress(Exception):
        found = pickle.loads(pickle.dumps(error))
        return found if isinstance(found, Exception) else None
    return None


def _silence() -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)


def _ready(running: list[_Running]) -> list[_Running]:
    ready = wait([each.pipe for each in running], timeout=0.5) if running else []
    now = time.monotonic()
    return [each for each in running if each.pipe in ready or now > each.deadline]


def _message(running: _Running) -> tuple[bool, Any]:
    """Whether a task has ended, and its result, else what it says."""
    try:
        return pickle.loads(running.pipe.recv_bytes()) if running.pipe.poll() else (True, Failure("took too long"))
    except EOFError:
        return True, Failure("the process died")


def _end(running: _Running, patience: float = 0.0) -> None:
    running.pipe.close()
    running.process.join(patience)
    running.process.kill()
    running.process.join()
