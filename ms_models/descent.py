"""One move of one optimiser: gradient of a phase's objective, accumulation, loss scale, a look for NaN.

The twin of `torch_ref/descent.py`. Compiled, a phase runs as one graph: many times as fast as operation by
operation.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn, ops

from convert.recipes.descent import DescentForm, Execution, require_finite, require_terms
from ms_models.optim import Adam

Terms = dict[str, Tensor]
Made = tuple[Tensor, ...]
Objective = Callable[..., tuple[Tensor, Terms, Made]]
Penalty = tuple[Callable[..., Made], Objective]


class Descent(DescentForm):
    """See `DescentForm`."""

    def use(self, execution: Execution) -> None:
        """See `DescentForm.use`."""
        super().use(execution)
        self._functions: dict[Any, Callable[..., Any]] = {}
        for optimizer in self.optimizers.values():
            optimizer.compiled = self.execution.compiled

    def forward(self, function: Callable[..., Made], *inputs: Tensor) -> Made:
        """Call a function of images without gradient."""
        outputs = self._run(function.__name__, function, *inputs)
        return tuple(ops.stop_gradient(output) for output in outputs)

    def _run(self, name: str, function: Callable[..., Any], *inputs: Tensor) -> Any:
        """Call a function; compiled, the first of each name is the one that is called from then on."""
        if not self.execution.compiled:
            return function(*inputs)

        def run(*inputs: Tensor) -> Any:
            """What a graph is made of."""
            return function(*inputs)

        if name not in self._functions:
            self._functions[name] = ms.jit(run)
        return self._functions[name](*inputs)

    def __call__(
        self,
        phase: str,
        objective: Objective,
        *inputs: Tensor,
        weights: Mapping[str, float] | None = None,
        penalty: Penalty | None = None,
    ) -> tuple[Terms, Made]:
        """Move the optimiser of `phase` down the gradient of `objective`.

        Args:
            phase: which optimiser.
            objective: images -> (total, loss terms by name, what else it made of them).
            inputs: images [N, C, H, W]; N a multiple of `accumulate`.
            weights: of each loss term; None: whatever terms there are.
            penalty: what second order needs, two gradients after each other: (images -> more inputs, made without
                gradient; images and these inputs -> as `objective`). Added to the objective.

        Returns:
            The loss terms and "PHASE.total", means over the pieces, and what else was made.

        Raises:
            FloatingPointError: with `watch`, names the loss terms or weights' gradients that are not finite.
            ValueError: a loss term without a weight or a weight without a term. No weight was moved in either case.
        """
        count = self.execution.accumulate
        found, products, gradients = [], [], ()
        for piece in zip(*(ops.chunk(images, count) if count > 1 else (images,) for images in inputs), strict=True):
            terms, made, more = self._piece(phase, objective, piece, weights, penalty)
            found.append(terms)
            products.append(made)
            gradients = _sums(gradients, more) if gradients else more
        self._move(phase, gradients)
        if count == 1:
            return found[0], products[0]
        means = {name: ops.stack([terms[name] for terms in found]).mean() for name in found[0]}
        return means, tuple(ops.cat(pieces) for pieces in zip(*products, strict=True))

    def _piece(
        self,
        phase: str,
        objective: Objective,
        images: Sequence[Tensor],
        weights: Mapping[str, float] | None,
        penalty: Penalty | None,
    ) -> tuple[Terms, Made, tuple[Tensor, ...]]:
        """Loss terms, what else was made, and gradients of one piece of a batch."""
        total, terms, made, gradients = self._gradients(phase, objective, images)
        if penalty is not None:
            inputs = (*images, *self.forward(penalty[0], *images))
            value, added, _, steeper = self._gradients(phase, penalty[1], inputs, "penalty")
            total, terms, gradients = total + value, {**terms, **added}, _sums(gradients, steeper)
        if weights is not None:
            require_terms(phase, terms, weights)
            terms = {name: terms[name] for name in weights}
        terms = {**terms, f"{phase}.total": total}
        if self.execution.watch:
            require_finite({name: float(value.asnumpy()) for name, value in terms.items()})
        return terms, made, gradients

    def _gradients(
        self, phase: str, objective: Objective, images: Sequence[Tensor], what: str = "objective"
    ) -> tuple[Tensor, Terms, Made, tuple[Tensor, ...]]:
        differentiated, scale = self._differentiated(phase, objective), Tensor(self.scale, ms.float32)
        (_, (total, values, names, made)), gradients = self._run(f"{phase}.{what}", differentiated, scale, *images)
        return total, dict(zip(names, values, strict=True)), tuple(made), gradients

    def _differentiated(self, phase: str, objective: Objective) -> Callable[..., Any]:
        """Return (scale, images) -> ((scaled total, (total, terms, their names, what was made)), gradients).

        The terms leave the graph as tuples: with dictionaries MindSpore 2.8 compiles without end.
        """

        def scaled(scale: Tensor, *images: Tensor) -> Any:
            """What is differentiated, and what else is wanted of it."""
            total, terms, made = objective(*images)
            return total * scale, (total, tuple(terms.values()), tuple(terms.keys()), made)

        parameters = ms.ParameterTuple(self.optimizers[phase].parameters)
        gradient = ms.value_and_grad(scaled, None, parameters, has_aux=True)
        if self.execution.workers == 1:
            return gradient
        reduce = nn.DistributedGradReducer(parameters, mean=True, degree=self.execution.workers)

        def reduced(scale: Tensor, *images: Tensor) -> Any:
            """The gradients averaged over the workers."""
            values, gradients = gradient(scale, *images)
            return values, reduce(gradients)

        return reduced

    def _move(self, phase: str, gradients: Sequence[Tensor]) -> None:
        optimizer = self.optimizers[phase]
        factor = 1 / (self.scale * self.execution.accumulate)
        if self.execution.watch or self.execution.dynamic_scale:
            finite = math.isfinite(optimizer.norm(gradients))
            if self.overflowed(finite):
                return
            if not finite:
                raise FloatingPointError(f"gradient of {_named(optimizer, gradients)}")
        optimizer(gradients if factor == 1 else tuple(gradient * factor for gradient in gradients))


def _sums(first: Sequence[Tensor], second: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(one + other for one, other in zip(first, second, strict=True))


def _named(optimizer: Adam, gradients: Sequence[Tensor]) -> str:
    pairs = zip(optimizer.parameters, gradients, strict=True)
    return ", ".join(value.name for value, gradient in pairs if not bool(ops.isfinite(gradient).all()))
