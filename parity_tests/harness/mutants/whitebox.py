"""Bugs that ports of White-box Cartoonization, its feature network and its training step make."""

from collections.abc import Callable
from typing import Any

from mindspore import nn, ops

from ms_models.filters import guided_filter
from ms_models.layers import SpectralNorm
from ms_models.whitebox import upsample_centre, upsample_corner
from parity_tests.harness.mutants import planting as plant
from parity_tests.harness.mutants.bugs import NetworkBug, Subject, TrainingBug

WHITEBOX: Subject = ("whitebox", "generator")
FACIAL: Subject = ("facialcartoonization", "generator")
JUDGE: Subject = ("facialcartoonization", "disc_blur")
LOGITS: Subject = ("whitebox", "disc_gray")
FEATURES: Subject = ("vgg19", "vgg19")
STEP: Subject = ("whitebox", "training")


def _padded_all_round(layer: Any) -> None:
    layer.form = "published"
    layer.layers[0].padding = 1


NETWORK_BUGS: tuple[NetworkBug, ...] = (
    NetworkBug("whitebox-half-pixel", "half-pixel bilinear for TensorFlow 1's", WHITEBOX, ("UpSample",),
               patch=("ms_models.whitebox.upsample_corner", upsample_centre)),
    NetworkBug("facial-corner-pixel", "TensorFlow 1's bilinear for half-pixel", FACIAL, ("UpSample",),
               patch=("ms_models.whitebox.upsample_centre", upsample_corner)),
    NetworkBug("whitebox-skip-dropped", "skip connections not added", WHITEBOX, ("UpSample",),
               plant.each("UpSample", plant.around("construct", lambda layer, own, x, skip: own(x, skip * 0)))),
    NetworkBug("whitebox-slope", "PyTorch's default slope 0.01", WHITEBOX, ("LeakyReLU",), plant.slope(0.01)),
    NetworkBug("whitebox-tanh", "tanh at the end", WHITEBOX, ("UnetGenerator", "(network)"),
               plant.other_output(ops.tanh)),
    NetworkBug("whitebox-pad-left", "strided convolutions padded left and above", WHITEBOX, ("ZeroPad2d",),
               plant.anew("Pad", lambda layer: nn.ZeroPad2d((1, 0, 1, 0)))),
    NetworkBug("whitebox-rgb", "colours in the order RGB", WHITEBOX, ("FirstConv.0",),
               plant.changed("FirstConv.0.weight", lambda weight: weight[:, ::-1])),
    NetworkBug("facial-v-first", "the older spectral norm's order of u and v", JUDGE, ("ParametrizedConv2d",),
               patch=("ms_models.layers.ParametrizedConv2d.power_iteration", SpectralNorm.power_iteration)),
    NetworkBug("facial-no-sigmoid", "logits for probabilities", JUDGE, ("Sigmoid",),
               plant.anew("Sigmoid", lambda layer: nn.Identity())),
    NetworkBug("whitebox-judge-padding", "padding on all sides in the discriminator", LOGITS, ("ConvSN", "Conv2d"),
               plant.each("ConvSN", _padded_all_round)),
    NetworkBug("vgg-relu", "ReLU after conv4_4", FEATURES, ("VGG19", "(network)"), plant.other_output(ops.relu)),
    NetworkBug("vgg-rgb-means", "means subtracted in the order of RGB", FEATURES, ("VGG19", "(network)"),
               patch=("ms_models.vgg.BGR_MEAN", (123.68, 116.779, 103.939))),
)  # fmt: skip


def _variation_without_square(x: Any, distance: int = 1) -> Any:
    down = x[:, :, distance:] - x[:, :, :-distance]
    across = x[:, :, :, distance:] - x[:, :, :, :-distance]
    channels, height, width = x.shape[1:]
    return (down.abs().mean() + across.abs().mean()) / (channels * height * width)


def _filter_with(wider: int = 0, factor: float = 1.0) -> Callable[..., Any]:
    return lambda guide, x, radius, eps: guided_filter(guide, x, radius + wider, eps * factor)


def _box_with_zeros(x: Any, radius: int) -> Any:
    return ops.avg_pool2d(x, 2 * radius + 1, 1, radius, count_include_pad=True)


def _divided_once(first: Any, second: Any) -> Any:
    return (first - second).abs().mean()


def _one_texture_for_both(step: Any) -> None:
    kept: list[Any] = []

    def same(step: Any, drawn: Any, like: Any) -> Any:
        """Draw, and hand out the first draw again."""
        kept.append(drawn(like))
        return kept[0]

    plant.around("_colour_weights", same)(step)


def _structure_reversed(step: Any) -> None:
    step.hooks["superpixels"] = lambda pictures: pictures[:, ::-1].copy()


GENERATOR = ("generator loss",)
TRAINING_BUGS: tuple[TrainingBug, ...] = (
    TrainingBug("variation-absolute", "total variation without the square", STEP, GENERATOR,
                patch=("ms_models.steps.whitebox.total_variation", _variation_without_square)),
    TrainingBug("guided-filter-eps", "guided filter with ten times the eps", STEP, GENERATOR,
                patch=("ms_models.steps.whitebox.guided_filter", _filter_with(factor=10))),
    TrainingBug("guided-filter-radius", "guided filter with one pixel more", STEP, GENERATOR,
                patch=("ms_models.steps.whitebox.guided_filter", _filter_with(wider=1))),
    TrainingBug("box-filter-edges", "box means that count the padding", STEP, GENERATOR,
                patch=("ms_models.filters.box_mean", _box_with_zeros)),
    TrainingBug("content-divided-once", "feature distance divided once", STEP, GENERATOR,
                patch=("ms_models.steps.whitebox.feature_distance", _divided_once)),
    TrainingBug("texture-drawn-once", "the discriminators see the generator's texture weights", STEP,
                ("discriminator loss", "discriminator"), change=_one_texture_for_both),
    TrainingBug("structure-colours", "structure with its colours reversed", STEP, GENERATOR,
                change=_structure_reversed),
    TrainingBug("whitebox-beta2", "Adam beta2 0.999", STEP, ("generator update", "generator moments"),
                {"beta2": 0.999}),
)  # fmt: skip
