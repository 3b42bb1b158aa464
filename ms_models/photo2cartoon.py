"""photo2cartoon: U-GAT-IT with hourglass blocks, content features and Soft-AdaLIN.

The twin of `torch_ref/photo2cartoon.py`.
"""

from mindspore import Tensor, nn, ops

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
        self.ConvBlock4 = nn.SequentialCell(
            InstanceNorm2d(dim_in), nn.ReLU(), nn.Conv2d(dim_in, dim_out, 1, pad_mode="valid")
        )

    def construct(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, dim_out, H, W]."""
        x1 = self.ConvBlock1(x)  # [N, dim_out/2, H, W]
        x2 = self.ConvBlock2(x1)  # [N, dim_out/4, H, W]
        x3 = self.ConvBlock3(x2)  # [N, dim_out/4, H, W]
        shortcut = self.ConvBlock4(x) if self.project_shortcut else x
        return shortcut + ops.cat((x1, x2, x3), 1)


def _preactivated_conv(dim_in: int, dim_out: int) -> nn.SequentialCell:
    return nn.SequentialCell(
        InstanceNorm2d(dim_in), nn.ReLU(), nn.ReflectionPad2d(1), nn.Conv2d(dim_in, dim_out, 3, pad_mode="valid")
    )


class HourGlassBlock(nn.Cell):
    """Four levels of 2x2 average pooling down and nearest up-sampling back, with a skip at each level."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.ConvBlock1_1 = ConvBlock(dim_in, dim_out)
        for name in ("1_2", "2_1", "2_2", "3_1", "3_2", "4_1", "4_2", "5", "6", "7", "8", "9"):
            setattr(self, f"ConvBlock{name}", ConvBlock(dim_out, dim_out))

    def construct(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, dim_out, H, W]; H and W multiples of 16."""
        skips = []  # of 1, 1/2, 1/4 and 1/8 of the sides
        for level in range(1, 5):
            skips.append(getattr(self, f"ConvBlock{level}_1")(x))
            x = getattr(self, f"ConvBlock{level}_2")(ops.avg_pool2d(x, 2, 2))
        x = self.ConvBlock5(x)  # [N, dim_out, H/16, W/16]
        for level in range(4):
            x = skips[3 - level] + _double(getattr(self, f"ConvBlock{level + 6}")(x))
        return x


def _double(x: Tensor) -> Tensor:
    return upsample_nearest(x, 2)


class HourGlass(nn.Cell):
    """Hourglass stage that also predicts an RGB image and, in residual form, feeds it back.

    use_res: True keeps dim_in channels (x + Conv2(y) + Conv3(Conv1(y))); False returns Conv1(y), 3 channels.
    """

    def __init__(self, dim_in: int, dim_out: int, use_res: bool = True) -> None:
        super().__init__()
        self.use_res = use_res
        self.HG = nn.SequentialCell(
            HourGlassBlock(dim_in, dim_out),
            ConvBlock(dim_out, dim_out),
            nn.Conv2d(dim_out, dim_out, 1, pad_mode="valid"),
            InstanceNorm2d(dim_out),
            nn.ReLU(),
        )
        self.Conv1 = nn.Conv2d(dim_out, 3, 1, pad_mode="valid", has_bias=True)
        if use_res:
            self.Conv2 = nn.Conv2d(dim_out, dim_out, 1, pad_mode="valid", has_bias=True)
            self.Conv3 = nn.Conv2d(3, dim_out, 1, pad_mode="valid", has_bias=True)

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
        self.ConvBlock1 = nn.SequentialCell(*encoding(3, ngf, 7, 1))
        self.HourGlass1 = HourGlass(ngf, ngf)
        self.HourGlass2 = HourGlass(ngf, ngf)
        self.DownBlock1 = nn.SequentialCell(*encoding(ngf, ngf * 2))
        self.DownBlock2 = nn.SequentialCell(*encoding(ngf * 2, dim))
        for number in range(1, 5):
            setattr(self, f"EncodeBlock{number}", ResnetBlock(dim))
        self.gap_fc = nn.Dense(dim, 1)
        self.gmp_fc = nn.Dense(dim, 1)
        self.conv1x1 = nn.Conv2d(dim * 2, dim, 1, pad_mode="valid", has_bias=True)
        self.relu = nn.ReLU()
        style_inputs = dim if light else dim * (img_size // 4) ** 2
        self.FC = nn.SequentialCell(nn.Dense(style_inputs, dim), nn.ReLU(), nn.Dense(dim, dim), nn.ReLU())
        for number in range(1, 5):
            setattr(self, f"DecodeBlock{number}", ResnetSoftAdaLINBlock(dim))
        self.UpBlock1 = nn.SequentialCell(*decoding(dim, ngf * 2))
        self.UpBlock2 = nn.SequentialCell(*decoding(ngf * 2, ngf))
        self.HourGlass3 = HourGlass(ngf, ngf)
        self.HourGlass4 = HourGlass(ngf, ngf, use_res=False)
        self.ConvBlock2 = nn.SequentialCell(nn.ReflectionPad2d(3), nn.Conv2d(3, 3, 7, pad_mode="valid"), Tanh())

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
