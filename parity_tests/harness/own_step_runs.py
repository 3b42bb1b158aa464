"""What a user's own training step is, and what a run of it is in either framework; see `own_steps`."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from convert.errors import InputError, first_line
from convert.plan import Plan
from parity_tests.harness.measurement import Kind, Quantity
from parity_tests.harness.pair import array_of
from parity_tests.harness.sides.base import Array
from parity_tests.harness.sides.tree import Tree, arguments
from parity_tests.harness.training import Run, State
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
    # of the port: writes what a training run keeps, and returns a step that goes on from there; it is taken up before
    # the last batch
    resumed: Callable[[], TrainingStep] | None = None


def require_step(found: Any, side: str, like: TrainingStep | None = None) -> None:
    """Raise InputError unless this is a training step, of the same networks and optimisers as another one."""
    if not isinstance(found, TrainingStep):
        raise InputError(f"the {side}'s step: its function returns a TrainingStep, not a {type(found).__name__}")
    for what in ("networks", "optimizers") if like else ():
        own, other = list(getattr(found, what)), list(getattr(like, what))
        if own != other:
            raise InputError(f"the {side}'s resumed step: {what} {', '.join(own)}, not {', '.join(other)}")


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
    """One side of the comparison, of a step that was built for this run alone."""

    framework: str

    def __init__(self, step: TrainingStep, plans: Mapping[str, Plan], batches: Sequence[Tree]) -> None:
        self.plans, self.batches = plans, batches
        self._done = 0
        self._seen: dict[Key, Array] = {}
        self._calls: Counter[str] = Counter()
        self.called: set[str] = set()  # phases whose optimiser was ever called
        self._take(step)

    def _take(self, step: TrainingStep) -> None:
        self.step_made, self._places = step, self._trained(step)
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
        self._resume(index)
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
        self.called.add(phase)
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
            with self._as_compared():
                found = self.step_made.train(*args, **keywords)
        except Exception as error:
            what = f"the {self.framework} step fails in step {self._done}: {type(error).__name__}: {first_line(error)}"
            raise InputError(what) from error
        return self._losses(found)

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

    def _resume(self, index: int) -> None:
        """Take the run up from a checkpoint, if that is to be done before a step."""

    @abstractmethod
    def _as_compared(self) -> AbstractContextManager[Any]:
        """What a step runs in: dropout at rest."""

    @abstractmethod
    def _trained(self, step: TrainingStep) -> dict[int, tuple[str, str]]:
        """Id of each parameter of a step -> its network and PyTorch name."""

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
