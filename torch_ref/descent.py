"""One move of one optimiser: gradient of a phase's objective, accumulation, loss scale, a look for NaN."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, distributed

from convert.recipes.descent import DescentForm, require_finite
from torch_ref.environment import CUDA

Terms = dict[str, Tensor]
Made = tuple[Tensor, ...]
Objective = Callable[..., tuple[Tensor, Terms, Made]]


class Descent(DescentForm):
    """See `DescentForm`."""

    def forward(self, function: Callable[..., Made], *inputs: Tensor) -> Made:
        """Call a function of images without gradient."""
        with torch.no_grad(), self._precision():
            return function(*inputs)

    def __call__(self, phase: str, objective: Objective, *inputs: Tensor) -> tuple[Terms, Made]:
        """Move the optimiser of `phase` down the gradient of `objective`.

        Args:
            phase: which optimiser.
            objective: images -> (total, loss terms by name, what else it made of them).
            inputs: images [N, C, H, W]; N a multiple of `accumulate`.

        Returns:
            The loss terms and "PHASE.total", means over the pieces, and what else was made; all without gradient.

        Raises FloatingPointError: with `watch`, names the loss terms or weights' gradients that are not finite;
        no weight was moved then.
        """
        count = self.execution.accumulate
        self._forget_gradients()
        found, products = [], []
        for piece in zip(*(images.chunk(count) for images in inputs), strict=True):
            with self._precision():
                total, terms, made = objective(*piece)
            terms = {**terms, f"{phase}.total": total}
            if self.execution.watch:
                require_finite({name: float(value.detach()) for name, value in terms.items()})
            (total * (self.scale / count)).backward()
            found.append({name: value.detach() for name, value in terms.items()})
            products.append([value.detach() for value in made])
        self._move(phase)
        self._forget_gradients()
        if count == 1:
            return found[0], tuple(products[0])
        means = {name: torch.stack([terms[name] for terms in found]).mean() for name in found[0]}
        return means, tuple(torch.cat(pieces) for pieces in zip(*products, strict=True))

    def _forget_gradients(self) -> None:
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()

    def _precision(self) -> torch.autocast:
        return torch.autocast(CUDA, enabled=self.execution.half)

    def _move(self, phase: str) -> None:
        optimizer = self.optimizers[phase]
        gradients = [
            value.grad for group in optimizer.param_groups for value in group["params"] if value.grad is not None
        ]
        if self.execution.workers > 1:
            _average(gradients, self.execution.workers)
        if self.scale != 1:
            for gradient in gradients:
                gradient /= self.scale
        if self.execution.watch or self.execution.dynamic_scale:
            finite = bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients)))
            if self.overflowed(finite):
                return
            if not finite:
                bad = sum(not bool(torch.isfinite(gradient).all()) for gradient in gradients)
                raise FloatingPointError(f"{bad} gradients of phase {phase} are not finite")
        optimizer.step()


def _average(gradients: Sequence[Tensor], workers: int) -> None:
    """Put in place of gradients the mean of those of all processes, which must have the same ones."""
    whole = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(whole)
    pieces = (whole / workers).split([gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, pieces, strict=True):
        gradient.copy_(mean.view_as(gradient))
