"""Bugs that porters of U-GAT-IT make: its normalisations, padding, up-sampling, attention and weights."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from mindspore import ops

from ms_models.kernels import mix_instance_and_layer
from ms_models.layers import normalize
from parity_tests.harness.mutants import planting as plant
from parity_tests.harness.mutants.bugs import Change, NetworkBug, Patch, Subject

GENERATOR: Subject = ("ugatit", "genA2B")
NORMS, INSTANCE, PADDING = ("AdaLIN", "LIN"), ("InstanceNorm2d",), ("ReflectionPad2d",)
UPSAMPLE, MIX = "ms_models.layers.upsample_nearest", "ms_models.layers.mix_instance_and_layer"


def _unbiased(x: Any, axis: int, eps: float) -> Any:
    count = math.prod(x.shape[axis:])
    return normalize(x, axis, eps * (count - 1) / count) * math.sqrt((count - 1) / count)


def mix(by_instance: Callable[..., Any], by_layer: Callable[..., Any]) -> Patch:
    """Compute the mix of instance and layer norm with other branches: functions of x, first axis and eps."""

    def mixed(x: Any, rho: Any, gamma: Any, beta: Any, eps: float) -> Any:
        """See `ms_models.layers.mix_instance_and_layer`."""
        normal = rho * by_instance(x, 2, eps) + (1 - rho) * by_layer(x, 1, eps)
        return normal * gamma.reshape(-1, x.shape[1], 1, 1) + beta.reshape(-1, x.shape[1], 1, 1)

    return MIX, mixed


def _rho_swapped(x: Any, rho: Any, *others: Any) -> Any:
    return mix_instance_and_layer(x, 1 - rho, *others)


def _no_gradient_through_statistics(x: Any, axis: int, eps: float) -> Any:
    mean = ops.stop_gradient(x.mean((2, 3), keep_dims=True))
    centred = x - mean
    count = x.shape[2] * x.shape[3]
    spread = ops.sqrt(ops.stop_gradient((centred * centred).sum((2, 3), keepdims=True) / (count - 1)) + eps)
    return centred / spread


def _eps(kind: str, factor: float) -> Change:
    return plant.each(kind, plant.with_attribute("eps", lambda eps: eps * factor))


def _over_batch(self: Any, x: Any) -> Any:
    centred = x - x.mean((0, 2, 3), keep_dims=True)
    return centred * ops.rsqrt((centred * centred).mean((0, 2, 3), keep_dims=True) + self.eps)


def _width(layer: Any) -> int:
    return int(np.asarray(layer.padding).max())


def _pad(mode: str) -> Change:
    return plant.method("ReflectionPad2d", lambda self, x: ops.pad(x, (_width(self),) * 4, mode=mode))


def _pad_one_side(cell: Any) -> None:
    """Pad the first layer on the left and top only."""
    layer = plant.layers(cell, "ReflectionPad2d")[0][1]
    width = 2 * _width(layer)
    layer.construct = lambda x: ops.pad(x, (width, 0, width, 0), mode="reflect")


def _resized(x: Any, factor: int, mode: str, **options: Any) -> Any:
    return ops.interpolate(x, size=(x.shape[2] * factor, x.shape[3] * factor), mode=mode, **options)


def _bilinear(align_corners: bool) -> Patch:
    return UPSAMPLE, lambda x, factor: _resized(x, factor, "bilinear", align_corners=align_corners)


def shifted_nearest(x: Any, factor: int) -> Any:
    """Repeat pixels, shifted by one."""
    out = _resized(x, factor, "nearest")
    return ops.cat((out[:, :, :, 1:], out[:, :, :, -1:]), 3)


def mean_for_max(x: Any) -> Any:
    """Average where the maximum is asked for."""
    return x.mean((2, 3))


def _transposed(name: str) -> Change:
    return plant.changed(name, lambda value: value.swapaxes(0, 1))


def _other_network(cell: Any) -> None:
    """Give the weights the values of another network of the same shapes."""
    rng = np.random.default_rng(1)
    plant.all_changed(
        lambda name, value: value.requires_grad and value.ndim >= 2,
        lambda array: rng.permutation(array.reshape(-1)).reshape(array.shape),
    )(cell)


NETWORK_BUGS: tuple[NetworkBug, ...] = (
    NetworkBug("biased-variance", "AdaLIN and LIN divide by N instead of N - 1", GENERATOR, NORMS,
               patch=mix(normalize, normalize)),
    NetworkBug("biased-instance-branch", "only the instance branch is biased", GENERATOR, NORMS,
               patch=mix(normalize, _unbiased)),
    NetworkBug("biased-layer-branch", "only the layer branch is biased", GENERATOR, NORMS,
               patch=mix(_unbiased, normalize)),
    NetworkBug("rho-swapped", "rho and 1 - rho swapped", GENERATOR, NORMS, patch=(MIX, _rho_swapped)),
    NetworkBug("norm-without-gradient", "no gradient through mean and variance", GENERATOR, NORMS,
               patch=mix(_no_gradient_through_statistics, _unbiased)),
    NetworkBug("adalin-eps-x10", "AdaLIN eps 1e-4", GENERATOR, ("AdaLIN",), _eps("AdaLIN", 10)),
    NetworkBug("adalin-eps-/10", "AdaLIN eps 1e-6", GENERATOR, ("AdaLIN",), _eps("AdaLIN", 0.1)),
    NetworkBug("lin-eps-x10", "LIN eps 1e-4", GENERATOR, ("LIN",), _eps("LIN", 10)),
    NetworkBug("instance-norm-eps-x10", "instance norm eps 1e-4", GENERATOR, INSTANCE, _eps("InstanceNorm2d", 10)),
    NetworkBug("instance-norm-eps-/10", "instance norm eps 1e-6", GENERATOR, INSTANCE, _eps("InstanceNorm2d", 0.1)),
    NetworkBug("batch-norm", "batch norm in the place of instance norm", GENERATOR, INSTANCE,
               plant.method("InstanceNorm2d", _over_batch)),
    NetworkBug("rho-not-limited", "rho left above 1", GENERATOR, ("UpBlock1_1.norm1",),
               plant.changed("UpBlock1_1.norm1.rho", lambda rho: rho + 0.2)),
    NetworkBug("rho-fresh", "rho keeps its initial value", GENERATOR, ("norm", "UpBlock2"),
               plant.all_changed(lambda name, _: name.endswith("rho"), lambda value: np.full_like(value, 0.9))),
    NetworkBug("pad-zero", "zero for reflection padding", GENERATOR, PADDING, _pad("constant")),
    NetworkBug("pad-replicate", "replication for reflection padding", GENERATOR, PADDING, _pad("replicate")),
    NetworkBug("pad-one-side", "all padding on the left and top", GENERATOR, ("UpBlock1_1.pad1",), _pad_one_side),
    NetworkBug("bilinear", "bilinear for nearest up-sampling", GENERATOR, ("Upsample",), patch=_bilinear(False)),
    NetworkBug("bilinear-corners", "bilinear, align_corners", GENERATOR, ("Upsample",), patch=_bilinear(True)),
    NetworkBug("nearest-shifted", "nearest up-sampling shifted by one pixel", GENERATOR, ("Upsample",),
               patch=(UPSAMPLE, shifted_nearest)),
    NetworkBug("cam-weights-swapped", "CAM: average and maximum weights swapped", GENERATOR, ("gap_fc", "gmp_fc"),
               plant.swapped("gap_fc.weight", "gmp_fc.weight")),
    NetworkBug("cam-mean-for-max", "CAM: average pooling in the maximum branch", GENERATOR, ("ResnetGenerator",),
               patch=("ms_models.ugatit.channel_max", mean_for_max)),
    NetworkBug("concat-order", "CAM: the two halves concatenated the other way round", GENERATOR, ("ResnetGenerator",),
               patch=("ms_models.ugatit.ops", plant.OpsWithSwappedCat())),
    NetworkBug("gamma-beta-swapped", "gamma and beta heads swapped", GENERATOR, ("gamma", "beta"),
               plant.swapped("gamma.weight", "beta.weight")),
    NetworkBug("transposed-square", "a square linear weight transposed", GENERATOR, ("FC.2",),
               _transposed("FC.2.weight")),
    NetworkBug("transposed-conv", "a square convolution weight with in and out channels swapped", GENERATOR,
               ("UpBlock1_1.conv1",), _transposed("UpBlock1_1.conv1.weight")),
    NetworkBug("swapped-keys", "two tensors of equal shape swapped", GENERATOR, ("UpBlock1_1.conv",),
               plant.swapped("UpBlock1_1.conv1.weight", "UpBlock1_1.conv2.weight")),
    NetworkBug("half-precision", "weights rounded to float16", GENERATOR, ("",),
               plant.all_changed(lambda _, value: value.requires_grad,
                                 lambda array: array.astype(np.float16).astype(np.float32))),
    NetworkBug("missing-bias", "a bias left at zero", GENERATOR, ("conv1x1",),
               plant.changed("conv1x1.bias", np.zeros_like)),
    NetworkBug("other-direction", "genB2A loaded as genA2B", GENERATOR, ("",), _other_network),
)  # fmt: skip
