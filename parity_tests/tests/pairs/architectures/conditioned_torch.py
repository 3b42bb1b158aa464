"""Three published networks that something else than a picture steers, in PyTorch: whole, but with few channels."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AdaptiveInstanceNorm2d(nn.Module):
    """Instance norm whose scale and shift another network writes into it before each run."""

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        assert self.weight is not None
        normal = F.batch_norm(x.reshape(1, n * c, height, width), None, None, None, None, True, 0.1, self.eps)
        normal = normal.reshape(n, c, height, width)
        return normal * self.weight.reshape(n, c, 1, 1) + self.bias.reshape(n, c, 1, 1)


class MunitLayerNorm(nn.Module):
    """Norm over all of a picture by the standard deviation with divisor count - 1; a scale and shift per channel."""

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.gamma, self.beta = nn.Parameter(torch.rand(num_features)), nn.Parameter(torch.zeros(num_features))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(x.shape[0], -1)
        mean, std = flat.mean(1).reshape(-1, 1, 1, 1), flat.std(1).reshape(-1, 1, 1, 1)
        return (x - mean) / (std + self.eps) * self.gamma.reshape(1, -1, 1, 1) + self.beta.reshape(1, -1, 1, 1)


class MunitConv(nn.Module):
    """Reflection padding, convolution, norm and activation, the last two where they are given."""

    def __init__(
        self, dim_in: int, dim_out: int, kernel: int, norm: nn.Module | None, activation: nn.Module | None
    ) -> None:
        super().__init__()
        self.pad, self.conv = nn.ReflectionPad2d(kernel // 2), nn.Conv2d(dim_in, dim_out, kernel)
        self.norm, self.activation = norm, activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.pad(x))
        if self.norm is not None:
            x = self.norm(x)
        return x if self.activation is None else self.activation(x)


class MunitBlock(nn.Module):
    """Two convolutions with adaptive instance norm, added to the input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            MunitConv(dim, dim, 3, AdaptiveInstanceNorm2d(dim), nn.ReLU()),
            MunitConv(dim, dim, 3, AdaptiveInstanceNorm2d(dim), None),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) + x


class MunitDecoder(nn.Module):
    """MUNIT's decoder: content and style to a picture (Huang et al., 2018)."""

    def __init__(self, dim: int = 8, style: int = 4, blocks: int = 2) -> None:
        super().__init__()
        up = [nn.Upsample(scale_factor=2), MunitConv(dim, dim // 2, 5, MunitLayerNorm(dim // 2), nn.ReLU())]
        up += [nn.Upsample(scale_factor=2), MunitConv(dim // 2, dim // 4, 5, MunitLayerNorm(dim // 4), nn.ReLU())]
        last = MunitConv(dim // 4, 3, 7, None, nn.Tanh())
        self.dec = nn.Sequential(*(MunitBlock(dim) for _ in range(blocks)), *up, last)
        self.mlp = nn.Sequential(
            nn.Linear(style, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4 * dim * blocks)
        )

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        self._assign(self.mlp(style))
        return self.dec(content)

    def _assign(self, found: Tensor) -> None:
        """Write shift and scale into every adaptive norm, in the order of the layers."""
        for layer in self.dec.modules():
            if isinstance(layer, AdaptiveInstanceNorm2d):
                width = layer.num_features
                layer.bias, layer.weight = found[:, :width], found[:, width : 2 * width]
                found = found[:, 2 * width :]


def _tracked(dim: int) -> nn.Module:
    return nn.InstanceNorm2d(dim, affine=True, track_running_stats=True)


class StarBlock(nn.Module):
    """Two convolutions with a tracking instance norm, added to the input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        first = [nn.Conv2d(dim, dim, 3, 1, 1, bias=False), _tracked(dim), nn.ReLU(inplace=True)]
        self.main = nn.Sequential(*first, nn.Conv2d(dim, dim, 3, 1, 1, bias=False), _tracked(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.main(x)


class StarGenerator(nn.Module):
    """StarGAN's generator: a picture and the labels that it shall have (Choi et al., 2018)."""

    def __init__(self, dim: int = 4, labels: int = 5, blocks: int = 2) -> None:
        super().__init__()
        layers = [nn.Conv2d(3 + labels, dim, 7, 1, 3, bias=False), _tracked(dim), nn.ReLU(inplace=True)]
        for width in (dim, 2 * dim):
            conv = nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False)
            layers += [conv, _tracked(2 * width), nn.ReLU(inplace=True)]
        layers += [StarBlock(4 * dim) for _ in range(blocks)]
        for width in (4 * dim, 2 * dim):
            up = nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False)
            layers += [up, _tracked(width // 2), nn.ReLU(inplace=True)]
        self.main = nn.Sequential(*layers, nn.Conv2d(dim, 3, 7, 1, 3, bias=False), nn.Tanh())

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        maps = labels.view(*labels.shape, 1, 1).repeat(1, 1, x.shape[2], x.shape[3])
        return self.main(torch.cat([x, maps], 1))


def time_embedding(steps: Tensor, dim: int) -> Tensor:
    """Sines and cosines of whole steps [N] at falling frequencies: [N, dim]."""
    half = dim // 2
    frequencies = torch.exp(torch.arange(half) * (-math.log(10000) / (half - 1)))
    angles = steps[:, None].float() * frequencies[None]
    return torch.cat([torch.sin(angles), torch.cos(angles)], 1)


class DiffusionBlock(nn.Module):
    """Two convolutions, each after group norm and SiLU, with the time added between them; and a shortcut."""

    def __init__(self, dim_in: int, dim_out: int, time: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(4, dim_in, 1e-6), nn.Conv2d(dim_in, dim_out, 3, 1, 1)
        self.temb_proj = nn.Linear(time, dim_out)
        self.norm2, self.conv2 = nn.GroupNorm(4, dim_out, 1e-6), nn.Conv2d(dim_out, dim_out, 3, 1, 1)
        self.dropout = nn.Dropout(0.1)
        self.nin_shortcut = nn.Conv2d(dim_in, dim_out, 1) if dim_in != dim_out else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        y = y + self.temb_proj(F.silu(time))[:, :, None, None]
        y = self.conv2(self.dropout(F.silu(self.norm2(y))))
        return self.nin_shortcut(x) + y


class DiffusionAttention(nn.Module):
    """Attention of every pixel to every other, with one head."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, dim, 1e-6)
        self.q, self.k, self.v = nn.Conv2d(dim, dim, 1), nn.Conv2d(dim, dim, 1), nn.Conv2d(dim, dim, 1)
        self.proj_out = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q, k, v = (layer(y).flatten(2) for layer in (self.q, self.k, self.v))  # [N, C, HW]
        weights = torch.softmax(q.transpose(1, 2) @ k * x.shape[1] ** -0.5, -1)  # [N, HW, HW]
        return x + self.proj_out((v @ weights.transpose(1, 2)).reshape(x.shape))


class DiffusionUnet(nn.Module):
    """DDPM's U-Net with one step down and up (Ho et al., 2020)."""

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        time = 4 * dim
        self.dim = dim
        self.temb = nn.ModuleList([nn.Linear(dim, time), nn.Linear(time, time)])
        self.conv_in = nn.Conv2d(3, dim, 3, 1, 1)
        self.down_block, self.downsample = DiffusionBlock(dim, dim, time), nn.Conv2d(dim, dim, 3, 2)
        self.low_block, self.low_attn = DiffusionBlock(dim, 2 * dim, time), DiffusionAttention(2 * dim)
        self.mid = nn.ModuleDict(
            {
                "block_1": DiffusionBlock(2 * dim, 2 * dim, time),
                "attn_1": DiffusionAttention(2 * dim),
                "block_2": DiffusionBlock(2 * dim, 2 * dim, time),
            }
        )
        self.up_block, self.upsample = DiffusionBlock(4 * dim, 2 * dim, time), nn.Conv2d(2 * dim, 2 * dim, 3, 1, 1)
        self.high_block = DiffusionBlock(3 * dim, dim, time)
        self.norm_out, self.conv_out = nn.GroupNorm(4, dim, 1e-6), nn.Conv2d(dim, 3, 3, 1, 1)

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        time = self.temb[1](F.silu(self.temb[0](time_embedding(steps, self.dim))))
        high = self.down_block(self.conv_in(x), time)
        low = self.downsample(F.pad(high, (0, 1, 0, 1)))
        low = self.low_attn(self.low_block(low, time))
        y = self.mid["attn_1"](self.mid["block_1"](low, time))
        y = self.up_block(torch.cat([self.mid["block_2"](y, time), low], 1), time)
        y = self.upsample(F.interpolate(y, scale_factor=2.0, mode="nearest"))
        y = self.high_block(torch.cat([y, high], 1), time)
        return self.conv_out(F.silu(self.norm_out(y)))
