"""White-box Cartoonization and its PyTorch descendant FacialCartoonization: one set of networks in two forms.

Paper: Learning to Cartoonize Using White-box Cartoon Representations (CVPR 2020).
Systems: SystemErrorWang/White-box-Cartoonization (TensorFlow 1), form "whitebox";
ArthurinRUC/FacialCartoonization (PyTorch), form "published". The weights fit both forms, the numbers do not:

| | "whitebox" | "published" |
|---|---|---|
| skip connections | added, and convolved by ConvReLU | computed and thrown away, ConvReLU takes no part |
| bilinear x2 | TensorFlow 1: corner of the pixel | half-pixel centres |
| slope of LeakyReLU | 0.2 | 0.01 |
| end of the generator | none: values may leave [-1, 1] | tanh |
| colours | blue, green, red | red, green, blue |
| strided convolutions of the discriminators | padded right and below | padded on all sides |
| spectral norm | v, then u | u, then v |
| end of the discriminators | logits | sigmoid |
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, spectral_norm

from torch_ref.layers import require_size

SLOPES = {"whitebox": 0.2, "published": 0.01}


def upsample_corner(x: Tensor) -> Tensor:
    """Bilinear x2 as TensorFlow 1 does it: out[2i] = x[i], out[2i + 1] = (x[i] + x[i + 1]) / 2, the last repeats.

    [N, C, H, W] -> [N, C, 2H, 2W].
    """
    for axis in (2, 3):
        last = x.narrow(axis, x.shape[axis] - 1, 1)
        following = torch.cat((x.narrow(axis, 1, x.shape[axis] - 1), last), axis)
        x = torch.stack((x, (x + following) / 2), axis + 1).flatten(axis, axis + 1)
    return x


def activated(dim_in: int, dim_out: int, kernel: int, form: str) -> nn.Sequential:
    """Convolution that keeps the size, then LeakyReLU."""
    return nn.Sequential(nn.Conv2d(dim_in, dim_out, kernel, padding=kernel // 2), nn.LeakyReLU(SLOPES[form]))


class DownSample(nn.Module):
    """Halve the sides, double the channels."""

    def __init__(self, channel: int, form: str) -> None:
        super().__init__()
        self.ConvReLU_2 = nn.Sequential(
            nn.ZeroPad2d((0, 1, 0, 1)),
            nn.Conv2d(channel, channel, 3, stride=2),
            nn.LeakyReLU(SLOPES[form]),
            nn.Conv2d(channel, channel * 2, 3, padding=1),
            nn.LeakyReLU(SLOPES[form]),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, channel, H, W] -> [N, 2 channel, H / 2, W / 2]."""
        return self.ConvReLU_2(x)


class ResBlock(nn.Module):
    """x + conv(LeakyReLU(conv(x))) at constant width."""

    def __init__(self, channel: int, form: str) -> None:
        super().__init__()
        self.Conv = nn.Sequential(
            nn.Conv2d(channel, channel, 3, padding=1),
            nn.LeakyReLU(SLOPES[form]),
            nn.Conv2d(channel, channel, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, channel, H, W] -> [N, channel, H, W]."""
        return x + self.Conv(x)


class UpSample(nn.Module):
    """Double the sides, halve the channels; in form "whitebox" join the skip connection."""

    def __init__(self, channel: int, form: str) -> None:
        super().__init__()
        self.form = form
        self.FirstConv = activated(channel, channel // 2, 3, form)
        self.ConvReLU = activated(channel // 2, channel // 2, 3, form)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """x [N, channel, H, W], skip [N, channel / 2, 2H, 2W] -> [N, channel / 2, 2H, 2W]."""
        x = self.FirstConv(x)  # [N, channel / 2, H, W]
        if self.form == "published":
            return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.ConvReLU(upsample_corner(x) + skip)


class UnetGenerator(nn.Module):
    """Photo in, cartoon out; the guided filter comes after it.

    Args:
        channel: channels of the first layer.
        num_blocks: residual blocks at a quarter of the size.
        in_channels, out_channels: image channels.
        form: "whitebox" or "published", see the head of this file.
    """

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
        self.ResBlock = nn.Sequential()
        for index in range(num_blocks):
            self.ResBlock.add_module(f"ResBlock_{index}", ResBlock(channel * 4, form))
        self.UpSample1 = UpSample(channel * 4, form)
        self.UpSample2 = UpSample(channel * 2, form)
        last = nn.Conv2d(channel, out_channels, 7, padding=3)
        self.LastConv = nn.Sequential(last, nn.Tanh()) if form == "published" else nn.Sequential(last)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] in [-1, 1] -> [N, out_channels, H, W], about [-1, 1].

        Raises ValueError: H or W is not a multiple of 4.
        """
        require_size("White-box generator", x, 4, 4)
        skip0 = self.FirstConv(x)  # [N, C, H, W]
        skip1 = self.DownSample1(skip0)  # [N, 2C, H / 2, W / 2]
        x = self.ResBlock(self.DownSample2(skip1))  # [N, 4C, H / 4, W / 4]
        x = self.UpSample1(x, skip1)  # [N, 2C, H / 2, W / 2]
        x = self.UpSample2(x, skip0)  # [N, C, H, W]
        return self.LastConv(x)


def normalized_conv(dim_in: int, dim_out: int, kernel: int, stride: int, padding: int, form: str) -> nn.Module:
    """Convolution with the form's spectral norm."""
    conv = nn.Conv2d(dim_in, dim_out, kernel, stride, padding)
    return parametrizations.spectral_norm(conv) if form == "published" else spectral_norm(conv)


class ConvSN(nn.Module):
    """Two spectrally normalised convolutions; the first halves the sides."""

    def __init__(self, dim_in: int, dim_out: int, form: str) -> None:
        super().__init__()
        self.form = form
        self.layers = nn.Sequential(
            normalized_conv(dim_in, dim_out, 3, 2, 1 if form == "published" else 0, form),
            nn.LeakyReLU(SLOPES[form]),
            normalized_conv(dim_out, dim_out, 3, 1, 1, form),
            nn.LeakyReLU(SLOPES[form]),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, dim_out, H / 2, W / 2]."""
        return self.layers(x if self.form == "published" else F.pad(x, (0, 1, 0, 1)))


class Discriminator(nn.Module):
    """Judge of a representation: texture (one channel) or surface (three).

    Args:
        in_channel: image channels.
        channel: channels of the first layer.
        form: "whitebox" gives logits, "published" probabilities; see the head of this file.
    """

    def __init__(self, in_channel: int = 3, channel: int = 32, form: str = "whitebox") -> None:
        super().__init__()
        self.ConvSN1 = ConvSN(in_channel, channel, form)
        self.ConvSN2 = ConvSN(channel, channel * 2, form)
        self.ConvSN3 = ConvSN(channel * 2, channel * 4, form)
        last = normalized_conv(channel * 4, 1, 1, 1, 0, form)
        self.LastConv = nn.Sequential(last, nn.Sigmoid()) if form == "published" else nn.Sequential(last)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channel, H, W] in [-1, 1] -> patch scores [N, 1, H / 8, W / 8].

        Raises ValueError: H or W is not a multiple of 8.
        """
        require_size("White-box discriminator", x, 8, 8)
        x = self.ConvSN3(self.ConvSN2(self.ConvSN1(x)))  # [N, 4C, H / 8, W / 8]
        return self.LastConv(x)
