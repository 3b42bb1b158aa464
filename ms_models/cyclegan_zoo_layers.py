"""Building blocks of the MindSpore model zoo's CycleGAN networks; the twin of `torch_ref/cyclegan_zoo_layers.py`."""

from dataclasses import replace

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from convert.families.cyclegan_zoo import ZooStyle
from ms_models.compact import ReflectionPad2d, conv2d, sequence
from ms_models.kernels import LeakyReLU, instance_norm


class ZooInstanceNorm2d(nn.Cell):
    """The model zoo's "instance" norm: statistics of the current input, and four stored tensors without training.

    The model zoo takes a batch norm without trained scale and shift, in train mode: right for a batch of one, wrong for
    more, because images then share their statistics. Here every image has its own.

    State: moving_mean, moving_variance, gamma, beta [C]; gamma and beta are applied, the moving values never used.
    """

    def __init__(self, num_features: int, reference_exact: bool = False) -> None:
        super().__init__()
        self.eps, self.reference_exact = 1e-5, reference_exact
        self.moving_mean = Parameter(ops.zeros(num_features, ms.float32), requires_grad=False)
        self.moving_variance = Parameter(ops.ones(num_features, ms.float32), requires_grad=False)
        self.gamma = Parameter(ops.ones(num_features, ms.float32), requires_grad=False)
        self.beta = Parameter(ops.zeros(num_features, ms.float32), requires_grad=False)

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        if not self.reference_exact:
            return instance_norm(x, self.eps, self.gamma, self.beta)
        return self._over_batch(x) * self.gamma.reshape(1, -1, 1, 1) + self.beta.reshape(1, -1, 1, 1)

    def _over_batch(self, x: Tensor) -> Tensor:
        mean = x.mean((0, 2, 3), keep_dims=True)  # [1, C, 1, 1]
        centred = x - mean
        variance = (centred * centred).mean((0, 2, 3), keep_dims=True)
        if self.training:
            count = x.shape[0] * x.shape[2] * x.shape[3]
            unbiased = ops.stop_gradient(variance).reshape(-1) * (count / (count - 1))
            ops.assign(self.moving_mean, 0.9 * self.moving_mean + 0.1 * ops.stop_gradient(mean).reshape(-1))
            ops.assign(self.moving_variance, 0.9 * self.moving_variance + 0.1 * unbiased)
        return centred / ops.sqrt(variance + self.eps)


class SameConvTranspose2d(nn.Conv2dTranspose):
    """Transposed convolution 3x3, stride 2, with MindSpore's "same" padding: the first 2H rows and 2W columns."""

    def __init__(self, dim_in: int, dim_out: int, bias: bool) -> None:
        super().__init__(dim_in, dim_out, 3, stride=2, pad_mode="same", has_bias=bias)


def zoo_norm(zoo: ZooStyle, channels: int) -> nn.Cell:
    """Return the norm layer of a style."""
    return ZooInstanceNorm2d(channels, zoo.reference_exact) if zoo.norm == "instance" else nn.BatchNorm2d(channels)


def activation(slope: float | None) -> list[nn.Cell]:
    """Return a leaky ReLU, ReLU for slope 0, nothing for None."""
    return [] if slope is None else [LeakyReLU(slope) if slope > 0 else nn.ReLU()]


class ConvNormReLU(nn.Cell):
    """Convolution, norm and (leaky) ReLU; the padding keeps the size at stride 1."""

    def __init__(
        self, dim_in: int, dim_out: int, kernel: int, stride: int, zoo: ZooStyle, padding: int | None = None
    ) -> None:
        super().__init__()
        amount = (kernel - 1) // 2 if padding is None else padding
        conv = conv2d(dim_in, dim_out, kernel, stride, 0 if zoo.reflects else amount, bias=zoo.bias)
        layers: list[nn.Cell] = [ReflectionPad2d(amount)] if zoo.reflects else []
        self.features = sequence(*layers, conv, zoo_norm(zoo, dim_out), *activation(zoo.slope))

    def construct(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, dim_out, H', W']."""
        return self.features(x)


class ConvTransposeNormReLU(nn.Cell):
    """Transposed convolution 3x3 with stride 2, norm and (leaky) ReLU."""

    def __init__(self, dim_in: int, dim_out: int, zoo: ZooStyle) -> None:
        super().__init__()
        conv = SameConvTranspose2d(dim_in, dim_out, bias=zoo.bias)
        self.features = sequence(conv, zoo_norm(zoo, dim_out), *activation(zoo.slope))

    def construct(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, dim_out, 2H, 2W]."""
        return self.features(x)


class ResidualBlock(nn.Cell):
    """x + conv2(conv1(x)); `slopes` are those of the activations after either convolution, None for none."""

    def __init__(self, dim: int, slopes: tuple[float | None, float | None], zoo: ZooStyle) -> None:
        super().__init__()
        self.conv1 = ConvNormReLU(dim, dim, 3, 1, replace(zoo, slope=slopes[0]))
        self.conv2 = ConvNormReLU(dim, dim, 3, 1, replace(zoo, slope=slopes[1]))

    def construct(self, x: Tensor) -> Tensor:
        """[N, dim, H, W] -> [N, dim, H, W]."""
        return x + self.conv2(self.conv1(x))


class SharedBlocks(nn.SequentialCell):
    """One block, run `times` times: the model zoo's residual blocks all share one set of weights."""

    def __init__(self, block: nn.Cell, times: int) -> None:
        super().__init__(block)
        self.times = times

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        for _ in range(self.times):
            x = self.cell_list[0](x)
        return x
