"""Layers that the reference networks share, with the reference's parameter names.

Papers: U-GAT-IT (arXiv 1907.10830) for LIN, AdaLIN and CAM; Spectral Normalization (arXiv 1802.05957).
System: photo2cartoon adds Soft-AdaLIN, which mixes content and style statistics.

Shape letters: N batch, C channels, H height, W width, D features of a vector.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-5
SPREAD = 0.02  # standard deviation of fresh weights


def channel_mean(x: Tensor) -> Tensor:
    """Mean over the pixels of each channel: [N, C, H, W] -> [N, C]."""
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


def channel_max(x: Tensor) -> Tensor:
    """Maximum over the pixels of each channel: [N, C, H, W] -> [N, C]; ties send the gradient to the first."""
    return F.adaptive_max_pool2d(x, 1).flatten(1)


def mix_instance_and_layer(x: Tensor, rho: Tensor, eps: float = EPS) -> Tensor:
    """Return rho * IN(x) + (1 - rho) * LN(x), both with the unbiased variance (divisor count - 1).

    Args:
        x: [N, C, H, W].
        rho: [1, C, 1, 1] in [0, 1]; 1 is pure instance norm, 0 pure layer norm.
        eps: added to the variances.
    """
    instance_var, instance_mean = torch.var_mean(x, dim=(2, 3), keepdim=True)  # [N, C, 1, 1]
    layer_var, layer_mean = torch.var_mean(x, dim=(1, 2, 3), keepdim=True)  # [N, 1, 1, 1]
    by_instance = (x - instance_mean) / torch.sqrt(instance_var + eps)
    by_layer = (x - layer_mean) / torch.sqrt(layer_var + eps)
    return rho * by_instance + (1 - rho) * by_layer


class AdaLIN(nn.Module):
    """Adaptive layer-instance normalisation: scale and shift come from outside.

    State: rho [1, C, 1, 1], starts at 0.9.
    """

    def __init__(self, num_features: int, eps: float = EPS) -> None:
        super().__init__()
        self.eps = eps
        self.rho = nn.Parameter(torch.full((1, num_features, 1, 1), 0.9))

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """x [N, C, H, W], gamma and beta [N, C] -> [N, C, H, W]."""
        mixed = mix_instance_and_layer(x, self.rho, self.eps)
        return mixed * gamma[:, :, None, None] + beta[:, :, None, None]


class LIN(nn.Module):
    """Layer-instance normalisation with its own scale and shift.

    State: rho (starts at 0), gamma (1), beta (0), each [1, C, 1, 1].
    """

    def __init__(self, num_features: int, eps: float = EPS) -> None:
        super().__init__()
        self.eps = eps
        self.rho = nn.Parameter(torch.zeros(1, num_features, 1, 1))
        self.gamma = nn.Parameter(torch.ones(1, num_features, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, num_features, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        return mix_instance_and_layer(x, self.rho, self.eps) * self.gamma + self.beta


class SoftAdaLIN(nn.Module):
    """AdaLIN whose scale and shift are a learned mix of content and style vectors.

    gamma = (1 - w_gamma) * s_gamma(style) + w_gamma * c_gamma(content); beta alike.
    State: w_gamma and w_beta [1, D] start at 0 (style only).
    """

    def __init__(self, num_features: int, eps: float = EPS) -> None:
        super().__init__()
        self.norm = AdaLIN(num_features, eps)
        self.w_gamma = nn.Parameter(torch.zeros(1, num_features))
        self.w_beta = nn.Parameter(torch.zeros(1, num_features))
        self.c_gamma = _content_head(num_features)
        self.c_beta = _content_head(num_features)
        self.s_gamma = nn.Linear(num_features, num_features)
        self.s_beta = nn.Linear(num_features, num_features)

    def forward(self, x: Tensor, content: Tensor, style: Tensor) -> Tensor:
        """x [N, D, H, W], content and style [N, D] -> [N, D, H, W]."""
        gamma = (1 - self.w_gamma) * self.s_gamma(style) + self.w_gamma * self.c_gamma(content)  # [N, D]
        beta = (1 - self.w_beta) * self.s_beta(style) + self.w_beta * self.c_beta(content)  # [N, D]
        return self.norm(x, gamma, beta)


def _content_head(features: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, features))


class ResnetBlock(nn.Module):
    """Residual block of the encoders: x + norm(conv([dropout] ReLU(norm(conv(x))))), reflection padding.

    Args:
        dim: channels.
        norm: channels -> norm layer.
        bias: whether the convolutions have one.
        dropout: whether half of the values are dropped in train mode.
    """

    def __init__(
        self, dim: int, norm: Callable[[int], nn.Module] = nn.InstanceNorm2d, bias: bool = False, dropout: bool = False
    ) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(dim, dim, 3, bias=bias),
            norm(dim),
            nn.ReLU(),
            *([nn.Dropout(0.5)] if dropout else []),
            nn.ReflectionPad2d(1),
            nn.Conv2d(dim, dim, 3, bias=bias),
            norm(dim),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, dim, H, W] -> [N, dim, H, W]."""
        return x + self.conv_block(x)


def encoding(dim_in: int, dim_out: int, kernel: int = 3, stride: int = 2) -> list[nn.Module]:
    """Layers of the encoders that double the channels and halve the sides: padding, convolution, norm, ReLU."""
    conv = nn.Conv2d(dim_in, dim_out, kernel, stride, bias=False)
    return [nn.ReflectionPad2d(kernel // 2), conv, nn.InstanceNorm2d(dim_out), nn.ReLU()]


def decoding(dim_in: int, dim_out: int) -> list[nn.Module]:
    """Layers of the decoders that double the sides: nearest neighbours, padding, convolution, LIN, ReLU."""
    conv = nn.Conv2d(dim_in, dim_out, 3, bias=False)
    return [nn.Upsample(scale_factor=2.0, mode="nearest"), nn.ReflectionPad2d(1), conv, LIN(dim_out), nn.ReLU()]


class ResnetAdaLINBlock(nn.Module):
    """Residual block of the U-GAT-IT decoder: both norms are AdaLIN with the same gamma and beta.

    `norm` is another adaptive norm, with its own two vectors.
    """

    def __init__(self, dim: int, norm: Callable[[int], nn.Module] = AdaLIN) -> None:
        super().__init__()
        self.pad1 = nn.ReflectionPad2d(1)
        self.conv1 = nn.Conv2d(dim, dim, 3, bias=False)
        self.norm1 = norm(dim)
        self.relu1 = nn.ReLU()
        self.pad2 = nn.ReflectionPad2d(1)
        self.conv2 = nn.Conv2d(dim, dim, 3, bias=False)
        self.norm2 = norm(dim)

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """x [N, dim, H, W], gamma and beta [N, dim] -> [N, dim, H, W]."""
        out = self.relu1(self.norm1(self.conv1(self.pad1(x)), gamma, beta))
        return x + self.norm2(self.conv2(self.pad2(out)), gamma, beta)


def initialize(network: nn.Module) -> nn.Module:
    """Draw the weights of plain convolutions from N(0, 0.02) and norm scales from N(1, 0.02); biases and shifts are 0.

    Spectrally normalised layers keep PyTorch's own initial values. Returns the network.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, SPREAD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d | nn.InstanceNorm2d) and layer.weight is not None:
            nn.init.normal_(layer.weight, 1.0, SPREAD)
            nn.init.zeros_(layer.bias)
    return network


def require_size(network: str, x: Tensor, multiple: int, minimum: int, exact: int | None = None) -> None:
    """Refuse an input whose height or width the network cannot run.

    Args:
        network: name for the message.
        x: [N, C, H, W].
        multiple: both sides must be a multiple of this.
        minimum: both sides must be at least this.
        exact: the only side allowed, where the weights fix it.

    Raises ValueError: names the size given and the sizes allowed.
    """
    height, width = x.shape[-2:]
    if exact is not None:
        allowed, ok = f"exactly {exact}x{exact}", (height, width) == (exact, exact)
    else:
        allowed = f"height and width at least {minimum}"
        allowed += f" and multiples of {multiple}" if multiple > 1 else ""
        ok = all(side >= minimum and side % multiple == 0 for side in (height, width))
    if not ok:
        raise ValueError(f"{network}: cannot run an input of {height}x{width}; allowed: {allowed}")
