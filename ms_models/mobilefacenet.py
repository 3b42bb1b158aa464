"""MobileFaceNet: the face-recognition network behind photo2cartoon's Face-ID loss.

Paper: MobileFaceNets (arXiv 1804.07573). System: TreB1eN/InsightFace_Pytorch (MIT), as carried by photo2cartoon.
"""

from mindspore import Tensor, nn, ops

from ms_models.compact import conv2d, dense, sequence
from ms_models.layers import require_size


class LinearUnit(nn.Cell):
    """Convolution without bias, then batch norm."""

    def __init__(
        self, dim_in: int, dim_out: int, kernel: int = 1, stride: int = 1, padding: int = 0, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = conv2d(dim_in, dim_out, kernel, stride, padding, bias=False, groups=groups)
        self.bn = nn.BatchNorm2d(dim_out)

    def construct(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, dim_out, H', W']."""
        return self.bn(self.conv(x))


class ConvUnit(LinearUnit):
    """LinearUnit followed by a PReLU with one slope per channel."""

    def __init__(
        self, dim_in: int, dim_out: int, kernel: int = 1, stride: int = 1, padding: int = 0, groups: int = 1
    ) -> None:
        super().__init__(dim_in, dim_out, kernel, stride, padding, groups)
        self.prelu = nn.PReLU(dim_out)

    def construct(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, dim_out, H', W']."""
        return self.prelu(super().construct(x))


class DepthWise(nn.Cell):
    """Inverted bottleneck: 1x1 to `groups` channels, depth-wise 3x3, linear 1x1; optionally residual."""

    def __init__(self, dim_in: int, dim_out: int, groups: int, stride: int, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        self.conv = ConvUnit(dim_in, groups)
        self.conv_dw = ConvUnit(groups, groups, 3, stride, 1, groups)
        self.project = LinearUnit(groups, dim_out)

    def construct(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, dim_out, H / stride, W / stride]."""
        out = self.project(self.conv_dw(self.conv(x)))
        return x + out if self.residual else out


class ResidualStack(nn.Cell):
    """A row of residual DepthWise blocks at constant width."""

    def __init__(self, dim: int, blocks: int, groups: int) -> None:
        super().__init__()
        self.model = sequence(*[DepthWise(dim, dim, groups, 1, residual=True) for _ in range(blocks)])

    def construct(self, x: Tensor) -> Tensor:
        """[N, dim, H, W] -> [N, dim, H, W]."""
        return self.model(x)


class MobileFaceNet(nn.Cell):
    """Face image in, unit-length embedding out."""

    def __init__(self, embedding_size: int = 512) -> None:
        super().__init__()
        self.conv1 = ConvUnit(3, 64, 3, 2, 1)
        self.conv2_dw = ConvUnit(64, 64, 3, 1, 1, 64)
        self.conv_23 = DepthWise(64, 64, 128, 2)
        self.conv_3 = ResidualStack(64, 4, 128)
        self.conv_34 = DepthWise(64, 128, 256, 2)
        self.conv_4 = ResidualStack(128, 6, 256)
        self.conv_45 = DepthWise(128, 128, 512, 2)
        self.conv_5 = ResidualStack(128, 2, 256)
        self.conv_6_sep = ConvUnit(128, 512)
        self.conv_6_dw = LinearUnit(512, 512, 7, groups=512)
        self.conv_6_flatten = nn.Flatten()
        self.linear = dense(512, embedding_size, bias=False)
        self.bn = nn.BatchNorm1d(embedding_size)

    def construct(self, x: Tensor) -> Tensor:
        """[N, 3, 112, 112] RGB in [-1, 1] -> unit vectors [N, embedding_size]."""
        require_size("MobileFaceNet", x, 1, 112, 112)
        x = self.conv_3(self.conv_23(self.conv2_dw(self.conv1(x))))  # [N, 64, 28, 28]
        x = self.conv_4(self.conv_34(x))  # [N, 128, 14, 14]
        x = self.conv_5(self.conv_45(x))  # [N, 128, 7, 7]
        x = self.conv_6_flatten(self.conv_6_dw(self.conv_6_sep(x)))  # [N, 512]
        x = self.bn(self.linear(x))  # [N, embedding_size]
        return x / ops.sqrt((x * x).sum(1, keepdims=True))
