"""Adam as MindSpore's own `nn.Adam` computes it; PyTorch's own is `torch.optim.Adam`."""

from collections.abc import Callable
from typing import Any

import torch


class EarlyEpsAdam(torch.optim.Adam):
    """Adam that adds eps before the bias correction of the second moment, as `mindspore.nn.Adam` does.

    That is PyTorch's Adam with the eps of step t divided by sqrt(1 - beta2^t): 32 times larger in the first step.
    Arguments as `torch.optim.Adam`; without weight decay both are the same otherwise.
    """

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter by one step."""
        for group in self.param_groups:
            counts = (float(self.state[value]["step"]) for value in group["params"] if self.state.get(value))
            number = 1 + max(counts, default=0.0)
            group["eps"] = self.defaults["eps"] / (1 - group["betas"][1] ** number) ** 0.5
        return super().step(closure)
