"""The runs of a user's own training step in either framework, see `own_steps`.

What reaches an optimiser is read by a hook at its call.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from convert.errors import InputError, first_line
from convert.plan import Plan
from parity_tests.harness.measurement import Kind, Quantity, Rest, Resting
from parity_tests.harness.pair import array_of
from parity_tests.harness.sides.base import Array
from parity_tests.harness.sides.mindspore import buffers_of, held
from parity_tests.harness.sides.tree import Tree, arguments, floating
from parity_tests.harness.training import Run, State, StepsReference
from parity_tests.harness.training_noise import Key, Results

Losses = Mapping[str, Mapping[str, float]]  # phase -> {name: value}


@dataclass(frozen=True)
class TrainingStep:
    """One training step of a user's, in either framework.

    Its phases are its optimisers, in their order: each moves weights of its own.
    """

    networks: Mapping[str, Any]  # name -> module or cell; the same names on both sides
    # phase -> torch.optim.Optimizer, or an optimiser of MindSpore that is called with gradients, not inside a graph
    optimizers: Mapping[str, Any]
    # the arrays of a batch as tensors -> losses, {phase: {name: number or tensor}}; with one optimiser also {name: ...}
    train: Callable[..., Mapping[str, Any]]


@contextmanager
def default_float64() -> Iterator[None]:
    """Tensors that a step makes itself are of PyTorch's default type."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def seeded_alike(number: int) -> None:
    """Seed whatever PyTorch's side and MindSpore's side can draw from alike, and PyTorch."""
    import torch

    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


class OwnRun(Run):
    """One side of the comparison.

    Args:
        step: built anew for this run.
        plans: of its networks.
        batches: of the steps.
    """

    framework: str

    def __init__(self, step: TrainingStep, plans: Mapping[str, Plan], batches: Sequence[Tree]) -> None:
        self.step_made, self.plans, self.batches = step, plans, batches
        self._done = 0
        self._seen: dict[Key, Array] = {}
        self._calls: Counter[str] = Counter()
        self._places = self._trained()
        for phase, optimizer in step.optimizers.items():
            self._watch(phase, optimizer)

    @property
    def number(self) -> int:
        """See `Run.number`."""
        return self._done

    def state(self) -> State:
        """See `Run.state`."""
        return State.of({part: self._weights(part) for part in self.plans}, {})

    def step(self, index: int, state: State) -> Results:
        """See `Run.step`."""
        for part, values in state.weights.items():
            self._put_back(part, values)
        start = {part: self._weights(part) for part in self.plans}
        self._seen, self._calls, self._done = {}, Counter(), index + 1
        losses = self._run(self.batches[index])
        found: dict[Key, Array] = {
            ("", Quantity(Kind.LOSS, name, phase=phase)): np.array(value)
            for phase, terms in losses.items()
            for name, value in terms.items()
        }
        return found | self._seen | dict(self._changes(start))

    def arrived(self, phase: str, rate: float, gradients: Sequence[tuple[Any, Array]]) -> None:
        """Note what an optimiser is called with: its rate, and the gradient of each parameter."""
        call = self._calls[phase]
        self._calls[phase] += 1
        self._seen["", Quantity(Kind.RATE, call=call, phase=phase)] = np.array(rate)
        for parameter, gradient in gradients:
            if id(parameter) in self._places:
                part, name = self._places[id(parameter)]
                layer, _, leaf = f"{part}.{name}".rpartition(".")
                self._seen[layer, Quantity(Kind.GRADIENT, leaf, call=call, phase=phase)] = gradient

    def _run(self, batch: Tree) -> Losses:
        seeded_alike(self._done)
        args, keywords = arguments(batch, [self._tensor(array) for array in batch])
        try:
            found = self.step_made.train(*args, **keywords)
        except Exception as error:
            what = f"the {self.framework} step fails in step {self._done}: {type(error).__name__}: {first_line(error)}"
            raise InputError(what) from error
        losses = self._losses(found)
        if idle := [phase for phase in losses if phase not in self._calls]:
            raise InputError(
                f"the {self.framework} step: optimiser {', '.join(idle)} was not called with gradients in step "
                f"{self._done}; call it outside of compiled graphs"
            )
        return losses

    def _losses(self, found: Any) -> Losses:
        phases = list(self.step_made.optimizers)
        if not isinstance(found, Mapping):
            raise InputError(f"the {self.framework} step returns losses by name, not a {type(found).__name__}")
        if len(phases) == 1 and phases[0] not in found:
            found = {phases[0]: found}
        if not all(isinstance(terms, Mapping) and phase in phases for phase, terms in found.items()):
            raise InputError(
                f"the {self.framework} step returns {{phase: {{loss: value}}}} with phases among {', '.join(phases)}"
            )
        return {phase: {name: self._number(value) for name, value in terms.items()} for phase, terms in found.items()}

    def _changes(self, start: Mapping[str, Mapping[str, Array]]) -> Iterator[tuple[Key, Array]]:
        for part in self.plans:
            phases = self.phases_of(part)
            for name, value in self._weights(part).items():
                layer, _, leaf = f"{part}.{name}".rpartition(".")
                change = np.asarray(value, np.float64) - start[part][name]
                yield (layer, Quantity(Kind.CHANGE, leaf, phase=phases[name])), change

    def phases_of(self, part: str) -> dict[str, str]:
        """Name of a network's tensor -> phase that moves it; what no optimiser holds goes with the network's others."""
        own = {
            self._places[id(value)][1]: phase
            for phase, optimizer in self.step_made.optimizers.items()
            for value in self._parameters(optimizer)
            if id(value) in self._places and self._places[id(value)][0] == part
        }
        other = next(iter(own.values()), list(self.step_made.optimizers)[-1])
        return {row.torch: own.get(row.torch, other) for row in self.plans[part].rows}

    def _number(self, value: Any) -> float:
        array = np.asarray(value if isinstance(value, int | float | np.ndarray) else array_of(value))
        if array.size != 1:
            raise InputError(f"the {self.framework} step: a loss is one number, not {array.size}")
        return float(array.reshape(()))

    @abstractmethod
    def _trained(self) -> dict[int, tuple[str, str]]:
        """Id of each parameter -> its network and PyTorch name."""

    @abstractmethod
    def _parameters(self, optimizer: Any) -> Sequence[Any]:
        """The parameters of an optimiser."""

    @abstractmethod
    def _watch(self, phase: str, optimizer: Any) -> None:
        """Have `arrived` called at every call of an optimiser."""

    @abstractmethod
    def _weights(self, part: str) -> dict[str, Array]:
        """Copies of a network's floating tensors by PyTorch name."""

    @abstractmethod
    def _put_back(self, part: str, values: Mapping[str, Array]) -> None:
        """Give a network's tensors values."""

    @abstractmethod
    def _tensor(self, array: Array) -> Any:
        """An array of a batch as the framework's tensor."""


class TorchRun(OwnRun):
    """Makes the steps in PyTorch.

    Args:
        step, plans, batches: see `OwnRun`.
        dtype: "float32" or "float64".
        start: weights to begin with, None for its own.
    """

    framework = "reference's"

    def __init__(
        self,
        step: TrainingStep,
        plans: Mapping[str, Plan],
        batches: Sequence[Tree],
        dtype: str,
        start: State | None = None,
    ) -> None:
        import torch

        self._torch, self._dtype = torch, getattr(torch, dtype)
        self._rates: dict[str, list[float]] = {}
        self._largest: dict[str, float] = {}
        super().__init__(step, plans, batches)
        for part, values in (start.weights if start else {}).items():
            self._put_back(part, values)

    def step(self, index: int, state: State) -> Results:
        """See `Run.step`."""
        with default_float64() if self._dtype == self._torch.float64 else nullcontext():
            found = super().step(index, state)
        for (_, quantity), value in found.items():
            if quantity.kind is Kind.LOSS:
                self._largest[quantity.name] = max(self._largest.get(quantity.name, 0.0), abs(float(value)))
            elif quantity.kind is Kind.RATE:
                self._rates.setdefault(quantity.phase, []).append(float(value))
        return found

    def resting(self) -> Iterator[Resting]:
        """Yield what did not move in the steps."""
        yield from (Resting(Rest.RATE, phase) for phase, rates in self._rates.items() if len(set(rates)) == 1)
        yield from (Resting(Rest.TERM, name) for name, largest in self._largest.items() if largest == 0)
        if len(self.batches) == 1:
            yield Resting(Rest.LATER_STEPS)
        if any(array.ndim and array.shape[0] == 1 for array in self.batches[0]):
            yield Resting(Rest.BATCH)
        yield Resting(Rest.RESUMING)

    def _trained(self) -> dict[int, tuple[str, str]]:
        return {
            id(value): (part, name)
            for part in self.plans
            for name, value in self.step_made.networks[part].named_parameters()
        }

    def _parameters(self, optimizer: Any) -> Sequence[Any]:
        if not isinstance(optimizer, self._torch.optim.Optimizer):
            raise InputError(f"the reference's optimisers are of torch.optim, not a {type(optimizer).__name__}")
        return [value for group in optimizer.param_groups for value in group["params"]]

    def _watch(self, phase: str, optimizer: Any) -> None:
        def before(*_: Any) -> None:
            """Note what the optimiser is about to use."""
            gradients = [
                (value, array_of(self._torch.zeros_like(value) if value.grad is None else value.grad))
                for value in self._parameters(optimizer)
            ]
            self.arrived(phase, float(optimizer.param_groups[0]["lr"]), gradients)

        self._parameters(optimizer)
        optimizer.register_step_pre_hook(before)

    def _weights(self, part: str) -> dict[str, Array]:
        state = self.step_made.networks[part].state_dict()
        rows = [row.torch for row in self.plans[part].rows if not row.carried]
        return {name: array_of(state[name]) for name in rows if state[name].is_floating_point()}

    def _put_back(self, part: str, values: Mapping[str, Array]) -> None:
        state = self.step_made.networks[part].state_dict()
        for name, value in values.items():
            state[name].copy_(self._torch.from_numpy(np.array(value)))

    def _tensor(self, array: Array) -> Any:
        tensor = self._torch.from_numpy(np.array(array))
        return tensor.to(self._dtype) if floating(array) else tensor


class MindSporeRun(OwnRun):
    """Makes the steps in MindSpore.

    Args:
        step, plans, batches: see `OwnRun`.
        reference: whose losses it has.
    """

    framework = "port's"

    def __init__(
        self, step: TrainingStep, plans: Mapping[str, Plan], batches: Sequence[Tree], reference: StepsReference
    ) -> None:
        self._reference = reference
        super().__init__(step, plans, batches)

    def step(self, index: int, state: State) -> Results:
        """See `Run.step`. Raises InputError: its losses are not those of the reference."""
        found = super().step(index, state)
        own, wanted = (_loss_names(results) for results in (found, self._reference.truth(index)))
        if own != wanted:
            raise InputError(
                f"losses of the reference: {', '.join(sorted(wanted - own))}; of the port: "
                f"{', '.join(sorted(own - wanted))}"
            )
        return found

    def _trained(self) -> dict[int, tuple[str, str]]:
        return {
            id(value): (part, self.plans[part].names[name])
            for part in self.plans
            for name, value in held(self.step_made.networks[part])
            if name in self.plans[part].names
        }

    def _parameters(self, optimizer: Any) -> Sequence[Any]:
        import mindspore

        if not isinstance(optimizer, mindspore.nn.Cell):
            raise InputError(f"the port's optimisers are cells of MindSpore, not a {type(optimizer).__name__}")
        return list(optimizer.parameters)

    def _watch(self, phase: str, optimizer: Any) -> None:
        parameters = self._parameters(optimizer)

        def before(cell: Any, args: tuple[Any, ...]) -> None:
            """Note what the optimiser is called with."""
            gradients = [(value, array_of(gradient)) for value, gradient in zip(parameters, args[0], strict=True)]
            rows = {place: row for place, row in self._rows()}
            own = [(value, rows[self._places[id(value)]].to_torch(array)) for value, array in gradients]
            self.arrived(phase, _rate(cell), own)

        optimizer.register_forward_pre_hook(before)

    def _rows(self) -> Iterator[tuple[tuple[str, str], Any]]:
        for part, plan in self.plans.items():
            yield from (((part, row.torch), row) for row in plan.rows)

    def _weights(self, part: str) -> dict[str, Array]:
        return {row.torch: row.to_torch(array_of(value)) for row, value in self._tensors(part)}

    def _tensors(self, part: str) -> Iterator[tuple[Any, Any]]:
        """Row and tensor of everything in a network that is not carried."""
        cell = self.step_made.networks[part]
        own = {name: place[key] for name, (place, key) in buffers_of(cell)} | dict(held(cell))
        for row in self.plans[part].rows:
            if not row.carried and row.mindspore in own:
                yield row, own[row.mindspore]

    def _put_back(self, part: str, values: Mapping[str, Array]) -> None:
        import mindspore

        for row, tensor in self._tensors(part):
            if row.torch in values:
                value = mindspore.Tensor(np.array(row.to_mindspore(values[row.torch]), order="C"), tensor.dtype)
                if isinstance(tensor, mindspore.Parameter):
                    mindspore.ops.assign(tensor, value)  # compiled optimisers go on with it
                else:
                    tensor.assign_value(value)

    def _tensor(self, array: Array) -> Any:
        import mindspore

        return mindspore.Tensor(np.asarray(array, np.float32 if floating(array) else None))


def _loss_names(results: Results) -> set[str]:
    return {f"{quantity.phase}.{quantity.name}" for _, quantity in results if quantity.kind is Kind.LOSS}


def _rate(optimizer: Any) -> float:
    """Learning rate that an optimiser of MindSpore uses in its next update, of its first group."""
    import mindspore

    if isinstance(optimizer, mindspore.nn.Optimizer):
        rate = optimizer.get_lr()
        return float(array_of(rate[0] if isinstance(rate, tuple) else rate).reshape(-1)[0])
    return float(array_of(optimizer.param_groups[0]["lr"]))
