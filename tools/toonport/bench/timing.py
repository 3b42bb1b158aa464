"""Times of contenders that take turns, so that a machine's other work falls on all of them alike."""

import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

WARM_UP = 2  # runs of each contender that do not count


@dataclass(frozen=True)
class Times:
    """Seconds of every run of one contender: on the clock, and of processor time."""

    wall: tuple[float, ...]
    cpu: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median seconds on the clock."""
        return statistics.median(self.wall)


@dataclass(frozen=True)
class Ratio:
    """One benchmark."""

    title: str  # what is divided by what
    value: float  # median of the ratios of neighbouring runs, by the clock
    # low, high: quartiles of these ratios
    low: float
    high: float
    cpu: float  # the same median in processor time; 0 where it means nothing
    wanted: str  # the goal, in words
    good: bool  # whether the value meets it
    details: str  # the two times, and other facts


def take_turns(contenders: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = WARM_UP) -> dict[str, Times]:
    """Run every contender once per round, in turn, and return the times."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for number in range(warm_up + rounds):
        for name, work in contenders.items():
            wall, cpu = time.perf_counter(), _cpu_seconds()
            work()
            if number >= warm_up:
                found[name].append((time.perf_counter() - wall, _cpu_seconds() - cpu))
    return {name: Times(*(tuple(column) for column in zip(*rows, strict=True))) for name, rows in found.items()}


def ratio(
    title: str, above: Times, below: Times, details: str, at_least: float = 0.0, at_most: float = float("inf")
) -> Ratio:
    """Return above / below, round by round; the goal is what bounds it on one side."""
    values = sorted(a / b for a, b in zip(above.wall, below.wall, strict=True))
    cpu = statistics.median(a / b if b else 0.0 for a, b in zip(above.cpu, below.cpu, strict=True))
    value, (low, high) = statistics.median(values), spread(values)
    wanted = f">= {at_least}" if at_least else f"<= {at_most}"
    return Ratio(title, value, low, high, cpu, wanted, at_least <= value <= at_most, details)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the quartiles of values, which of a single one are itself."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def _cpu_seconds() -> float:
    """Return the processor time of this process and of its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def peak_mebibytes(children: bool = False) -> float:
    """Return the largest memory that this process, or one of its ended children, has held."""
    who = resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF
    return resource.getrusage(who).ru_maxrss / 1024
