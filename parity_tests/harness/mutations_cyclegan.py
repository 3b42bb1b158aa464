"""The bugs that porters of CycleGAN make, as small patches; see `mutations.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np

from parity_tests.harness import planting as plant
from parity_tests.harness.mutations import Mutation, Subject

__all__ = ["CYCLEGAN_MUTATIONS"]

GENERATOR: Subject = ("cyclegan", "G_A")
JUDGE: Subject = ("cyclegan", "D_A")
DROPOUT = {"architecture": "resnet", "ngf": 8, "n_blocks": 1, "dropout": True}
AFFINE = {"architecture": "resnet", "ngf": 8, "n_blocks": 1, "norm": "affine instance"}
UNET = {"architecture": "unet", "ngf": 4, "num_downs": 5}
ZOO = {"architecture": "zoo_resnet", "ngf": 8, "n_blocks": 3}


def transposed_with(**options: Any) -> Callable[[Any], None]:
    """Build every transposed convolution again with other options, keeping its weights."""

    def change(cell: Any) -> None:
        from mindspore import nn

        for path, layer in plant.layers(cell, "Conv2dTranspose"):
            sizes = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride)
            new = nn.Conv2dTranspose(*sizes, has_bias=layer.has_bias, **options)
            new.weight.set_data(layer.weight)
            if layer.has_bias:
                new.bias.set_data(layer.bias)
            plant.replace(cell, path, new)

    return change


def dropout_in_eval(cell: Any) -> None:
    """Drop half of the values in eval mode, too."""
    from mindspore import ops

    def construct(self: Any, x: Any) -> Any:
        return ops.dropout(x, p=0.5, training=True)

    for _, layer in plant.layers(cell, "Dropout"):
        layer.construct = construct.__get__(layer)


def unshared_block(cell: Any) -> None:
    """Give the second run of the shared block weights of its own, as a list of separate blocks has."""

    def construct(self: Any, x: Any) -> Any:
        block = self.cell_list[0]
        weight = block.conv1.features[0].weight
        for run in range(self.times):
            kept = weight.asnumpy()
            if run == 1:
                weight.set_data(weight.transpose((1, 0, 2, 3)))
            x = block(x)
            weight.set_data(type(x)(kept))
        return x

    for _, layer in plant.layers(cell, "SharedBlocks"):
        layer.construct = construct.__get__(layer)


def block_once(cell: Any) -> None:
    """Run the shared block once, as a reader of the parameter names would think."""
    plant.first(cell, "SharedBlocks").times = 1


def statistics_over_batch(cell: Any) -> None:
    """Share the statistics of the model zoo's instance norm over the batch."""
    for _, layer in plant.layers(cell, "ZooInstanceNorm2d"):
        layer.reference_exact = True


def moving_statistics(cell: Any) -> None:
    """Use the stored moving values of the model zoo's instance norm, as its batch norm does in eval mode."""
    from mindspore import ops

    def construct(self: Any, x: Any) -> Any:
        mean, variance, gamma, beta = (
            value.reshape(1, -1, 1, 1) for value in (self.moving_mean, self.moving_variance, self.gamma, self.beta)
        )
        return (x - mean) / ops.sqrt(variance + self.eps) * gamma + beta

    for _, layer in plant.layers(cell, "ZooInstanceNorm2d"):
        layer.construct = construct.__get__(layer)


def affine_ignored(cell: Any) -> None:
    """Leave out the scale and shift of every instance norm."""
    for _, layer in plant.layers(cell, "InstanceNorm2d"):
        layer.affine = False


def swapped_channels(cell: Any) -> None:
    """Read a U-Net level's joined channels the other way round."""
    name = "model.model.3.weight"
    plant.set_parameter(cell, name, lambda value: np.concatenate(np.split(value, 2)[::-1]))


CYCLEGAN_MUTATIONS: tuple[Mutation, ...] = (
    Mutation("transposed-shifted", "transposed convolutions with MindSpore's 'same' padding, shifted by one pixel",
             GENERATOR, ("ConvTranspose2d",), transposed_with(pad_mode="same")),
    Mutation("transposed-output-padding", "MindSpore's own output_padding, which leaves the last row empty",
             GENERATOR, ("ConvTranspose2d",), transposed_with(pad_mode="pad", padding=1, output_padding=1)),
    Mutation("dropout-in-eval", "dropout works in eval mode", GENERATOR, ("Dropout",), dropout_in_eval, kwargs=DROPOUT),
    Mutation("affine-ignored", "scale and shift of instance norm left out", GENERATOR, ("InstanceNorm2d",),
             affine_ignored, kwargs=AFFINE),
    Mutation("unet-joined-swapped", "the U-Net's levels join result and input the other way round", GENERATOR,
             ("UnetSkipConnectionBlock",),
             patch=lambda: mock.patch("ms_models.cyclegan.ops", plant.OpsWithSwappedCat()), kwargs=UNET),
    Mutation("unet-channels-swapped", "the halves of an up-convolution's input channels swapped", GENERATOR,
             ("model.model.3",), swapped_channels, kwargs=UNET),
    Mutation("shared-block-unshared", "the second run of the shared residual block has weights of its own", GENERATOR,
             ("SharedBlocks",), unshared_block, kwargs=ZOO),
    Mutation("shared-block-once", "the shared residual block runs once", GENERATOR, ("SharedBlocks",), block_once,
             kwargs=ZOO),
    Mutation("zoo-norm-over-batch", "the model zoo's instance norm shares its statistics over the batch", GENERATOR,
             ("ZooInstanceNorm2d",), statistics_over_batch, kwargs=ZOO),
    Mutation("zoo-norm-moving", "the model zoo's instance norm uses its moving values", GENERATOR,
             ("ZooInstanceNorm2d",), moving_statistics, kwargs=ZOO),
    Mutation("judge-slope", "LeakyReLU slope 0.01 in the patch discriminator", JUDGE, ("LeakyReLU",),
             plant.slope(0.01)),
)  # fmt: skip
