"""Bugs that porters of photo2cartoon make: its Soft-AdaLIN, hourglasses, spectral norm, and the face network.

Not in the list: its content vectors in another order. Each encoder block adds an instance norm, whose mean is zero,
so all four vectors are the same numbers and their order changes nothing.
"""

from collections.abc import Callable
from typing import Any

from mindspore import nn, ops

from ms_models.layers import channel_max, channel_mean
from parity_tests.harness.mutants import planting as plant
from parity_tests.harness.mutants.bugs import Change, NetworkBug, Patch, Subject
from parity_tests.harness.mutants.ugatit import mean_for_max, shifted_nearest

GENERATOR: Subject = ("photo2cartoon", "genA2B")
JUDGE: Subject = ("photo2cartoon", "disLA")
FACE: Subject = ("mobilefacenet", "mobilefacenet")
NORMED = ("Conv2d", "Linear")
SPECTRAL = "ms_models.layers.SpectralNorm.normalized_weight"


def _iterated(self: Any, matrix: Any, steps: int = 1) -> tuple[Any, Any]:
    """Move the vectors of a spectral norm by some power iterations and return them."""
    u, v = self.weight_u, self.weight_v
    for _ in range(steps):
        v = self._unit(ops.matmul(matrix.T, u))
        u = self._unit(ops.matmul(matrix, v))
    ops.assign(self.weight_v, v)
    ops.assign(self.weight_u, u)
    return u, v


def _matrix(self: Any) -> Any:
    return self.weight_orig.reshape(self.weight_orig.shape[0], -1)


def _spectral(moving: Callable[[Any], bool], steps: int = 1, frobenius: bool = False) -> Patch:
    def normalized_weight(self: Any) -> Any:
        """Another power iteration: when it moves, how often, and which norm."""
        matrix = _matrix(self)
        vectors = _iterated(self, ops.stop_gradient(matrix), steps) if moving(self) else (self.weight_u, self.weight_v)
        u, v = (ops.stop_gradient(vector) for vector in vectors)
        sigma = ops.sqrt((matrix * matrix).sum()) / 2 if frobenius else ops.matmul(u, ops.matmul(matrix, v))
        return self.weight_orig / sigma

    return SPECTRAL, normalized_weight


def _sigma_without_gradient(self: Any) -> Any:
    matrix = ops.stop_gradient(_matrix(self))
    u, v = _iterated(self, matrix) if self.training else (self.weight_u, self.weight_v)
    return self.weight_orig / ops.matmul(u, ops.matmul(matrix, v))


def _cam_uses_normalized_weight(cell: Any) -> None:
    def construct(self: Any, x: Any) -> Any:
        """The attention multiplies by the normalised weight instead of weight_orig."""
        x = self.model(x)
        cam_logit = ops.cat((self.gap_fc(channel_mean(x)), self.gmp_fc(channel_max(x))), 1)
        weights = []
        for layer in (self.gap_fc, self.gmp_fc):
            sigma = ops.matmul(layer.weight_u, ops.matmul(layer.weight_orig, layer.weight_v))
            weights.append((layer.weight_orig / sigma)[:, :, None, None])
        x = self.leaky_relu(self.conv1x1(ops.cat((x * weights[0], x * weights[1]), 1)))
        return self.conv(self.pad(x)), cam_logit, x.sum(1, keepdims=True)

    cell.construct = construct.__get__(cell)


def _relu_for_last_leaky(cell: Any) -> None:
    plant.replace(cell, plant.layers(cell, "LeakyReLU")[-1][0], nn.ReLU())


def _batch_norm_with(**changes: float) -> Change:
    def make(layer: Any) -> Any:
        """Build a batch norm anew with other settings."""
        fresh = nn.BatchNorm2d(layer.num_features, **changes)
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            getattr(fresh, name).set_data(getattr(layer, name).value())
        return fresh

    return plant.anew("BatchNorm2d", make)


NETWORK_BUGS: tuple[NetworkBug, ...] = (
    NetworkBug("content-style-swapped", "content and style vectors swapped", GENERATOR, ("SoftAdaLIN",),
               plant.each("SoftAdaLIN", plant.around(
                   "construct", lambda layer, original, x, content, style: original(x, style, content)))),
    NetworkBug("soft-weights-swapped", "content and style weights swapped", GENERATOR, ("SoftAdaLIN", "norm"),
               plant.all_changed(lambda name, _: name.endswith((".w_gamma", ".w_beta")), lambda weight: 1 - weight)),
    NetworkBug("hourglass-shifted", "up-sampling shifted by one pixel inside the hourglasses", GENERATOR,
               ("HourGlassBlock",), patch=("ms_models.photo2cartoon.upsample_nearest", shifted_nearest)),
    NetworkBug("no-spectral-norm", "weight_orig used as it is", JUDGE, ("SpectralNorm", *NORMED),
               patch=(SPECTRAL, lambda self: self.weight_orig * 1.0)),
    NetworkBug("spectral-norm-frozen", "no power iteration in train mode", JUDGE, NORMED,
               patch=_spectral(lambda self: False)),
    NetworkBug("spectral-norm-eval", "power iteration in eval mode too", JUDGE, NORMED,
               patch=_spectral(lambda self: True)),
    NetworkBug("spectral-norm-twice", "two power iterations per step", JUDGE, NORMED,
               patch=_spectral(lambda self: self.training, steps=2)),
    NetworkBug("spectral-norm-frobenius", "Frobenius norm for the spectral norm", JUDGE, NORMED,
               patch=_spectral(lambda self: self.training, frobenius=True)),
    NetworkBug("sigma-without-gradient", "no gradient through sigma", JUDGE, NORMED,
               patch=(SPECTRAL, _sigma_without_gradient)),
    NetworkBug("cam-normalized-weight", "CAM multiplies by the normalised weight", JUDGE, ("Discriminator",),
               _cam_uses_normalized_weight),
    NetworkBug("leaky-slope", "LeakyReLU slope 0.01", JUDGE, ("LeakyReLU",), plant.slope(0.01)),
    NetworkBug("relu-for-leaky", "ReLU for LeakyReLU", JUDGE, ("LeakyReLU", "model."), _relu_for_last_leaky),
    NetworkBug("discriminator-mean-for-max", "average pooling in the maximum branch", JUDGE, ("Discriminator",),
               patch=("ms_models.ugatit.channel_max", mean_for_max)),
    NetworkBug("batch-norm-training", "batch norm in train mode at inference", FACE, ("BatchNorm2d",),
               plant.each("BatchNorm2d", plant.with_attribute("use_batch_statistics", lambda _: True))),
    NetworkBug("batch-norm-eps", "batch norm eps 1e-3", FACE, ("BatchNorm2d",), _batch_norm_with(eps=1e-3)),
    NetworkBug("batch-norm-momentum", "PyTorch's momentum 0.1 given to MindSpore as it is", FACE, ("BatchNorm2d",),
               _batch_norm_with(momentum=0.1)),
    NetworkBug("prelu-shared", "one PReLU slope for all channels", FACE, ("PReLU", "prelu"),
               plant.all_changed(lambda name, _: name.endswith("prelu.w"), lambda slopes: 0 * slopes + slopes[0])),
    NetworkBug("no-unit-length", "embedding not brought to unit length", FACE, ("MobileFaceNet",),
               plant.other_output(lambda x: x * 1.5)),
    NetworkBug("bgr", "colours in the order BGR", FACE, ("conv1.conv",),
               plant.changed("conv1.conv.weight", lambda weight: weight[:, ::-1])),
)  # fmt: skip
