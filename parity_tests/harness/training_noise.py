"""How far rounding alone can move each tensor of a training step, and the tensor measured against that.

The noise of a step is what float32 PyTorch makes of it when its weights start a few units in the last place away,
divided by the number of units. Where rounding carries a value across the kink of a ReLU, gradients jump: a run whose
weights are moved by four units, or the run moved the opposite way, crosses the kinks that a port's own rounding can
cross. Adam's first step is nearly the sign of the gradient: elements whose sign rounding decides are left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from parity_tests.harness.compare import measure, rms
from parity_tests.harness.measurement import Kind, Measurement, Quantity
from parity_tests.harness.sides.base import Array
from parity_tests.tolerances import FLOAT64_RELATIVE, MOSTLY_ROUNDING, TIED_GRADIENT

Control = tuple[int, int]  # of a float32 run: seed, units in the last place that weights are moved by


def _controls(single: int, fourfold: int) -> tuple[Control, ...]:
    more = ((seed, units) for seed in range(8, 8 + fourfold) for units in (4, -4))
    return (*((seed, 1) for seed in range(single)), *more)


# The runs that the noise is the largest of. More of them only widen a budget: what is within that of a few is within
# that of all, so more run only for a tensor that is not. Where the first do, of which one is not moved at all, a kink
# that one of the others crosses does not hide bugs.
STAGES = (_controls(1, 0), _controls(2, 0), _controls(2, 1), _controls(4, 3), _controls(8, 8))
CONTROLS = STAGES[-1]

Key = tuple[str, Quantity]  # layer, tensor
Results = Mapping[Key, Array]
MOMENTS = {Kind.GRADIENT, Kind.MEAN, Kind.ROOT_MEAN_SQUARE}  # what may be nothing but rounding


class TrainingNoise:
    """Measures the tensors of a step; leaves out the elements that rounding decides.

    Args:
        controls: (seed, units that the weights are moved by) of each control.
    """

    def __init__(self, controls: Sequence[tuple[int, int]] = CONTROLS) -> None:
        self._units = [abs(units) for _, units in controls]
        self._undecided: dict[Key, Array] = {}
        self._wanted: Results = {}
        self._references: Sequence[Results] = ()
        self._updates = 1  # of an optimiser in the step, at most
        self._sizes: dict[tuple[str, Kind, str | None], float] = {}  # by phase, moment and layer (None: any)

    def next_step(self, wanted: Results, references: Sequence[Results]) -> None:
        """Take the results of a step: those of float64 PyTorch and those of the controls."""
        self._wanted, self._references, self._sizes, self._undecided = wanted, references, {}, {}
        self._updates = 1 + max((quantity.call for _, quantity in wanted), default=0)
        for (layer, quantity), value in wanted.items():
            if quantity.kind in MOMENTS:
                size = rms(value)
                for place in (None, layer):
                    key = quantity.phase, quantity.kind, place
                    self._sizes[key] = max(self._sizes.get(key, 0.0), size)
            elif quantity.kind is Kind.CHANGE:
                self._leave_out(layer, quantity)

    def measure(self, head: Measurement, port: Array | None) -> Measurement:
        """Fill in the numbers of one tensor of the step; `port` is the port's result, None if it has none."""
        key = head.layer, head.quantity
        truth, controls, share = self._wanted[key], [results[key] for results in self._references], 0.0
        out = self._undecided.get(key)
        if out is not None:
            share = float(out.mean())
            controls = [np.where(out, truth, control) for control in controls]  # those left out get the true value
            port = np.where(out, truth, port) if port is not None and port.shape == truth.shape else port
        scale = self._scale(head.quantity, truth)
        if max(rms(control - truth) for control in controls) <= MOSTLY_ROUNDING * scale:
            controls = [truth + (x - truth) / units for x, units in zip(controls, self._units, strict=True)]
        elif head.quantity.kind in MOMENTS:  # rounding does not grow with the units, but with the terms that cancel
            scale, share = max(scale, self._size(head.quantity, head.layer)), 1.0
        return measure(replace(head, undecided=share, idle=self._idle(*key)), truth, controls, port, scale)

    def _scale(self, quantity: Quantity, truth: Array) -> float:
        """Size of a tensor; a moment that is nothing but rounding is held against the largest of its phase."""
        rounding = quantity.kind in MOMENTS and self._is_rounding(quantity, truth)
        return self._size(quantity) if rounding else rms(truth)

    def _is_rounding(self, moment: Quantity, truth: Array) -> bool:
        return rms(truth) < FLOAT64_RELATIVE * self._size(moment)

    def _idle(self, layer: str, quantity: Quantity) -> bool:
        """Whether this is a change that is made of nothing but rounding."""
        made_of = list(self._made_of(layer, quantity)) if quantity.kind is Kind.CHANGE else []
        return bool(made_of) and all(self._is_rounding(key[1], self._wanted[key]) for key in made_of)

    def _size(self, moment: Quantity, layer: str | None = None) -> float:
        return self._sizes[moment.phase, moment.kind, layer]

    def _leave_out(self, layer: str, change: Quantity) -> None:
        """Note the elements of a weight's change whose direction rounding decides in this step.

        Adam's first step is a whole step up or down by the sign of the gradient alone. Where the gradient is within
        rounding of 0 the sign is chance.
        """
        for key in self._made_of(layer, change):
            gradient = self._wanted[key]
            deviation = np.max([np.abs(results[key] - gradient) for results in self._references], axis=0)
            tied = (np.abs(gradient) <= TIED_GRADIENT * deviation) & (deviation > 0)
            if tied.any():
                self._undecided[layer, change] = tied | self._undecided.get((layer, change), False)

    def _made_of(self, layer: str, change: Quantity) -> Iterator[Key]:
        """The mean of the gradients that a change is made of, or the gradient of each update in the step."""
        made_of = [(layer, replace(change, kind=Kind.MEAN))]
        made_of += [(layer, replace(change, kind=Kind.GRADIENT, call=call)) for call in range(self._updates)]
        return (key for key in made_of if key in self._wanted)
