"""Bugs that plain inputs do not show: squares, one mode, one run, numbers of ordinary size, all outputs at once."""

from typing import Any

from mindspore import nn, ops

from ms_models.kernels import mix_instance_and_layer
from parity_tests.harness.mutants import planting as plant
from parity_tests.harness.mutants.bugs import NetworkBug, Subject
from parity_tests.harness.mutants.ugatit import mix

GENERATOR: Subject = ("ugatit", "genA2B")
NORMS, INSTANCE = ("AdaLIN", "LIN"), ("InstanceNorm2d",)
FULL = {"input_nc": 3, "output_nc": 3, "ngf": 8, "n_blocks": 1, "img_size": 16, "light": False}


def _width_before_height(x: Any, factor: int) -> Any:
    return ops.interpolate(x, size=(x.shape[3] * factor, x.shape[2] * factor), mode="nearest")


def _height_squared(x: Any, axis: int, eps: float) -> Any:
    """Unbiased statistics whose number of pixels is the height squared."""
    axes = tuple(range(axis, 4))
    centred = x - x.mean(axes, keep_dims=True)
    count = x.shape[2] ** 2 * (x.shape[1] if axis == 1 else 1)
    return centred * ops.rsqrt((centred * centred).sum(axes, keepdims=True) / (count - 1) + eps)


def _one_pass(self: Any, x: Any) -> Any:
    mean = x.mean((2, 3), keep_dims=True)
    return (x - mean) * ops.rsqrt((x * x).mean((2, 3), keep_dims=True) - mean * mean + self.eps)


def _over_batch_in_training(self: Any, x: Any) -> Any:
    axes = (0, 2, 3) if self.training else (2, 3)
    centred = x - x.mean(axes, keep_dims=True)
    return centred * ops.rsqrt((centred * centred).mean(axes, keep_dims=True) + self.eps)


def _brighter_in_training(self: Any, x: Any) -> Any:
    return ops.tanh(x) + (0.1 if self.training else 0.0)


def _keep_the_first_weights(cell: Any) -> None:
    """Let every LIN compute with the weights of its first call for ever."""
    for _, layer in plant.layers(cell, "LIN"):
        kept: dict[int, Any] = {}

        def construct(x: Any, layer: Any = layer, kept: dict[int, Any] = kept) -> Any:
            """The layer with a copy of its weights."""
            for number, value in enumerate((layer.rho, layer.gamma, layer.beta)):
                kept.setdefault(number, type(x)(value.asnumpy()))
            return mix_instance_and_layer(x, kept[0], kept[1], kept[2], layer.eps)

        layer.construct = construct


def _every(kind: str, other: type[nn.Cell]) -> plant.Change:
    def change(cell: Any) -> None:
        """Put another layer in the place of each of a kind."""
        for path, _ in plant.layers(cell, kind):
            plant.replace(cell, path, other())

    return change


INPUT_BUGS: tuple[NetworkBug, ...] = (
    NetworkBug("upsample-width-first", "nearest up-sampling to (2W, 2H)", GENERATOR, ("Upsample",),
               patch=("ms_models.layers.upsample_nearest", _width_before_height)),
    NetworkBug("count-height-squared", "the variance's number of pixels is H * H", GENERATOR, NORMS,
               patch=mix(_height_squared, _height_squared)),
    NetworkBug("one-pass-variance", "instance norm by E[x^2] - E[x]^2", GENERATOR, INSTANCE,
               plant.method("InstanceNorm2d", _one_pass)),
    NetworkBug("batch-statistics-in-training", "instance norm over the batch in train mode", GENERATOR, INSTANCE,
               plant.method("InstanceNorm2d", _over_batch_in_training)),
    NetworkBug("brighter-in-training", "a tenth added to the picture in train mode", GENERATOR, ("Tanh",),
               plant.method("Tanh", _brighter_in_training)),
    NetworkBug("first-weights-kept", "a norm keeps the weights of its first run", GENERATOR, ("LIN",),
               _keep_the_first_weights),
    NetworkBug("relu6", "ReLU6 for ReLU", GENERATOR, ("ReLU",), _every("ReLU", nn.ReLU6)),
    NetworkBug("cam-average-detached", "CAM: no gradient through the average behind the logit", GENERATOR,
               ("ResnetGenerator",), kwargs=FULL,
               patch=("ms_models.ugatit.channel_mean", lambda x: ops.stop_gradient(x).mean((2, 3)))),
)  # fmt: skip
