"""Which cases of a long test run today: a few of them, other ones tomorrow, all in their turn."""

from collections.abc import Sequence
from random import Random


def cases_of_the_day(test: str, cases: Sequence[str], count: int, seed: int) -> set[str]:
    """Deal the cases of a test, shuffled in an order that only its name decides, `count` to each seed in turn.

    Seeds that follow each other, as days do, have neighbouring cases: len(cases) / count of them, rounded up, have all.
    """
    order = list(cases)
    Random(test).shuffle(order)
    return {order[(seed * count + index) % len(order)] for index in range(count)}
