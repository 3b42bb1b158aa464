"""What moving an optimiser has in common in both frameworks: how it is asked for, the loss scale, the look for NaN."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

GROWTH_INTERVAL = 1000
LARGEST_SCALE = 2.0**24


@dataclass(frozen=True)
class Execution:
    """How gradients are computed; none of it changes what is computed, but for rounding."""

    accumulate: int = 1  # every batch is worked through in this many equal pieces and their gradients are averaged
    # the objective is multiplied by this before the backward pass and the gradients divided by it; for half precision.
    # 1 for none.
    loss_scale: float = 1.0
    # halve the scale and leave the update out when a gradient overflows, double it after 1000 good updates
    dynamic_scale: bool = False
    watch: bool = False  # look for NaN and infinity in every loss term and gradient before weights are moved
    half: bool = False  # run the networks in half precision where PyTorch's autocast does, on CUDA
    compiled: bool = False  # run each phase as one MindSpore graph; the first call of each image size compiles
    workers: int = 1  # processes that train together; their gradients are averaged


class DescentForm:
    """Moves the optimisers of a training step.

    Args:
        optimizers: by phase.

    Attributes:
        scale, good_updates: the present loss scale, and updates since it last changed.
    """

    def __init__(self, optimizers: Mapping[str, Any]) -> None:
        self.optimizers = optimizers
        self.use(Execution())

    def use(self, execution: Execution) -> None:
        """Compute gradients this way from now on."""
        self.execution, self.scale, self.good_updates = execution, execution.loss_scale, 0

    def overflowed(self, finite: bool) -> bool:
        """Adapt a dynamic loss scale; True when this update must be left out."""
        if not self.execution.dynamic_scale:
            return False
        self.good_updates = self.good_updates + 1 if finite else 0
        if not finite and self.scale > 1:
            self.scale /= 2
            return True
        if self.good_updates == GROWTH_INTERVAL:
            self.scale, self.good_updates = min(self.scale * 2, LARGEST_SCALE), 0
        return False


def require_finite(terms: Mapping[str, float]) -> None:
    """Raise FloatingPointError with the names of the loss terms that are not finite."""
    bad = [f"{name} is {value:g}" for name, value in terms.items() if not math.isfinite(value)]
    if bad:
        raise FloatingPointError(f"loss term {', '.join(bad)}")


def require_terms(phase: str, terms: Collection[str], weights: Collection[str]) -> None:
    """Raise ValueError with the names of loss terms without a weight, and of weights without a term."""
    faults = [f"loss term {name} has no weight" for name in terms if name not in weights]
    faults += [f"weight {name} has no loss term" for name in weights if name not in terms]
    if faults:
        raise ValueError(f"phase {phase}: {', '.join(faults)}")
