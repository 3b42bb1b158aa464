"""White-box Cartoonization and FacialCartoonization in MindSpore; the twin of `torch_ref/whitebox.py`.

Paper: Learning to Cartoonize Using White-box Cartoon Representations (CVPR 2020).
Systems: SystemErrorWang/White-box-Cartoonization (TensorFlow 1), form "whitebox";
ArthurinRUC/FacialCartoonization (PyTorch), form "published". How the forms differ: see the reference's head.
"""

from collections import OrderedDict

from mindspore import Tensor, nn, ops

from ms_models.compact import conv2d, sequence
from ms_models.kernels import LeakyReLU
from ms_models.layers import ParametrizedConv2d, SpectralNormConv2d, Tanh, require_size

SLOPES = {"whitebox": 0.2, "published": 0.01}
# A row below and a column to the right. Not ops.pad: compiled, its gradient is wrong from the second call on.
CORNER = ((0, 0), (0, 0), (0, 1), (0, 1))


def upsample_corner(x: Tensor) -> Tensor:
    """Bilinear x2 as TensorFlow 1 does it: out[2i] = x[i], out[2i + 1] = (x[i] + x[i + 1]) / 2, the last repeats.

    [N, C, H, W] -> [N, C, 2H, 2W].
    """
    batch, channels, height, width = x.shape
    following = ops.cat((x[:, :, 1:], x[:, :, -1:]), 2)
    x = ops.stack((x, (x + following) / 2), 3).reshape(batch, channels, 2 * height, width)
    following = ops.cat((x[:, :, :, 1:], x[:, :, :, -1:]), 3)
    return ops.stack((x, (x + following) / 2), 4).reshape(batch, channels, 2 * height, 2 * width)


def upsample_centre(x: Tensor) -> Tensor:
    """Bilinear x2 with half-pixel centres: [N, C, H, W] -> [N, C, 2H, 2W]."""
    size = (2 * x.shape[2], 2 * x.shape[3])
    return ops.interpolate(x, size=size, mode="bilinear", align_corners=False)


def activated(dim_in: int, dim_out: int, kernel: int, form: str) -> nn.SequentialCell:
    """Convolution that keeps the size, then LeakyReLU."""
    return sequence(conv2d(dim_in, dim_out, kernel, padding=kernel // 2), LeakyReLU(SLOPES[form]))


class DownSample(nn.Cell):
    """Halve the sides, double the channels."""

    def __init__(self, channel: int, form: str) -> None:
        super().__init__()
        self.ConvReLU_2 = sequence(
            nn.Pad(CORNER),
            conv2d(channel, channel, 3, stride=2),
            LeakyReLU(SLOPES[form]),
            conv2d(channel, channel * 2, 3, padding=1),
            LeakyReLU(SLOPES[form]),
        )

    def construct(self, x: Tensor) -> Tensor:
        """[N, channel, H, W] -> [N, 2 channel, H / 2, W / 2]."""
        return self.ConvReLU_2(x)


class ResBlock(nn.Cell):
    """x + conv(LeakyReLU(conv(x))) at constant width."""

    def __init__(self, channel: int, form: str) -> None:
        super().__init__()
        self.Conv = sequence(
            conv2d(channel, channel, 3, padding=1), LeakyReLU(SLOPES[form]), conv2d(channel, channel, 3, padding=1)
        )

    def construct(self, x: Tensor) -> Tensor:
        """[N, channel, H, W] -> [N, channel, H, W]."""
        return x + self.Conv(x)


class UpSample(nn.Cell):
    """Double the sides, halve the channels; in form "whitebox" join the skip connection."""

    def __init__(self, channel: int, form: str) -> None:
        super().__init__()
        self.form = form
        self.FirstConv = activated(channel, channel // 2, 3, form)
        self.ConvReLU = activated(channel // 2, channel // 2, 3, form)

    def construct(self, x: Tensor, skip: Tensor) -> Tensor:
        """x [N, channel, H, W], skip [N, channel / 2, 2H, 2W] -> [N, channel / 2, 2H, 2W]."""
        x = self.FirstConv(x)  # [N, channel / 2, H, W]
        if self.form == "published":
            return upsample_centre(x)
        return self.ConvReLU(upsample_corner(x) + skip)


class UnetGenerator(nn.Cell):
    """Photo in, cartoon out; the guided filter comes after it."""

    def __init__(
        self,
        channel: int = 32,
        num_blocks: int = 4,
        in_channels: int = 3,
        out_channels: int = 3,
        form: str = "whitebox",
    ) -> None:
        super().__init__()
        self.FirstConv = activated(in_channels, channel, 7, form)
        self.DownSample1 = DownSample(channel, form)
        self.DownSample2 = DownSample(channel * 2, form)
        blocks = {f"ResBlock_{index}": ResBlock(channel * 4, form) for index in range(num_blocks)}
        self.ResBlock = nn.SequentialCell(OrderedDict(blocks))
        self.UpSample1 = UpSample(channel * 4, form)
        self.UpSample2 = UpSample(channel * 2, form)
        last = conv2d(channel, out_channels, 7, padding=3)
        self.LastConv = sequence(last, Tanh()) if form == "published" else sequence(last)

    def construct(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] in [-1, 1] -> [N, out_channels, H, W], about [-1, 1]."""
        require_size("White-box generator", x, 4, 4)
        skip0 = self.FirstConv(x)  # [N, C, H, W]
        skip1 = self.DownSample1(skip0)  # [N, 2C, H / 2, W / 2]
        x = self.ResBlock(self.DownSample2(skip1))  # [N, 4C, H / 4, W / 4]
        x = self.UpSample1(x, skip1)  # [N, 2C, H / 2, W / 2]
        x = self.UpSample2(x, skip0)  # [N, C, H, W]
        return self.LastConv(x)


def normalized_conv(dim_in: int, dim_out: int, kernel: int, stride: int, padding: int, form: str) -> nn.Cell:
    """Convolution with the form's spectral norm."""
    kind = ParametrizedConv2d if form == "published" else SpectralNormConv2d
    return kind(dim_in, dim_out, kernel, stride, padding=padding)


class ConvSN(nn.Cell):
    """Two spectrally normalised convolutions; the first halves the sides."""

    def __init__(self, dim_in: int, dim_out: int, form: str) -> None:
        super().__init__()
        self.form = form
        self.layers = sequence(
            normalized_conv(dim_in, dim_out, 3, 2, 1 if form == "published" else 0, form),
            LeakyReLU(SLOPES[form]),
            normalized_conv(dim_out, dim_out, 3, 1, 1, form),
            LeakyReLU(SLOPES[form]),
        )

    def construct(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, dim_out, H / 2, W / 2]."""
        return self.layers(x if self.form == "published" else ops.Pad(CORNER)(x))


class Discriminator(nn.Cell):
    """Judge of a representation: texture (one channel) or surface (three)."""

    def __init__(self, in_channel: int = 3, channel: int = 32, form: str = "whitebox") -> None:
        super().__init__()
        self.ConvSN1 = ConvSN(in_channel, channel, form)
        self.ConvSN2 = ConvSN(channel, channel * 2, form)
        self.ConvSN3 = ConvSN(channel * 2, channel * 4, form)
        last = normalized_conv(channel * 4, 1, 1, 1, 0, form)
        self.LastConv = sequence(last, nn.Sigmoid()) if form == "published" else sequence(last)

    def construct(self, x: Tensor) -> Tensor:
        """[N, in_channel, H, W] in [-1, 1] -> patch scores [N, 1, H / 8, W / 8]."""
        require_size("White-box discriminator", x, 8, 8)
        x = self.ConvSN3(self.ConvSN2(self.ConvSN1(x)))  # [N, 4C, H / 8, W / 8]
        return self.LastConv(x)
