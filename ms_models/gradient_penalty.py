"""The gradient penalty of WGAN-GP, correct to second order.

Paper: WGAN-GP (arXiv 1704.00028).

MindSpore's gradient of a gradient is wrong or fails on CPU (matmul, softmax, layer norm), and differs between its
modes and versions. It is not needed: with g the gradient of the summed logits with respect to the points, and c the
gradient of the penalty with respect to g, the gradient of the penalty with respect to the weights is that of the
directional derivative of the summed logits along c, c held constant. `tangent` computes that derivative with
ordinary operations, so that one ordinary backward pass is enough.
"""

import mindspore as ms
from mindspore import Tensor, nn, ops

from ms_models.kernels import leaky_slope
from ms_models.layers import InstanceNorm2d
from ms_models.sagan_cyclegan import Self_Attention, pixels
from ms_models.spectral_wrapper import SpectralNorm

NORM_SHIFT = 1e-16


def input_gradient(discriminator: nn.Cell, points: Tensor) -> Tensor:
    """Gradient of the summed logits with respect to the points, [N, 3, H, W] each."""

    def summed(inputs: Tensor) -> Tensor:
        """What is differentiated."""
        return discriminator(inputs).sum()

    return ms.grad(summed)(points)


def gradient_penalty(discriminator: nn.Cell, points: Tensor, slope: Tensor, weight: float = 10.0) -> Tensor:
    """Return weight * mean((|gradient of the summed logits at a point + 1e-16| - 1) ** 2), to be differentiated.

    Args:
        discriminator: pictures -> logits of any shape; has a `chain` of layers that `tangent` knows.
        points: [N, 3, H, W] where the gradient is taken.
        slope: that gradient, see `input_gradient`; the networks' last pass, whose singular vectors are used here.
        weight: factor of the penalty.
    """
    shifted = slope + NORM_SHIFT
    norms = ops.sqrt((shifted * shifted).sum((1, 2, 3), keepdims=True))  # [N, 1, 1, 1]
    penalty = weight * ((norms - 1) ** 2).mean()
    x, dx = points, 2 * weight / len(points) * (norms - 1) * shifted / norms
    for layer in discriminator.chain():
        x, dx = tangent(layer, x, dx)
    derivative = dx.sum()
    return penalty + (derivative - ops.stop_gradient(derivative))


def tangent(layer: nn.Cell, x: Tensor, dx: Tensor) -> tuple[Tensor, Tensor]:
    """Return a layer's output at `x` and its directional derivative along `dx`, both shaped like the output.

    Raises TypeError: a layer whose derivative is not written down here.
    """
    if isinstance(layer, nn.SequentialCell):
        for one in layer:
            x, dx = tangent(one, x, dx)
        return x, dx
    for kind, rule in RULES:
        if isinstance(layer, kind):
            return rule(layer, x, dx)
    raise TypeError(f"no directional derivative for layers of type {type(layer).__name__}; add it to RULES")


def _conv(layer: nn.Conv2d, x: Tensor, dx: Tensor) -> tuple[Tensor, Tensor]:
    return layer(x), ops.conv2d(dx, layer.weight, None, layer.stride, layer.pad_mode, layer.padding)


def _spectral(layer: SpectralNorm, x: Tensor, dx: Tensor) -> tuple[Tensor, Tensor]:
    weight = layer.resting_weight()
    return layer.module(x, weight), layer.module.convolve(dx, weight)


def _leaky(layer: nn.LeakyReLU, x: Tensor, dx: Tensor) -> tuple[Tensor, Tensor]:
    return layer(x), dx * leaky_slope(x, layer.alpha)


def _instance_norm(layer: InstanceNorm2d, x: Tensor, dx: Tensor) -> tuple[Tensor, Tensor]:
    out, moved = layer(x), dx - dx.mean((2, 3), keep_dims=True)
    centred = x - x.mean((2, 3), keep_dims=True)
    spread = ops.sqrt((centred * centred).mean((2, 3), keep_dims=True) + layer.eps)
    return out, (moved - out * (out * moved).mean((2, 3), keep_dims=True)) / spread


def _attention(layer: Self_Attention, x: Tensor, dx: Tensor) -> tuple[Tensor, Tensor]:
    (f, df), (g, dg), (h, dh) = (
        tuple(pixels(one) for one in _conv(conv, x, dx)) for conv in (layer.conv_f, layer.conv_g, layer.conv_h)
    )
    attention = layer.softmax(ops.bmm(f.swapaxes(1, 2), g))  # [N, P, P]
    dscore = ops.bmm(df.swapaxes(1, 2), g) + ops.bmm(f.swapaxes(1, 2), dg)
    dattention = attention * (dscore - (attention * dscore).sum(-1, keepdims=True))
    out = ops.bmm(h, attention.swapaxes(1, 2)).reshape(x.shape)
    dout = ops.bmm(dh, attention.swapaxes(1, 2)) + ops.bmm(h, dattention.swapaxes(1, 2))
    return layer.gamma * out + x, layer.gamma * dout.reshape(x.shape) + dx


RULES = (
    (nn.Conv2d, _conv),
    (SpectralNorm, _spectral),
    (nn.LeakyReLU, _leaky),
    (InstanceNorm2d, _instance_norm),
    (Self_Attention, _attention),
)
