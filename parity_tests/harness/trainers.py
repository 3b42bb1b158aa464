"""A family's training step in either framework; weights, moments, rates and counts go in and out as numpy arrays.

Everything is named as in PyTorch, so nothing depends on the framework that trains. The checker compares two trainers
step by step; the training program saves one and puts it back.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from convert.devices import CPU
from convert.family import Family, Part, Training, resolve
from convert.plan import Plan, build_plan
from convert.recipes.descent import Execution
from convert.registry import part_named
from convert.tensors import Array
from ms_models import build as mindspore_build
from parity_tests.harness.sides.base import Side
from parity_tests.harness.sides.mindspore import MindSporeSide
from parity_tests.harness.sides.torch import TorchSide
from torch_ref import build as torch_build
from torch_ref.environment import place_of

Frozen = tuple[Part, Mapping[str, Any], Mapping[str, Array]]  # network, constructor arguments, weights
MakeStep = Callable[[Mapping[str, Any], Any, Any], Any]  # networks by part, settings, frozen network -> step
MOMENTS = ("exp_avg", "exp_avg_sq")
Moments = Mapping[tuple[str, str, str], Array]  # (one of MOMENTS, part, PyTorch name)


@dataclass(frozen=True)
class TrainingStart:
    """What a training starts from."""

    family: Family  # whose networks are trained
    # kwargs, weights: constructor arguments and weights (PyTorch name -> values) of the trained parts, by part
    kwargs: Mapping[str, Mapping[str, Any]]
    weights: Mapping[str, Mapping[str, Array]]
    settings: Mapping[str, Any]  # attributes of the step's settings
    frozen: Frozen | None = None  # the network that the step uses without training it

    @property
    def training(self) -> Training:
        """How the family is trained."""
        assert self.family.training is not None, f"{self.family.name} is not trained"
        return self.family.training

    @property
    def parts(self) -> dict[str, Part]:
        """The parts that are trained, by name."""
        return {name: part_named(self.family, name) for name in self.training.parts}

    @property
    def hooks(self) -> Mapping[str, Callable[..., Any]]:
        """Functions on pictures for the step, where it needs one of that name; see `Step.hooks`."""
        return {}

    def plan(self, part: str) -> Plan:
        """The naming plan of one part."""
        return build_plan(part_named(self.family, part), self.kwargs[part])


class Trainer(ABC):
    """The networks, the step and the optimisers of a training in one framework.

    Args:
        start: what it starts from.
        make_step: in place of the family's own step.

    Attributes:
        networks: by part.
        step: the family's training step.
    """

    framework: str
    package: str

    def __init__(self, start: TrainingStart, make_step: MakeStep | None = None) -> None:
        self.start, self.training = start, start.training
        self.networks = {
            name: self._network(part, start.kwargs[name], start.weights[name]) for name, part in start.parts.items()
        }
        settings = self.training.settings(**start.settings)
        make = make_step or resolve(self.package, self.training.step)
        self.step: Any = make(self.networks, settings, self._network(*start.frozen) if start.frozen else None)
        self.step.hooks |= {name: hook for name, hook in start.hooks.items() if self.step.hooks.get(name, hook) is None}

    def train(self, real_a: Array, real_b: Array) -> dict[str, float]:
        """Train one batch, [N, 3, H, W] in [-1, 1]; returns every loss term."""
        return dict(self.step(self.tensor(real_a), self.tensor(real_b)))

    def resumed(self, settings: Mapping[str, Any]) -> "Trainer":
        """Another trainer that goes on from here under these settings, as a run does that comes from a checkpoint."""
        weights = {part: self.weights(part) for part in self.networks}
        other = self._again(replace(self.start, weights=weights, settings=settings))
        other.restore(self.moments(), self.counts())
        other.step.step_number = self.step.step_number
        other.execute(self.step.descent.execution)
        other.step.restore(*self.step.state())
        return other

    def draw(self, chain: Sequence[str], pictures: Array) -> tuple[Array, ...]:
        """Run parts one after the other in eval mode, without moving any state; returns the last one's outputs."""
        outputs: Any = (self.tensor(pictures),)
        for part in chain:
            outputs = self._forward(part, outputs[0])
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(self.array(output) for output in outputs)

    def execute(self, execution: Execution) -> None:
        """Compute gradients this way from now on."""
        self.step.descent.use(execution)

    def moments(self) -> Moments:
        """Copies of both Adam moments of each trained parameter that has some."""
        return {
            (kind, part, name): self.array(state[kind])
            for _, part, name, _, state in self._states()
            for kind in MOMENTS
            if kind in state
        }

    def bad_gradient(self) -> str:
        """Part and name of the first gradient that is not finite, empty where none is or gradients are not kept."""
        return ""

    @abstractmethod
    def _again(self, start: TrainingStart) -> "Trainer":
        """A trainer like this one, with another start."""

    @abstractmethod
    def _network(self, part: Part, kwargs: Mapping[str, Any], weights: Mapping[str, Array]) -> Any:
        """Build a network with weights by PyTorch name."""

    @abstractmethod
    def _forward(self, part: str, pictures: Any) -> Any:
        """Run a network's inference form."""

    @abstractmethod
    def _states(self) -> Iterator[tuple[str, str, str, Any, Mapping[str, Any]]]:
        """Phase, part, PyTorch name, value and Adam's state of each trained parameter."""

    @abstractmethod
    def tensor(self, array: Array) -> Any:
        """A picture batch as the framework's tensor, in the precision and on the device of the training."""

    @abstractmethod
    def array(self, tensor: Any) -> Array:
        """A copy of a tensor."""

    @abstractmethod
    def side(self, part: str) -> Side:
        """A network behind the checker's interface."""

    @abstractmethod
    def weights(self, part: str) -> dict[str, Array]:
        """Copies of a network's whole state, by PyTorch name."""

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """Updates that each phase's optimiser has made."""

    @abstractmethod
    def rates(self) -> dict[str, float]:
        """Learning rate that each phase's optimiser uses."""

    @abstractmethod
    def put_back(self, weights: Mapping[str, Mapping[str, Array]]) -> None:
        """Give each network, by part, the state that `weights` returned; a compiled step goes on with it."""

    @abstractmethod
    def restore(self, moments: Moments, counts: Mapping[str, int]) -> None:
        """Put back what `moments` and `counts` returned; what they lack stays as it is."""


class TorchTrainer(Trainer):
    """Training in PyTorch.

    Args:
        start: what it starts from.
        dtype: "float32" or "float64".
        device: one of DEVICES. Raises InputError: PyTorch cannot use it here.
    """

    framework, package = "torch", "torch_ref"

    def __init__(self, start: TrainingStart, dtype: str = "float32", device: str = CPU) -> None:
        import torch

        self._torch, self.device = torch, device
        self._place = {"dtype": getattr(torch, dtype), "device": torch.device(place_of(device))}
        super().__init__(start)

    def _again(self, start: TrainingStart) -> Trainer:
        other = TorchTrainer(start, str(self._place["dtype"]).removeprefix("torch."), self.device)
        for part, network in other.networks.items():  # in double precision, too
            network.load_state_dict(self.networks[part].state_dict())
        return other

    def _network(self, part: Part, kwargs: Mapping[str, Any], weights: Mapping[str, Array]) -> Any:
        return torch_build.build_torch(part, kwargs, weights).to(**self._place)

    def _forward(self, part: str, pictures: Any) -> Any:
        with self._torch.no_grad():
            return torch_build.for_inference(self.networks[part].eval())(pictures)

    def _states(self) -> Iterator[tuple[str, str, str, Any, Mapping[str, Any]]]:
        for part, network in self.networks.items():
            phase = self.training.phase_of(part)
            for name, value in network.named_parameters():
                yield phase, part, name, value, self.step.optimizers[phase].state.get(value, {})

    def tensor(self, array: Array) -> Any:
        """See `Trainer.tensor`."""
        return self._torch.from_numpy(np.array(array)).to(**self._place)

    def array(self, tensor: Any) -> Array:
        """See `Trainer.array`."""
        return np.array(tensor.detach().cpu().numpy())

    def side(self, part: str) -> Side:
        """See `Trainer.side`."""
        return TorchSide(self.networks[part], device=self.device)

    def weights(self, part: str) -> dict[str, Array]:
        """See `Trainer.weights`."""
        return {name: self.array(value) for name, value in self.networks[part].state_dict().items()}

    def counts(self) -> dict[str, int]:
        """See `Trainer.counts`."""
        found = dict.fromkeys(self.training.phases, 0)
        for phase, _, _, _, state in self._states():
            found[phase] = max(found[phase], int(state.get("step", 0)))
        return found

    def rates(self) -> dict[str, float]:
        """See `Trainer.rates`."""
        return {phase: float(optimizer.param_groups[0]["lr"]) for phase, optimizer in self.step.optimizers.items()}

    def put_back(self, weights: Mapping[str, Mapping[str, Array]]) -> None:
        """See `Trainer.put_back`."""
        for part, values in weights.items():
            tensors = {name: self._torch.from_numpy(np.asarray(value)) for name, value in values.items()}
            self.networks[part].load_state_dict(tensors)

    def restore(self, moments: Moments, counts: Mapping[str, int]) -> None:
        """See `Trainer.restore`."""
        for phase, part, name, value, _ in list(self._states()):
            if (MOMENTS[0], part, name) in moments:
                state = {kind: self.tensor(moments[kind, part, name]) for kind in MOMENTS}
                state["step"] = self._torch.tensor(float(counts[phase]))
                self.step.optimizers[phase].state[value] = state

    def bad_gradient(self) -> str:
        """See `Trainer.bad_gradient`."""
        for _, part, name, value, _ in self._states():
            if value.grad is not None and not bool(self._torch.isfinite(value.grad).all()):
                return f"{part}.{name}"
        return ""


class MindSporeTrainer(Trainer):
    """Training in MindSpore."""

    framework, package = "mindspore", "ms_models"

    def __init__(self, start: TrainingStart, make_step: MakeStep | None = None) -> None:
        import mindspore

        self._mindspore = mindspore
        self._names = {part: start.plan(part).names for part in start.parts}
        self._make_step = make_step
        super().__init__(start, make_step)

    def _again(self, start: TrainingStart) -> Trainer:
        return MindSporeTrainer(start, self._make_step)

    def _network(self, part: Part, kwargs: Mapping[str, Any], weights: Mapping[str, Array]) -> Any:
        return mindspore_build.build_mindspore(part, kwargs, build_plan(part, kwargs).to_mindspore(weights))

    def _forward(self, part: str, pictures: Any) -> Any:
        return mindspore_build.for_inference(self.networks[part].set_train(False))(pictures)

    def _states(self) -> Iterator[tuple[str, str, str, Any, Mapping[str, Any]]]:
        for phase, optimizer in self.step.optimizers.items():
            for value, *state in zip(optimizer.parameters, optimizer.exp_avg, optimizer.exp_avg_sq, strict=True):
                part, _, name = value.name.partition(".")
                yield phase, part, self._names[part][name], value, dict(zip(MOMENTS, state, strict=True))

    def tensor(self, array: Array) -> Any:
        """See `Trainer.tensor`."""
        return self._mindspore.Tensor(np.array(array))

    def array(self, tensor: Any) -> Array:
        """See `Trainer.array`."""
        return np.array(tensor.asnumpy())

    def execute(self, execution: Execution) -> None:
        """See `Trainer.execute`; MindSpore casts the networks themselves."""
        if execution.half:
            for network in self.networks.values():
                self._mindspore.amp.auto_mixed_precision(network, "auto", self._mindspore.float16)
        super().execute(execution)

    def side(self, part: str) -> Side:
        """See `Trainer.side`."""
        return MindSporeSide(self.networks[part], self._names[part])

    def weights(self, part: str) -> dict[str, Array]:
        """See `Trainer.weights`; a batch counter that MindSpore lacks keeps the value it started with."""
        start, rows, names = self.start.weights[part], self.start.plan(part).rows, self._names[part]
        found = {row.torch: start[row.torch] for row in rows if row.carried and row.torch in start}
        found |= {names[name]: self.array(value) for name, value in self.networks[part].parameters_and_names()}
        return {row.torch: found[row.torch] for row in rows if row.torch in found}

    def counts(self) -> dict[str, int]:
        """See `Trainer.counts`."""
        return {phase: optimizer.step_number for phase, optimizer in self.step.optimizers.items()}

    def rates(self) -> dict[str, float]:
        """See `Trainer.rates`."""
        return {phase: float(optimizer.lr) for phase, optimizer in self.step.optimizers.items()}

    def put_back(self, weights: Mapping[str, Mapping[str, Array]]) -> None:
        """See `Trainer.put_back`."""
        for part, values in weights.items():
            for name, value in self.networks[part].parameters_and_names():
                self._mindspore.ops.assign(value, self._mindspore.Tensor(values[self._names[part][name]]))

    def restore(self, moments: Moments, counts: Mapping[str, int]) -> None:
        """See `Trainer.restore`; assigned in place, because a compiled step goes on with what set_data replaces."""
        for _, part, name, _, state in self._states():
            for kind, value in state.items():
                if (kind, part, name) in moments:
                    self._mindspore.ops.assign(value, self.tensor(moments[kind, part, name]))
        for phase, count in counts.items():
            self.step.optimizers[phase].step_number = count
