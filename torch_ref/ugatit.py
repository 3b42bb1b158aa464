"""U-GAT-IT: the base network of photo2cartoon, without hourglasses and content features.

Paper: U-GAT-IT (arXiv 1907.10830). System: znxlwm/UGATIT-pytorch (MIT).
photo2cartoon has the same discriminator, key for key.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from torch_ref.layers import ResnetAdaLINBlock, ResnetBlock, channel_max, channel_mean, decoding, encoding, require_size


class ResnetGenerator(nn.Module):
    """Generator with one gamma/beta pair, computed from the attended features, for all adaptive blocks.

    Args:
        input_nc, output_nc: image channels.
        ngf: channels of the first layer.
        n_blocks: residual blocks on each side of the bottleneck (the system's scripts use 4).
        img_size: side of the training images; fixes the input size of the full model.
        light: True feeds the style network the mean of each channel, False the whole feature map.
    """

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
        self.gap_fc = nn.Linear(dim, 1, bias=False)
        self.gmp_fc = nn.Linear(dim, 1, bias=False)
        self.conv1x1 = nn.Conv2d(dim * 2, dim, 1)
        self.relu = nn.ReLU()
        self.gamma = nn.Linear(dim, dim, bias=False)
        self.beta = nn.Linear(dim, dim, bias=False)
        for index in range(n_blocks):
            setattr(self, f"UpBlock1_{index + 1}", ResnetAdaLINBlock(dim))
        down = [*encoding(input_nc, ngf, 7, 1), *encoding(ngf, ngf * 2), *encoding(ngf * 2, dim)]
        self.DownBlock = nn.Sequential(*down, *(ResnetBlock(dim) for _ in range(n_blocks)))
        style_inputs = dim if light else dim * (img_size // 4) ** 2
        self.FC = nn.Sequential(
            nn.Linear(style_inputs, dim, bias=False), nn.ReLU(), nn.Linear(dim, dim, bias=False), nn.ReLU()
        )
        up = [*decoding(dim, ngf * 2), *decoding(ngf * 2, ngf)]
        self.UpBlock2 = nn.Sequential(*up, nn.ReflectionPad2d(3), nn.Conv2d(ngf, output_nc, 7, bias=False), nn.Tanh())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[N, input_nc, H, W] in [-1, 1] -> image [N, output_nc, H, W] in [-1, 1], CAM logits [N, 2], heat map [N, 1,
        H/4, W/4]; H and W multiples of 4 and at least 8 (full model: exactly img_size).

        Raises ValueError: for a size that the network cannot run.
        """
        require_size("U-GAT-IT generator", x, 4, 8, None if self.light else self.img_size)
        x = self.DownBlock(x)  # [N, 4C, H/4, W/4]
        cam_logit = torch.cat((self.gap_fc(channel_mean(x)), self.gmp_fc(channel_max(x))), 1)  # [N, 2]
        by_gap = x * self.gap_fc.weight[:, :, None, None]
        by_gmp = x * self.gmp_fc.weight[:, :, None, None]
        x = self.relu(self.conv1x1(torch.cat((by_gap, by_gmp), 1)))  # [N, 4C, H/4, W/4]
        heatmap = x.sum(1, keepdim=True)  # [N, 1, H/4, W/4]
        style = self.FC(channel_mean(x) if self.light else x.flatten(1))  # [N, 4C]
        gamma, beta = self.gamma(style), self.beta(style)  # [N, 4C] each
        for index in range(self.n_blocks):
            x = getattr(self, f"UpBlock1_{index + 1}")(x, gamma, beta)
        return self.UpBlock2(x), cam_logit, heatmap


class Discriminator(nn.Module):
    """Spectrally normalised patch discriminator with CAM attention (photo2cartoon and U-GAT-IT alike).

    The attention multiplies the features by the raw `weight_orig` of the CAM layers, while the CAM
    logits use the normalised weight: so does the reference, and trained weights rely on it.

    Args:
        input_nc: channels of the image.
        ndf: channels of the first layer.
        n_layers: 7 for the global discriminator, 5 for the local one.
    """

    def __init__(self, input_nc: int = 3, ndf: int = 64, n_layers: int = 5) -> None:
        super().__init__()
        self.n_layers = n_layers
        dim = ndf * 2 ** (n_layers - 2)
        self.gap_fc = spectral_norm(nn.Linear(dim, 1, bias=False))
        self.gmp_fc = spectral_norm(nn.Linear(dim, 1, bias=False))
        self.conv1x1 = nn.Conv2d(dim * 2, dim, 1)
        self.leaky_relu = nn.LeakyReLU(0.2)
        self.pad = nn.ReflectionPad2d(1)
        self.conv = spectral_norm(nn.Conv2d(dim, 1, 4, bias=False))
        self.model = nn.Sequential(*_discriminator_body(input_nc, ndf, n_layers))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[N, input_nc, H, W] in [-1, 1] -> logit map [N, 1, h, w], CAM logits [N, 2], heat map [N, 1, h + 1, w + 1];
        sides at least 3 * 2 ** (n_layers - 2).

        Raises ValueError: for a size that the network cannot run.
        """
        require_size("discriminator", x, 1, 3 * 2 ** (self.n_layers - 2))
        x = self.model(x)  # [N, K, h + 1, w + 1]
        cam_logit = torch.cat((self.gap_fc(channel_mean(x)), self.gmp_fc(channel_max(x))), 1)  # [N, 2]
        gap_weight, gmp_weight = self.gap_fc.get_parameter("weight_orig"), self.gmp_fc.get_parameter("weight_orig")
        by_gap = x * gap_weight[:, :, None, None]
        by_gmp = x * gmp_weight[:, :, None, None]
        x = self.leaky_relu(self.conv1x1(torch.cat((by_gap, by_gmp), 1)))  # [N, K, h + 1, w + 1]
        heatmap = x.sum(1, keepdim=True)
        return self.conv(self.pad(x)), cam_logit, heatmap


def _discriminator_body(input_nc: int, ndf: int, n_layers: int) -> list[nn.Module]:
    widths = [input_nc] + [ndf * 2**level for level in range(n_layers - 1)]
    layers: list[nn.Module] = []
    for level, (dim_in, dim_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        stride = 1 if level == n_layers - 2 else 2
        layers += [
            nn.ReflectionPad2d(1),
            spectral_norm(nn.Conv2d(dim_in, dim_out, 4, stride=stride)),
            nn.LeakyReLU(0.2),
        ]
    return layers
