"""The numbers that a layer is fed beside those of the run, so that every region of what it computes is reached."""

from collections.abc import Sequence

import numpy as np

from parity_tests.harness.compare import rms
from parity_tests.harness.measurement import Values
from parity_tests.harness.sides.base import Array

LOW_SPREAD = 3e-3  # standard deviation at which an epsilon of 1e-5 weighs as much as the variance
LARGE, LARGE_SIZE = 20.0, 10.0  # factor of the numbers; root mean square that they have at least
OFFSET, GRAIN = 0.9, 0.01  # mean and standard deviation of white paper
TIE = 0.5  # the numbers of few values are multiples of this, so that sums of them are exact
PICTURES = (Values.LOW_SPREAD, Values.OFFSET)  # only for feature maps, about whose spread they are
KINKED = (Values.OFFSET, Values.TIES)  # only for what has a kink or subtracts a mean


def values_for(inputs: Sequence[Array], linear: bool = False) -> tuple[Values, ...]:
    """Return what a layer with these inputs is fed beside them; `linear`: it only multiplies by weights and adds."""
    if not inputs or inputs[0].dtype.kind != "f" or inputs[0].ndim < 2:
        return ()
    every = tuple(values for values in Values if values is not Values.RECORDED)
    left_out = {*(() if inputs[0].ndim == 4 else PICTURES), *(KINKED if linear else ())}
    return tuple(values for values in every if values not in left_out)


def fed(values: Values, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """Return a layer's inputs [N, C, ...] with the first of them made into other values, in float32."""
    return (_MADE[values](inputs[0]).astype(np.float32), *inputs[1:])


def _spread(array: Array) -> float:
    return float(np.std(array, dtype=np.float64)) or 1.0


def _standard(array: Array) -> Array:
    return (array - np.mean(array, dtype=np.float64)) / _spread(array)


def _ties(array: Array) -> Array:
    rounded = np.asarray(TIE * np.round(_standard(array)))
    rounded[:, 0] = TIE
    return rounded


_MADE = {
    Values.RECORDED: lambda array: array,
    Values.LOW_SPREAD: lambda array: array * np.float32(LOW_SPREAD / _spread(array)),
    Values.LARGE: lambda array: array * np.float32(max(LARGE, LARGE_SIZE / (rms(array) or 1.0))),
    Values.OFFSET: lambda array: OFFSET + GRAIN * _standard(array),
    Values.TIES: _ties,
}
