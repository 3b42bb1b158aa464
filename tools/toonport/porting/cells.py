"""What MindSpore lacks or computes otherwise than PyTorch, for the file of layers of a ported network.

Never imported by this project's programs: what a network needs is copied out of this file and of `ms_models/layers.py`.
"""

import math

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from ms_models.layers import EPS, normalize
from toonport.porting.cells_moving import padded


def elu(x: Tensor, alpha: float) -> Tensor:
    """Exponential linear unit: x above 0, alpha * (exp(x) - 1) below; any shape -> the same shape."""
    return ops.relu(x) + alpha * ops.expm1(-ops.relu(-x))


class ELU(nn.Cell):
    """Exponential linear unit of any alpha; MindSpore's kernel on CPU knows 1 only."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def construct(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return elu(x, self.alpha)


def selu(x: Tensor) -> Tensor:
    """Scaled exponential linear unit; MindSpore's own has a wrong gradient on CPU. Any shape -> the same shape."""
    return 1.0507009873554805 * elu(x, 1.6732632423543772)


class SELU(nn.Cell):
    """Scaled exponential linear unit."""

    def construct(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return selu(x)


def glu(x: Tensor, axis: int = -1) -> Tensor:
    """Gated linear unit: the first half of an axis times the sigmoid of the second."""
    first, gate = ops.chunk(x, 2, axis)
    return first * ops.sigmoid(gate)


def layer_norm(x: Tensor, axes: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Normalise over the last `axes` axes, then scale and shift; any shape -> the same shape."""
    normal = normalize(x, x.ndim - axes, eps)
    if weight is not None:
        normal = normal * weight
    return normal if bias is None else normal + bias


class LayerNorm(nn.Cell):
    """Layer norm that may lack its scale or shift.

    State: gamma and beta [normalized_shape], where there are any.
    """

    def __init__(
        self, normalized_shape: tuple[int, ...], epsilon: float = EPS, has_weight: bool = True, has_bias: bool = True
    ) -> None:
        super().__init__()
        self.axes, self.epsilon = len(normalized_shape), epsilon
        self.gamma = Parameter(ops.ones(normalized_shape, ms.float32)) if has_weight else None
        self.beta = Parameter(ops.zeros(normalized_shape, ms.float32)) if has_bias else None

    def construct(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return layer_norm(x, self.axes, self.gamma, self.beta, self.epsilon)


def rms_norm(x: Tensor, axes: int, weight: Tensor | None, eps: float) -> Tensor:
    """Divide by the root of the mean square over the last `axes` axes, then scale; any shape -> the same shape."""
    over = tuple(range(x.ndim - axes, x.ndim))
    normal = x * ops.rsqrt(ops.mean(ops.square(x), over, True) + eps)
    return normal if weight is None else normal * weight


def group_norm(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Normalise each of the groups of channels of [N, C, ...], then scale and shift; the shape stays."""
    normal = normalize(x.reshape(x.shape[0], groups, -1), 2, eps).reshape(x.shape)
    each = (1, x.shape[1]) + (1,) * (x.ndim - 2)
    if weight is not None:
        normal = normal * weight.reshape(each)
    return normal if bias is None else normal + bias.reshape(each)


class GroupNorm(nn.Cell):
    """Group norm of tensors with any number of axes.

    State: gamma and beta [C] where `affine`, else none.
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = EPS, affine: bool = True) -> None:
        super().__init__()
        self.num_groups, self.eps = num_groups, eps
        self.gamma = Parameter(ops.ones(num_channels, ms.float32)) if affine else None
        self.beta = Parameter(ops.zeros(num_channels, ms.float32)) if affine else None

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, ...] -> [N, C, ...]."""
        return group_norm(x, self.num_groups, self.gamma, self.beta, self.eps)


class InstanceNorm(nn.Cell):
    """Instance norm without running statistics, of tensors with any number of axes.

    State: gamma and beta [C] where `affine`, else none.
    """

    def __init__(self, num_features: int, eps: float = EPS, affine: bool = False) -> None:
        super().__init__()
        self.eps = eps
        self.gamma = Parameter(ops.ones(num_features, ms.float32)) if affine else None
        self.beta = Parameter(ops.zeros(num_features, ms.float32)) if affine else None

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, ...] -> [N, C, ...]."""
        return group_norm(x, x.shape[1], self.gamma, self.beta, self.eps)


class TrackedInstanceNorm(nn.Cell):
    """Instance norm that keeps running statistics, which it uses in eval mode.

    State: moving_mean and moving_variance [C]; gamma and beta [C] where `affine`.
    """

    def __init__(self, num_features: int, eps: float = EPS, momentum: float = 0.9, affine: bool = False) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.gamma = Parameter(ops.ones(num_features, ms.float32)) if affine else None
        self.beta = Parameter(ops.zeros(num_features, ms.float32)) if affine else None
        self.moving_mean = Parameter(ops.zeros(num_features, ms.float32), requires_grad=False)
        self.moving_variance = Parameter(ops.ones(num_features, ms.float32), requires_grad=False)

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, ...] -> [N, C, ...]."""
        if not self.training:
            return normalized_by(x, self.moving_mean, self.moving_variance, self.gamma, self.beta, self.eps)
        flat = ops.stop_gradient(x).reshape(x.shape[0], x.shape[1], -1)
        mean, variance = ops.mean(flat, (0, 2)), ops.mean(ops.var(flat, 2, 1), 0)
        ops.assign(self.moving_mean, self.momentum * self.moving_mean + (1 - self.momentum) * mean)
        ops.assign(self.moving_variance, self.momentum * self.moving_variance + (1 - self.momentum) * variance)
        return group_norm(x, x.shape[1], self.gamma, self.beta, self.eps)


def normalized_by(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Normalise [N, C, ...] by the statistics [C] of its channels, then scale and shift; the shape stays."""
    each = (1, x.shape[1]) + (1,) * (x.ndim - 2)
    normal = (x - mean.reshape(each)) * ops.rsqrt(variance.reshape(each) + eps)
    if weight is not None:
        normal = normal * weight.reshape(each)
    return normal if bias is None else normal + bias.reshape(each)


def batch_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Normalise the channels of [N, C, ...] over the batch, then scale and shift; the shape stays."""
    turned = x.swapaxes(0, 1)
    normal = normalize(turned.reshape(x.shape[1], -1), 1, eps).reshape(turned.shape).swapaxes(0, 1)
    each = (1, x.shape[1]) + (1,) * (x.ndim - 2)
    if weight is not None:
        normal = normal * weight.reshape(each)
    return normal if bias is None else normal + bias.reshape(each)


class BatchNorm(nn.Cell):
    """Batch norm that may lack its scale and shift, or its running statistics.

    State: moving_mean and moving_variance [C] where `tracked`; gamma and beta [C] where `affine`.
    """

    def __init__(
        self, num_features: int, eps: float = EPS, momentum: float = 0.9, affine: bool = True, tracked: bool = True
    ) -> None:
        super().__init__()
        self.eps, self.momentum, self.tracked = eps, momentum, tracked
        self.gamma = Parameter(ops.ones(num_features, ms.float32)) if affine else None
        self.beta = Parameter(ops.zeros(num_features, ms.float32)) if affine else None
        if tracked:
            self.moving_mean = Parameter(ops.zeros(num_features, ms.float32), requires_grad=False)
            self.moving_variance = Parameter(ops.ones(num_features, ms.float32), requires_grad=False)

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, ...] -> [N, C, ...]."""
        if self.tracked and not self.training:
            return normalized_by(x, self.moving_mean, self.moving_variance, self.gamma, self.beta, self.eps)
        if self.tracked:
            flat = ops.stop_gradient(x).swapaxes(0, 1).reshape(x.shape[1], -1)
            mean, variance = ops.mean(flat, 1), ops.var(flat, 1, 1)
            ops.assign(self.moving_mean, self.momentum * self.moving_mean + (1 - self.momentum) * mean)
            ops.assign(self.moving_variance, self.momentum * self.moving_variance + (1 - self.momentum) * variance)
        return batch_norm(x, self.gamma, self.beta, self.eps)


class SeriesBatchNorm1d(nn.BatchNorm2d):
    """Batch norm of series; MindSpore's own takes vectors only."""

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, L] -> [N, C, L]."""
        return super().construct(x.unsqueeze(-1)).squeeze(-1)


def local_response_norm(x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
    """Divide by (k + alpha * mean square of `size` neighbouring channels) ** beta; [N, C, ...] stays."""
    squares = padded(ops.square(x).reshape(*x.shape[:2], -1).swapaxes(1, 2), (size // 2, (size - 1) // 2))
    window = squares[..., : x.shape[1]]
    for start in range(1, size):
        window = window + squares[..., start : start + x.shape[1]]
    return x / (k + alpha / size * window.swapaxes(1, 2).reshape(x.shape)) ** beta


class LocalResponseNorm(nn.Cell):
    """Local response norm over neighbouring channels."""

    def __init__(self, size: int, alpha: float, beta: float, k: float) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, ...] -> [N, C, ...]."""
        return local_response_norm(x, self.size, self.alpha, self.beta, self.k)


def unit_length(x: Tensor, axis: int, eps: float) -> Tensor:
    """Divide by the length along an axis, which counts as `eps` at least; the shape stays."""
    squares = ops.sum(ops.square(x), axis, keepdim=True)
    return x / ops.sqrt(ops.maximum(squares, ops.full_like(squares, eps * eps)))


def variance(x: Tensor, axes: int | tuple[int, ...] | None, ddof: int, keepdims: bool) -> Tensor:
    """Variance over axes, or over all, with the divisor count - ddof; MindSpore's has no gradient where it is 0."""
    over = tuple(range(x.ndim)) if axes is None else (axes,) if isinstance(axes, int) else axes
    count = 1
    for axis in over:
        count *= x.shape[axis]
    return ops.sum(ops.square(x - ops.mean(x, over, True)), over, keepdim=keepdims) / (count - ddof)


def root(x: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0, as that of PyTorch's norms and deviations; any shape -> the same shape."""
    positive = x > 0
    return ops.where(positive, ops.sqrt(ops.where(positive, x, ops.ones_like(x))), ops.zeros_like(x))


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Attention: query [..., L, E], key [..., S, E], value [..., S, V] -> [..., L, V].

    `mask` [..., L, S] is added to the scores, or says by True where there is attention.
    """
    scores = ops.matmul(query * (scale or query.shape[-1] ** -0.5), key.swapaxes(-2, -1))  # [..., L, S]
    if mask is not None and mask.dtype == ms.bool_:
        scores = ops.masked_fill(scores, ops.logical_not(mask), -math.inf)
    elif mask is not None:
        scores = scores + mask
    return ops.matmul(ops.softmax(scores, -1), value)


def random_mask(x: Tensor, keep: float) -> Tensor:
    """Ones with a probability, and zeros, in the shape of a tensor."""
    return ops.dropout(ops.ones_like(x), 1 - keep, training=True) * keep


def with_elements(x: Tensor, index: tuple[int | slice, ...], value: Tensor | float) -> Tensor:
    """Return a tensor with other values at some places; the one that is given stays."""
    changed = x.copy()
    changed[index] = value
    return changed


def frozen(layer: nn.Cell, *names: str) -> nn.Cell:
    """Return a layer of which the parameters with these names are not trained; of no names, none is."""
    for parameter in layer.get_parameters():
        if not names or parameter.name in names:
            parameter.requires_grad = False
    return layer


def not_ported(what: str) -> Tensor:
    """Raise: stands for what could not be ported."""
    raise NotImplementedError(what)
