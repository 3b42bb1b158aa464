"""Formulas that MindSpore's CPU kernels make fast, as exact as PyTorch's and with its gradients.

MindSpore's arithmetic with shapes that differ, its resizing, and the gradients of both and of leaky ReLU take up to ten
times as long on CPU as what is used here. On other devices, and in other types than float32, plain formulas are used.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn, ops

from convert.devices import CPU
from ms_models.environment import device_in_use

NO_EPS = 1e-8  # the least that batch norm's kernel takes; 1 + 1e-8 is 1
SMALL = 2**18  # elements below which one slow kernel takes less time, and to compile, than several fast ones


class Kernels(Enum):
    """What float32 numbers are computed by on the CPU."""

    FASTEST = "the fastest"
    OF_FILES = "without those for training, which runtimes of files lack"
    PLAIN = "plain formulas, as on other devices"


_IN_USE = ContextVar("kernels", default=Kernels.FASTEST)


@contextmanager
def computing_by(kernels: Kernels) -> Iterator[None]:
    """Run and compile networks by these kernels."""
    before = _IN_USE.set(kernels)
    try:
        yield
    finally:
        _IN_USE.reset(before)


def _is_fast(dtype: Any) -> bool:
    return bool(dtype == ms.float32 and device_in_use() == CPU and _IN_USE.get() is not Kernels.PLAIN)


@ops.constexpr
def _has_fast_kernels(dtype: Any) -> bool:
    """Whether oneDNN's batch norm and convolution, exact only in float32 on the CPU, serve a type."""
    return _is_fast(dtype)


@ops.constexpr
def _has_fast_moments(dtype: Any) -> bool:
    """Whether batch norm's kernel for training serves a type."""
    return _is_fast(dtype) and _IN_USE.get() is Kernels.FASTEST


def _by_rows(x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
    """Return (x - mean) / sqrt(variance + eps) * scale + shift for x [N, C, H, W], the others [N * C]."""
    rows = x.reshape(1, -1, *x.shape[2:])
    return ops.BatchNorm(is_training=False, epsilon=eps)(rows, scale, shift, mean, variance)[0].reshape(x.shape)


def _affine_rows(x: Tensor, mean: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """See `channel_affine`, in float32 on CPU."""
    ones = ops.ones(mean.size, x.dtype)
    return _by_rows(x, scale.reshape(-1), shift.reshape(-1), mean.reshape(-1), ones, NO_EPS)


def pixel_mean(x: Tensor) -> Tensor:
    """Mean over the pixels: [N, C, H, W] -> [N, C]; first of lines, then of columns, for speed and for precision."""
    batch, channels, height, width = x.shape
    lines = x.reshape(batch * channels * height, width).mean(1)
    return lines.reshape(batch * channels, height).mean(1).reshape(batch, channels)


def _moments_of(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every group: [1, G, H, W] -> [G] each, by batch norm's kernel for training.

    It is exact on CPU where groups are small: over thousands of elements it is less exact than PyTorch's.
    """
    unused = ops.full((groups.shape[1],), 3.0, dtype=groups.dtype)  # scale, shift, and moving values, which stay
    results = ops.BatchNorm(is_training=True, momentum=0.0)(groups, unused, unused, unused, unused)
    return results[3], results[4]


def _moments_by_line(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every image's channels, from those of their lines: [N, C, H, W] -> [N * C] each."""
    batch, channels, height, width = x.shape
    rows = batch * channels
    means, variances = _moments_of(x.reshape(1, rows * height, 1, width))
    mean, between = _moments_of(means.reshape(1, rows, height, 1))
    return mean, between + variances.reshape(rows, height).mean(1)


class _Moments(nn.Cell):
    """Mean and biased variance of every channel of every image in float32 on CPU, with their gradient in one pass."""

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, H, W] -> [N, C] each."""
        mean, variance = _moments_by_line(x)
        return mean.reshape(x.shape[:2]), variance.reshape(x.shape[:2])

    def bprop(self, x: Tensor, out: tuple[Tensor, Tensor], dout: tuple[Tensor, Tensor]) -> tuple[Tensor]:
        """Gradient by x: (dmean + 2 * (x - mean) * dvariance) / count."""
        count = x.shape[2] * x.shape[3]
        return (_affine_rows(x, out[0], dout[1] * (2 / count), dout[0] / count),)


class _Affine(nn.Cell):
    """`channel_affine` in float32 on CPU, with its gradient made of the same kernel, whose own is wrong."""

    def construct(self, x: Tensor, mean: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """See `channel_affine`."""
        return _affine_rows(x, mean, scale, shift)

    def bprop(
        self, x: Tensor, mean: Tensor, scale: Tensor, shift: Tensor, out: Tensor, dout: Tensor
    ) -> tuple[Tensor, ...]:
        """Gradients by x, mean, scale and shift."""
        count, one, zero = x.shape[2] * x.shape[3], ops.ones(mean.shape, x.dtype), ops.zeros(mean.shape, x.dtype)
        by_shift = pixel_mean(dout) * count
        by_scale = pixel_mean(dout * _affine_rows(x, mean, one, zero)) * count
        return _affine_rows(dout, zero, scale, zero), -scale * by_shift, by_scale, by_shift


class _InstanceNorm(nn.Cell):
    """(x - mean) / sqrt(variance + eps) * scale + shift in float32 on CPU, with its gradient."""

    def construct(self, x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        """x [N, C, H, W], scale and shift [N * C] -> [N, C, H, W], mean [N * C], variance [N * C]."""
        mean, variance = _moments_by_line(x)
        return _by_rows(x, scale, shift, mean, variance, eps), mean, variance

    def bprop(
        self, x: Tensor, scale: Tensor, shift: Tensor, eps: float,
        out: tuple[Tensor, Tensor, Tensor], dout: tuple[Tensor, Tensor, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor, float]:  # fmt: skip
        """Gradients by x, scale and shift from that of the first output: the others are for this alone."""
        (_, mean, variance), grown = out, dout[0]
        count, (one, zero) = x.shape[2] * x.shape[3], (ops.ones(mean.shape, x.dtype), ops.zeros(mean.shape, x.dtype))
        centred = _by_rows(x, one, zero, mean, one, NO_EPS)
        by_shift, along = pixel_mean(grown).reshape(-1), pixel_mean(grown * centred).reshape(-1)
        across = _by_rows(centred, scale * along / (variance + eps), zero, zero, variance, eps)
        by_x = _by_rows(grown, scale, zero, by_shift, variance, eps) - across
        return by_x, along / ops.sqrt(variance + eps) * count, by_shift * count, 0.0


_moments, _affine, _instance_norm = _Moments(), _Affine(), _InstanceNorm()


def channel_affine(x: Tensor, mean: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return (x - mean) * scale + shift for x [N, C, H, W], the others [N, C].

    On CPU, batch norm's kernel for inference with variance 1 does it in one pass; MindSpore's arithmetic with shapes
    that differ takes ten times as long.
    """
    if _has_fast_kernels(x.dtype):
        return _affine(x, mean, scale, shift)
    return (x - mean[:, :, None, None]) * scale[:, :, None, None] + shift[:, :, None, None]


def channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every channel of every image: [N, C, H, W] -> [N, C] each."""
    if _has_fast_moments(x.dtype):
        return _moments(x)
    mean = pixel_mean(x)
    centred = channel_affine(x, mean, ops.ones(mean.shape, x.dtype), ops.zeros(mean.shape, x.dtype))
    return mean, pixel_mean(centred * centred)


def instance_norm(x: Tensor, eps: float, gamma: Tensor | None = None, beta: Tensor | None = None) -> Tensor:
    """Return (x - mean) / sqrt(biased variance + eps) * gamma + beta, of every channel of every image.

    Args:
        x: [N, C, H, W].
        eps: added to the variances.
        gamma, beta: [C] both, or neither.
    """
    if math.prod(x.shape) < SMALL or not 0 < eps <= 1 or not _has_fast_moments(x.dtype):
        layer_norm = ops.LayerNorm(begin_norm_axis=2, begin_params_axis=2, epsilon=eps)
        normal = layer_norm(x, ops.ones(x.shape[2:], x.dtype), ops.zeros(x.shape[2:], x.dtype))[0]
        if gamma is None or beta is None:
            return normal
        return normal * gamma.reshape(1, -1, 1, 1) + beta.reshape(1, -1, 1, 1)
    if gamma is None or beta is None:
        gamma, beta = ops.ones(x.shape[1], x.dtype), ops.zeros(x.shape[1], x.dtype)
    return _instance_norm(x, ops.tile(gamma, (x.shape[0],)), ops.tile(beta, (x.shape[0],)), eps)[0]


def mix_instance_and_layer(x: Tensor, rho: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
    """Return (rho * IN(x) + (1 - rho) * LN(x)) * gamma + beta, both norms with the unbiased variance.

    Both statistics follow from one pass, those of the layer being the mean and the spread of the channels'; and the
    whole is one scale and one shift for each channel.

    Args:
        x: [N, C, H, W].
        rho: [1, C, 1, 1].
        gamma, beta: [N, C] or [1, C, 1, 1].
        eps: added to the variances.
    """
    channels, count = x.shape[1], x.shape[2] * x.shape[3]
    mean, variance = channel_moments(x)  # [N, C]
    offset = mean - mean.mean(1, keep_dims=True)
    of_layer = (variance + offset * offset).mean(1, keep_dims=True) * (channels * count / (channels * count - 1))
    rho, gamma, beta = (vector.reshape(-1, channels) for vector in (rho, gamma, beta))
    by_instance = rho / ops.sqrt(variance * (count / (count - 1)) + eps)
    by_layer = (1 - rho) / ops.sqrt(of_layer + eps)
    return channel_affine(x, mean, (by_instance + by_layer) * gamma, by_layer * offset * gamma + beta)


def upsample_nearest(x: Tensor, factor: int) -> Tensor:
    """Repeat each pixel `factor` times in both directions: [N, C, H, W] -> [N, C, H * factor, W * factor].

    On CPU by a transposed convolution of each channel with ones, several times as fast as MindSpore's resizing.
    """
    batch, channels, height, width = x.shape
    size = (height * factor, width * factor)
    if not _has_fast_kernels(x.dtype):
        return ops.interpolate(x, size=size, mode="nearest")
    repeat = ops.Conv2DTranspose(channels, factor, pad_mode="valid", stride=factor, group=channels)
    return repeat(x, ops.ones((channels, 1, factor, factor), x.dtype), (batch, channels, *size))


def leaky_slope(x: Tensor, slope: float) -> Tensor:
    """Return 1 where x > 0, else `slope`, at most 1; several times as fast on CPU as a choice between two tensors."""
    return ops.clamp((x > 0).astype(x.dtype), slope)


class LeakyReLU(nn.LeakyReLU):
    """Leaky ReLU whose gradient is PyTorch's: the slope at 0, where MindSpore's own takes the middle of both sides.

    MindSpore's own gradient also takes ten times as long on CPU.
    """

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """Gradient by x."""
        return (dout * leaky_slope(x, self.alpha),)
