"""The bugs that porters of CycleGAN make, as small patches; see `mutations.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np

from parity_tests.harness.mutants import planting as plant
from parity_tests.harness.mutants.ugatit import Mutation, Subject
from parity_tests.harness.mutants.ugatit_training import TrainingMutation

__all__ = ["CYCLEGAN_MUTATIONS", "CYCLEGAN_TRAINING_MUTATIONS"]

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


def _squared(first: Any, second: Any) -> Any:
    return ((first - second) ** 2).mean()


def _epoch_late(settings: Any, step: int) -> float:
    from torch_ref.steps.cyclegan import learning_rate

    return learning_rate(settings, step - settings.steps_per_epoch)


def _not_halved(step: Any) -> None:
    """The discriminators' loss is the sum over real and fake, not half of it."""
    descend = step._descend

    def doubled(name: str, objective: Any) -> Any:
        def twice() -> Any:
            total, terms = objective()
            return total * 2, terms

        return descend(name, twice if name == "D" else objective)

    step._descend = doubled


def _fakes_after_update(step: Any) -> None:
    """The discriminators see fakes of the generators that were just updated."""
    original = step.discriminator_phase

    def phase(reals: Any, fakes: Any) -> Any:
        return original(reals, {"B": step.networks["G_A"](reals["A"]), "A": step.networks["G_B"](reals["B"])})

    step.discriminator_phase = phase


def _fakes_not_detached(step: Any) -> None:
    """The discriminators' loss flows back into the generators, whose optimiser uses it, too."""
    original = step.discriminator_phase

    def phase(reals: Any, fakes: Any) -> Any:
        def objective() -> Any:
            made = {"B": step.networks["G_A"](reals["A"]), "A": step.networks["G_B"](reals["B"])}
            terms = step.discriminator_terms(reals, made)
            return sum(terms.values()), tuple(terms.values())

        step._descend("G", objective)
        return original(reals, fakes)

    step.discriminator_phase = phase


def _identity_of_the_other(step: Any) -> None:
    """Each identity loss asks the generator that translates the picture away."""
    original = step.generator_terms

    def terms(real_a: Any, real_b: Any) -> Any:
        from ms_models.losses import l1

        found, fakes = original(real_a, real_b)
        found["G.idt_A"], found["G.idt_B"] = l1(fakes["A"], real_b), l1(fakes["B"], real_a)
        return found, fakes

    step.generator_terms = terms


def _judges_exchanged(step: Any) -> None:
    step.judges = {"A": step.judges["B"], "B": step.judges["A"]}


def _pool_keeps_the_first(self: Any, images: Any) -> Any:
    """A full pool never takes anything new in, nor hands anything out."""
    self.images.extend(images[: self.size - len(self.images)])
    return images


STEPS = "ms_models.steps.cyclegan"
SHORT_EPOCHS = (("steps_per_epoch", 1), ("constant_epochs", 1))
CYCLEGAN_TRAINING_MUTATIONS: tuple[TrainingMutation, ...] = (
    TrainingMutation("pool-missing", "fakes go to the discriminators past the image pool", ("discriminator loss",),
                     (("pool_size", 0),), family="cyclegan", both=(("pool_size", 1),), steps=2),
    TrainingMutation("pool-never-swaps", "a full image pool hands out no older fakes", ("discriminator loss",),
                     patch=plant.method("ms_models.pool:ImagePool", "query", _pool_keeps_the_first),
                     family="cyclegan", both=(("pool_size", 1),), steps=2),
    TrainingMutation("fakes-after-update", "the discriminators see fakes of the updated generators",
                     ("discriminator loss",), change=_fakes_after_update, family="cyclegan"),
    TrainingMutation("fakes-not-detached", "the discriminators' loss moves the generators",
                     ("generator update", "generator moments"), change=_fakes_not_detached, family="cyclegan"),
    TrainingMutation("cyclegan-identity-weight", "identity weight not multiplied by the cycle's", ("generator loss",),
                     (("identity", 0.05),), family="cyclegan"),
    TrainingMutation("cyclegan-identity-other", "identity loss of the other generator", ("generator loss",),
                     change=_identity_of_the_other, family="cyclegan"),
    TrainingMutation("cyclegan-cross-entropy", "cross-entropy for least squares", ("loss",),
                     (("gan_mode", "vanilla"),), family="cyclegan"),
    TrainingMutation("cyclegan-rate-epoch", "learning rate falls one epoch late", ("learning rate",),
                     patch=plant.method(STEPS, "learning_rate", _epoch_late), family="cyclegan", both=SHORT_EPOCHS),
    TrainingMutation("cyclegan-rate-rule", "the model zoo's rule for the learning rate", ("learning rate",),
                     (("decay", "zoo"),), family="cyclegan", both=SHORT_EPOCHS),
    TrainingMutation("discriminators-not-halved", "the discriminators' loss not halved", ("discriminator loss",),
                     change=_not_halved, family="cyclegan"),
    TrainingMutation("cycle-squared", "squared for absolute cycle error", ("generator loss",),
                     patch=plant.method(STEPS, "l1", _squared), family="cyclegan"),
    TrainingMutation("cyclegan-judges-exchanged", "D_A judges the other system's domain", ("D_A", "D_B"),
                     change=_judges_exchanged, family="cyclegan"),
)  # fmt: skip
