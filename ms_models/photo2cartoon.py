"""photo2cartoon: U-GAT-IT with hourglass blocks, content features and Soft-AdaLIN.

The twin of `torch_ref/photo2cartoon.py`.
"""

from mindspore import Tensor, nn, ops

from ms_models.compact import ReflectionPad2d, conv2d, dense, sequence
from ms_models.kernels import upsample_nearest
from ms_models.layers import (
    InstanceNorm2d,
    ResnetAdaLINBlock,
    ResnetBlock,
    SoftAdaLIN,
    Tanh,
    channel_max,
    channel_mean,
    decoding,
    encoding,
    require_size,
)


class ConvBlock(nn.Cell):
    """Three pre-activated 3x3 convolutions whose outputs (1/2, 1/4, 1/4 of dim_out) are concatenated.

    ConvBlock4 projects the shortcut when dim_in differs from dim_out; otherwise its weight exists
    (the reference creates it) but takes no part: it has no gradient and no optimiser moves it.
    """

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.project_shortcut = dim_in != dim_out
        self.ConvBlock1 = _preactivated_conv(dim_in, dim_out // 2)
        self.ConvBlock2 = _preactivated_conv(dim_out // 2, dim_out // 4)
        self.ConvBlock3 = _preactivated_conv(dim_out // 4, dim_out // 4)
        self.ConvBlock4 = sequence(InstanceNorm2d(dim_in), nn.ReLU(), conv2d(dim_in, dim_out, 1, bias=False))

    def construct(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, dim_out, H, W]."""
        x1 = self.ConvBlock1(x)  # [N, dim_out/2, H, W]
        x2 = self.ConvBlock2(x1)  # [N, dim_out/4, H, W]
        x3 = self.ConvBlock3(x2)  # [N, dim_out/4, H, W]
        shortcut = self.ConvBlock4(x) if self.project_shortcut else x
        return shortcut + ops.cat((x1, x2, x3), 1)


def _preactivated_conv(dim_in: int, dim_out: int) -> nn.SequentialCell:
    return sequence(InstanceNorm2d(dim_in), nn.ReLU(), ReflectionPad2d(1), conv2d(dim_in, dim_out, 3, bias=False))


class HourGlassBlock(nn.Cell):
    """Four levels of 2x2 average pooling down and nearest up-sampling back, with a skip at each level."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.ConvBlock1_1 = ConvBlock(dim_in, dim_out)
        for name in ("1_2", "2_1", "2_2", "3_1", "3_2", "4_1", "4_2", "5", "6", "7", "8", "9"):
            setattr(self, f"ConvBlock{name}", ConvBlock(dim_out, dim_out))

    def construct(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, dim_out, H, W]; H and W multiples of 16."""
        whole = self.ConvBlock1_1(x)
        x = self.ConvBlock1_2(_halve(x))  # [N, dim_out, H/2, W/2]
        half = self.ConvBlock2_1(x)
        x = self.ConvBlock2_2(_halve(x))  # [N, dim_out, H/4, W/4]
        quarter = self.ConvBlock3_1(x)
        x = self.ConvBlock3_2(_halve(x))  # [N, dim_out, H/8, W/8]
        eighth = self.ConvBlock4_1(x)
        x = self.ConvBlock5(self.ConvBlock4_2(_halve(x)))  # [N, dim_out, H/16, W/16]
        x = eighth + _double(self.ConvBlock6(x))
        x = quarter + _double(self.ConvBlock7(x))
        x = half + _double(self.ConvBlock8(x))
        return whole + _double(self.ConvBlock9(x))


def _halve(x: Tensor) -> Tensor:
    return ops.avg_pool2d(x, 2, 2)


def _double(x: Tensor) -> Tensor:
    return upsample_nearest(x, 2)


class HourGlass(nn.Cell):
    """Hourglass stage that also predicts an RGB image and, in residual form, feeds it back.

    use_res: True keeps dim_in channels (x + Conv2(y) + Conv3(Conv1(y))); False returns Conv1(y), 3 channels.
    """

    def __init__(self, dim_in: int, dim_out: int, use_res: bool = True) -> None:
        super().__init__()
        self.use_res = use_res
        self.HG = sequence(
            HourGlassBlock(dim_in, dim_out),
            ConvBlock(dim_out, dim_out),
            conv2d(dim_out, dim_out, 1, bias=False),
            InstanceNorm2d(dim_out),
            nn.ReLU(),
        )
        self.Conv1 = conv2d(dim_out, 3, 1)
        if use_res:
            self.Conv2 = conv2d(dim_out, dim_out, 1)
            self.Conv3 = conv2d(3, dim_out, 1)

    def construct(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, dim_out, H, W], or [N, 3, H, W] without residual."""
        features = self.HG(x)
        rgb = self.Conv1(features)  # [N, 3, H, W]
        return x + self.Conv2(features) + self.Conv3(rgb) if self.use_res else rgb


class ResnetSoftAdaLINBlock(ResnetAdaLINBlock):
    """Residual block of the decoder with Soft-AdaLIN norms; it takes content and style [N, dim]."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, SoftAdaLIN)


class ResnetGenerator(nn.Cell):
    """Generator: photo in, cartoon out, with the class activation map (CAM) of the attention."""

    def __init__(self, ngf: int = 64, img_size: int = 256, light: bool = False) -> None:
        super().__init__()
        self.img_size, self.light = img_size, light
        dim = ngf * 4
        self.ConvBlock1 = sequence(*encoding(3, ngf, 7, 1))
        self.HourGlass1 = HourGlass(ngf, ngf)
        self.HourGlass2 = HourGlass(ngf, ngf)
        self.DownBlock1 = sequence(*encoding(ngf, ngf * 2))
        self.DownBlock2 = sequence(*encoding(ngf * 2, dim))
        for number in range(1, 5):
            setattr(self, f"EncodeBlock{number}", ResnetBlock(dim))
        self.gap_fc = dense(dim, 1)
        self.gmp_fc = dense(dim, 1)
        self.conv1x1 = conv2d(dim * 2, dim, 1)
        self.relu = nn.ReLU()
        style_inputs = dim if light else dim * (img_size // 4) ** 2
        self.FC = sequence(dense(style_inputs, dim), nn.ReLU(), dense(dim, dim), nn.ReLU())
        for number in range(1, 5):
            setattr(self, f"DecodeBlock{number}", ResnetSoftAdaLINBlock(dim))
        self.UpBlock1 = sequence(*decoding(dim, ngf * 2))
        self.UpBlock2 = sequence(*decoding(ngf * 2, ngf))
        self.HourGlass3 = HourGlass(ngf, ngf)
        self.HourGlass4 = HourGlass(ngf, ngf, use_res=False)
        self.ConvBlock2 = sequence(ReflectionPad2d(3), conv2d(3, 3, 7, bias=False), Tanh())

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[N, 3, H, W] RGB in [-1, 1] -> image [N, 3, H, W] in [-1, 1], CAM logits [N, 2] (average, maximum), heat map
        [N, 1, H/4, W/4]; H and W multiples of 16 and at least 32 (full model: exactly img_size).
        """
        require_size("photo2cartoon generator", x, 16, 32, None if self.light else self.img_size)
        x = self.HourGlass2(self.HourGlass1(self.ConvBlock1(x)))  # [N, C, H, W]
        x = self.DownBlock2(self.DownBlock1(x))  # [N, 4C, H/4, W/4]
        contents = []  # 4 x [N, 4C]
        for number in range(1, 5):
            x = getattr(self, f"EncodeBlock{number}")(x)
            contents.append(channel_mean(x))

        cam_logit = ops.cat((self.gap_fc(channel_mean(x)), self.gmp_fc(channel_max(x))), 1)  # [N, 2]
        by_gap = x * self.gap_fc.weight[:, :, None, None]
        by_gmp = x * self.gmp_fc.weight[:, :, None, None]
        x = self.relu(self.conv1x1(ops.cat((by_gap, by_gmp), 1)))  # [N, 4C, H/4, W/4]
        heatmap = x.sum(1, keepdims=True)  # [N, 1, H/4, W/4]

        style = self.FC(channel_mean(x) if self.light else x.reshape(x.shape[0], -1))  # [N, 4C]
        for number in range(1, 5):
            x = getattr(self, f"DecodeBlock{number}")(x, contents[4 - number], style)
        x = self.UpBlock2(self.UpBlock1(x))  # [N, C, H, W]
        return self.ConvBlock2(self.HourGlass4(self.HourGlass3(x))), cam_logit, heatmap
