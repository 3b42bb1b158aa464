"""Layers that the MindSpore networks share; the twins of `torch_ref/layers.py` and what MindSpore lacks.

MindSpore has no instance norm on CPU and no spectral norm anywhere; both are built here. All layers run in PyNative and
in graph mode, on CPU, GPU and Ascend: the device is the caller's choice.
"""

import math
from collections.abc import Callable

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import HeUniform, Normal, Uniform, initializer

from ms_models.compact import ReflectionPad2d, conv2d, dense, sequence
from ms_models.kernels import instance_norm, mix_instance_and_layer, upsample_nearest

EPS = 1e-5
SPREAD = 0.02  # standard deviation of fresh weights


def channel_mean(x: Tensor) -> Tensor:
    """Mean over the pixels of each channel: [N, C, H, W] -> [N, C]."""
    return x.mean((2, 3))


def channel_max(x: Tensor) -> Tensor:
    """Maximum over the pixels of each channel: [N, C, H, W] -> [N, C]; ties send the gradient to the first."""
    return ops.adaptive_max_pool2d(x, (1, 1)).reshape(x.shape[:2])


def normalize(x: Tensor, begin_axis: int, eps: float) -> Tensor:
    """Return (x - mean) / sqrt(biased variance + eps), both taken over the axes from `begin_axis` on; one kernel."""
    shape = x.shape[begin_axis:]
    layer_norm = ops.LayerNorm(begin_norm_axis=begin_axis, begin_params_axis=begin_axis, epsilon=eps)
    return layer_norm(x, ops.ones(shape, x.dtype), ops.zeros(shape, x.dtype))[0]


class InstanceNorm2d(nn.Cell):
    """Instance norm without running statistics: biased variance of the current input.

    State: gamma and beta [C] where `affine`, else none.
    """

    def __init__(self, num_features: int, eps: float = EPS, affine: bool = False) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        self.gamma = Parameter(ops.ones(num_features, ms.float32)) if affine else None
        self.beta = Parameter(ops.zeros(num_features, ms.float32)) if affine else None

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        return instance_norm(x, self.eps, self.gamma, self.beta)


class Upsample(nn.Cell):
    """Nearest-neighbour up-sampling by a whole factor."""

    def __init__(self, scale_factor: int = 2) -> None:
        super().__init__()
        self.scale_factor = scale_factor

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H * scale_factor, W * scale_factor]."""
        return upsample_nearest(x, self.scale_factor)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent to float32 precision: any shape -> the same shape, values in [-1, 1].

    MindSpore's own CPU kernel is off by up to 1e-4 once |x| exceeds about 4 and exact to rounding only
    near 0; away from 0, expm1(2x) / (expm1(2x) + 2) is used, which is exact to rounding there.
    """
    limit = 5.0 if x.dtype == ms.float16 else 10.0  # beyond it the result is 1; float16 ends at exp(11)
    grown = ops.expm1(2 * ops.clamp(x, -limit, limit))
    return ops.where(ops.abs(x) < 0.3, ops.tanh(x), grown / (grown + 2))


class Tanh(nn.Cell):
    """Hyperbolic tangent to float32 precision, see `tanh`."""

    def construct(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape, values in [-1, 1]."""
        return tanh(x)


class AdaLIN(nn.Cell):
    """Adaptive layer-instance normalisation: scale and shift come from outside.

    State: rho [1, C, 1, 1], starts at 0.9.
    """

    def __init__(self, num_features: int, eps: float = EPS) -> None:
        super().__init__()
        self.eps = eps
        self.rho = Parameter(ops.full((1, num_features, 1, 1), 0.9, dtype=ms.float32))

    def construct(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """x [N, C, H, W], gamma and beta [N, C] -> [N, C, H, W]."""
        return mix_instance_and_layer(x, self.rho, gamma, beta, self.eps)


class LIN(nn.Cell):
    """Layer-instance normalisation with its own scale and shift.

    State: rho (starts at 0), gamma (1), beta (0), each [1, C, 1, 1].
    """

    def __init__(self, num_features: int, eps: float = EPS) -> None:
        super().__init__()
        self.eps = eps
        self.rho = Parameter(ops.zeros((1, num_features, 1, 1), ms.float32))
        self.gamma = Parameter(ops.ones((1, num_features, 1, 1), ms.float32))
        self.beta = Parameter(ops.zeros((1, num_features, 1, 1), ms.float32))

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        return mix_instance_and_layer(x, self.rho, self.gamma, self.beta, self.eps)


class SoftAdaLIN(nn.Cell):
    """AdaLIN whose scale and shift are a learned mix of content and style vectors.

    gamma = (1 - w_gamma) * s_gamma(style) + w_gamma * c_gamma(content); beta alike.
    State: w_gamma and w_beta [1, D] start at 0 (style only).
    """

    def __init__(self, num_features: int, eps: float = EPS) -> None:
        super().__init__()
        self.norm = AdaLIN(num_features, eps)
        self.w_gamma = Parameter(ops.zeros((1, num_features), ms.float32))
        self.w_beta = Parameter(ops.zeros((1, num_features), ms.float32))
        self.c_gamma = _content_head(num_features)
        self.c_beta = _content_head(num_features)
        self.s_gamma = dense(num_features, num_features)
        self.s_beta = dense(num_features, num_features)

    def construct(self, x: Tensor, content: Tensor, style: Tensor) -> Tensor:
        """x [N, D, H, W], content and style [N, D] -> [N, D, H, W]."""
        gamma = (1 - self.w_gamma) * self.s_gamma(style) + self.w_gamma * self.c_gamma(content)  # [N, D]
        beta = (1 - self.w_beta) * self.s_beta(style) + self.w_beta * self.c_beta(content)  # [N, D]
        return self.norm(x, gamma, beta)


def _content_head(features: int) -> nn.SequentialCell:
    return sequence(dense(features, features), nn.ReLU(), dense(features, features))


class ResnetBlock(nn.Cell):
    """Residual block of the encoders: x + norm(conv([dropout] ReLU(norm(conv(x))))), reflection padding."""

    def __init__(
        self, dim: int, norm: Callable[[int], nn.Cell] = InstanceNorm2d, bias: bool = False, dropout: bool = False
    ) -> None:
        super().__init__()
        self.conv_block = sequence(
            ReflectionPad2d(1),
            conv2d(dim, dim, 3, bias=bias),
            norm(dim),
            nn.ReLU(),
            *([nn.Dropout(p=0.5)] if dropout else []),
            ReflectionPad2d(1),
            conv2d(dim, dim, 3, bias=bias),
            norm(dim),
        )

    def construct(self, x: Tensor) -> Tensor:
        """[N, dim, H, W] -> [N, dim, H, W]."""
        return x + self.conv_block(x)


def encoding(dim_in: int, dim_out: int, kernel: int = 3, stride: int = 2) -> list[nn.Cell]:
    """Layers of the encoders that double the channels and halve the sides: padding, convolution, norm, ReLU."""
    conv = conv2d(dim_in, dim_out, kernel, stride, bias=False)
    return [ReflectionPad2d(kernel // 2), conv, InstanceNorm2d(dim_out), nn.ReLU()]


def decoding(dim_in: int, dim_out: int) -> list[nn.Cell]:
    """Layers of the decoders that double the sides: nearest neighbours, padding, convolution, LIN, ReLU."""
    conv = conv2d(dim_in, dim_out, 3, bias=False)
    return [Upsample(), ReflectionPad2d(1), conv, LIN(dim_out), nn.ReLU()]


class ResnetAdaLINBlock(nn.Cell):
    """Residual block of the U-GAT-IT decoder: both norms are AdaLIN with the same gamma and beta.

    `norm` is another adaptive norm, with its own two vectors.
    """

    def __init__(self, dim: int, norm: Callable[[int], nn.Cell] = AdaLIN) -> None:
        super().__init__()
        self.pad1 = ReflectionPad2d(1)
        self.conv1 = conv2d(dim, dim, 3, bias=False)
        self.norm1 = norm(dim)
        self.relu1 = nn.ReLU()
        self.pad2 = ReflectionPad2d(1)
        self.conv2 = conv2d(dim, dim, 3, bias=False)
        self.norm2 = norm(dim)

    def construct(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """x [N, dim, H, W], gamma and beta [N, dim] -> [N, dim, H, W]."""
        out = self.relu1(self.norm1(self.conv1(self.pad1(x)), gamma, beta))
        return x + self.norm2(self.conv2(self.pad2(out)), gamma, beta)


class SpectralNorm(nn.Cell):
    """What the spectrally normalised layers share: the weight, its singular vectors, the power iteration.

    In train mode every call does one power iteration and stores u and v; in eval mode u and v rest.
    The weight used is weight_orig / sigma with sigma = u . (W v), W being weight_orig flattened to
    [dim_out, rest]; the gradient flows through sigma with u and v constant. Equal, name for name, to
    torch.nn.utils.spectral_norm.

    State: bias [dim_out] (optional), weight_orig, weight_u [dim_out], weight_v [rest].
    """

    def __init__(self, shape: tuple[int, ...], bias: bool, eps: float = 1e-12) -> None:
        super().__init__()
        self.eps = eps
        rest = math.prod(shape[1:])
        bound = 1 / math.sqrt(rest)
        self.bias = Parameter(initializer(Uniform(bound), (shape[0],))) if bias else None
        self.weight_orig = Parameter(initializer(HeUniform(math.sqrt(5)), shape))
        self.weight_u = Parameter(Tensor(random_unit(shape[0])), requires_grad=False)
        self.weight_v = Parameter(Tensor(random_unit(rest)), requires_grad=False)

    def normalized_weight(self) -> Tensor:
        """Return weight_orig / sigma; moves u and v first when in train mode."""
        matrix = self.weight_orig.reshape(self.weight_orig.shape[0], -1)  # [dim_out, rest]
        u, v = self.weight_u, self.weight_v
        if self.training:
            u, v = self.power_iteration(ops.stop_gradient(matrix), u, v)
            ops.assign(self.weight_v, v)
            ops.assign(self.weight_u, u)
        sigma = ops.matmul(ops.stop_gradient(u), ops.matmul(matrix, ops.stop_gradient(v)))
        return self.weight_orig / sigma

    def power_iteration(self, matrix: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """One step towards the largest singular vectors: v from u, then u from v."""
        v = self._unit(ops.matmul(matrix.T, u))
        return self._unit(ops.matmul(matrix, v)), v

    def _unit(self, vector: Tensor) -> Tensor:
        norm = ops.sqrt((vector * vector).sum())
        return vector / ops.maximum(norm, ops.full_like(norm, self.eps))


def random_unit(size: int) -> np.ndarray:
    """Return a random float32 vector [size] of length 1."""
    vector = np.random.standard_normal(size)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class SpectralNormConv2d(SpectralNorm):
    """Spectrally normalised convolution, zero-padded on all sides."""

    def __init__(
        self, dim_in: int, dim_out: int, kernel: int, stride: int = 1, bias: bool = True, padding: int = 0
    ) -> None:
        super().__init__((dim_out, dim_in, kernel, kernel), bias)
        self.stride, self.padding = stride, padding

    def construct(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, dim_out, H', W']."""
        out = ops.conv2d(x, self.normalized_weight(), None, self.stride, "pad", self.padding)
        return out if self.bias is None else out + self.bias.reshape(1, -1, 1, 1)


class ParametrizedConv2d(SpectralNormConv2d):
    """Convolution with torch.nn.utils.parametrizations.spectral_norm, which moves u first.

    PyTorch's two forms of spectral norm differ: this one takes u from the stored v and then v from the new u.
    """

    def power_iteration(self, matrix: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """One step towards the largest singular vectors: u from v, then v from u."""
        u = self._unit(ops.matmul(matrix, v))
        return u, self._unit(ops.matmul(matrix.T, u))


class SpectralNormLinear(SpectralNorm):
    """Spectrally normalised linear layer."""

    def __init__(self, dim_in: int, dim_out: int, bias: bool = True) -> None:
        super().__init__((dim_out, dim_in), bias)

    def construct(self, x: Tensor) -> Tensor:
        """[N, dim_in] -> [N, dim_out]."""
        out = ops.matmul(x, self.normalized_weight().T)
        return out if self.bias is None else out + self.bias


def conv_transpose2d(
    dim_in: int, dim_out: int, kernel: int, stride: int, padding: int, output_padding: int = 0, bias: bool = True
) -> nn.Conv2dTranspose:
    """Return a transposed convolution; arguments are PyTorch's.

    MindSpore's own output_padding leaves zeros in the last rows and columns, so the padding is made smaller there
    instead, which is the same by definition.
    """
    sides = (padding, padding - output_padding) * 2
    return nn.Conv2dTranspose(dim_in, dim_out, kernel, stride, pad_mode="pad", padding=sides, has_bias=bias)


def initialize(network: nn.Cell) -> nn.Cell:
    """Draw the weights of plain convolutions from N(0, 0.02) and norm scales from N(1, 0.02); biases and shifts are 0.

    Spectrally normalised layers keep PyTorch's own initial values. Returns the network.
    """
    for _, layer in network.cells_and_names():
        if isinstance(layer, nn.Conv2d | nn.Conv2dTranspose):
            _draw(layer.weight, 0.0)
            if layer.has_bias:
                layer.bias.set_data(ops.zeros_like(layer.bias))
        elif isinstance(layer, nn.BatchNorm2d) or (isinstance(layer, InstanceNorm2d) and layer.gamma is not None):
            _draw(layer.gamma, 1.0)
    return network


def _draw(parameter: Parameter, mean: float) -> None:
    parameter.set_data(initializer(Normal(SPREAD, mean), parameter.shape, parameter.dtype))


def require_size(network: str, x: Tensor, multiple: int, minimum: int, exact: int | None = None) -> None:
    """Refuse an input whose height or width the network cannot run."""
    height, width = x.shape[2:]
    if exact is not None:
        allowed, ok = f"exactly {exact}x{exact}", height == exact and width == exact
    else:
        allowed = f"height and width at least {minimum}"
        if multiple > 1:
            allowed = f"{allowed} and multiples of {multiple}"
        ok = height >= minimum and width >= minimum and height % multiple == 0 and width % multiple == 0
    if not ok:
        raise ValueError(f"{network}: cannot run an input of {height}x{width}; allowed: {allowed}")
