"""The one form of a training step, whatever the framework: what a family declares, and how a batch is trained."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from convert.recipes.descent import DescentForm
from convert.recipes.pool import ImagePool
from convert.recipes.settings import Phases, Settings

Array = NDArray[Any]
Tensors = tuple[Any, ...]  # of the framework
Objective = Callable[..., tuple[dict[str, Any], Tensors]]


class StepForm(ABC):
    """Holds networks, optimisers and pools; one call trains one batch, phase by phase.

    A family declares `phases`, what each needs beside the pictures (`prepare`), its objectives, and what follows an
    update (`after_phase`, `after_update`); its settings give the weights of the loss terms and the learning rates.

    Args:
        networks: the parts by name.
        settings: loss and optimiser weights.
        frozen: a network that is used without training it, or None.

    Attributes:
        phases: letter of each phase -> parts that it trains, in the order in which they run.
        optimizers: by phase.
        step_number: steps done.
        descent: moves the optimisers; `descent.use` says how.
        random, pools: source of the step's draws, and image pools by name.
        hooks: functions on numpy pictures that the step needs with these settings, by name; None where it has none of
            its own and must be given one.
    """

    phases: ClassVar[Phases]

    def __init__(self, networks: Mapping[str, Any], settings: Any, frozen: Any = None) -> None:
        self.networks, self.frozen = dict(networks), frozen
        self.use(settings)
        self.step_number = 0
        self.random = np.random.default_rng(settings.seed)
        self.pools: dict[str, ImagePool] = {}
        self.hooks: dict[str, Callable[..., Any] | None] = {}
        self.optimizers = {phase: self._adam(phase) for phase in self.phases}
        self.descent = self._descent()

    def __call__(self, first: Any, second: Any) -> dict[str, float]:
        """Train one batch; images [N, 3, H, W] in [-1, 1]. Returns every loss term before weighting, and totals.

        Raises:
            ValueError: a loss term without a weight, a weight without a term, or a hook that is needed and missing.
            FloatingPointError: see `Execution.watch`.
        """
        self.step_number += 1
        self._train_mode()
        for phase in self.phases:
            self._set_rate(phase, self.rate(phase, self.step_number))
        terms: dict[str, Any] = {}
        made: Tensors = ()
        for phase in self.due():
            found, made = self.run_phase(phase, first, second, made)
            terms |= found
        self.after_update()
        return {name: self._number(value) for name, value in terms.items()}

    def use(self, settings: Any) -> None:
        """Go on under these settings."""
        self.settings = settings

    def due(self) -> tuple[str, ...]:
        """Phases that this step runs, in order."""
        return tuple(self.phases)

    @abstractmethod
    def run_phase(self, phase: str, first: Any, second: Any, made: Tensors = ()) -> tuple[dict[str, Any], Tensors]:
        """Move the parts of one phase.

        Args:
            phase: its letter.
            first, second: the batch, [N, 3, H, W] each.
            made: what the phase before made.

        Returns:
            The loss terms and "PHASE.total", and what this phase made, without gradient.
        """

    def rate(self, phase: str, step: int) -> float:
        """Learning rate of a phase in `step`, counted from 1."""
        settings: Settings = self.settings
        return settings.rate(phase, step)

    def weights(self, phase: str) -> dict[str, float]:
        """Weight of every loss term of a phase, by name."""
        settings: Settings = self.settings
        return settings.weights(phase, self.frozen is not None)

    def prepare(self, phase: str, first: Any, second: Any, made: Tensors) -> Tensors:
        """Return what the objective of a phase is called with, each [N, ...] and without gradient."""
        return (first, second)

    def objective(self, phase: str) -> Objective:
        """What a phase minimises: prepared tensors -> (loss terms before weighting, what the next phase needs)."""
        return {"G": self.generator_objective, "D": self.discriminator_objective}[phase]

    @abstractmethod
    def generator_objective(self, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], Tensors]:
        """Return every loss term of phase G, before weighting, and what phase D needs."""

    @abstractmethod
    def discriminator_objective(self, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], Tensors]:
        """Return every loss term of phase D, before weighting, and what phase G needs."""

    def after_phase(self, phase: str) -> None:  # noqa: B027  # most families do nothing
        """Do what follows the update of a phase, such as clipping."""

    def after_update(self) -> None:  # noqa: B027  # most families do nothing
        """Do what follows the last phase."""

    def hook(self, name: str) -> Callable[..., Any]:
        """Return a hook. Raises ValueError: it is needed, and nothing was given."""
        found = self.hooks[name]
        if found is None:
            raise ValueError(f"this training needs something that finds {name}, and nothing is given")
        return found

    @property
    def early_eps(self) -> bool:
        """Whether Adam adds eps before the bias correction, as MindSpore's `nn.Adam` does and PyTorch's does not."""
        return False

    @property
    def colours(self) -> str:
        """Order of the colours of the pictures that the step takes, "rgb" or "bgr"."""
        return "rgb"

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return what a resumed run needs beside weights, moments and the number of the step.

        Returns:
            Facts for JSON ("random", "loss_scale"), and arrays ("pool.NAME", [images, C, H, W]).
        """
        facts = {
            "random": self.random.bit_generator.state,
            "loss_scale": [self.descent.scale, self.descent.good_updates],
        }
        return facts, {f"pool.{name}": np.stack(pool.images) for name, pool in self.pools.items() if pool.images}

    def restore(self, facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Put back what `state` returned; what is None or missing stays."""
        if facts.get("random") is not None:
            self.random.bit_generator.state = facts["random"]
        if facts.get("loss_scale") is not None:
            self.descent.scale, self.descent.good_updates = facts["loss_scale"]
        for name, pool in self.pools.items():
            if f"pool.{name}" in arrays:
                pool.images[:] = [image.copy() for image in arrays[f"pool.{name}"]]

    @abstractmethod
    def _adam(self, phase: str) -> Any:
        """Adam over the parts of a phase."""

    @abstractmethod
    def _descent(self) -> DescentForm:
        """What moves the optimisers."""

    @abstractmethod
    def _train_mode(self) -> None:
        """Put every trained network in train mode."""

    @abstractmethod
    def _set_rate(self, phase: str, rate: float) -> None:
        """Give an optimiser its learning rate."""

    @abstractmethod
    def _number(self, value: Any) -> float:
        """A scalar tensor as a number."""
