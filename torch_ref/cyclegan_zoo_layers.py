"""Building blocks of the MindSpore model zoo's CycleGAN networks, in PyTorch.

Systems: mindspore-ai/models official/cv/CycleGAN and stnjumu/human2anime (Apache-2.0); paper: arXiv 1703.10593.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convert.families.cyclegan_zoo import ZooStyle


class ZooInstanceNorm2d(nn.Module):
    """The model zoo's "instance" norm: statistics of the current input, and four stored tensors without training.

    The model zoo takes a batch norm without trained scale and shift, in train mode: right for a batch of one, wrong for
    more, because images then share their statistics. Here every image has its own.

    State: moving_mean, moving_variance, gamma, beta [C]; gamma and beta are applied, the moving values never used.

    Args:
        num_features: channels.
        reference_exact: True shares the statistics over the batch as the model zoo does, and moves the moving
            values in train mode.
    """

    def __init__(self, num_features: int, reference_exact: bool = False) -> None:
        super().__init__()
        self.eps, self.reference_exact = 1e-5, reference_exact
        self.moving_mean = nn.Buffer(torch.zeros(num_features))
        self.moving_variance = nn.Buffer(torch.ones(num_features))
        self.gamma = nn.Buffer(torch.ones(num_features))
        self.beta = nn.Buffer(torch.zeros(num_features))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        if not self.reference_exact:
            return F.instance_norm(x, weight=self.gamma, bias=self.beta, eps=self.eps)
        mean, variance = (self.moving_mean, self.moving_variance) if self.training else (None, None)
        return F.batch_norm(x, mean, variance, self.gamma, self.beta, training=True, momentum=0.1, eps=self.eps)


class SameConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution 3x3, stride 2, with MindSpore's "same" padding: the first 2H rows and 2W columns."""

    def __init__(self, dim_in: int, dim_out: int, bias: bool) -> None:
        super().__init__(dim_in, dim_out, 3, stride=2, bias=bias)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """[N, dim_in, H, W] -> [N, dim_out, 2H, 2W]."""
        return super().forward(x, output_size)[:, :, : 2 * x.shape[2], : 2 * x.shape[3]]


def zoo_norm(zoo: ZooStyle, channels: int) -> nn.Module:
    """Return the norm layer of a style."""
    return ZooInstanceNorm2d(channels, zoo.reference_exact) if zoo.norm == "instance" else nn.BatchNorm2d(channels)


def activation(slope: float | None) -> list[nn.Module]:
    """Return a leaky ReLU, ReLU for slope 0, nothing for None."""
    return [] if slope is None else [nn.LeakyReLU(slope) if slope > 0 else nn.ReLU()]


class ConvNormReLU(nn.Module):
    """Convolution, norm and (leaky) ReLU; the padding keeps the size at stride 1.

    Args:
        dim_in, dim_out, kernel, stride: of the convolution.
        zoo: what the network's layers have in common.
        padding: pixels on each side, None for (kernel - 1) // 2.
    """

    def __init__(
        self, dim_in: int, dim_out: int, kernel: int, stride: int, zoo: ZooStyle, padding: int | None = None
    ) -> None:
        super().__init__()
        amount = (kernel - 1) // 2 if padding is None else padding
        conv = nn.Conv2d(dim_in, dim_out, kernel, stride, 0 if zoo.reflects else amount, bias=zoo.bias)
        layers: list[nn.Module] = [nn.ReflectionPad2d(amount)] if zoo.reflects else []
        self.features = nn.Sequential(*layers, conv, zoo_norm(zoo, dim_out), *activation(zoo.slope))

    def forward(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, dim_out, H', W']."""
        return self.features(x)


class ConvTransposeNormReLU(nn.Module):
    """Transposed convolution 3x3 with stride 2, norm and (leaky) ReLU."""

    def __init__(self, dim_in: int, dim_out: int, zoo: ZooStyle) -> None:
        super().__init__()
        conv = SameConvTranspose2d(dim_in, dim_out, bias=zoo.bias)
        self.features = nn.Sequential(conv, zoo_norm(zoo, dim_out), *activation(zoo.slope))

    def forward(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, dim_out, 2H, 2W]."""
        return self.features(x)


class ResidualBlock(nn.Module):
    """x + conv2(conv1(x)); `slopes` are those of the activations after either convolution, None for none."""

    def __init__(self, dim: int, slopes: tuple[float | None, float | None], zoo: ZooStyle) -> None:
        super().__init__()
        self.conv1 = ConvNormReLU(dim, dim, 3, 1, replace(zoo, slope=slopes[0]))
        self.conv2 = ConvNormReLU(dim, dim, 3, 1, replace(zoo, slope=slopes[1]))

    def forward(self, x: Tensor) -> Tensor:
        """[N, dim, H, W] -> [N, dim, H, W]."""
        return x + self.conv2(self.conv1(x))


class SharedBlocks(nn.Sequential):
    """One block, run `times` times: the model zoo's residual blocks all share one set of weights."""

    def __init__(self, block: nn.Module, times: int) -> None:
        super().__init__(block)
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        for _ in range(self.times):
            x = self[0](x)
        return x
