"""Training parity: the same steps in float64 PyTorch, float32 PyTorch and MindSpore, compared after each.

Networks are narrow and seeded; what rounding makes of a step is measured in `training_noise`.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from convert.family import Family, FrozenNetwork, Part, Training, resolve
from convert.plan import Plan, build_plan
from convert.registry import family_named, part_named
from ms_models.build import build_mindspore
from parity_tests.harness.compare import ulp_neighbour
from parity_tests.harness.inputs import image, seeded_weights
from parity_tests.harness.measurement import Kind, Measurement, Mode, Probe, Quantity
from parity_tests.harness.sides.base import Array
from parity_tests.harness.training_noise import CONTROLS, Key, Results, TrainingNoise
from torch_ref.build import build_torch

__all__ = ["TrainingSetup", "frozen_network", "measure_training", "small_setup"]

Frozen = tuple[Part, Mapping[str, Any], Mapping[str, Array]]  # network, constructor arguments, weights


@dataclass(frozen=True)
class TrainingSetup:
    """Everything a training comparison starts from.

    Attributes:
        family: whose networks are trained.
        kwargs: constructor arguments by part, of the parts that are trained.
        weights: PyTorch name -> values, by part.
        settings: attributes of the step's settings.
        batches: (images A, images B) of each step, [N, 3, H, W] in [-1, 1].
        first_step: number of the first step minus 1 (a resumed run starts later).
        frozen: the network that the step uses without training it, or None.
    """

    family: Family
    kwargs: Mapping[str, Mapping[str, Any]]
    weights: Mapping[str, Mapping[str, Array]]
    settings: Mapping[str, Any]
    batches: Sequence[tuple[Array, Array]]
    first_step: int = 0
    frozen: Frozen | None = None

    @property
    def training(self) -> Training:
        """How the family is trained."""
        assert self.family.training is not None
        return self.family.training

    def plan(self, part: str) -> Plan:
        """The naming plan of one part."""
        return build_plan(part_named(self.family, part), self.kwargs[part])


def frozen_network(frozen: FrozenNetwork, seed: int) -> Frozen:
    """Return a frozen network of a step, small and with seeded weights."""
    part = part_named(family_named(frozen.family), frozen.part)
    kwargs = {**part.kwargs, **frozen.narrow}
    return part, kwargs, _seeded(f"train{seed}/{part.name}", part, kwargs)


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
        weights[name] = _seeded(f"train{seed}/{name}", part, kwargs[name])
    batches = [
        (
            image(f"train{seed}/A/{step}", 1, training.side, training.side),
            image(f"train{seed}/B/{step}", 1, training.side, training.side),
        )
        for step in range(steps)
    ]
    known = {one.name for one in fields(resolve("torch_ref", training.settings))}
    settings = {"total_steps": 2 * steps + 2} if "total_steps" in known else {}
    frozen = frozen_network(training.frozen, seed) if training.frozen else None
    return TrainingSetup(family, kwargs, weights, settings, batches, first_step=1, frozen=frozen)


def _seeded(tag: str, part: Part, kwargs: Mapping[str, Any]) -> Mapping[str, Array]:
    return seeded_weights(part, kwargs, tag)


MakePort = Callable[[Mapping[str, Any], Any, Any], Any]


def measure_training(setup: TrainingSetup, make_port: MakePort | None = None) -> Iterator[Measurement]:
    """Yield loss terms, learning rates, changes of weights and state, and Adam moments after every step.

    Args:
        setup: networks, settings and batches.
        make_port: (networks, settings, frozen network) -> MindSpore step; default: the family's own.
    """
    truth = _TorchRun(setup, "float64")
    controls = [_TorchRun(setup, "float32", seed, units) for seed, units in CONTROLS]
    port = _MindSporeRun(setup, make_port)
    noise = TrainingNoise()
    order = 0
    for number, (first, second) in enumerate(setup.batches, setup.first_step + 1):
        wanted = truth.step(first, second)
        noise.next_step(wanted, [one.step(first, second) for one in controls])
        found = port.step(first, second)
        for layer, quantity in sorted(wanted, key=lambda key: list(setup.training.phases).index(key[1].phase)):
            head = Measurement(Mode.TRAINING, Probe(step=number), layer, "", quantity, order)
            yield noise.measure(head, found.get((layer, quantity)))
            order += 1


class _Run(ABC):
    """One side of a training comparison."""

    def __init__(self, setup: TrainingSetup) -> None:
        self.setup = setup
        self.start: dict[tuple[str, str], Array] = {}

    def step(self, first: Array, second: Array) -> Results:
        """Train one batch and return everything that is compared, losses before updates within each phase."""
        results: dict[Key, Array] = {}
        training = self.setup.training
        for name, term in self.train(first, second).items():
            results[self._judge_of(name), Quantity(Kind.LOSS, name, phase=name[0])] = np.array(term)
        for phase in training.phases:
            results["", Quantity(Kind.RATE, phase=phase)] = np.array(self.rate(phase))
        moments = self.moments()
        for part in training.parts:
            phase = training.phase_of(part)
            for name, value in self.weights(part).items():
                layer, _, leaf = f"{part}.{name}".rpartition(".")
                change = np.asarray(value, np.float64) - self.start[part, name]
                results[layer, Quantity(Kind.CHANGE, leaf, phase=phase)] = change
                if (part, name) in moments:
                    mean, square = moments[part, name]
                    results[layer, Quantity(Kind.MEAN, leaf, phase=phase)] = mean
                    results[layer, Quantity(Kind.ROOT_MEAN_SQUARE, leaf, phase=phase)] = np.sqrt(square)
        return results

    def _judge_of(self, loss: str) -> str:
        """The discriminator that a loss term such as "G.LA.adv" comes from, empty for other terms."""
        named = loss.split(".")[1] if loss.count(".") == 2 else ""
        judges = self.setup.training.phases.get("D", ())
        return next((part for part in judges if named and part.endswith(named)), "")

    def remember_start(self) -> None:
        for part in self.setup.kwargs:
            for name, value in self.weights(part).items():
                self.start[part, name] = np.array(value, np.float64)

    @abstractmethod
    def train(self, first: Array, second: Array) -> Mapping[str, float]:
        """Train one batch; return the loss terms."""

    @abstractmethod
    def weights(self, part: str) -> Mapping[str, Array]:
        """Copies of a network's whole state, by PyTorch name."""

    @abstractmethod
    def moments(self) -> Mapping[tuple[str, str], tuple[Array, Array]]:
        """Adam's two moments of each trained parameter, by (part, name)."""

    @abstractmethod
    def rate(self, phase: str) -> float:
        """Learning rate of a phase."""


class _TorchRun(_Run):
    def __init__(self, setup: TrainingSetup, dtype: str, seed: int = 0, units: int = 1) -> None:
        super().__init__(setup)
        import torch

        self._torch, self._dtype = torch, getattr(torch, dtype)
        networks = {}
        for name in setup.training.parts:
            state = {key: ulp_neighbour(value, seed, units=units) for key, value in setup.weights[name].items()}
            part = part_named(setup.family, name)
            networks[name] = build_torch(part, setup.kwargs[name], state).to(self._dtype)
        frozen = build_torch(*setup.frozen).to(self._dtype) if setup.frozen else None
        self._step = resolve("torch_ref", setup.training.step)(networks, _settings(setup, "torch_ref"), frozen)
        self._step.step_number = setup.first_step
        self.remember_start()

    def train(self, first: Array, second: Array) -> Mapping[str, float]:
        return self._step(*(self._torch.from_numpy(one.copy()).to(self._dtype) for one in (first, second)))

    def weights(self, part: str) -> Mapping[str, Array]:
        return {name: value.detach().numpy().copy() for name, value in self._step.networks[part].state_dict().items()}

    def moments(self) -> Mapping[tuple[str, str], tuple[Array, Array]]:
        found = {}
        for part, network in self._step.networks.items():
            state = self._step.optimizers[self.setup.training.phase_of(part)].state
            for name, value in network.named_parameters():
                if value in state:
                    found[part, name] = (state[value]["exp_avg"].numpy(), state[value]["exp_avg_sq"].numpy())
        return copy.deepcopy(found)

    def rate(self, phase: str) -> float:
        return float(self._step.optimizers[phase].param_groups[0]["lr"])


class _MindSporeRun(_Run):
    def __init__(self, setup: TrainingSetup, make_port: MakePort | None) -> None:
        super().__init__(setup)
        import mindspore

        self._ms = mindspore
        self._names = {part: setup.plan(part).names for part in setup.kwargs}
        networks = {}
        for name in setup.training.parts:
            rows = [row for row in setup.plan(name).rows if not row.carried]
            arrays = {row.mindspore: setup.weights[name][row.torch] for row in rows}
            networks[name] = build_mindspore(part_named(setup.family, name), setup.kwargs[name], arrays)
        make = make_port or resolve("ms_models", setup.training.step)
        self._step = make(networks, _settings(setup, "ms_models"), _port_frozen(setup.frozen))
        self._step.step_number = setup.first_step
        self.remember_start()

    def train(self, first: Array, second: Array) -> Mapping[str, float]:
        return self._step(*(self._ms.Tensor(np.array(one)) for one in (first, second)))

    def weights(self, part: str) -> Mapping[str, Array]:
        names = self._names[part]
        return {names[name]: value.asnumpy() for name, value in self._step.networks[part].parameters_and_names()}

    def moments(self) -> Mapping[tuple[str, str], tuple[Array, Array]]:
        found = {}
        for optimizer in self._step.optimizers.values():
            state = zip(optimizer.parameters, optimizer.exp_avg, optimizer.exp_avg_sq, strict=True)
            for value, mean, square in state:
                part, _, name = value.name.partition(".")
                found[part, self._names[part][name]] = (mean.asnumpy(), square.asnumpy())
        return found

    def rate(self, phase: str) -> float:
        return float(self._step.optimizers[phase].lr)


def _settings(setup: TrainingSetup, package: str) -> Any:
    return resolve(package, setup.training.settings)(**setup.settings)


def _port_frozen(frozen: Frozen | None) -> Any:
    if frozen is None:
        return None
    part, kwargs, weights = frozen
    rows = [row for row in build_plan(part, kwargs).rows if not row.carried]
    return build_mindspore(part, kwargs, {row.mindspore: weights[row.torch] for row in rows})
