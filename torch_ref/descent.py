"""One move of one optimiser: gradient of a phase's objective, accumulation, loss scale, a look for NaN."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

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
        half: run the networks in half precision where PyTorch's autocast does, on CUDA.
    """

    accumulate: int = 1
    loss_scale: float = 1.0
    dynamic_scale: bool = False
    watch: bool = False
    half: bool = False


class Descent:
    """Moves the optimisers of a training step.

    Args:
        optimizers: by phase.
    """

    def __init__(self, optimizers: Mapping[str, torch.optim.Optimizer]) -> None:
        self.optimizers = optimizers
        self.use(Execution())

    def use(self, execution: Execution) -> None:
        """Compute gradients this way from now on."""
        self.execution = execution
        self.scale, self.good_updates = execution.loss_scale, 0

    def forward(self, function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> tuple[Tensor, ...]:
        """Call a function of images without gradient."""
        with torch.no_grad(), self._precision():
            return function(*inputs)

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
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        found = []
        for piece in zip(*(one.chunk(count) for one in inputs), strict=True):
            with self._precision():
                total, terms = objective(*piece)
            terms = {**terms, f"{phase}.total": total}
            if self.execution.watch:
                _require_finite(terms)
            (total * (self.scale / count)).backward()
            found.append({name: value.detach() for name, value in terms.items()})
        self._move(phase)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        return {name: torch.stack([one[name] for one in found]).mean() for name in found[0]} if count > 1 else found[0]

    def _precision(self) -> torch.autocast:
        return torch.autocast("cuda", enabled=self.execution.half)

    def _move(self, phase: str) -> None:
        optimizer = self.optimizers[phase]
        gradients = [
            value.grad for group in optimizer.param_groups for value in group["params"] if value.grad is not None
        ]
        if self.scale != 1:
            for gradient in gradients:
                gradient /= self.scale
        if self.execution.watch or self.execution.dynamic_scale:
            finite = bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients)))
            if self._overflowed(finite):
                return
            if not finite:
                bad = [index for index, one in enumerate(gradients) if not bool(torch.isfinite(one).all())]
                raise FloatingPointError(f"{len(bad)} gradients of phase {phase} are not finite")
        optimizer.step()

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


def _require_finite(terms: Terms) -> None:
    bad = [f"{name} is {float(value.detach()):g}" for name, value in terms.items() if not bool(torch.isfinite(value))]
    if bad:
        raise FloatingPointError(f"loss term {', '.join(bad)}")
