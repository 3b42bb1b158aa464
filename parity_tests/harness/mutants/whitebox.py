"""Bugs that ports of White-box Cartoonization and its training step make, planted to test the checker itself."""

from __future__ import annotations

from typing import Any

from parity_tests.harness.mutants import planting as plant
from parity_tests.harness.mutants.ugatit import Mutation, Subject
from parity_tests.harness.mutants.ugatit_training import TrainingMutation

__all__ = ["WHITEBOX_MUTATIONS", "WHITEBOX_TRAINING_MUTATIONS"]

WHITEBOX: Subject = ("whitebox", "generator")
FACIAL: Subject = ("facialcartoonization", "generator")
JUDGE: Subject = ("facialcartoonization", "disc_blur")
LOGITS: Subject = ("whitebox", "disc_gray")
FEATURES: Subject = ("vgg19", "vgg19")


def _half_pixel(x: Any) -> Any:
    from ms_models.whitebox import upsample_centre

    return upsample_centre(x)


def _corner(x: Any) -> Any:
    from ms_models.whitebox import upsample_corner

    return upsample_corner(x)


def _skip_dropped(cell: Any) -> None:
    for _, layer in plant.layers(cell, "UpSample"):
        original = type(layer).construct

        def construct(self: Any, x: Any, skip: Any, original: Any = original) -> Any:
            return original(self, x, skip * 0)

        layer.construct = construct.__get__(layer)


def _tanh_added(cell: Any) -> None:
    from mindspore import ops

    original = type(cell).construct
    cell.construct = (lambda self, x: ops.tanh(original(self, x))).__get__(cell)


def _padded_left_and_above(cell: Any) -> None:
    from mindspore import nn

    for path, _ in plant.layers(cell, "ZeroPad2d"):
        plant.replace(cell, path, nn.ZeroPad2d((1, 0, 1, 0)))


def _channels_reversed(cell: Any) -> None:
    plant.set_parameter(cell, "FirstConv.0.weight", lambda value: value[:, ::-1])


def _v_first(self: Any, matrix: Any, u: Any, v: Any) -> Any:
    from ms_models.layers import SpectralNorm

    return SpectralNorm.power_iteration(self, matrix, u, v)


def _padded_all_round(cell: Any) -> None:
    for _, layer in plant.layers(cell, "ConvSN"):
        layer.form = "published"
        layer.layers[0].padding = 1


def _logits(cell: Any) -> None:
    from mindspore import nn

    plant.replace(cell, "LastConv.1", nn.Identity())


def _relu_after_conv4_4(cell: Any) -> None:
    from mindspore import ops

    original = type(cell).construct
    cell.construct = (lambda self, x: ops.relu(original(self, x))).__get__(cell)


WHITEBOX_MUTATIONS: tuple[Mutation, ...] = (
    Mutation("whitebox-half-pixel", "half-pixel bilinear for TensorFlow 1's", WHITEBOX, ("UpSample",),
             patch=plant.method("ms_models.whitebox", "upsample_corner", _half_pixel)),
    Mutation("facial-corner-pixel", "TensorFlow 1's bilinear for half-pixel", FACIAL, ("UpSample",),
             patch=plant.method("ms_models.whitebox", "upsample_centre", _corner)),
    Mutation("whitebox-skip-dropped", "skip connections not added", WHITEBOX, ("UpSample",), _skip_dropped),
    Mutation("whitebox-slope", "PyTorch's default slope 0.01", WHITEBOX, ("LeakyReLU",), plant.slope(0.01)),
    Mutation("whitebox-tanh", "tanh at the end", WHITEBOX, ("UnetGenerator", "(network)"), _tanh_added),
    Mutation("whitebox-pad-left", "strided convolutions padded left and above", WHITEBOX, ("ZeroPad2d",),
             _padded_left_and_above),
    Mutation("whitebox-rgb", "colours in the order RGB", WHITEBOX, ("FirstConv.0",), _channels_reversed),
    Mutation("facial-v-first", "the older spectral norm's order of u and v", JUDGE, ("ParametrizedConv2d",),
             patch=plant.method("ms_models.layers:ParametrizedConv2d", "power_iteration", _v_first)),
    Mutation("facial-no-sigmoid", "logits for probabilities", JUDGE, ("Sigmoid",), _logits),
    Mutation("whitebox-judge-padding", "padding on all sides in the discriminator", LOGITS, ("ConvSN", "Conv2d"),
             _padded_all_round),
    Mutation("vgg-relu", "ReLU after conv4_4", FEATURES, ("VGG19", "(network)"), _relu_after_conv4_4),
    Mutation("vgg-rgb-means", "means subtracted in the order of RGB", FEATURES, ("VGG19", "(network)"),
             patch=plant.method("ms_models.vgg", "BGR_MEAN", (123.68, 116.779, 103.939))),
)  # fmt: skip


def _variation_without_square(x: Any, distance: int = 1) -> Any:
    down = x[:, :, distance:] - x[:, :, :-distance]
    across = x[:, :, :, distance:] - x[:, :, :, :-distance]
    channels, height, width = x.shape[1:]
    return (down.abs().mean() + across.abs().mean()) / (channels * height * width)


def _filter_with(radius_change: int = 0, factor: float = 1.0) -> Any:
    def guided(guide: Any, x: Any, radius: int, eps: float) -> Any:
        from ms_models.filters import guided_filter

        return guided_filter(guide, x, radius + radius_change, eps * factor)

    return guided


def _box_with_zeros(x: Any, radius: int) -> Any:
    from mindspore import ops

    return ops.avg_pool2d(x, 2 * radius + 1, 1, radius, count_include_pad=True)


def _divided_once(first: Any, second: Any) -> Any:
    return (first - second).abs().mean()


def _one_texture_for_both(step: Any) -> None:
    drawn = step._colour_weights
    kept: list[Any] = []

    def same(like: Any) -> Any:
        kept.append(drawn(like))
        return kept[0]

    step._colour_weights = same


def _structure_flows(step: Any) -> None:
    step.superpixels = lambda pictures: pictures[:, ::-1].copy()


def _bug(where: str, name: str, replacement: Any) -> Any:
    return plant.method(where, name, replacement)


STEPS, FILTERS = "ms_models.steps.whitebox", "ms_models.filters"
GENERATOR = ("generator loss",)
WHITEBOX_TRAINING_MUTATIONS: tuple[TrainingMutation, ...] = (
    TrainingMutation("variation-absolute", "total variation without the square", GENERATOR,
                     patch=_bug(STEPS, "total_variation", _variation_without_square), family="whitebox"),
    TrainingMutation("guided-filter-eps", "guided filter with ten times the eps", GENERATOR,
                     patch=_bug(STEPS, "guided_filter", _filter_with(factor=10)), family="whitebox"),
    TrainingMutation("guided-filter-radius", "guided filter with one pixel more", GENERATOR,
                     patch=_bug(STEPS, "guided_filter", _filter_with(radius_change=1)), family="whitebox"),
    TrainingMutation("box-filter-edges", "box means that count the padding", GENERATOR,
                     patch=_bug(FILTERS, "box_mean", _box_with_zeros), family="whitebox"),
    TrainingMutation("content-divided-once", "feature distance divided once", GENERATOR,
                     patch=_bug(STEPS, "feature_distance", _divided_once), family="whitebox"),
    TrainingMutation("texture-drawn-once", "the discriminators see the generator's texture weights",
                     ("discriminator loss", "discriminator"), change=_one_texture_for_both, family="whitebox"),
    TrainingMutation("structure-colours", "structure with its colours reversed", GENERATOR,
                     change=_structure_flows, family="whitebox"),
    TrainingMutation("whitebox-beta2", "Adam beta2 0.999", ("generator update", "generator moments"),
                     (("beta2", 0.999),), family="whitebox"),
)  # fmt: skip
