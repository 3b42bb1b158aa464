"""How far rounding alone can move each tensor of a training step, and the tensor measured against that.

The noise of a step is what float32 PyTorch makes of it when its weights start a few units in the last place away,
divided by the number of units. Where rounding carries a value across the kink of a ReLU, gradients jump: a run whose
weights are moved by four units, or the run moved the opposite way, crosses the kinks that a port's own rounding can
cross. Adam's first step is nearly the sign of the gradient: elements whose sign rounding decides are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from parity_tests.harness.backends import Array
from parity_tests.harness.compare import Measurement, measure, rms
from parity_tests.tolerances import FLOAT64_RELATIVE, MOSTLY_ROUNDING, TIED_GRADIENT

__all__ = ["CONTROLS", "Key", "Results", "TrainingNoise"]

# (seed, units in the last place that weights are moved by) of each float32 run that the noise is the largest of
CONTROLS = (*((seed, 1) for seed in range(8)), *((seed, units) for seed in range(8, 16) for units in (4, -4)))

Key = tuple[str, str, str, str]  # phase, kind, layer, tensor
Results = Mapping[Key, Array]


class TrainingNoise:
    """Measures the tensors of consecutive steps; remembers which elements rounding has decided.

    Args:
        controls: (seed, units that the weights are moved by) of each control.
    """

    def __init__(self, controls: Sequence[tuple[int, int]] = CONTROLS) -> None:
        self._units = [abs(units) for _, units in controls]
        self._undecided: dict[Key, Array] = {}
        self._wanted: Results = {}
        self._references: Sequence[Results] = ()
        self._sizes: dict[tuple[str, ...], float] = {}

    def next_step(self, wanted: Results, references: Sequence[Results]) -> None:
        """Take the results of a step: those of float64 PyTorch and those of the controls."""
        self._wanted, self._references, self._sizes = wanted, references, {}
        for (phase, kind, layer, tensor), value in wanted.items():
            if kind == "moments":
                moment, size = tensor.partition(" ")[0], rms(value)
                for place in ((phase, moment), (phase, moment, layer)):
                    self._sizes[place] = max(self._sizes.get(place, 0.0), size)

    def measure(self, head: Measurement, key: Key, port: Array | None) -> Measurement:
        """Fill in the numbers of one tensor of the step; `port` is the port's result, None if it has none."""
        truth, others = self._wanted[key], [one[key] for one in self._references]
        out = self._left_out(key)
        if out is not None and port is not None and port.shape == truth.shape:  # they get the true value
            others, port = [np.where(out, truth, one) for one in others], np.where(out, truth, port)
        share = 0.0 if out is None else float(out.mean())
        scale, moment = rms(truth), key[3].partition(" ")[0] if key[1] == "moments" else ""
        if moment and scale < FLOAT64_RELATIVE * self._sizes[key[0], moment]:
            scale = self._sizes[key[0], moment]
        if max(rms(one - truth) for one in others) <= MOSTLY_ROUNDING * scale:
            others = [truth + (one - truth) / units for one, units in zip(others, self._units, strict=True)]
        elif moment:  # rounding does not grow with the units, but with the terms that cancel
            scale, share = max(scale, self._sizes[key[0], moment, key[2]]), 1.0
        hints = {"undecided": share} if share else {}
        return measure(replace(head, hints=head.hints | hints), truth, others, port, scale)

    def _left_out(self, key: Key) -> Array | None:
        """Elements of a weight's change whose direction rounding decided in this step or before, None if none are.

        Adam's first step is a whole step up or down by the sign of the gradient alone. Where the gradient is within
        rounding of 0 the sign is chance, and the weight keeps that difference in later steps.
        """
        phase, kind, layer, tensor = key
        mean = (phase, "moments", layer, tensor.replace("change of ", "mean of "))
        if kind != "update" or mean not in self._wanted:
            return None
        gradient = self._wanted[mean]
        deviation = np.max([np.abs(one[mean] - gradient) for one in self._references], axis=0)
        tied = (np.abs(gradient) <= TIED_GRADIENT * deviation) & (deviation > 0)
        self._undecided[key] = found = self._undecided.get(key, np.zeros(tied.shape, bool)) | tied
        return found if found.any() else None
