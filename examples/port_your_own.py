"""A network of your own in both frameworks, compared; then the same with a bug that porters make.

python examples/port_your_own.py
"""

import mindspore
import numpy as np
import torch
from mindspore import nn as ms_nn

import toonport


class Net(torch.nn.Module):
    """The reference: pictures [N, 3, H, W] in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.act = torch.nn.LeakyReLU(0.2)
        self.tail = torch.nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, 3, H, W] -> [N, 3, H, W]."""
        return self.tail(self.act(self.head(x)))


class Port(ms_nn.Cell):
    """The port, with the same names; `slope` is what the bug changes."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.head = ms_nn.Conv2d(3, 8, 3, pad_mode="pad", padding=1, has_bias=True)
        self.act = ms_nn.LeakyReLU(slope)
        self.tail = ms_nn.Conv2d(8, 3, 3, pad_mode="pad", padding=1, has_bias=True)

    def construct(self, x: mindspore.Tensor) -> mindspore.Tensor:
        """[N, 3, H, W] -> [N, 3, H, W]."""
        return self.tail(self.act(self.head(x)))


def compared(slope: float) -> bool:
    """Compare a port of this slope with the reference, both with the same weights."""
    torch.manual_seed(0)
    module, cell = Net(), Port(slope)
    weights = {name: mindspore.Parameter(value.numpy()) for name, value in module.state_dict().items()}
    mindspore.load_param_into_net(cell, weights, strict_load=True)
    inputs = np.random.default_rng(0).uniform(-1, 1, (2, 3, 16, 16)).astype(np.float32)
    result = toonport.compare(module, cell, inputs, modes=("isolated", "accumulated"))
    print(f"slope {slope}: {result.outcome}", *(f"look at {it.measurement.layer}" for it in result.blamed[:1]))
    return result.equal


if __name__ == "__main__":
    assert compared(0.2)  # the right port
    assert not compared(0.01)  # PyTorch's default slope, where the reference has another
