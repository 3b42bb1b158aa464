"""The runs of a user's own training step in PyTorch and in MindSpore.

What reaches an optimiser is read at its call. Dropout is at rest: it draws other numbers on either side.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from convert.devices import CPU
from convert.errors import InputError, first_line
from convert.plan import Plan
from parity_tests.harness.measurement import Kind, Rest, Resting
from parity_tests.harness.own_step_runs import OwnRun, TrainingStep, default_float64, require_step
from parity_tests.harness.pair import array_of
from parity_tests.harness.sides.base import Array
from parity_tests.harness.sides.dropping import resting_in_mindspore, resting_in_torch
from parity_tests.harness.sides.mindspore import buffers_of, held
from parity_tests.harness.sides.tree import Tree, floating
from parity_tests.harness.training import State, StepsReference
from parity_tests.harness.training_noise import Results
from torch_ref.environment import place_of


class TorchRun(OwnRun):
    """Makes the steps in PyTorch.

    Args:
        step, plans, batches: see `OwnRun`.
        dtype: "float32" or "float64".
        start: weights to begin with, None for its own.
        device: one of `DEVICES`; networks, batches and what the step makes itself lie there.
    """

    framework = "reference's"

    def __init__(
        self,
        step: TrainingStep,
        plans: Mapping[str, Plan],
        batches: Sequence[Tree],
        dtype: str,
        start: State | None = None,
        device: str = CPU,
    ) -> None:
        import torch

        self._torch, self._dtype, self._place = torch, getattr(torch, dtype), torch.device(place_of(device))
        for network in step.networks.values():
            network.to(self._place)
        self._rates: dict[str, list[float]] = {}
        self._largest: dict[str, float] = {}
        super().__init__(step, plans, batches)
        for part, values in (start.weights if start else {}).items():
            self._put_back(part, values)

    def step(self, index: int, state: State) -> Results:
        """See `Run.step`."""
        there = nullcontext() if self._place.type == CPU else self._place  # of what the step makes itself
        with there, default_float64() if self._dtype == self._torch.float64 else nullcontext():
            found = super().step(index, state)
        for (_, quantity), value in found.items():
            if quantity.kind is Kind.LOSS:
                self._largest[quantity.name] = max(self._largest.get(quantity.name, 0.0), abs(float(value)))
            elif quantity.kind is Kind.RATE:
                self._rates.setdefault(quantity.phase, []).append(float(value))
        return found

    def resting(self, resumed: bool) -> Iterator[Resting]:
        """Yield what did not move in the steps; `resumed`: whether the port was taken up from a checkpoint."""
        yield from (Resting(Rest.RATE, phase) for phase, rates in self._rates.items() if len(set(rates)) == 1)
        yield from (Resting(Rest.TERM, name) for name, largest in self._largest.items() if largest == 0)
        if len(self.batches) == 1:
            yield Resting(Rest.LATER_STEPS)
        if any(array.ndim and array.shape[0] == 1 for array in self.batches[0]):
            yield Resting(Rest.BATCH)
        if not resumed:
            yield Resting(Rest.RESUMING)

    def _as_compared(self) -> AbstractContextManager[Any]:
        return resting_in_torch(lambda form: None)

    def _trained(self, step: TrainingStep) -> dict[int, tuple[str, str]]:
        return {
            id(value): (part, name) for part in self.plans for name, value in step.networks[part].named_parameters()
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
        tensor = self._torch.from_numpy(np.array(array)).to(self._place)
        return tensor.to(self._dtype) if floating(array) else tensor


class MindSporeRun(OwnRun):
    """Makes the steps in MindSpore.

    Args:
        step, plans, batches: see `OwnRun`.
        reference: whose losses it has.
        compiled: whether functions and networks run as graphs; optimisers run operation by operation in any case.
    """

    framework = "port's"

    def __init__(
        self,
        step: TrainingStep,
        plans: Mapping[str, Plan],
        batches: Sequence[Tree],
        reference: StepsReference,
        compiled: bool = False,
    ) -> None:
        self._reference, self._compiled = reference, compiled
        self.was_resumed = False
        super().__init__(step, plans, batches)

    def step(self, index: int, state: State) -> Results:
        """See `Run.step`. Raises InputError: its losses are not those of the reference."""
        found, truth = super().step(index, state), self._reference.truth(index)
        if silent := {key[1].phase for key in truth if key[1].kind is Kind.RATE} - self.called:
            raise InputError(
                f"the port's step: optimiser {', '.join(sorted(silent))} was not called with gradients in step "
                f"{self._done}; call it outside of compiled graphs"
            )
        own, wanted = (_loss_names(results) for results in (found, truth))
        if own != wanted:
            raise InputError(
                f"losses of the reference: {', '.join(sorted(wanted - own))}; of the port: "
                f"{', '.join(sorted(own - wanted))}"
            )
        return found

    def _resume(self, index: int) -> None:
        if not index or index + 1 < len(self.batches) or self.step_made.resumed is None:
            return
        try:
            step = self.step_made.resumed()
        except Exception as error:
            raise InputError(
                f"the port's step cannot be resumed: {type(error).__name__}: {first_line(error)}"
            ) from error
        require_step(step, "port", self.step_made)
        self._take(step)
        self.was_resumed = True

    @contextmanager
    def _as_compared(self) -> Iterator[None]:
        with resting_in_mindspore(lambda form: None), graph_mode() if self._compiled else nullcontext():
            yield

    def _trained(self, step: TrainingStep) -> dict[int, tuple[str, str]]:
        return {
            id(value): (part, self.plans[part].names[name])
            for part in self.plans
            for name, value in held(step.networks[part])
            if name in self.plans[part].names
        }

    def _parameters(self, optimizer: Any) -> Sequence[Any]:
        import mindspore

        if not isinstance(optimizer, mindspore.nn.Cell):
            raise InputError(f"the port's optimisers are cells of MindSpore, not a {type(optimizer).__name__}")
        return list(optimizer.parameters)

    def _watch(self, phase: str, optimizer: Any) -> None:
        parameters = self._parameters(optimizer)

        def before(cell: Any, given: Sequence[Any]) -> None:
            """Note what the optimiser is called with."""
            gradients = [(value, array_of(gradient)) for value, gradient in zip(parameters, given, strict=True)]
            rows = dict(self._rows())
            own = [(value, rows[self._places[id(value)]].to_torch(array)) for value, array in gradients]
            self.arrived(phase, _rate(cell), own)

        kind = type(optimizer)

        def call(cell: Any, gradients: Any, *more: Any) -> Any:
            """Be called operation by operation."""
            with eager_mode():
                before(cell, gradients)
                return kind.__call__(cell, gradients, *more)

        # hooks of cells do not run in graph mode
        optimizer.__class__ = type(kind.__name__, (kind,), {"__call__": call})

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


@contextmanager
def _mode(name: str) -> Iterator[None]:
    """Run MindSpore in another mode."""
    import mindspore

    before = mindspore.get_context("mode")
    mindspore.set_context(mode=getattr(mindspore, name))
    try:
        yield
    finally:
        mindspore.set_context(mode=before)


def graph_mode() -> AbstractContextManager[None]:
    """Return what compiles functions of gradients, and networks, to graphs."""
    return _mode("GRAPH_MODE")


def eager_mode() -> AbstractContextManager[None]:
    """Return what runs operation by operation."""
    return _mode("PYNATIVE_MODE")
