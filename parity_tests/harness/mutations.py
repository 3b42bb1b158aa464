"""The bugs that porters make, as small patches, to test the checker itself.

Each mutation says where it strikes (a subject of the registry), what it changes, and what must be blamed. The
checker must catch every one in at least one mode and name the right layer or training phase.

Not in the list: photo2cartoon's content vectors in another order. Each encoder block adds an instance norm, whose
mean is zero, so all four vectors are the same numbers and their order changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np

__all__ = ["MUTATIONS", "Mutation", "Subject"]

Subject = tuple[str, str]
UGATIT: Subject = ("ugatit", "genA2B")
PHOTO2CARTOON: Subject = ("photo2cartoon", "genA2B")
LOCAL: Subject = ("photo2cartoon", "disLA")
FACE: Subject = ("mobilefacenet", "mobilefacenet")


@dataclass(frozen=True)
class Mutation:
    """One planted bug.

    Attributes:
        name: short and unique.
        what: the bug in words.
        subject: (family, part) that is compared, or (family, "training").
        blame: fragments of which one must occur in the blamed layer, layer type, or training phase.
        cell: changes the MindSpore network (or its weights) in place, or None.
        patch: context manager factory that is active during the comparison, or None.
    """

    name: str
    what: str
    subject: Subject
    blame: tuple[str, ...]
    cell: Callable[[Any], None] | None = None
    patch: Callable[[], Any] | None = None

    @contextmanager
    def planted(self, cell: Any) -> Iterator[None]:
        """Plant the bug in a network for the time of a comparison."""
        with ExitStack() as stack:
            if self.patch:
                stack.enter_context(self.patch())
            if self.cell:
                self.cell(cell)
            yield


def _layers(cell: Any, kind: str) -> list[tuple[str, Any]]:
    return [(path, layer) for path, layer in cell.cells_and_names() if type(layer).__name__ == kind]


def _first(cell: Any, kind: str) -> Any:
    return _layers(cell, kind)[0][1]


def _method(owner: str, name: str, replacement: Callable[..., Any]) -> Callable[[], Any]:
    """Patch factory: replace `name` of an object given as "module" or "module:Class"."""

    def start() -> Any:
        from importlib import import_module

        module, _, attribute = owner.partition(":")
        target = import_module(module)
        return mock.patch.object(getattr(target, attribute) if attribute else target, name, replacement)

    return start


def _set(cell: Any, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    import mindspore

    parameter = dict(cell.parameters_and_names())[name]
    parameter.set_data(mindspore.Tensor(np.ascontiguousarray(change(parameter.asnumpy()))))


def _replace(cell: Any, path: str, layer: Any) -> None:
    parent, _, leaf = path.rpartition(".")
    holder = dict(cell.cells_and_names())[parent]
    if leaf.isdigit():
        holder[int(leaf)] = layer
    else:
        setattr(holder, leaf, layer)


# --- normalisation ---------------------------------------------------------------------------------------------


def _biased(x: Any, begin_axis: int, eps: float) -> Any:
    from ms_models.layers import normalize

    return normalize(x, begin_axis, eps)


def _mix_biased(instance: bool, layer: bool) -> Callable[..., Any]:
    def mix(x: Any, rho: Any, eps: float = 1e-5) -> Any:
        from ms_models import layers

        by_instance = (layers.normalize if instance else layers.normalize_unbiased)(x, 2, eps)
        by_layer = (layers.normalize if layer else layers.normalize_unbiased)(x, 1, eps)
        return rho * by_instance + (1 - rho) * by_layer

    return mix


def _mix_swapped(x: Any, rho: Any, eps: float = 1e-5) -> Any:
    from ms_models.layers import normalize_unbiased

    return (1 - rho) * normalize_unbiased(x, 2, eps) + rho * normalize_unbiased(x, 1, eps)


def _mix_no_gradient_through_mean(x: Any, rho: Any, eps: float = 1e-5) -> Any:
    from mindspore import ops

    from ms_models.layers import normalize_unbiased

    mean = ops.stop_gradient(x.mean((2, 3), keep_dims=True))
    centred = x - mean
    count = x.shape[2] * x.shape[3]
    spread = ops.sqrt(ops.stop_gradient((centred * centred).sum((2, 3), keepdims=True) / (count - 1)) + eps)
    return rho * (centred / spread) + (1 - rho) * normalize_unbiased(x, 1, eps)


def _eps(kind: str, factor: float) -> Callable[[Any], None]:
    def change(cell: Any) -> None:
        for _, layer in _layers(cell, kind):
            layer.eps = layer.eps * factor

    return change


def _batch_norm_for_instance_norm(cell: Any) -> None:
    from mindspore import ops

    def construct(self: Any, x: Any) -> Any:
        mean = x.mean((0, 2, 3), keep_dims=True)
        centred = x - mean
        return centred * ops.rsqrt((centred * centred).mean((0, 2, 3), keep_dims=True) + self.eps)

    for _, layer in _layers(cell, "InstanceNorm2d"):
        layer.construct = construct.__get__(layer)


def _no_rho_limit(cell: Any) -> None:
    _set(cell, "UpBlock1_1.norm1.rho", lambda value: value + 0.2)


def _fresh_rho(cell: Any) -> None:
    for name, _ in cell.parameters_and_names():
        if name.endswith("rho"):
            _set(cell, name, lambda value: np.full_like(value, 0.9))


# --- padding, resizing, pooling, activations -------------------------------------------------------------------


def _pad_mode(mode: str) -> Callable[[Any], None]:
    def change(cell: Any) -> None:
        from mindspore import ops

        for _, layer in _layers(cell, "ReflectionPad2d"):
            amount = int(np.asarray(layer.padding).max())

            def construct(self: Any, x: Any, amount: int = amount) -> Any:
                return ops.pad(x, (amount,) * 4, mode=mode)

            layer.construct = construct.__get__(layer)

    return change


def _pad_one_side(cell: Any) -> None:
    from mindspore import ops

    layer = _first(cell, "ReflectionPad2d")
    amount = int(np.asarray(layer.padding).max())

    def construct(self: Any, x: Any) -> Any:
        return ops.pad(x, (2 * amount, 0, 2 * amount, 0), mode="reflect")

    layer.construct = construct.__get__(layer)


def _bilinear(align_corners: bool) -> Callable[[], Any]:
    def upsample(x: Any, factor: int) -> Any:
        from mindspore import ops

        size = (x.shape[2] * factor, x.shape[3] * factor)
        return ops.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)

    return _method("ms_models.layers", "upsample_nearest", upsample)


def _shifted_nearest(x: Any, factor: int) -> Any:
    from mindspore import ops

    out = ops.interpolate(x, size=(x.shape[2] * factor, x.shape[3] * factor), mode="nearest")
    return ops.cat((out[:, :, :, 1:], out[:, :, :, -1:]), 3)


def _slope(value: float) -> Callable[[Any], None]:
    def change(cell: Any) -> None:
        from mindspore import nn

        for path, _ in _layers(cell, "LeakyReLU"):
            _replace(cell, path, nn.LeakyReLU(value))

    return change


def _relu_for_leaky(cell: Any) -> None:
    from mindspore import nn

    path, _ = _layers(cell, "LeakyReLU")[-1]
    _replace(cell, path, nn.ReLU())


def _mean_for_max(x: Any) -> Any:
    return x.mean((2, 3))


def _tied_max(x: Any) -> Any:
    from mindspore import ops

    return ops.amax(x, (2, 3))


# --- weights and wiring ----------------------------------------------------------------------------------------


def _transposed(name: str) -> Callable[[Any], None]:
    return lambda cell: _set(cell, name, lambda value: value.swapaxes(0, 1))


def _swapped(first: str, second: str) -> Callable[[Any], None]:
    def change(cell: Any) -> None:
        found = {name: value.asnumpy().copy() for name, value in cell.parameters_and_names() if name in (first, second)}
        _set(cell, first, lambda _: found[second])
        _set(cell, second, lambda _: found[first])

    return change


def _half_precision(cell: Any) -> None:
    for name, value in cell.parameters_and_names():
        if value.requires_grad:
            _set(cell, name, lambda array: array.astype(np.float16).astype(np.float32))


def _zeroed(name: str) -> Callable[[Any], None]:
    return lambda cell: _set(cell, name, np.zeros_like)


def _other_network(cell: Any) -> None:
    rng = np.random.default_rng(1)
    for name, value in cell.parameters_and_names():
        if value.requires_grad and value.ndim >= 2:
            _set(cell, name, lambda array: array.reshape(-1)[rng.permutation(array.size)].reshape(array.shape))


class _OpsWithSwappedCat:
    """mindspore.ops, except that cat joins its tensors the other way round."""

    def __getattr__(self, name: str) -> Any:
        from mindspore import ops

        if name == "cat":
            return lambda tensors, axis=0: ops.cat(tuple(tensors)[::-1], axis)
        return getattr(ops, name)


def _soft_weights_swapped(cell: Any) -> None:
    for _, layer in _layers(cell, "SoftAdaLIN"):
        gamma, beta = layer.w_gamma.asnumpy().copy(), layer.w_beta.asnumpy().copy()
        import mindspore

        layer.w_gamma.set_data(mindspore.Tensor(1 - gamma))
        layer.w_beta.set_data(mindspore.Tensor(1 - beta))


def _content_and_style_swapped(cell: Any) -> None:
    for _, layer in _layers(cell, "SoftAdaLIN"):
        original = type(layer).construct

        def construct(self: Any, x: Any, content: Any, style: Any, original: Any = original) -> Any:
            return original(self, x, style, content)

        layer.construct = construct.__get__(layer)


# --- spectral norm ---------------------------------------------------------------------------------------------


def _no_spectral_norm(self: Any) -> Any:
    return self.weight_orig * 1.0


def _spectral(moving: Callable[[Any], bool], steps: int = 1, axis: int = 0) -> Callable[[], Any]:
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

    return _method("ms_models.layers:SpectralNorm", "normalized_weight", normalized_weight)


def _sigma_without_gradient(self: Any) -> Any:
    from mindspore import ops

    matrix = ops.stop_gradient(self.weight_orig.reshape(self.weight_orig.shape[0], -1))
    u, v = self.weight_u, self.weight_v
    if self.training:
        v = self._unit(ops.matmul(matrix.T, u))
        u = self._unit(ops.matmul(matrix, v))
        ops.assign(self.weight_v, v)
        ops.assign(self.weight_u, u)
    return self.weight_orig / ops.matmul(u, ops.matmul(matrix, v))


def _cam_uses_normalized_weight(cell: Any) -> None:
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


def _batch_norm_always_training(cell: Any) -> None:
    for _, layer in _layers(cell, "BatchNorm2d"):
        layer.use_batch_statistics = True


def _batch_norm_with(**changes: float) -> Callable[[Any], None]:
    def change(cell: Any) -> None:
        from mindspore import nn

        for path, layer in _layers(cell, "BatchNorm2d"):
            fresh = nn.BatchNorm2d(layer.num_features, **changes)
            for name in ("gamma", "beta", "moving_mean", "moving_variance"):
                getattr(fresh, name).set_data(getattr(layer, name).value())
            _replace(cell, path, fresh)

    return change


def _shared_prelu(cell: Any) -> None:
    for _, layer in _layers(cell, "PReLU"):
        layer.w.set_data(layer.w.value() * 0 + float(layer.w.asnumpy()[0]))


def _no_final_unit_length(cell: Any) -> None:
    original = type(cell).construct

    def construct(self: Any, x: Any) -> Any:
        return original(self, x) * 1.5

    cell.construct = construct.__get__(cell)


def _channels_reversed(cell: Any) -> None:
    """The port is fed BGR: its first convolution sees the colours in the wrong order."""
    _set(cell, "conv1.conv.weight", lambda value: value[:, ::-1])


MUTATIONS: tuple[Mutation, ...] = (
    Mutation("biased-variance", "AdaLIN and LIN divide by N instead of N - 1", UGATIT, ("AdaLIN", "LIN"),
             patch=_method("ms_models.layers", "normalize_unbiased", _biased)),
    Mutation("biased-instance-branch", "only the instance branch is biased", UGATIT, ("AdaLIN", "LIN"),
             patch=_method("ms_models.layers", "mix_instance_and_layer", _mix_biased(True, False))),
    Mutation("biased-layer-branch", "only the layer branch is biased", UGATIT, ("AdaLIN", "LIN"),
             patch=_method("ms_models.layers", "mix_instance_and_layer", _mix_biased(False, True))),
    Mutation("rho-swapped", "rho and 1 - rho swapped", UGATIT, ("AdaLIN", "LIN"),
             patch=_method("ms_models.layers", "mix_instance_and_layer", _mix_swapped)),
    Mutation("norm-without-gradient", "no gradient through mean and variance", UGATIT, ("AdaLIN", "LIN"),
             patch=_method("ms_models.layers", "mix_instance_and_layer", _mix_no_gradient_through_mean)),
    Mutation("adalin-eps-x10", "AdaLIN eps 1e-4", UGATIT, ("AdaLIN",), _eps("AdaLIN", 10)),
    Mutation("adalin-eps-/10", "AdaLIN eps 1e-6", UGATIT, ("AdaLIN",), _eps("AdaLIN", 0.1)),
    Mutation("lin-eps-x10", "LIN eps 1e-4", UGATIT, ("LIN",), _eps("LIN", 10)),
    Mutation("instance-norm-eps-x10", "instance norm eps 1e-4", UGATIT, ("InstanceNorm2d",),
             _eps("InstanceNorm2d", 10)),
    Mutation("instance-norm-eps-/10", "instance norm eps 1e-6", UGATIT, ("InstanceNorm2d",),
             _eps("InstanceNorm2d", 0.1)),
    Mutation("batch-norm", "batch norm in the place of instance norm", UGATIT, ("InstanceNorm2d",),
             _batch_norm_for_instance_norm),
    Mutation("rho-not-limited", "rho left above 1", UGATIT, ("UpBlock1_1.norm1",), _no_rho_limit),
    Mutation("rho-fresh", "rho keeps its initial value", UGATIT, ("norm", "UpBlock2"), _fresh_rho),
    Mutation("pad-zero", "zero for reflection padding", UGATIT, ("ReflectionPad2d",), _pad_mode("constant")),
    Mutation("pad-replicate", "replication for reflection padding", UGATIT, ("ReflectionPad2d",),
             _pad_mode("replicate")),
    Mutation("pad-one-side", "all padding on the left and top", UGATIT, ("UpBlock1_1.pad1",), _pad_one_side),
    Mutation("bilinear", "bilinear for nearest up-sampling", UGATIT, ("Upsample",), patch=_bilinear(False)),
    Mutation("bilinear-corners", "bilinear, align_corners", UGATIT, ("Upsample",), patch=_bilinear(True)),
    Mutation("nearest-shifted", "nearest up-sampling shifted by one pixel", UGATIT, ("Upsample",),
             patch=_method("ms_models.layers", "upsample_nearest", _shifted_nearest)),
    Mutation("cam-weights-swapped", "CAM: average and maximum weights swapped", UGATIT, ("gap_fc", "gmp_fc"),
             _swapped("gap_fc.weight", "gmp_fc.weight")),
    Mutation("cam-mean-for-max", "CAM: average pooling in the maximum branch", UGATIT, ("ResnetGenerator",),
             patch=_method("ms_models.ugatit", "channel_max", _mean_for_max)),
    Mutation("concat-order", "CAM: the two halves concatenated the other way round", UGATIT, ("ResnetGenerator",),
             patch=lambda: mock.patch("ms_models.ugatit.ops", _OpsWithSwappedCat())),
    Mutation("gamma-beta-swapped", "gamma and beta heads swapped", UGATIT, ("gamma", "beta"),
             _swapped("gamma.weight", "beta.weight")),
    Mutation("transposed-square", "a square linear weight transposed", UGATIT, ("FC.2",), _transposed("FC.2.weight")),
    Mutation("transposed-conv", "a square convolution weight with in and out channels swapped", UGATIT,
             ("UpBlock1_1.conv1",), _transposed("UpBlock1_1.conv1.weight")),
    Mutation("swapped-keys", "two tensors of equal shape swapped", UGATIT, ("UpBlock1_1.conv",),
             _swapped("UpBlock1_1.conv1.weight", "UpBlock1_1.conv2.weight")),
    Mutation("half-precision", "weights rounded to float16", UGATIT, ("",), _half_precision),
    Mutation("missing-bias", "a bias left at zero", UGATIT, ("conv1x1",), _zeroed("conv1x1.bias")),
    Mutation("other-direction", "genB2A loaded as genA2B", UGATIT, ("",), _other_network),
    Mutation("content-style-swapped", "content and style vectors swapped", PHOTO2CARTOON, ("SoftAdaLIN",),
             _content_and_style_swapped),
    Mutation("soft-weights-swapped", "content and style weights swapped", PHOTO2CARTOON, ("SoftAdaLIN", "norm"),
             _soft_weights_swapped),
    Mutation("hourglass-bilinear", "bilinear up-sampling inside the hourglasses", PHOTO2CARTOON, ("HourGlassBlock",),
             patch=lambda: mock.patch("ms_models.photo2cartoon.upsample_nearest", _shifted_nearest)),
    Mutation("no-spectral-norm", "weight_orig used as it is", LOCAL, ("SpectralNorm", "Conv2d", "Linear"),
             patch=_method("ms_models.layers:SpectralNorm", "normalized_weight", _no_spectral_norm)),
    Mutation("spectral-norm-frozen", "no power iteration in train mode", LOCAL, ("Conv2d", "Linear"),
             patch=_spectral(lambda self: False)),
    Mutation("spectral-norm-eval", "power iteration in eval mode too", LOCAL, ("Conv2d", "Linear"),
             patch=_spectral(lambda self: True)),
    Mutation("spectral-norm-twice", "two power iterations per step", LOCAL, ("Conv2d", "Linear"),
             patch=_spectral(lambda self: self.training, steps=2)),
    Mutation("spectral-norm-frobenius", "Frobenius norm for the spectral norm", LOCAL, ("Conv2d", "Linear"),
             patch=_spectral(lambda self: self.training, axis=1)),
    Mutation("sigma-without-gradient", "no gradient through sigma", LOCAL, ("Conv2d", "Linear"),
             patch=_method("ms_models.layers:SpectralNorm", "normalized_weight", _sigma_without_gradient)),
    Mutation("cam-normalized-weight", "CAM multiplies by the normalised weight", LOCAL, ("Discriminator",),
             _cam_uses_normalized_weight),
    Mutation("leaky-slope", "LeakyReLU slope 0.01", LOCAL, ("LeakyReLU",), _slope(0.01)),
    Mutation("relu-for-leaky", "ReLU for LeakyReLU", LOCAL, ("LeakyReLU", "model."), _relu_for_leaky),
    Mutation("discriminator-mean-for-max", "average pooling in the maximum branch", LOCAL, ("Discriminator",),
             patch=_method("ms_models.photo2cartoon", "channel_max", _mean_for_max)),
    Mutation("batch-norm-training", "batch norm in train mode at inference", FACE, ("BatchNorm2d",),
             _batch_norm_always_training),
    Mutation("batch-norm-eps", "batch norm eps 1e-3", FACE, ("BatchNorm2d",), _batch_norm_with(eps=1e-3)),
    Mutation("batch-norm-momentum", "PyTorch's momentum 0.1 given to MindSpore as it is", FACE, ("BatchNorm2d",),
             _batch_norm_with(momentum=0.1)),
    Mutation("prelu-shared", "one PReLU slope for all channels", FACE, ("PReLU", "prelu"), _shared_prelu),
    Mutation("no-unit-length", "embedding not brought to unit length", FACE, ("MobileFaceNet",), _no_final_unit_length),
    Mutation("bgr", "colours in the order BGR", FACE, ("conv1.conv",), _channels_reversed),
)  # fmt: skip
