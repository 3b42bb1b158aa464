"""How the bugs of `mutations.py` are planted: changes to a MindSpore network, and patches of its layers.

Functions that take a cell change it in place; the others return such a function, or a context manager factory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np


def layers(cell: Any, kind: str) -> list[tuple[str, Any]]:
    """All layers of a class name, with their paths."""
    return [(path, layer) for path, layer in cell.cells_and_names() if type(layer).__name__ == kind]


def first(cell: Any, kind: str) -> Any:
    """The first layer of a class name."""
    return layers(cell, kind)[0][1]


def method(owner: str, name: str, replacement: Any) -> Callable[[], Any]:
    """Patch factory: replace `name` of an object given as "module" or "module:Class"."""

    def start() -> Any:
        from importlib import import_module

        module, _, attribute = owner.partition(":")
        target = import_module(module)
        return mock.patch.object(getattr(target, attribute) if attribute else target, name, replacement)

    return start


def set_parameter(cell: Any, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace a parameter's values by a function of them."""
    import mindspore

    parameter = dict(cell.parameters_and_names())[name]
    parameter.set_data(mindspore.Tensor(np.ascontiguousarray(change(parameter.asnumpy()))))


def replace(cell: Any, path: str, layer: Any) -> None:
    """Put another layer in the place of the one at `path`."""
    parent, _, leaf = path.rpartition(".")
    holder = dict(cell.cells_and_names())[parent]
    if leaf.isdigit():
        holder[int(leaf)] = layer
    else:
        setattr(holder, leaf, layer)


# --- normalisation ---------------------------------------------------------------------------------------------


def biased(x: Any, begin_axis: int, eps: float) -> Any:
    """Normalise with the biased variance where the unbiased one is asked for."""
    from ms_models.layers import normalize

    return normalize(x, begin_axis, eps)


def mix_biased(instance: bool, layer: bool) -> Callable[..., Any]:
    """Mix of instance and layer norm with one or both branches biased."""

    def mix(x: Any, rho: Any, eps: float = 1e-5) -> Any:
        from ms_models import layers

        by_instance = (layers.normalize if instance else layers.normalize_unbiased)(x, 2, eps)
        by_layer = (layers.normalize if layer else layers.normalize_unbiased)(x, 1, eps)
        return rho * by_instance + (1 - rho) * by_layer

    return mix


def mix_swapped(x: Any, rho: Any, eps: float = 1e-5) -> Any:
    """Mix with rho and 1 - rho swapped."""
    from ms_models.layers import normalize_unbiased

    return (1 - rho) * normalize_unbiased(x, 2, eps) + rho * normalize_unbiased(x, 1, eps)


def mix_no_gradient_through_mean(x: Any, rho: Any, eps: float = 1e-5) -> Any:
    """Mix whose instance branch lets no gradient through its statistics."""
    from mindspore import ops

    from ms_models.layers import normalize_unbiased

    mean = ops.stop_gradient(x.mean((2, 3), keep_dims=True))
    centred = x - mean
    count = x.shape[2] * x.shape[3]
    spread = ops.sqrt(ops.stop_gradient((centred * centred).sum((2, 3), keepdims=True) / (count - 1)) + eps)
    return rho * (centred / spread) + (1 - rho) * normalize_unbiased(x, 1, eps)


def eps(kind: str, factor: float) -> Callable[[Any], None]:
    """Multiply the epsilon of all layers of a kind."""

    def change(cell: Any) -> None:
        for _, layer in layers(cell, kind):
            layer.eps = layer.eps * factor

    return change


def batch_norm_for_instance_norm(cell: Any) -> None:
    """Take the statistics over the batch, too."""
    from mindspore import ops

    def construct(self: Any, x: Any) -> Any:
        mean = x.mean((0, 2, 3), keep_dims=True)
        centred = x - mean
        return centred * ops.rsqrt((centred * centred).mean((0, 2, 3), keep_dims=True) + self.eps)

    for _, layer in layers(cell, "InstanceNorm2d"):
        layer.construct = construct.__get__(layer)


def no_rho_limit(cell: Any) -> None:
    """Leave a rho above its range."""
    set_parameter(cell, "UpBlock1_1.norm1.rho", lambda value: value + 0.2)


def fresh_rho(cell: Any) -> None:
    """Put every rho back to its initial value."""
    for name, _ in cell.parameters_and_names():
        if name.endswith("rho"):
            set_parameter(cell, name, lambda value: np.full_like(value, 0.9))


# --- padding, resizing, pooling, activations -------------------------------------------------------------------


def pad_mode(mode: str) -> Callable[[Any], None]:
    """Pad with another mode than reflection."""

    def change(cell: Any) -> None:
        from mindspore import ops

        for _, layer in layers(cell, "ReflectionPad2d"):
            amount = int(np.asarray(layer.padding).max())

            def construct(self: Any, x: Any, amount: int = amount) -> Any:
                return ops.pad(x, (amount,) * 4, mode=mode)

            layer.construct = construct.__get__(layer)

    return change


def pad_one_side(cell: Any) -> None:
    """Pad one layer on the left and top only."""
    from mindspore import ops

    layer = first(cell, "ReflectionPad2d")
    amount = int(np.asarray(layer.padding).max())

    def construct(self: Any, x: Any) -> Any:
        return ops.pad(x, (2 * amount, 0, 2 * amount, 0), mode="reflect")

    layer.construct = construct.__get__(layer)


def bilinear(align_corners: bool) -> Callable[[], Any]:
    """Interpolate instead of repeating pixels."""

    def upsample(x: Any, factor: int) -> Any:
        from mindspore import ops

        size = (x.shape[2] * factor, x.shape[3] * factor)
        return ops.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)

    return method("ms_models.layers", "upsample_nearest", upsample)


def shifted_nearest(x: Any, factor: int) -> Any:
    """Repeat pixels, shifted by one."""
    from mindspore import ops

    out = ops.interpolate(x, size=(x.shape[2] * factor, x.shape[3] * factor), mode="nearest")
    return ops.cat((out[:, :, :, 1:], out[:, :, :, -1:]), 3)


def slope(value: float) -> Callable[[Any], None]:
    """Give every LeakyReLU another slope."""

    def change(cell: Any) -> None:
        from mindspore import nn

        for path, _ in layers(cell, "LeakyReLU"):
            replace(cell, path, nn.LeakyReLU(value))

    return change


def relu_for_leaky(cell: Any) -> None:
    """Put a ReLU in the place of the last LeakyReLU."""
    from mindspore import nn

    path, _ = layers(cell, "LeakyReLU")[-1]
    replace(cell, path, nn.ReLU())


def mean_for_max(x: Any) -> Any:
    """Average where the maximum is asked for."""
    return x.mean((2, 3))


# --- weights and wiring ----------------------------------------------------------------------------------------


def transposed(name: str) -> Callable[[Any], None]:
    """Swap the first two axes of a weight."""
    return lambda cell: set_parameter(cell, name, lambda value: value.swapaxes(0, 1))


def swapped(first: str, second: str) -> Callable[[Any], None]:
    """Swap two parameters of one shape."""

    def change(cell: Any) -> None:
        found = {name: value.asnumpy().copy() for name, value in cell.parameters_and_names() if name in (first, second)}
        set_parameter(cell, first, lambda _: found[second])
        set_parameter(cell, second, lambda _: found[first])

    return change


def half_precision(cell: Any) -> None:
    """Round every trainable parameter to float16."""
    for name, value in cell.parameters_and_names():
        if value.requires_grad:
            set_parameter(cell, name, lambda array: array.astype(np.float16).astype(np.float32))


def zeroed(name: str) -> Callable[[Any], None]:
    """Set a parameter to zero."""
    return lambda cell: set_parameter(cell, name, np.zeros_like)


def other_network(cell: Any) -> None:
    """Give the weights the values of another network of the same shapes."""
    rng = np.random.default_rng(1)
    for name, value in cell.parameters_and_names():
        if value.requires_grad and value.ndim >= 2:
            set_parameter(cell, name, lambda array: array.reshape(-1)[rng.permutation(array.size)].reshape(array.shape))


class OpsWithSwappedCat:
    """mindspore.ops, except that cat joins its tensors the other way round."""

    def __getattr__(self, name: str) -> Any:
        from mindspore import ops

        if name == "cat":
            return lambda tensors, axis=0: ops.cat(tuple(tensors)[::-1], axis)
        return getattr(ops, name)


def soft_weights_swapped(cell: Any) -> None:
    """Let content and style weights change places."""
    for _, layer in layers(cell, "SoftAdaLIN"):
        gamma, beta = layer.w_gamma.asnumpy().copy(), layer.w_beta.asnumpy().copy()
        import mindspore

        layer.w_gamma.set_data(mindspore.Tensor(1 - gamma))
        layer.w_beta.set_data(mindspore.Tensor(1 - beta))


def content_and_style_swapped(cell: Any) -> None:
    """Hand the two vectors over in the wrong order."""
    for _, layer in layers(cell, "SoftAdaLIN"):
        original = type(layer).construct

        def construct(self: Any, x: Any, content: Any, style: Any, original: Any = original) -> Any:
            return original(self, x, style, content)

        layer.construct = construct.__get__(layer)


# --- spectral norm ---------------------------------------------------------------------------------------------


def no_spectral_norm(self: Any) -> Any:
    """Use the weight as it is stored."""
    return self.weight_orig * 1.0


def spectral(moving: Callable[[Any], bool], steps: int = 1, axis: int = 0) -> Callable[[], Any]:
    """Another power iteration: when it moves, how often, and which norm."""

    def normalized_weight(self: Any) -> Any:
        from mindspore import ops

        matrix = self.weight_orig.reshape(self.weight_orig.shape[0], -1)
        u, v = self.weight_u, self.weight_v
        if moving(self):
            fixed = ops.stop_gradient(matrix)
            for _ in range(steps):
                v = self._unit(ops.matmul(fixed.T, u))
                u = self._unit(ops.matmul(fixed, v))
            ops.assign(self.weight_v, v)
            ops.assign(self.weight_u, u)
        sigma = ops.matmul(ops.stop_gradient(u), ops.matmul(matrix, ops.stop_gradient(v)))
        if axis == 1:
            sigma = ops.sqrt((matrix * matrix).sum()) / 2
        return self.weight_orig / sigma

    return method("ms_models.layers:SpectralNorm", "normalized_weight", normalized_weight)


def sigma_without_gradient(self: Any) -> Any:
    """Divide by sigma as if it were a constant."""
    from mindspore import ops

    matrix = ops.stop_gradient(self.weight_orig.reshape(self.weight_orig.shape[0], -1))
    u, v = self.weight_u, self.weight_v
    if self.training:
        v = self._unit(ops.matmul(matrix.T, u))
        u = self._unit(ops.matmul(matrix, v))
        ops.assign(self.weight_v, v)
        ops.assign(self.weight_u, u)
    return self.weight_orig / ops.matmul(u, ops.matmul(matrix, v))


def cam_uses_normalized_weight(cell: Any) -> None:
    """The attention multiplies by the normalised weight instead of weight_orig."""
    from mindspore import ops

    from ms_models.layers import channel_max, channel_mean

    def construct(self: Any, x: Any) -> Any:
        x = self.model(x)
        cam_logit = ops.cat((self.gap_fc(channel_mean(x)), self.gmp_fc(channel_max(x))), 1)
        weights = []
        for layer in (self.gap_fc, self.gmp_fc):
            matrix = layer.weight_orig
            sigma = ops.matmul(layer.weight_u, ops.matmul(matrix, layer.weight_v))
            weights.append((matrix / sigma)[:, :, None, None])
        x = self.leaky_relu(self.conv1x1(ops.cat((x * weights[0], x * weights[1]), 1)))
        return self.conv(self.pad(x)), cam_logit, x.sum(1, keepdims=True)

    cell.construct = construct.__get__(cell)


# --- batch norm, PReLU -----------------------------------------------------------------------------------------


def batch_norm_always_training(cell: Any) -> None:
    """Use batch statistics in eval mode, too."""
    for _, layer in layers(cell, "BatchNorm2d"):
        layer.use_batch_statistics = True


def batch_norm_with(**changes: float) -> Callable[[Any], None]:
    """Build every batch norm anew with other settings."""

    def change(cell: Any) -> None:
        from mindspore import nn

        for path, layer in layers(cell, "BatchNorm2d"):
            fresh = nn.BatchNorm2d(layer.num_features, **changes)
            for name in ("gamma", "beta", "moving_mean", "moving_variance"):
                getattr(fresh, name).set_data(getattr(layer, name).value())
            replace(cell, path, fresh)

    return change


def shared_prelu(cell: Any) -> None:
    """Give all channels the first channel's slope."""
    for _, layer in layers(cell, "PReLU"):
        layer.w.set_data(layer.w.value() * 0 + float(layer.w.asnumpy()[0]))


def no_final_unit_length(cell: Any) -> None:
    """Leave the embedding longer than 1."""
    original = type(cell).construct

    def construct(self: Any, x: Any) -> Any:
        return original(self, x) * 1.5

    cell.construct = construct.__get__(cell)


def channels_reversed(cell: Any) -> None:
    """The port is fed BGR: its first convolution sees the colours in the wrong order."""
    set_parameter(cell, "conv1.conv.weight", lambda value: value[:, ::-1])
