"""Bugs of a training step, planted in the reference's trainer; see `training_causes`."""

from collections.abc import Callable
from dataclasses import replace
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


def with_beta(phase: str, place: int, beta: float) -> Plant:
    """Return what gives a phase's optimiser another beta, the first or the second by `place`."""

    def plant(trainer: TorchTrainer) -> None:
        """Give an optimiser another beta."""
        for group in trainer.step.optimizers[phase].param_groups:
            group["betas"] = tuple(beta if index == place else own for index, own in enumerate(group["betas"]))

    return plant
