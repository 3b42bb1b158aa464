"""Whether a port refuses to train on numbers that are not finite before it moves a weight, as its reference does."""

import math
from collections.abc import Iterator

import numpy as np

from convert.errors import first_line
from parity_tests.harness.measurement import Kind, Measurement, Mode, Probe, Quantity
from parity_tests.harness.sides.base import Array
from parity_tests.harness.trainers import Trainer
from parity_tests.harness.training_processes import train_among

OVERFLOWING = math.inf  # the loss scale under which any gradient does


def measure_refusals(trainer: Trainer, batch: tuple[Array, Array], order: int) -> Iterator[Measurement]:
    """Have a port that watches train on a picture that holds NaN, then under a scale that makes gradients overflow.

    Args:
        trainer: stands after the last step that is compared; it is of no use afterwards.
        batch: pictures of both domains.
        order: position of the first measurement.
    """
    first, second = batch
    spoilt = first.copy()
    spoilt[0, 0, 0, 0] = np.nan
    cases = (("a picture that holds NaN", spoilt, 1.0), ("a gradient that overflows", first, OVERFLOWING))
    for place, (name, pictures, scale) in enumerate(cases):
        trainer.step.descent.scale = scale
        quantity = Quantity(Kind.REFUSAL, name, phase=next(iter(trainer.training.phases)))
        probe = Probe(step=trainer.step.step_number)
        problem = _problem(trainer, pictures, second)
        yield Measurement(Mode.TRAINING, probe, "", "", quantity, order + place, count=1, problem=problem)


def _problem(trainer: Trainer, first: Array, second: Array) -> str:
    before = _trained(trainer)
    try:
        train_among(trainer, first, second)
    except FloatingPointError:
        moved = [name for name, value in _trained(trainer).items() if not np.array_equal(value, before[name])]
        return f"the port moves {moved[0]} before it refuses" if moved else ""
    except Exception as error:
        return f"the port cannot refuse it: {type(error).__name__}: {first_line(error)}"
    return "the port trains on it, where PyTorch refuses"


def _trained(trainer: Trainer) -> dict[str, Array]:
    """Copies of all that optimisers move."""
    weights = {part: trainer.weights(part) for part in trainer.networks}
    return {f"{part}.{name}": weights[part][name] for _, part, name in trainer.moments()}
