"""U-GAT-IT: the base network of photo2cartoon, without hourglasses and content features.

The twin of `torch_ref/ugatit.py`.
"""

from mindspore import Tensor, nn, ops

from ms_models.compact import ReflectionPad2d, conv2d, dense, sequence
from ms_models.kernels import LeakyReLU
from ms_models.layers import (
    ResnetAdaLINBlock,
    ResnetBlock,
    SpectralNormConv2d,
    SpectralNormLinear,
    Tanh,
    channel_max,
    channel_mean,
    decoding,
    encoding,
    require_size,
)


class ResnetGenerator(nn.Cell):
    """Generator with one gamma/beta pair, computed from the attended features, for all adaptive blocks."""

    def __init__(
        self,
        input_nc: int = 3,
        output_nc: int = 3,
        ngf: int = 64,
        n_blocks: int = 4,
        img_size: int = 256,
        light: bool = False,
    ) -> None:
        super().__init__()
        self.n_blocks, self.img_size, self.light = n_blocks, img_size, light
        dim = ngf * 4
        self.gap_fc = dense(dim, 1, bias=False)
        self.gmp_fc = dense(dim, 1, bias=False)
        self.conv1x1 = conv2d(dim * 2, dim, 1)
        self.relu = nn.ReLU()
        self.gamma = dense(dim, dim, bias=False)
        self.beta = dense(dim, dim, bias=False)
        for index in range(n_blocks):
            setattr(self, f"UpBlock1_{index + 1}", ResnetAdaLINBlock(dim))
        down = [*encoding(input_nc, ngf, 7, 1), *encoding(ngf, ngf * 2), *encoding(ngf * 2, dim)]
        self.DownBlock = sequence(*down, *(ResnetBlock(dim) for _ in range(n_blocks)))
        style_inputs = dim if light else dim * (img_size // 4) ** 2
        self.FC = sequence(dense(style_inputs, dim, bias=False), nn.ReLU(), dense(dim, dim, bias=False), nn.ReLU())
        up = [*decoding(dim, ngf * 2), *decoding(ngf * 2, ngf)]
        self.UpBlock2 = sequence(*up, ReflectionPad2d(3), conv2d(ngf, output_nc, 7, bias=False), Tanh())

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[N, input_nc, H, W] in [-1, 1] -> image [N, output_nc, H, W] in [-1, 1], CAM logits [N, 2], heat map [N, 1,
        H/4, W/4]; H and W multiples of 4 and at least 8 (full model: exactly img_size).
        """
        require_size("U-GAT-IT generator", x, 4, 8, None if self.light else self.img_size)
        x = self.DownBlock(x)  # [N, 4C, H/4, W/4]
        cam_logit = ops.cat((self.gap_fc(channel_mean(x)), self.gmp_fc(channel_max(x))), 1)  # [N, 2]
        by_gap = x * self.gap_fc.weight[:, :, None, None]
        by_gmp = x * self.gmp_fc.weight[:, :, None, None]
        x = self.relu(self.conv1x1(ops.cat((by_gap, by_gmp), 1)))  # [N, 4C, H/4, W/4]
        heatmap = x.sum(1, keepdims=True)  # [N, 1, H/4, W/4]
        style = self.FC(channel_mean(x) if self.light else x.reshape(x.shape[0], -1))  # [N, 4C]
        gamma, beta = self.gamma(style), self.beta(style)  # [N, 4C] each
        for index in range(self.n_blocks):
            x = getattr(self, f"UpBlock1_{index + 1}")(x, gamma, beta)
        return self.UpBlock2(x), cam_logit, heatmap


class Discriminator(nn.Cell):
    """Spectrally normalised patch discriminator with CAM attention (photo2cartoon and U-GAT-IT alike).

    The attention multiplies the features by the raw `weight_orig` of the CAM layers, while the CAM logits use the
    normalised weight: so does the reference, and trained weights rely on it.
    """

    def __init__(self, input_nc: int = 3, ndf: int = 64, n_layers: int = 5) -> None:
        super().__init__()
        self.n_layers = n_layers
        dim = ndf * 2 ** (n_layers - 2)
        self.gap_fc = SpectralNormLinear(dim, 1, bias=False)
        self.gmp_fc = SpectralNormLinear(dim, 1, bias=False)
        self.conv1x1 = conv2d(dim * 2, dim, 1)
        self.leaky_relu = LeakyReLU(0.2)
        self.pad = ReflectionPad2d(1)
        self.conv = SpectralNormConv2d(dim, 1, 4, bias=False)
        self.model = sequence(*_discriminator_body(input_nc, ndf, n_layers))

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[N, input_nc, H, W] in [-1, 1] -> logit map [N, 1, h, w], CAM logits [N, 2], heat map [N, 1, h + 1, w + 1];
        sides at least 3 * 2 ** (n_layers - 2).
        """
        require_size("discriminator", x, 1, 3 * 2 ** (self.n_layers - 2))
        x = self.model(x)  # [N, K, h + 1, w + 1]
        cam_logit = ops.cat((self.gap_fc(channel_mean(x)), self.gmp_fc(channel_max(x))), 1)  # [N, 2]
        by_gap = x * self.gap_fc.weight_orig[:, :, None, None]
        by_gmp = x * self.gmp_fc.weight_orig[:, :, None, None]
        x = self.leaky_relu(self.conv1x1(ops.cat((by_gap, by_gmp), 1)))  # [N, K, h + 1, w + 1]
        heatmap = x.sum(1, keepdims=True)
        return self.conv(self.pad(x)), cam_logit, heatmap


def _discriminator_body(input_nc: int, ndf: int, n_layers: int) -> list[nn.Cell]:
    widths = [input_nc] + [ndf * 2**level for level in range(n_layers - 1)]
    layers: list[nn.Cell] = []
    for level, (dim_in, dim_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        stride = 1 if level == n_layers - 2 else 2
        layers += [ReflectionPad2d(1), SpectralNormConv2d(dim_in, dim_out, 4, stride=stride), LeakyReLU(0.2)]
    return layers
