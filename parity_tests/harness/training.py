"""Training parity: the same steps in float64 PyTorch, float32 PyTorch and MindSpore, compared after each.

Networks are narrow and seeded; what rounding makes of a step is measured in `training_noise`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from convert.family import Family, FrozenNetwork
from convert.registry import family_named, part_named
from parity_tests.harness.compare import ulp_neighbour
from parity_tests.harness.inputs import image, seeded_weights
from parity_tests.harness.measurement import Kind, Measurement, Mode, Probe, Quantity
from parity_tests.harness.sides.base import Array
from parity_tests.harness.trainers import (
    MOMENTS,
    Frozen,
    MakeStep,
    MindSporeTrainer,
    TorchTrainer,
    Trainer,
    TrainingStart,
)
from parity_tests.harness.training_noise import CONTROLS, Key, Results, TrainingNoise


@dataclass(frozen=True)
class TrainingSetup(TrainingStart):
    """Everything a training comparison starts from."""

    batches: Sequence[tuple[Array, Array]] = ()  # (images A, images B) of each step, [N, 3, H, W] in [-1, 1]
    first_step: int = 0  # number of the first step minus 1 (a resumed run starts later)


def frozen_network(frozen: FrozenNetwork, seed: int) -> Frozen:
    """Return a frozen network of a step, small and with seeded weights."""
    part = part_named(family_named(frozen.family), frozen.part)
    kwargs = {**part.kwargs, **frozen.narrow}
    return part, kwargs, seeded_weights(part, kwargs, f"train{seed}/{part.name}")


def small_setup(family: Family, steps: int = 2, seed: int = 0) -> TrainingSetup:
    """Return a seeded setup with narrow networks at the smallest side that all of them run.

    The arithmetic of a step does not depend on the width, and narrow networks keep it to seconds.
    """
    training = family.training
    assert training is not None, f"{family.name} is not trained"
    kwargs: dict[str, dict[str, Any]] = {}
    weights = {}
    for name in training.parts:
        part = part_named(family, name)
        changes = {key: value for key, value in training.narrow.items() if key in part.kwargs}
        kwargs[name] = {**part.kwargs, **changes}
        weights[name] = seeded_weights(part, kwargs[name], f"train{seed}/{name}")
    batches = [
        (
            image(f"train{seed}/A/{step}", 1, training.side, training.side),
            image(f"train{seed}/B/{step}", 1, training.side, training.side),
        )
        for step in range(steps)
    ]
    known = {setting.name for setting in fields(training.settings)}
    settings = {"total_steps": 2 * steps + 2} if "total_steps" in known else {}
    frozen = frozen_network(training.frozen, seed) if training.frozen else None
    return TrainingSetup(family, kwargs, weights, settings, frozen, batches, first_step=1)


def measure_training(setup: TrainingSetup, make_port: MakeStep | None = None) -> Iterator[Measurement]:
    """Yield loss terms, learning rates, changes of weights and state, and Adam moments after every step.

    Args:
        setup: networks, settings and batches.
        make_port: (networks, settings, frozen network) -> MindSpore step; default: the family's own.
    """
    truth = _Run(TorchTrainer(setup, "float64"), setup)
    controls = [_Run(TorchTrainer(_moved(setup, seed, units)), setup) for seed, units in CONTROLS]
    port = _Run(MindSporeTrainer(setup, make_port), setup)
    noise = TrainingNoise()
    order = 0
    for number, batch in enumerate(setup.batches, setup.first_step + 1):
        wanted = truth.step(*batch)
        noise.next_step(wanted, [control.step(*batch) for control in controls])
        found = port.step(*batch)
        for layer, quantity in sorted(wanted, key=lambda key: list(setup.training.phases).index(key[1].phase)):
            head = Measurement(Mode.TRAINING, Probe(step=number), layer, "", quantity, order)
            yield noise.measure(head, found.get((layer, quantity)))
            order += 1


def _moved(setup: TrainingSetup, seed: int, units: int) -> TrainingSetup:
    """The same training from weights that are moved by units in the last place."""
    weights = {
        part: {name: ulp_neighbour(value, seed, units=units) for name, value in values.items()}
        for part, values in setup.weights.items()
    }
    return replace(setup, weights=weights)


class _Run:
    """One side of a training comparison: what each step makes of loss terms, rates, weights and moments."""

    def __init__(self, trainer: Trainer, setup: TrainingSetup) -> None:
        self._trainer, self._training = trainer, setup.training
        trainer.step.step_number = setup.first_step
        self._phase_of_term = {
            name: phase for phase in setup.training.phases for name in (*trainer.step.weights(phase), f"{phase}.total")
        }
        self._start = {
            (part, name): np.array(value, np.float64)
            for part in setup.parts
            for name, value in trainer.weights(part).items()
        }

    def step(self, first: Array, second: Array) -> Results:
        """Train one batch and return everything that is compared, losses before updates within each phase."""
        results: dict[Key, Array] = {}
        for name, term in self._trainer.train(first, second).items():
            results[self._judge_of(name), Quantity(Kind.LOSS, name, phase=self._phase_of_term[name])] = np.array(term)
        for phase, rate in self._trainer.rates().items():
            results["", Quantity(Kind.RATE, phase=phase)] = np.array(rate)
        moments = self._trainer.moments()
        for part in self._training.parts:
            phase = self._training.phase_of(part)
            for name, value in self._trainer.weights(part).items():
                layer, _, leaf = f"{part}.{name}".rpartition(".")
                change = np.asarray(value, np.float64) - self._start[part, name]
                results[layer, Quantity(Kind.CHANGE, leaf, phase=phase)] = change
                mean, square = (moments.get((kind, part, name)) for kind in MOMENTS)
                if mean is not None and square is not None:
                    results[layer, Quantity(Kind.MEAN, leaf, phase=phase)] = mean
                    results[layer, Quantity(Kind.ROOT_MEAN_SQUARE, leaf, phase=phase)] = np.sqrt(square)
        return results

    def _judge_of(self, loss: str) -> str:
        """The discriminator that a loss term such as "G.LA.adv" comes from, empty for other terms."""
        named = loss.split(".")[1] if loss.count(".") == 2 else ""
        judges = self._training.phases.get("D", ())
        return next((part for part in judges if named and part.endswith(named)), "")
