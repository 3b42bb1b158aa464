"""What every family's training settings answer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Phases = Mapping[str, tuple[str, ...]]  # letter of a phase -> parts that it trains, in the order of the phases


@dataclass(frozen=True)
class Settings(ABC):
    """Weights of the loss terms and of the optimisers; the fields and their defaults are each family's own.

    All have `beta1` and `beta2` of Adam, and `seed` of the step's random draws.
    """

    @property
    def coupled_decay(self) -> float:
        """Weight decay that Adam adds to the gradient."""
        return 0.0

    @abstractmethod
    def rate(self, phase: str, step: int) -> float:
        """Learning rate of a phase in `step`, counted from 1; never below 0."""

    @abstractmethod
    def weights(self, phase: str, frozen: bool = False) -> dict[str, float]:
        """Weight of each loss term that the phase has, by name; `frozen`: whether the step has its frozen network."""

    def judges(self, phase: str) -> dict[str, str]:
        """Discriminator whose answer a loss term of the phase is, by name; the others have none."""
        return {}


def switch(help: str, steps: int | None = None) -> Any:
    """Return a field of settings that is off until the training program's flag of the same name switches it on.

    Args:
        help: what the flag's help says.
        steps: how long the source system trains with it; None: as long as without.
    """
    return field(default=False, metadata={"help": help, "steps": steps})


def fall_over_second_half(rate: float, total_steps: int, step: int) -> float:
    """Return `rate` in the first half of the steps, then linear to 0 at the last one, never below."""
    half = total_steps // 2
    if step <= half or half == 0:
        return rate
    return max(0.0, rate - rate / half * (step - half))


def fall_by_epoch(settings: Any, step: int) -> float:
    """Share of the rate in `step`, from 1: 1 for constant_epochs + 1 epochs, then linear to 0, epoch by epoch."""
    epoch = (step - 1) // settings.steps_per_epoch
    return max(0.0, 1 - max(0, epoch - settings.constant_epochs) / (settings.decay_epochs + 1))
