"""Five published networks that turn a picture into another one, in PyTorch: whole, but with few channels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AnimeConv(nn.Sequential):
    """Reflection padding, convolution, group norm over all channels, leaky ReLU."""

    def __init__(self, dim_in: int, dim_out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.ReflectionPad2d(kernel // 2),
            nn.Conv2d(dim_in, dim_out, kernel, stride, 0, groups=groups, bias=False),
            nn.GroupNorm(1, dim_out),
            nn.LeakyReLU(0.2),
        )


class InvertedResidual(nn.Module):
    """Widen, filter each channel alone, narrow; added to the input where the width stays."""

    def __init__(self, dim_in: int, dim_out: int, ratio: int = 2) -> None:
        super().__init__()
        wide = dim_in * ratio
        self.add = dim_in == dim_out
        self.layers = nn.Sequential(
            AnimeConv(dim_in, wide, 1),
            AnimeConv(wide, wide, 3, groups=wide),
            nn.Conv2d(wide, dim_out, 1, bias=False),
            nn.GroupNorm(1, dim_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.add else y


class AnimeGenerator(nn.Module):
    """AnimeGANv2's generator (Chen et al., 2020)."""

    def __init__(self, dim: int = 4) -> None:
        super().__init__()
        self.block_a = nn.Sequential(
            AnimeConv(3, dim, 7), AnimeConv(dim, 2 * dim, stride=2), AnimeConv(2 * dim, 2 * dim)
        )
        self.block_b = nn.Sequential(AnimeConv(2 * dim, 4 * dim, stride=2), AnimeConv(4 * dim, 4 * dim))
        self.block_c = nn.Sequential(
            AnimeConv(4 * dim, 4 * dim),
            InvertedResidual(4 * dim, 6 * dim),
            *(InvertedResidual(6 * dim, 6 * dim) for _ in range(3)),
            AnimeConv(6 * dim, 4 * dim),
        )
        self.block_d = nn.Sequential(AnimeConv(4 * dim, 4 * dim), AnimeConv(4 * dim, 4 * dim))
        self.block_e = nn.Sequential(
            AnimeConv(4 * dim, 2 * dim), AnimeConv(2 * dim, 2 * dim), AnimeConv(2 * dim, dim, 7)
        )
        self.out_layer = nn.Sequential(nn.Conv2d(dim, 3, 1, bias=False), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        half = self.block_a(x)
        quarter = self.block_c(self.block_b(half))
        y = F.interpolate(quarter, half.shape[2:], mode="bilinear", align_corners=True)
        y = F.interpolate(self.block_d(y), x.shape[2:], mode="bilinear", align_corners=True)
        return self.out_layer(self.block_e(y))


class CartoonBlock(nn.Module):
    """Two convolutions with batch norm, added to the input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(dim, dim, 3, 1, 1), nn.BatchNorm2d(dim)
        self.conv2, self.norm2 = nn.Conv2d(dim, dim, 3, 1, 1), nn.BatchNorm2d(dim)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x))))) + x


class CartoonGenerator(nn.Module):
    """CartoonGAN's generator (Chen et al., 2018)."""

    def __init__(self, dim: int = 4, blocks: int = 4) -> None:
        super().__init__()
        self.flat = nn.Sequential(nn.Conv2d(3, dim, 7, 1, 3), nn.BatchNorm2d(dim), nn.ReLU(inplace=True))
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for width in (dim, 2 * dim):
            down += [nn.Conv2d(width, 2 * width, 3, 2, 1), nn.Conv2d(2 * width, 2 * width, 3, 1, 1)]
            down += [nn.BatchNorm2d(2 * width), nn.ReLU(inplace=True)]
        for width in (4 * dim, 2 * dim):
            up += [nn.ConvTranspose2d(width, width // 2, 3, 2, 1, 1), nn.Conv2d(width // 2, width // 2, 3, 1, 1)]
            up += [nn.BatchNorm2d(width // 2), nn.ReLU(inplace=True)]
        self.down, self.up = nn.Sequential(*down), nn.Sequential(*up)
        self.blocks = nn.Sequential(*(CartoonBlock(4 * dim) for _ in range(blocks)))
        self.out = nn.Conv2d(dim, 3, 7, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.out(self.up(self.blocks(self.down(self.flat(x))))))


def _padded(dim_in: int, dim_out: int, kernel: int) -> list[nn.Module]:
    return [nn.ReflectionPad2d(kernel // 2), nn.Conv2d(dim_in, dim_out, kernel), nn.InstanceNorm2d(dim_out)]


class ResnetBlock(nn.Module):
    """pix2pixHD's residual block."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(*_padded(dim, dim, 3), nn.ReLU(), *_padded(dim, dim, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


def _down(width: int) -> list[nn.Module]:
    return [nn.Conv2d(width, 2 * width, 3, 2, 1), nn.InstanceNorm2d(2 * width), nn.ReLU()]


def _up(width: int) -> list[nn.Module]:
    up = nn.ConvTranspose2d(2 * width, width, 3, 2, 1, 1)
    return [up, nn.InstanceNorm2d(width), nn.ReLU()]


class LocalEnhancer(nn.Module):
    """pix2pixHD's local enhancer around its global generator (Wang et al., 2018)."""

    def __init__(self, dim: int = 4, blocks: int = 2) -> None:
        super().__init__()
        wide = 2 * dim
        middle = (ResnetBlock(4 * wide) for _ in range(blocks))
        self.model = nn.Sequential(  # the global generator without its last convolution
            *_padded(3, wide, 7), nn.ReLU(), *_down(wide), *_down(2 * wide), *middle, *_up(2 * wide), *_up(wide)
        )
        self.model1_1 = nn.Sequential(*_padded(3, dim, 7), nn.ReLU(), *_down(dim))
        last = [nn.ReflectionPad2d(3), nn.Conv2d(dim, 3, 7), nn.Tanh()]
        self.model1_2 = nn.Sequential(*(ResnetBlock(wide) for _ in range(blocks)), *_up(dim), *last)
        self.downsample = nn.AvgPool2d(3, 2, 1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        coarse = self.model(self.downsample(x))
        return self.model1_2(self.model1_1(x) + coarse)


class StyleConv(nn.Module):
    """Reflection padding and convolution, after doubling the picture where `upsample` says so."""

    def __init__(self, dim_in: int, dim_out: int, kernel: int, stride: int = 1, upsample: int | None = None) -> None:
        super().__init__()
        self.upsample = upsample
        self.reflection_pad = nn.ReflectionPad2d(kernel // 2)
        self.conv2d = nn.Conv2d(dim_in, dim_out, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        if self.upsample:
            x = F.interpolate(x, scale_factor=self.upsample, mode="nearest")
        return self.conv2d(self.reflection_pad(x))


class StyleBlock(nn.Module):
    """Two convolutions with an affine instance norm, added to the input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1, self.in1 = StyleConv(dim, dim, 3), nn.InstanceNorm2d(dim, affine=True)
        self.conv2, self.in2 = StyleConv(dim, dim, 3), nn.InstanceNorm2d(dim, affine=True)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.in2(self.conv2(self.relu(self.in1(self.conv1(x))))) + x


class StyleNet(nn.Module):
    """The transformer net of fast neural style (Johnson et al., 2016)."""

    def __init__(self, dim: int = 4) -> None:
        super().__init__()
        self.conv1, self.in1 = StyleConv(3, dim, 9), nn.InstanceNorm2d(dim, affine=True)
        self.conv2, self.in2 = StyleConv(dim, 2 * dim, 3, 2), nn.InstanceNorm2d(2 * dim, affine=True)
        self.conv3, self.in3 = StyleConv(2 * dim, 4 * dim, 3, 2), nn.InstanceNorm2d(4 * dim, affine=True)
        for number in range(1, 6):
            setattr(self, f"res{number}", StyleBlock(4 * dim))
        self.deconv1, self.in4 = StyleConv(4 * dim, 2 * dim, 3, upsample=2), nn.InstanceNorm2d(2 * dim, affine=True)
        self.deconv2, self.in5 = StyleConv(2 * dim, dim, 3, upsample=2), nn.InstanceNorm2d(dim, affine=True)
        self.deconv3 = StyleConv(dim, 3, 9)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.in1(self.conv1(x)))
        y = self.relu(self.in2(self.conv2(y)))
        y = self.relu(self.in3(self.conv3(y)))
        y = self.res5(self.res4(self.res3(self.res2(self.res1(y)))))
        y = self.relu(self.in4(self.deconv1(y)))
        y = self.relu(self.in5(self.deconv2(y)))
        return self.deconv3(y)


class DenseBlock(nn.Module):
    """ESRGAN's residual dense block of five convolutions."""

    def __init__(self, dim: int, growth: int) -> None:
        super().__init__()
        for number in range(4):
            setattr(self, f"conv{number + 1}", nn.Conv2d(dim + number * growth, growth, 3, 1, 1))
        self.conv5 = nn.Conv2d(dim + 4 * growth, dim, 3, 1, 1)
        self.lrelu = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.lrelu(self.conv1(x))
        x2 = self.lrelu(self.conv2(torch.cat((x, x1), 1)))
        x3 = self.lrelu(self.conv3(torch.cat((x, x1, x2), 1)))
        x4 = self.lrelu(self.conv4(torch.cat((x, x1, x2, x3), 1)))
        return self.conv5(torch.cat((x, x1, x2, x3, x4), 1)) * 0.2 + x


class RRDB(nn.Module):
    """Residual in residual: three dense blocks."""

    def __init__(self, dim: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(dim, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.rdb3(self.rdb2(self.rdb1(x))) * 0.2 + x


class RRDBNet(nn.Module):
    """ESRGAN's generator, four times as large (Wang et al., 2018)."""

    def __init__(self, dim: int = 6, growth: int = 4, blocks: int = 2) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(3, dim, 3, 1, 1)
        self.body = nn.Sequential(*(RRDB(dim, growth) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(dim, dim, 3, 1, 1)
        self.conv_up1, self.conv_up2 = nn.Conv2d(dim, dim, 3, 1, 1), nn.Conv2d(dim, dim, 3, 1, 1)
        self.conv_hr, self.conv_last = nn.Conv2d(dim, dim, 3, 1, 1), nn.Conv2d(dim, 3, 3, 1, 1)
        self.lrelu = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_first(x)
        x = x + self.conv_body(self.body(x))
        x = self.lrelu(self.conv_up1(F.interpolate(x, scale_factor=2, mode="nearest")))
        x = self.lrelu(self.conv_up2(F.interpolate(x, scale_factor=2, mode="nearest")))
        return self.conv_last(self.lrelu(self.conv_hr(x)))
