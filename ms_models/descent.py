"""One move of one optimiser: gradient of a phase's objective, accumulation, loss scale, a look for NaN.

The twin of `torch_ref/descent.py`. Compiled, a phase runs as one graph: many times as fast as operation by
operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn, ops

from ms_models.optim import Adam

__all__ = ["Descent", "Execution"]

Terms = dict[str, Tensor]
Objective = Callable[..., tuple[Tensor, Terms]]

GROWTH_INTERVAL = 1000
LARGEST_SCALE = 2.0**24


@dataclass(frozen=True)
class Execution:
    """How gradients are computed; none of it changes what is computed, but for rounding.

    Attributes:
        accumulate: every batch is worked through in this many equal pieces and their gradients are averaged.
        loss_scale: the objective is multiplied by this before the backward pass and the gradients divided
            by it; for half precision. 1 for none.
        dynamic_scale: halve the scale and leave the update out when a gradient overflows, double it after
            1000 good updates.
        watch: look for NaN and infinity in every loss term and gradient before weights are moved.
        compiled: run each phase as one graph (`mindspore.jit`); the first call of each image size compiles.
        workers: processes that train together; their gradients are averaged.
    """

    accumulate: int = 1
    loss_scale: float = 1.0
    dynamic_scale: bool = False
    watch: bool = False
    compiled: bool = False
    workers: int = 1


class Descent:
    """Moves the optimisers of a training step.

    Args:
        optimizers: by phase.
    """

    def __init__(self, optimizers: Mapping[str, Adam]) -> None:
        self.optimizers = optimizers
        self._functions: dict[Any, Callable[..., Any]] = {}
        self.use(Execution())

    def use(self, execution: Execution) -> None:
        """Compute gradients this way from now on."""
        self.execution = execution
        self.scale, self.good_updates = execution.loss_scale, 0
        self._functions.clear()
        for optimizer in self.optimizers.values():
            optimizer.compiled = execution.compiled

    def forward(self, function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> tuple[Tensor, ...]:
        """Call a function of images without gradient."""
        if not self.execution.compiled:
            return tuple(ops.stop_gradient(one) for one in function(*inputs))
        if function.__name__ not in self._functions:

            def run(*images: Tensor) -> tuple[Tensor, ...]:
                return function(*images)

            self._functions[function.__name__] = ms.jit(run)
        return self._functions[function.__name__](*inputs)

    def __call__(self, phase: str, objective: Objective, *inputs: Tensor) -> Terms:
        """Move the optimiser of `phase` down the gradient of `objective`.

        Args:
            phase: which optimiser.
            objective: images -> (total, loss terms by name).
            inputs: images [N, C, H, W]; N a multiple of `accumulate`.

        Returns:
            The loss terms and "PHASE.total", means over the pieces.

        Raises:
            FloatingPointError: with `watch`, names the loss terms or weights' gradients that are not finite;
                no weight was moved then.
        """
        count = self.execution.accumulate
        found, gradients = [], None
        for piece in zip(*(ops.chunk(one, count) if count > 1 else (one,) for one in inputs), strict=True):
            terms, more = self._gradients(phase, objective, piece)
            if self.execution.watch:
                _require_finite(terms)
            found.append(terms)
            gradients = more if gradients is None else self._added(gradients, more)
        self._move(phase, gradients or ())
        if count == 1:
            return found[0]
        return {name: ops.stack([one[name] for one in found]).mean() for name in found[0]}

    def _gradients(
        self, phase: str, objective: Objective, images: Sequence[Tensor]
    ) -> tuple[Terms, tuple[Tensor, ...]]:
        scale = Tensor(self.scale, ms.float32)
        if not self.execution.compiled:  # the function is made anew each time: it is free, and may be exchanged
            return _named_terms(phase, self._differentiated(phase, objective)(scale, *images))
        if phase not in self._functions:
            differentiated = self._differentiated(phase, objective)

            def run(scale: Tensor, *inputs: Tensor) -> Any:
                return differentiated(scale, *inputs)

            self._functions[phase] = ms.jit(run)
        return _named_terms(phase, self._functions[phase](scale, *images))

    def _differentiated(self, phase: str, objective: Objective) -> Callable[..., Any]:
        """Return (scale, images) -> ((scaled total, (total, terms, their names)), gradients).

        The terms leave the graph as tuples: with dictionaries MindSpore 2.8 compiles without end.
        """
        parameters = ms.ParameterTuple(self.optimizers[phase].parameters)

        def scaled(scale: Tensor, *images: Tensor) -> Any:
            total, terms = objective(*images)
            return total * scale, (total, tuple(terms.values()), tuple(terms.keys()))

        gradient = ms.value_and_grad(scaled, None, parameters, has_aux=True)
        if self.execution.workers == 1:
            return gradient
        reduce = nn.DistributedGradReducer(parameters, mean=True, degree=self.execution.workers)

        def reduced(scale: Tensor, *images: Tensor) -> Any:
            values, gradients = gradient(scale, *images)
            return values, reduce(gradients)

        return reduced

    def _added(self, first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(one + other for one, other in zip(first, second, strict=True))

    def _move(self, phase: str, gradients: Sequence[Tensor]) -> None:
        optimizer = self.optimizers[phase]
        factor = 1 / (self.scale * self.execution.accumulate)
        if self.execution.watch or self.execution.dynamic_scale:
            finite = math.isfinite(optimizer.norm(gradients))
            if self._overflowed(finite):
                return
            if not finite:
                raise FloatingPointError(f"gradient of {_named(optimizer, gradients)}")
        optimizer(gradients if factor == 1 else tuple(gradient * factor for gradient in gradients))

    def _overflowed(self, finite: bool) -> bool:
        """Adapt a dynamic loss scale; True when this update must be left out."""
        if not self.execution.dynamic_scale:
            return False
        self.good_updates = self.good_updates + 1 if finite else 0
        if not finite and self.scale > 1:
            self.scale /= 2
            return True
        if self.good_updates == GROWTH_INTERVAL:
            self.scale, self.good_updates = min(self.scale * 2, LARGEST_SCALE), 0
        return False


def _named_terms(phase: str, result: Any) -> tuple[Terms, tuple[Tensor, ...]]:
    (_, (total, values, names)), gradients = result
    return {**dict(zip(names, values, strict=True)), f"{phase}.total": total}, gradients


def _require_finite(terms: Terms) -> None:
    values = {name: float(value.asnumpy()) for name, value in terms.items()}
    bad = [f"{name} is {value:g}" for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise FloatingPointError(f"loss term {', '.join(bad)}")


def _named(optimizer: Adam, gradients: Sequence[Tensor]) -> str:
    pairs = zip(optimizer.parameters, gradients, strict=True)
    return ", ".join(value.name for value, gradient in pairs if not bool(ops.isfinite(gradient).all()))
