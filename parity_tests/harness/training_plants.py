"""Bugs of a training step, planted in the reference's trainer; see `training_causes`."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from parity_tests.harness.trainers import TorchTrainer

Plant = Callable[[TorchTrainer], None]


def using(name: str, value: float) -> Plant:
    """Return what lets a trainer go on under another value of a setting."""

    def plant(trainer: TorchTrainer) -> None:
        """Go on under another setting."""
        own = bool(value) if isinstance(vars(trainer.step.settings)[name], bool) else value
        trainer.step.use(replace(trainer.step.settings, **{name: own}))

    return plant


def without(phase: str, term: str) -> Plant:
    """Return what keeps a loss term out of the gradient of a phase."""

    def plant(trainer: TorchTrainer) -> None:
        """Keep a term out of the gradient."""
        weights = trainer.step.weights
        trainer.step.weights = lambda own: weights(own) | ({term: 0.0} if own == phase else {})

    return plant


def grouped(phase: str, name: str, value: Any) -> Plant:
    """Return what gives a phase's optimiser another number, by its name among PyTorch's."""

    def plant(trainer: TorchTrainer) -> None:
        """Give an optimiser another number."""
        for group in trainer.step.optimizers[phase].param_groups:
            group[name] = value

    return plant


def scaled(phase: str, factor: float) -> Plant:
    """Return what multiplies the gradients of a phase."""

    def plant(trainer: TorchTrainer) -> None:
        """Multiply the gradients of a phase."""

        def scale(optimizer: Any, *_: Any) -> None:
            for group in optimizer.param_groups:
                for value in group["params"]:
                    if value.grad is not None:
                        value.grad *= factor

        trainer.step.optimizers[phase].register_step_pre_hook(scale)

    return plant


def in_pieces(phase: str, weights: Sequence[float]) -> Plant:
    """Return what weighs the gradients of the pieces of a phase's batch, where it is worked through in pieces."""

    def plant(trainer: TorchTrainer) -> None:
        """Weigh the gradients of pieces."""
        seen: Counter[int] = Counter()  # pieces whose gradient reached a weight, by the weight's place

        def weigh(place: int, gradient: Any) -> Any:
            if trainer.step.descent.execution.accumulate == 1:
                return gradient
            seen[place] += 1
            return gradient * weights[seen[place] - 1]

        for optimizer in trainer.step.optimizers.values():
            optimizer.register_step_pre_hook(lambda *_: seen.clear())
        every = [value for group in trainer.step.optimizers[phase].param_groups for value in group["params"]]
        for place, value in enumerate(every):
            value.register_hook(partial(weigh, place))

    return plant


def with_beta(phase: str, place: int, beta: float) -> Plant:
    """Return what gives a phase's optimiser another beta, the first or the second by `place`."""

    def plant(trainer: TorchTrainer) -> None:
        """Give an optimiser another beta."""
        for group in trainer.step.optimizers[phase].param_groups:
            group["betas"] = tuple(beta if index == place else own for index, own in enumerate(group["betas"]))

    return plant
