"""Five published networks that turn a picture into another one, in MindSpore: whole, but with few channels."""

from mindspore import Tensor, nn, ops

from ms_models.kernels import upsample_nearest
from ms_models.layers import InstanceNorm2d, conv2d, conv_transpose2d


class AnimeConv(nn.SequentialCell):
    """Reflection padding, convolution, group norm over all channels, leaky ReLU."""

    def __init__(self, dim_in: int, dim_out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.ReflectionPad2d(kernel // 2),
            nn.Conv2d(dim_in, dim_out, kernel, stride, pad_mode="valid", group=groups),
            nn.GroupNorm(1, dim_out),
            nn.LeakyReLU(0.2),
        )


class InvertedResidual(nn.Cell):
    """Widen, filter each channel alone, narrow; added to the input where the width stays."""

    def __init__(self, dim_in: int, dim_out: int, ratio: int = 2) -> None:
        super().__init__()
        wide = dim_in * ratio
        self.add = dim_in == dim_out
        self.layers = nn.SequentialCell(
            AnimeConv(dim_in, wide, 1),
            AnimeConv(wide, wide, 3, groups=wide),
            nn.Conv2d(wide, dim_out, 1),
            nn.GroupNorm(1, dim_out),
        )

    def construct(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.add else y


class AnimeGenerator(nn.Cell):
    """AnimeGANv2's generator (Chen et al., 2020)."""

    def __init__(self, dim: int = 4) -> None:
        super().__init__()
        self.block_a = nn.SequentialCell(
            AnimeConv(3, dim, 7), AnimeConv(dim, 2 * dim, stride=2), AnimeConv(2 * dim, 2 * dim)
        )
        self.block_b = nn.SequentialCell(AnimeConv(2 * dim, 4 * dim, stride=2), AnimeConv(4 * dim, 4 * dim))
        self.block_c = nn.SequentialCell(
            AnimeConv(4 * dim, 4 * dim),
            InvertedResidual(4 * dim, 6 * dim),
            *(InvertedResidual(6 * dim, 6 * dim) for _ in range(3)),
            AnimeConv(6 * dim, 4 * dim),
        )
        self.block_d = nn.SequentialCell(AnimeConv(4 * dim, 4 * dim), AnimeConv(4 * dim, 4 * dim))
        self.block_e = nn.SequentialCell(
            AnimeConv(4 * dim, 2 * dim), AnimeConv(2 * dim, 2 * dim), AnimeConv(2 * dim, dim, 7)
        )
        self.out_layer = nn.SequentialCell(nn.Conv2d(dim, 3, 1), nn.Tanh())

    def construct(self, x: Tensor) -> Tensor:
        half = self.block_a(x)
        quarter = self.block_c(self.block_b(half))
        y = ops.interpolate(quarter, size=half.shape[2:], mode="bilinear", align_corners=True)
        y = ops.interpolate(self.block_d(y), size=x.shape[2:], mode="bilinear", align_corners=True)
        return self.out_layer(self.block_e(y))


class CartoonBlock(nn.Cell):
    """Two convolutions with batch norm, added to the input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv2d(dim, dim, 3, 1, 1), nn.BatchNorm2d(dim, momentum=0.9)
        self.conv2, self.norm2 = conv2d(dim, dim, 3, 1, 1), nn.BatchNorm2d(dim, momentum=0.9)
        self.relu = nn.ReLU()

    def construct(self, x: Tensor) -> Tensor:
        return self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x))))) + x


class CartoonGenerator(nn.Cell):
    """CartoonGAN's generator (Chen et al., 2018)."""

    def __init__(self, dim: int = 4, blocks: int = 4) -> None:
        super().__init__()
        self.flat = nn.SequentialCell(conv2d(3, dim, 7, 1, 3), nn.BatchNorm2d(dim, momentum=0.9), nn.ReLU())
        down: list[nn.Cell] = []
        up: list[nn.Cell] = []
        for width in (dim, 2 * dim):
            down += [conv2d(width, 2 * width, 3, 2, 1), conv2d(2 * width, 2 * width, 3, 1, 1)]
            down += [nn.BatchNorm2d(2 * width, momentum=0.9), nn.ReLU()]
        for width in (4 * dim, 2 * dim):
            up += [conv_transpose2d(width, width // 2, 3, 2, 1, 1), conv2d(width // 2, width // 2, 3, 1, 1)]
            up += [nn.BatchNorm2d(width // 2, momentum=0.9), nn.ReLU()]
        self.down, self.up = nn.SequentialCell(*down), nn.SequentialCell(*up)
        self.blocks = nn.SequentialCell(*(CartoonBlock(4 * dim) for _ in range(blocks)))
        self.out = conv2d(dim, 3, 7, 1, 3)

    def construct(self, x: Tensor) -> Tensor:
        return ops.tanh(self.out(self.up(self.blocks(self.down(self.flat(x))))))


def _padded(dim_in: int, dim_out: int, kernel: int) -> list[nn.Cell]:
    return [nn.ReflectionPad2d(kernel // 2), conv2d(dim_in, dim_out, kernel), InstanceNorm2d(dim_out)]


class ResnetBlock(nn.Cell):
    """pix2pixHD's residual block."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv_block = nn.SequentialCell(*_padded(dim, dim, 3), nn.ReLU(), *_padded(dim, dim, 3))

    def construct(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


def _down(width: int) -> list[nn.Cell]:
    return [conv2d(width, 2 * width, 3, 2, 1), InstanceNorm2d(2 * width), nn.ReLU()]


def _up(width: int) -> list[nn.Cell]:
    return [conv_transpose2d(2 * width, width, 3, 2, 1, 1), InstanceNorm2d(width), nn.ReLU()]


class LocalEnhancer(nn.Cell):
    """pix2pixHD's local enhancer around its global generator (Wang et al., 2018)."""

    def __init__(self, dim: int = 4, blocks: int = 2) -> None:
        super().__init__()
        wide = 2 * dim
        middle = (ResnetBlock(4 * wide) for _ in range(blocks))
        self.model = nn.SequentialCell(  # the global generator without its last convolution
            *_padded(3, wide, 7), nn.ReLU(), *_down(wide), *_down(2 * wide), *middle, *_up(2 * wide), *_up(wide)
        )
        self.model1_1 = nn.SequentialCell(*_padded(3, dim, 7), nn.ReLU(), *_down(dim))
        last = [nn.ReflectionPad2d(3), conv2d(dim, 3, 7), nn.Tanh()]
        self.model1_2 = nn.SequentialCell(*(ResnetBlock(wide) for _ in range(blocks)), *_up(dim), *last)
        self.downsample = nn.AvgPool2d(3, 2, pad_mode="pad", padding=1, count_include_pad=False)

    def construct(self, x: Tensor) -> Tensor:
        coarse = self.model(self.downsample(x))
        return self.model1_2(self.model1_1(x) + coarse)


class StyleConv(nn.Cell):
    """Reflection padding and convolution, after doubling the picture where `upsample` says so."""

    def __init__(self, dim_in: int, dim_out: int, kernel: int, stride: int = 1, upsample: int | None = None) -> None:
        super().__init__()
        self.upsample = upsample
        self.reflection_pad = nn.ReflectionPad2d(kernel // 2)
        self.conv2d = conv2d(dim_in, dim_out, kernel, stride)

    def construct(self, x: Tensor) -> Tensor:
        if self.upsample:
            x = upsample_nearest(x, self.upsample)
        return self.conv2d(self.reflection_pad(x))


class StyleBlock(nn.Cell):
    """Two convolutions with an affine instance norm, added to the input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1, self.in1 = StyleConv(dim, dim, 3), InstanceNorm2d(dim, affine=True)
        self.conv2, self.in2 = StyleConv(dim, dim, 3), InstanceNorm2d(dim, affine=True)
        self.relu = nn.ReLU()

    def construct(self, x: Tensor) -> Tensor:
        return self.in2(self.conv2(self.relu(self.in1(self.conv1(x))))) + x


class StyleNet(nn.Cell):
    """The transformer net of fast neural style (Johnson et al., 2016)."""

    def __init__(self, dim: int = 4) -> None:
        super().__init__()
        self.conv1, self.in1 = StyleConv(3, dim, 9), InstanceNorm2d(dim, affine=True)
        self.conv2, self.in2 = StyleConv(dim, 2 * dim, 3, 2), InstanceNorm2d(2 * dim, affine=True)
        self.conv3, self.in3 = StyleConv(2 * dim, 4 * dim, 3, 2), InstanceNorm2d(4 * dim, affine=True)
        for number in range(1, 6):
            setattr(self, f"res{number}", StyleBlock(4 * dim))
        self.deconv1, self.in4 = StyleConv(4 * dim, 2 * dim, 3, upsample=2), InstanceNorm2d(2 * dim, affine=True)
        self.deconv2, self.in5 = StyleConv(2 * dim, dim, 3, upsample=2), InstanceNorm2d(dim, affine=True)
        self.deconv3 = StyleConv(dim, 3, 9)
        self.relu = nn.ReLU()

    def construct(self, x: Tensor) -> Tensor:
        y = self.relu(self.in1(self.conv1(x)))
        y = self.relu(self.in2(self.conv2(y)))
        y = self.relu(self.in3(self.conv3(y)))
        y = self.res5(self.res4(self.res3(self.res2(self.res1(y)))))
        y = self.relu(self.in4(self.deconv1(y)))
        y = self.relu(self.in5(self.deconv2(y)))
        return self.deconv3(y)


class DenseBlock(nn.Cell):
    """ESRGAN's residual dense block of five convolutions."""

    def __init__(self, dim: int, growth: int) -> None:
        super().__init__()
        for number in range(4):
            setattr(self, f"conv{number + 1}", conv2d(dim + number * growth, growth, 3, 1, 1))
        self.conv5 = conv2d(dim + 4 * growth, dim, 3, 1, 1)
        self.lrelu = nn.LeakyReLU(0.2)

    def construct(self, x: Tensor) -> Tensor:
        x1 = self.lrelu(self.conv1(x))
        x2 = self.lrelu(self.conv2(ops.cat((x, x1), 1)))
        x3 = self.lrelu(self.conv3(ops.cat((x, x1, x2), 1)))
        x4 = self.lrelu(self.conv4(ops.cat((x, x1, x2, x3), 1)))
        return self.conv5(ops.cat((x, x1, x2, x3, x4), 1)) * 0.2 + x


class RRDB(nn.Cell):
    """Residual in residual: three dense blocks."""

    def __init__(self, dim: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(dim, growth) for _ in range(3))

    def construct(self, x: Tensor) -> Tensor:
        return self.rdb3(self.rdb2(self.rdb1(x))) * 0.2 + x


class RRDBNet(nn.Cell):
    """ESRGAN's generator, four times as large (Wang et al., 2018)."""

    def __init__(self, dim: int = 6, growth: int = 4, blocks: int = 2) -> None:
        super().__init__()
        self.conv_first = conv2d(3, dim, 3, 1, 1)
        self.body = nn.SequentialCell(*(RRDB(dim, growth) for _ in range(blocks)))
        self.conv_body = conv2d(dim, dim, 3, 1, 1)
        self.conv_up1, self.conv_up2 = conv2d(dim, dim, 3, 1, 1), conv2d(dim, dim, 3, 1, 1)
        self.conv_hr, self.conv_last = conv2d(dim, dim, 3, 1, 1), conv2d(dim, 3, 3, 1, 1)
        self.lrelu = nn.LeakyReLU(0.2)

    def construct(self, x: Tensor) -> Tensor:
        x = self.conv_first(x)
        x = x + self.conv_body(self.body(x))
        x = self.lrelu(self.conv_up1(upsample_nearest(x, 2)))
        x = self.lrelu(self.conv_up2(upsample_nearest(x, 2)))
        return self.conv_last(self.lrelu(self.conv_hr(x)))
