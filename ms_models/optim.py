"""Adam, equal to torch.optim.Adam step for step, or to MindSpore's in the place of eps.

MindSpore's own nn.Adam adds eps before the bias correction and skips weight decay for parameters whose
names contain "gamma" or "beta". Paper: Adam (arXiv 1412.6980), with coupled L2 weight decay.
"""

from collections.abc import Callable, Sequence
from typing import Any

import mindspore as ms
from mindspore import Parameter, Tensor, ops


class Adam:
    """Adam with coupled weight decay; moments map one to one to torch's exp_avg and exp_avg_sq.

    Args:
        parameters: what to train. Leave out parameters that take no part in the loss: PyTorch gives them
            no gradient and does not touch them, while a zero gradient would let weight decay move them.
        lr, beta1, beta2, eps, weight_decay: as in torch.optim.Adam.
        early_eps: add eps before the bias correction, as nn.Adam does.

    Attributes:
        step_number: updates made so far.
        compiled: run the update as one graph instead of operation by operation; set before the first update.
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        lr: float = 1e-4,
        beta1: float = 0.5,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 1e-4,
        early_eps: bool = False,
    ) -> None:
        self.parameters = list(parameters)
        self.lr, self.beta1, self.beta2, self.eps, self.weight_decay = lr, beta1, beta2, eps, weight_decay
        self.early_eps, self.step_number = early_eps, 0
        self.compiled = False
        self.exp_avg = [_moment("exp_avg", value) for value in self.parameters]
        self.exp_avg_sq = [_moment("exp_avg_sq", value) for value in self.parameters]
        self._graphs: dict[str, Callable[..., Any]] = {}

    def __call__(self, gradients: Sequence[Tensor]) -> None:
        """Move every parameter by one step; gradients in the order of the parameters."""
        self.step_number += 1
        first = 1 - self.beta1**self.step_number
        second = (1 - self.beta2**self.step_number) ** 0.5
        eps = self.eps / second if self.early_eps else self.eps
        numbers = [Tensor(number, ms.float32) for number in (self.lr / first, second, eps)]
        if self.compiled:
            self._graph("update", self._updater())(*numbers, *gradients)
        else:
            self._updater()(*numbers, *gradients)

    def norm(self, gradients: Sequence[Tensor]) -> float:
        """Euclidean norm of all gradients together; not finite when any of them is not."""
        run = self._graph("norm", _norm) if self.compiled else _norm
        return float(run(*gradients).asnumpy())

    def _graph(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        if name not in self._graphs:
            self._graphs[name] = ms.jit(function)
        return self._graphs[name]

    def _updater(self) -> Callable[..., Tensor]:
        # 1 - beta is taken here in double precision: a graph takes it from beta rounded to float32, 1e-5 off
        constants = (self.weight_decay, 1 - self.beta1, self.beta2, 1 - self.beta2)
        state = (tuple(self.parameters), tuple(self.exp_avg), tuple(self.exp_avg_sq))

        def update(rate: Tensor, root: Tensor, eps: Tensor, *gradients: Tensor) -> Tensor:
            """Move every parameter; returns the rate, since a graph must return something."""
            ops.HyperMap()(ops.partial(_move, rate, root, eps, constants), *state, gradients)
            return rate

        return update


def _move(
    rate: Tensor,
    root: Tensor,
    eps: Tensor,
    constants: tuple[float, ...],
    value: Parameter,
    mean: Parameter,
    square: Parameter,
    gradient: Tensor,
) -> Tensor:
    decay, rest1, beta2, rest2 = constants
    if decay:
        gradient = gradient + decay * value
    new_mean = mean + (gradient - mean) * rest1
    new_square = square * beta2 + gradient * gradient * rest2
    ops.assign(mean, new_mean)
    ops.assign(square, new_square)
    return ops.assign(value, value - rate * (new_mean / (ops.sqrt(new_square) / root + eps)))


def _moment(kind: str, value: Parameter) -> Parameter:
    return Parameter(ops.zeros_like(value), name=f"{kind}.{value.name}", requires_grad=False)


def _norm(*gradients: Tensor) -> Tensor:
    return ops.sqrt(ops.stack(ops.HyperMap()(_square, gradients)).sum())


def _square(gradient: Tensor) -> Tensor:
    return (gradient * gradient).sum()
