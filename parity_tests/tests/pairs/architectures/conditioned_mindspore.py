"""Three published networks that something else than a picture steers, in MindSpore: whole, but with few channels."""

import math

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from ms_models.kernels import upsample_nearest
from ms_models.layers import conv2d, conv_transpose2d, normalize


class AdaptiveInstanceNorm2d(nn.Cell):
    """Instance norm whose scale and shift another network writes into it before each run."""

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None

    def construct(self, x: Tensor) -> Tensor:
        n, c = x.shape[:2]
        return normalize(x, 2, self.eps) * self.weight.reshape(n, c, 1, 1) + self.bias.reshape(n, c, 1, 1)


class MunitLayerNorm(nn.Cell):
    """Norm over all of a picture by the standard deviation with divisor count - 1; a scale and shift per channel."""

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.gamma, self.beta = Parameter(ops.ones(num_features)), Parameter(ops.zeros(num_features))

    def construct(self, x: Tensor) -> Tensor:
        flat = x.reshape(x.shape[0], -1)
        mean, std = flat.mean(1).reshape(-1, 1, 1, 1), flat.std(1, ddof=1).reshape(-1, 1, 1, 1)
        return (x - mean) / (std + self.eps) * self.gamma.reshape(1, -1, 1, 1) + self.beta.reshape(1, -1, 1, 1)


class MunitConv(nn.Cell):
    """Reflection padding, convolution, norm and activation, the last two where they are given."""

    def __init__(
        self, dim_in: int, dim_out: int, kernel: int, norm: nn.Cell | None, activation: nn.Cell | None
    ) -> None:
        super().__init__()
        self.pad, self.conv = nn.ReflectionPad2d(kernel // 2), conv2d(dim_in, dim_out, kernel)
        self.norm, self.activation = norm, activation

    def construct(self, x: Tensor) -> Tensor:
        x = self.conv(self.pad(x))
        if self.norm is not None:
            x = self.norm(x)
        return x if self.activation is None else self.activation(x)


class MunitBlock(nn.Cell):
    """Two convolutions with adaptive instance norm, added to the input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.model = nn.SequentialCell(
            MunitConv(dim, dim, 3, AdaptiveInstanceNorm2d(dim), nn.ReLU()),
            MunitConv(dim, dim, 3, AdaptiveInstanceNorm2d(dim), None),
        )

    def construct(self, x: Tensor) -> Tensor:
        return self.model(x) + x


class Upsample(nn.Cell):
    """Repeat each pixel twice in both directions."""

    def construct(self, x: Tensor) -> Tensor:
        return upsample_nearest(x, 2)


class MunitDecoder(nn.Cell):
    """MUNIT's decoder: content and style to a picture (Huang et al., 2018)."""

    def __init__(self, dim: int = 8, style: int = 4, blocks: int = 2) -> None:
        super().__init__()
        up = [Upsample(), MunitConv(dim, dim // 2, 5, MunitLayerNorm(dim // 2), nn.ReLU())]
        up += [Upsample(), MunitConv(dim // 2, dim // 4, 5, MunitLayerNorm(dim // 4), nn.ReLU())]
        last = MunitConv(dim // 4, 3, 7, None, nn.Tanh())
        self.dec = nn.SequentialCell(*(MunitBlock(dim) for _ in range(blocks)), *up, last)
        self.mlp = nn.SequentialCell(
            nn.Dense(style, 8), nn.ReLU(), nn.Dense(8, 8), nn.ReLU(), nn.Dense(8, 4 * dim * blocks)
        )
        found = tuple(cell for _, cell in self.dec.cells_and_names() if isinstance(cell, AdaptiveInstanceNorm2d))
        self.adaptive = lambda: found  # in the order of the layers; they are layers of `dec` alone

    def construct(self, content: Tensor, style: Tensor) -> Tensor:
        self._assign(self.mlp(style))
        return self.dec(content)

    def _assign(self, found: Tensor) -> None:
        """Write shift and scale into every adaptive norm, in the order of the layers."""
        for layer in self.adaptive():
            width = layer.num_features
            layer.bias, layer.weight = found[:, :width], found[:, width : 2 * width]
            found = found[:, 2 * width :]


class TrackedInstanceNorm2d(nn.Cell):
    """Instance norm with running statistics, which it uses in eval mode."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.gamma, self.beta = Parameter(ops.ones(num_features)), Parameter(ops.zeros(num_features))
        self.moving_mean = Parameter(ops.zeros(num_features), requires_grad=False)
        self.moving_variance = Parameter(ops.ones(num_features), requires_grad=False)

    def construct(self, x: Tensor) -> Tensor:
        if self.training:
            normal = normalize(x, 2, self.eps)
            mean, variance = ops.stop_gradient(x).mean((2, 3)).mean(0), ops.stop_gradient(x).var((2, 3), ddof=1).mean(0)
            ops.assign(self.moving_mean, (1 - self.momentum) * self.moving_mean + self.momentum * mean)
            ops.assign(self.moving_variance, (1 - self.momentum) * self.moving_variance + self.momentum * variance)
        else:
            mean, variance = self.moving_mean.reshape(1, -1, 1, 1), self.moving_variance.reshape(1, -1, 1, 1)
            normal = (x - mean) / ops.sqrt(variance + self.eps)
        return normal * self.gamma.reshape(1, -1, 1, 1) + self.beta.reshape(1, -1, 1, 1)


class StarBlock(nn.Cell):
    """Two convolutions with a tracking instance norm, added to the input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        first = [conv2d(dim, dim, 3, 1, 1, bias=False), TrackedInstanceNorm2d(dim), nn.ReLU()]
        self.main = nn.SequentialCell(*first, conv2d(dim, dim, 3, 1, 1, bias=False), TrackedInstanceNorm2d(dim))

    def construct(self, x: Tensor) -> Tensor:
        return x + self.main(x)


class StarGenerator(nn.Cell):
    """StarGAN's generator: a picture and the labels that it shall have (Choi et al., 2018)."""

    def __init__(self, dim: int = 4, labels: int = 5, blocks: int = 2) -> None:
        super().__init__()
        layers = [conv2d(3 + labels, dim, 7, 1, 3, bias=False), TrackedInstanceNorm2d(dim), nn.ReLU()]
        for width in (dim, 2 * dim):
            conv = conv2d(width, 2 * width, 4, 2, 1, bias=False)
            layers += [conv, TrackedInstanceNorm2d(2 * width), nn.ReLU()]
        layers += [StarBlock(4 * dim) for _ in range(blocks)]
        for width in (4 * dim, 2 * dim):
            up = conv_transpose2d(width, width // 2, 4, 2, 1, bias=False)
            layers += [up, TrackedInstanceNorm2d(width // 2), nn.ReLU()]
        self.main = nn.SequentialCell(*layers, conv2d(dim, 3, 7, 1, 3, bias=False), nn.Tanh())

    def construct(self, x: Tensor, labels: Tensor) -> Tensor:
        maps = labels.reshape(*labels.shape, 1, 1).tile((1, 1, x.shape[2], x.shape[3]))
        return self.main(ops.cat((x, maps), 1))


def time_embedding(steps: Tensor, dim: int) -> Tensor:
    """Sines and cosines of whole steps [N] at falling frequencies: [N, dim]."""
    half = dim // 2
    frequencies = ops.exp(ops.arange(half).astype(ms.float32) * (-math.log(10000) / (half - 1)))
    angles = steps[:, None].astype(ms.float32) * frequencies[None]
    return ops.cat((ops.sin(angles), ops.cos(angles)), 1)


class DiffusionBlock(nn.Cell):
    """Two convolutions, each after group norm and SiLU, with the time added between them; and a shortcut."""

    def __init__(self, dim_in: int, dim_out: int, time: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(4, dim_in, 1e-6), conv2d(dim_in, dim_out, 3, 1, 1)
        self.temb_proj = nn.Dense(time, dim_out)
        self.norm2, self.conv2 = nn.GroupNorm(4, dim_out, 1e-6), conv2d(dim_out, dim_out, 3, 1, 1)
        self.dropout = nn.Dropout(p=0.1)
        self.nin_shortcut = conv2d(dim_in, dim_out, 1) if dim_in != dim_out else nn.Identity()

    def construct(self, x: Tensor, time: Tensor) -> Tensor:
        y = self.conv1(ops.silu(self.norm1(x)))
        y = y + self.temb_proj(ops.silu(time))[:, :, None, None]
        y = self.conv2(self.dropout(ops.silu(self.norm2(y))))
        return self.nin_shortcut(x) + y


class DiffusionAttention(nn.Cell):
    """Attention of every pixel to every other, with one head."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, dim, 1e-6)
        self.q, self.k, self.v = conv2d(dim, dim, 1), conv2d(dim, dim, 1), conv2d(dim, dim, 1)
        self.proj_out = conv2d(dim, dim, 1)

    def construct(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q, k, v = (layer(y).flatten(start_dim=2) for layer in (self.q, self.k, self.v))  # [N, C, HW]
        weights = ops.softmax(ops.bmm(q.swapaxes(1, 2), k) * x.shape[1] ** -0.5, -1)  # [N, HW, HW]
        return x + self.proj_out(ops.bmm(v, weights.swapaxes(1, 2)).reshape(x.shape))


class DiffusionUnet(nn.Cell):
    """DDPM's U-Net with one step down and up (Ho et al., 2020)."""

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        time = 4 * dim
        self.dim = dim
        self.temb = nn.CellList([nn.Dense(dim, time), nn.Dense(time, time)])
        self.conv_in = conv2d(3, dim, 3, 1, 1)
        self.down_block, self.downsample = DiffusionBlock(dim, dim, time), conv2d(dim, dim, 3, 2)
        self.low_block, self.low_attn = DiffusionBlock(dim, 2 * dim, time), DiffusionAttention(2 * dim)
        self.mid = nn.CellDict(
            {
                "block_1": DiffusionBlock(2 * dim, 2 * dim, time),
                "attn_1": DiffusionAttention(2 * dim),
                "block_2": DiffusionBlock(2 * dim, 2 * dim, time),
            }
        )
        self.pad = ops.Pad(((0, 0), (0, 0), (0, 1), (0, 1)))
        self.up_block, self.upsample = DiffusionBlock(4 * dim, 2 * dim, time), conv2d(2 * dim, 2 * dim, 3, 1, 1)
        self.high_block = DiffusionBlock(3 * dim, dim, time)
        self.norm_out, self.conv_out = nn.GroupNorm(4, dim, 1e-6), conv2d(dim, 3, 3, 1, 1)

    def construct(self, x: Tensor, steps: Tensor) -> Tensor:
        time = self.temb[1](ops.silu(self.temb[0](time_embedding(steps, self.dim))))
        high = self.down_block(self.conv_in(x), time)
        low = self.downsample(self.pad(high))
        low = self.low_attn(self.low_block(low, time))
        y = self.mid["attn_1"](self.mid["block_1"](low, time))
        y = self.up_block(ops.cat((self.mid["block_2"](y, time), low), 1), time)
        y = self.upsample(upsample_nearest(y, 2))
        y = self.high_block(ops.cat((y, high), 1), time)
        return self.conv_out(ops.silu(self.norm_out(y)))
