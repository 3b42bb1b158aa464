"""The processor cores of this process, and their shares for processes that work beside each other.

MindSpore's threads wait for each other by yielding: where another process takes the core that one of them is on, a
training step takes seven times as long (measured with MindSpore 2.8 on two cores).
"""

import os
import sys
import threading
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import parent_process
from typing import Any


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def share_of_cores(place: int, places: int) -> set[int]:
    """Return the cores that one of several processes has for itself: a share of this process's, at least one.

    Empty where the system does not say which they are.
    """
    if sys.platform != "linux":
        return set()
    own = sorted(os.sched_getaffinity(0))
    return set(own[place::places] or [own[place % len(own)]])


def keep_to_cores(share: Collection[int]) -> None:
    """Run this thread, and the threads and processes that it starts from now on, on these cores.

    On any where there are none, or where the system does not let a process choose, as in some containers.
    """
    if share and sys.platform == "linux":
        with suppress(OSError):
            os.sched_setaffinity(0, share)


def end_with_parent() -> None:
    """End this process when the one that started it with multiprocessing is gone, even if that was killed.

    Else it would wait for work without end, with all the memory that it has.
    """
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        """Wait for the end."""
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def pool_of(jobs: int, context: Any) -> ProcessPoolExecutor:
    """Return a pool of so many processes of a context of multiprocessing, each with its share of the cores."""
    shares = context.SimpleQueue()
    for place in range(jobs):
        shares.put(share_of_cores(place, jobs))
    return ProcessPoolExecutor(jobs, context, _take, (shares,))


def _take(shares: Any) -> None:
    end_with_parent()
    keep_to_cores(shares.get())
