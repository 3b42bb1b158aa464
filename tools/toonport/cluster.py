"""Work in several processes here, or on Ray (the extra `ray`): actors that hold what is loaded, on any machine."""

import logging
import multiprocessing
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from convert.cores import pool_of
from convert.devices import CPU, GPU
from convert.errors import InputError, first_line

HERE = "local"  # in place of an address: a Ray of this command's own, which ends with it
ADDRESS_HELP = "on Ray: alone on this machine; or ADDRESS, a cluster's HOST:PORT, ray://HOST:PORT or auto"
BLOCKS = 2000  # pieces that Ray Data keeps books of
LOOPBACK = "127.0.0.1"
Unit = TypeVar("Unit")
Result = TypeVar("Result")


class _Actor:
    """One process of the cluster; loads when it is given its first unit, so that an error comes back as a result."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]], folder: str) -> None:
        self._make, self._folder = make, folder
        self._work: Callable[[Any], Any] | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            if self._work is None:
                self._enter()
                self._work = self._make()
            return {"result": [self._work(row["unit"])], "problem": ""}
        except InputError as error:
            return {"result": [], "problem": str(error)}

    def _enter(self) -> None:
        """Go where the command was given, so that names of files mean the same."""
        try:
            os.chdir(self._folder)
        except OSError as error:
            text = f"{self._folder}: is not on {platform.node()}; every machine of the cluster needs the same folders"
            raise InputError(text) from error


def require_address(address: str) -> None:
    """Refuse what is no address of a cluster. Raises InputError: says what would be."""
    if address not in (HERE, "auto") and not address.startswith("ray://"):
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise InputError(f"--ray {address}: no address of a cluster; use HOST:PORT, ray://HOST:PORT, auto, or "
                             "--ray as the last word")  # fmt: skip


def on_ray(
    make: Callable[[], Callable[[Unit], Result]], units: Sequence[Unit], address: str, jobs: int | None, gpu: bool
) -> Iterator[Result]:
    """Yield what becomes of every unit, as it is done; one that was under way when a process died is begun again.

    Args:
        make: loads what the work needs and returns the function that does it; called once per actor, and must be
            picklable.
        units: what is to be done, each picklable.
        address: see `require_address`.
        jobs: actors; None: as many as the cluster has processors, or GPUs.
        gpu: each actor has one GPU.

    Raises InputError: Ray is not installed or not to be reached, or `make` or the work raises it.
    """
    require_address(address)
    _prepare(address == HERE)
    try:
        import ray
        from ray import data
    except ImportError as error:
        raise InputError("--ray needs Ray: pip install 'toonport[ray]'") from error
    own = {"num_cpus": jobs, "include_dashboard": False, "_node_ip_address": LOOPBACK} if address == HERE else {}
    try:
        with _without_words():
            if not ray.is_initialized():
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(f"--ray {address}: no Ray there: {first_line(error)}") from error
    data.DataContext.get_current().enable_progress_bars = False
    available = int(ray.cluster_resources().get((GPU if gpu else CPU).upper(), 0))
    if not available:
        raise InputError(f"--ray {address}: the cluster has no {GPU.upper() if gpu else 'processor'}")
    actors = data.ActorPoolStrategy(size=min(jobs or available, available, len(units)))
    pieces = data.from_items([{"unit": unit} for unit in units], override_num_blocks=min(len(units), BLOCKS))
    done = pieces.map(_Actor, fn_constructor_args=(make, os.getcwd()), compute=actors, num_cpus=1, num_gpus=int(gpu))
    for row in done.iter_rows():
        if row["problem"]:
            raise InputError(row["problem"])
        yield row["result"][0]


def spread(
    work: Callable[[Unit], Result], units: Sequence[Unit], jobs: int | None, address: str | None, gpu: bool = False
) -> Iterator[Result]:
    """Yield what becomes of every unit, in order: in this process, in several or, with an address, on Ray.

    Args:
        work: what is done with a unit, by itself; picklable.
        units: each picklable.
        jobs: processes; None: one here, on Ray as many as the cluster has processors.
        address: see `require_address`.
        gpu: each process on Ray has one GPU.

    Raises InputError: see `on_ray`; or a process was killed.
    """
    if address:
        yield from in_order(on_ray(partial(_Numbered, work), list(enumerate(units)), address, jobs, gpu))
    elif jobs is None or min(jobs, len(units)) < 2:
        yield from map(work, units)
    else:
        context = multiprocessing.get_context("spawn")  # threads of the frameworks do not survive a fork
        pool = pool_of(min(jobs, len(units)), context)
        try:
            yield from pool.map(work, units)
        except BrokenProcessPool as error:
            raise InputError(f"--jobs {jobs}: a process was killed; is there memory for so many?") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class _Numbered:
    """Work that says which unit it was."""

    work: Callable[[Any], Any]

    def __call__(self, unit: tuple[int, Any]) -> tuple[int, Any]:
        return unit[0], self.work(unit[1])


def in_order(numbered: Iterator[tuple[int, Result]]) -> Iterator[Result]:
    """Yield what is numbered from 0 on in that order, as soon as it is there."""
    waiting: dict[int, Result] = {}
    following = 0
    for number, result in numbered:
        waiting[number] = result
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def _prepare(here: bool) -> None:
    """Ask Ray, before it is imported, to send nothing, to show errors only and, alone on this machine, to be reached by
    no other."""
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_DATA_LOG_LEVEL="ERROR", RAY_BACKEND_LOG_LEVEL="fatal")
    if here:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # on any system: listen to this machine only


@contextmanager
def _without_words() -> Iterator[None]:
    """Keep what Ray's core writes as it starts from standard error; what goes wrong is raised."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
