"""A step of one process among several, without the others: they are taken to have found no gradient.

How a process averages then shows in its own gradients, which become smaller by their number. That the processes' sum
is right is the frameworks' own work, and needs the processes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from parity_tests.harness.sides.base import Array
from parity_tests.harness.trainers import Trainer


def train_among(trainer: Trainer, first: Array, second: Array) -> dict[str, float]:
    """Train one batch as `Trainer.train` does, whatever number of processes the trainer takes to train with it.

    Raises FloatingPointError: see `Descent`.
    """
    with _others_resting():
        return trainer.train(first, second)


@contextmanager
def _others_resting() -> Iterator[None]:
    """Put in place of what adds up gradients over processes the sum of one process."""
    import mindspore
    import torch

    with (
        mock.patch.object(torch.distributed, "all_reduce", return_value=None),
        mock.patch.object(mindspore.nn, "DistributedGradReducer", _reducer),
    ):
        yield


def _reducer(parameters: Any, mean: bool | None = None, degree: int | None = None) -> Any:
    """What MindSpore's reducer is in a group of one process: the sum, or the mean of `degree` processes."""
    from mindspore import get_auto_parallel_context, nn

    class Reducer(nn.Cell):
        """Gradients of one process among others that found none."""

        def construct(self, gradients: Any) -> Any:
            """Return the mean, or the sum."""
            return tuple(gradient * factor for gradient in gradients)

    averaged = get_auto_parallel_context("gradients_mean") if mean is None else mean
    factor = 1 / (degree or 1) if averaged else 1.0
    return Reducer()
