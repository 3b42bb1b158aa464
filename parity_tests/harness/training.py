"""Training parity: the same steps in float64 PyTorch, float32 PyTorch and MindSpore, compared after each.

The noise of a training step is what float32 PyTorch makes of it, also when its weights start one unit in the
last place away: Adam's first steps are nearly signs of gradients, so small differences grow at once.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convert.plan import Plan, build_plan
from convert.registry import Family
from parity_tests.harness.backends import Array
from parity_tests.harness.compare import Measurement, measure, rms, ulp_neighbour
from parity_tests.harness.inputs import formula_state, image
from parity_tests.harness.pair import build_mindspore, build_torch

__all__ = ["TrainingSetup", "measure_training", "small_setup"]

CONTROLS = 3
PHASES = {"D": "discriminator", "G": "generator"}


@dataclass(frozen=True)
class TrainingSetup:
    """Everything a training comparison starts from.

    Attributes:
        family: whose networks are trained.
        kwargs: constructor arguments by part.
        weights: PyTorch name -> values, by part.
        settings: attributes of StepSettings.
        batches: (images A, images B) of each step, [N, 3, H, W] in [-1, 1].
        first_step: number of the first step minus 1 (a resumed run starts later).
        face: constructor arguments and weights of the face network, or None.
    """

    family: Family
    kwargs: Mapping[str, Mapping[str, Any]]
    weights: Mapping[str, Mapping[str, Array]]
    settings: Mapping[str, Any]
    batches: Sequence[tuple[Array, Array]]
    first_step: int = 0
    face: tuple[Mapping[str, Any], Mapping[str, Array]] | None = field(default=None)

    def plan(self, part: str) -> Plan:
        """The naming plan of one part."""
        found = next(one for one in self.family.parts if one.name == part)
        return build_plan(found, self.kwargs[part])


Face = tuple[Mapping[str, Any], Mapping[str, Array]]


def small_setup(
    family: Family, steps: int = 2, seed: int = 0, side: int = 96, width: int = 4, face: Face | None = None
) -> TrainingSetup:
    """Return a seeded setup with narrow networks at the smallest side that all six networks run."""
    kwargs: dict[str, dict[str, Any]] = {}
    weights = {}
    for part in family.parts:
        narrow = {"ngf": width, "ndf": width, "n_blocks": 1, "img_size": side}
        kwargs[part.name] = {**part.kwargs, **{key: narrow[key] for key in narrow if key in part.kwargs}}
        plan = build_plan(part, kwargs[part.name])
        layout = {row.torch: row.spec.shape for row in plan.rows}
        weights[part.name] = formula_state(f"train{seed}/{part.name}", layout)
    batches = [
        (image(f"train{seed}/A/{step}", 1, side, side), image(f"train{seed}/B/{step}", 1, side, side))
        for step in range(steps)
    ]
    return TrainingSetup(family, kwargs, weights, {"total_steps": 2 * steps + 2}, batches, first_step=1, face=face)


MakePort = Callable[[Mapping[str, Any], Any, Any], Any]


def measure_training(setup: TrainingSetup, make_port: MakePort | None = None) -> Iterator[Measurement]:
    """Yield loss terms, learning rates, changes of weights and state, and Adam moments after every step.

    Args:
        setup: networks, settings and batches.
        make_port: (networks, settings, face network) -> MindSpore step; default: ms_models.steps.UgatitStep.
    """
    truth = _TorchRun(setup, "float64", 0)
    controls = [_TorchRun(setup, "float32", seed) for seed in range(CONTROLS)]
    port = _MindSporeRun(setup, make_port)
    order = 0
    for number, (first, second) in enumerate(setup.batches, setup.first_step + 1):
        wanted = truth.step(first, second)
        references = [one.step(first, second) for one in controls]
        found = port.step(first, second)
        for phase in PHASES:
            for key, value in wanted.items():
                if key[0] == phase:
                    yield _measurement(number, key, order, value, [one[key] for one in references], found.get(key))
                    order += 1


Key = tuple[str, str, str, str]  # phase, kind, layer, tensor
Results = dict[Key, Array]


def _measurement(
    number: int, key: Key, order: int, truth: Array, references: Sequence[Array], port: Array | None
) -> Measurement:
    phase, kind, layer, tensor = key
    head = Measurement("training", f"step {number}", layer, f"{PHASES[phase]} {kind}", tensor, order)
    return measure(head, truth, references, port, rms(truth))


class _Run(ABC):
    """One side of a training comparison."""

    def __init__(self, setup: TrainingSetup) -> None:
        self.setup = setup
        self.start: dict[tuple[str, str], Array] = {}

    def step(self, first: Array, second: Array) -> Results:
        """Train one batch and return everything that is compared, losses before updates within each phase."""
        results: Results = {}
        for name, term in self.train(first, second).items():
            part = f"dis{name.split('.')[1]}" if name.count(".") == 2 and name.split(".")[1][0] in "GL" else ""
            results[name[0], "loss", part, name] = np.array(term)
        for phase in PHASES:
            results[phase, "learning rate", "", "learning rate"] = np.array(self.rate(phase))
        moments = self.moments()
        for part in self.setup.kwargs:
            phase = "D" if part.startswith("dis") else "G"
            for name, value in self.weights(part).items():
                layer, _, leaf = f"{part}.{name}".rpartition(".")
                change = np.asarray(value, np.float64) - self.start[part, name]
                results[phase, "update", layer, f"change of {leaf}"] = change
                if (part, name) in moments:
                    for kind, moment in zip(("mean", "square"), moments[part, name], strict=True):
                        results[phase, "moments", layer, f"{kind} of {leaf}"] = moment
        return results

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
    def __init__(self, setup: TrainingSetup, dtype: str, seed: int) -> None:
        super().__init__(setup)
        import torch

        from torch_ref.steps import StepSettings, UgatitStep

        self._torch, self._dtype = torch, getattr(torch, dtype)
        networks = {}
        for part in setup.family.parts:
            state = {name: ulp_neighbour(value, seed) for name, value in setup.weights[part.name].items()}
            networks[part.name] = build_torch(part, setup.kwargs[part.name], state).to(self._dtype)
        face = _face(setup, build_torch, lambda row: row.torch)
        self._step = UgatitStep(networks, StepSettings(**setup.settings), face.to(self._dtype) if face else None)
        self._step.step_number = setup.first_step
        self.remember_start()

    def train(self, first: Array, second: Array) -> Mapping[str, float]:
        return self._step(*(self._torch.from_numpy(one.copy()).to(self._dtype) for one in (first, second)))

    def weights(self, part: str) -> Mapping[str, Array]:
        return {name: value.detach().numpy().copy() for name, value in self._step.networks[part].state_dict().items()}

    def moments(self) -> Mapping[tuple[str, str], tuple[Array, Array]]:
        found = {}
        for part, network in self._step.networks.items():
            state = self._step.optimizers["D" if part.startswith("dis") else "G"].state
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

        from ms_models.steps import StepSettings, UgatitStep

        self._ms = mindspore
        self._names = {
            part: {row.mindspore: row.torch for row in setup.plan(part).rows if not row.carried}
            for part in setup.kwargs
        }
        networks = {}
        for part in setup.family.parts:
            arrays = {row.mindspore: setup.weights[part.name][row.torch] for row in setup.plan(part.name).rows}
            networks[part.name] = build_mindspore(part, setup.kwargs[part.name], arrays)
        face = _face(setup, build_mindspore, lambda row: row.mindspore)
        self._step = (make_port or UgatitStep)(networks, StepSettings(**setup.settings), face)
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


def _face(setup: TrainingSetup, build: Callable[..., Any], name_of: Callable[[Any], str]) -> Any:
    if setup.face is None:
        return None
    from convert.registry import family_named

    part = family_named("mobilefacenet").parts[0]
    kwargs, weights = setup.face
    rows = build_plan(part, kwargs).rows
    keep_carried = build is build_torch
    return build(part, kwargs, {name_of(row): weights[row.torch] for row in rows if keep_carried or not row.carried})
