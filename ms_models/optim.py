"""Adam, equal to torch.optim.Adam step for step.

MindSpore's own nn.Adam adds eps before the bias correction and skips weight decay for parameters whose
names contain "gamma" or "beta". Paper: Adam (arXiv 1412.6980), with coupled L2 weight decay.
"""

from __future__ import annotations

from collections.abc import Sequence

from mindspore import Parameter, Tensor, ops

__all__ = ["Adam"]


class Adam:
    """Adam with coupled weight decay; moments map one to one to torch's exp_avg and exp_avg_sq.

    Args:
        parameters: what to train. Leave out parameters that take no part in the loss: PyTorch gives them
            no gradient and does not touch them, while a zero gradient would let weight decay move them.
        lr, beta1, beta2, eps, weight_decay: as in torch.optim.Adam.
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        lr: float = 1e-4,
        beta1: float = 0.5,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 1e-4,
    ) -> None:
        self.parameters = list(parameters)
        self.lr, self.beta1, self.beta2, self.eps, self.weight_decay = lr, beta1, beta2, eps, weight_decay
        self.step_number = 0
        self.exp_avg = [ops.zeros_like(value) for value in self.parameters]
        self.exp_avg_sq = [ops.zeros_like(value) for value in self.parameters]

    def __call__(self, gradients: Sequence[Tensor]) -> None:
        """Move every parameter by one step; gradients in the order of the parameters."""
        self.step_number += 1
        first = 1 - self.beta1**self.step_number
        second = (1 - self.beta2**self.step_number) ** 0.5
        for index, (value, gradient) in enumerate(zip(self.parameters, gradients, strict=True)):
            if self.weight_decay:
                gradient = gradient + self.weight_decay * value
            mean = self.exp_avg[index] + (gradient - self.exp_avg[index]) * (1 - self.beta1)
            square = self.exp_avg_sq[index] * self.beta2 + gradient * gradient * (1 - self.beta2)
            self.exp_avg[index], self.exp_avg_sq[index] = mean, square
            ops.assign(value, value - self.lr / first * (mean / (ops.sqrt(square) / second + self.eps)))
