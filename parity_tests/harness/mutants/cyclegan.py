"""Bugs that porters of CycleGAN make, in both systems' networks and in its training step."""

from typing import Any

import numpy as np
from mindspore import nn, ops

from ms_models.kernels import instance_norm
from ms_models.losses import l1
from parity_tests.harness.mutants import planting as plant
from parity_tests.harness.mutants.bugs import Change, NetworkBug, Subject, TrainingBug

GENERATOR: Subject = ("cyclegan", "G_A")
JUDGE: Subject = ("cyclegan", "D_A")
STEP: Subject = ("cyclegan", "training")
DROPOUT = {"architecture": "resnet", "ngf": 8, "n_blocks": 1, "dropout": True}
AFFINE = {"architecture": "resnet", "ngf": 8, "n_blocks": 1, "norm": "affine instance"}
UNET = {"architecture": "unet", "ngf": 4, "num_downs": 5}
ZOO = {"architecture": "zoo_resnet", "ngf": 8, "n_blocks": 3}
TRANSPOSED, ZOO_NORM = ("ConvTranspose2d",), ("ZooInstanceNorm2d",)


def _transposed_with(**options: Any) -> Change:
    def make(layer: Any) -> Any:
        """Build a transposed convolution again with other options, keeping its weights."""
        sizes = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride)
        new = nn.Conv2dTranspose(*sizes, has_bias=layer.has_bias, **options)
        new.weight.set_data(layer.weight)
        if layer.has_bias:
            new.bias.set_data(layer.bias)
        return new

    return plant.anew("Conv2dTranspose", make)


def _second_run_of_its_own(self: Any, x: Any) -> Any:
    """The shared block's second run has weights of its own, as a list of separate blocks has."""
    block = self.cell_list[0]
    weight = block.conv1.features[0].weight
    for run in range(self.times):
        kept = weight.asnumpy()
        if run == 1:
            weight.set_data(weight.transpose((1, 0, 2, 3)))
        x = block(x)
        weight.set_data(type(x)(kept))
    return x


def _by_moving_statistics(self: Any, x: Any) -> Any:
    """The stored moving values of the model zoo's instance norm, as its batch norm uses them in eval mode."""
    mean, variance, gamma, beta = (
        value.reshape(1, -1, 1, 1) for value in (self.moving_mean, self.moving_variance, self.gamma, self.beta)
    )
    return (x - mean) / ops.sqrt(variance + self.eps) * gamma + beta


NETWORK_BUGS: tuple[NetworkBug, ...] = (
    NetworkBug("transposed-shifted", "transposed convolutions with MindSpore's 'same' padding, shifted by one pixel",
               GENERATOR, TRANSPOSED, _transposed_with(pad_mode="same")),
    NetworkBug("transposed-output-padding", "MindSpore's own output_padding, which leaves the last row empty",
               GENERATOR, TRANSPOSED, _transposed_with(pad_mode="pad", padding=1, output_padding=1)),
    NetworkBug("dropout-in-eval", "dropout works in eval mode", GENERATOR, ("Dropout",),
               plant.method("Dropout", lambda self, x: ops.dropout(x, p=0.5, training=True)), kwargs=DROPOUT),
    NetworkBug("affine-ignored", "scale and shift of instance norm left out", GENERATOR, ("InstanceNorm2d",),
               plant.method("InstanceNorm2d", lambda self, x: instance_norm(x, self.eps)), kwargs=AFFINE),
    NetworkBug("unet-joined-swapped", "the U-Net's levels join result and input the other way round", GENERATOR,
               ("UnetSkipConnectionBlock",), patch=("ms_models.unet.ops", plant.OpsWithSwappedCat()), kwargs=UNET),
    NetworkBug("unet-channels-swapped", "the halves of an up-convolution's input channels swapped", GENERATOR,
               ("model.model.3",),
               plant.changed("model.model.3.weight", lambda weight: np.concatenate(np.split(weight, 2)[::-1])),
               kwargs=UNET),
    NetworkBug("shared-block-unshared", "the second run of the shared residual block has weights of its own",
               GENERATOR, ("SharedBlocks",), plant.method("SharedBlocks", _second_run_of_its_own), kwargs=ZOO),
    NetworkBug("shared-block-once", "the shared residual block runs once", GENERATOR, ("SharedBlocks",),
               plant.each("SharedBlocks", plant.with_attribute("times", lambda _: 1)), kwargs=ZOO),
    NetworkBug("zoo-norm-over-batch", "the model zoo's instance norm shares its statistics over the batch", GENERATOR,
               ZOO_NORM, plant.each("ZooInstanceNorm2d", plant.with_attribute("reference_exact", lambda _: True)),
               kwargs=ZOO),
    NetworkBug("zoo-norm-moving", "the model zoo's instance norm uses its moving values", GENERATOR, ZOO_NORM,
               plant.method("ZooInstanceNorm2d", _by_moving_statistics), kwargs=ZOO),
    NetworkBug("judge-slope", "LeakyReLU slope 0.01 in the patch discriminator", JUDGE, ("LeakyReLU",),
               plant.slope(0.01)),
)  # fmt: skip


def _not_halved(step: Any, weights: Any, phase: str) -> Any:
    """The discriminators' loss is the sum over real and fake, not half of it."""
    return dict.fromkeys(weights(phase), 1.0) if phase == "D" else weights(phase)


def _remade(step: Any, real_a: Any, real_b: Any) -> tuple[Any, Any]:
    """The fakes of A and of B by the generators as they are now."""
    return step.networks["G_B"](real_b), step.networks["G_A"](real_a)


def _fakes_after_update(step: Any, prepare: Any, phase: str, real_a: Any, real_b: Any, made: Any) -> Any:
    """Make the fakes anew before the discriminators' phase."""
    return prepare(phase, real_a, real_b, _remade(step, real_a, real_b) if phase == "D" else made)


def _fakes_not_detached(step: Any, prepare: Any, phase: str, real_a: Any, real_b: Any, made: Any) -> Any:
    """The discriminators' loss flows back into the generators, whose optimiser uses it, too."""

    def objective(real_a: Any, real_b: Any) -> Any:
        """Return the discriminators' loss on fakes that are not detached."""
        terms, made = step.discriminator_objective(real_a, real_b, *_remade(step, real_a, real_b))
        return sum(terms.values()), terms, made

    if phase == "D":
        step.descent("G", objective, real_a, real_b)
    return prepare(phase, real_a, real_b, made)


def _identity_of_the_other(step: Any, objective: Any, real_a: Any, real_b: Any) -> Any:
    """Each identity loss asks the generator that translates the picture away."""
    found, fakes = objective(real_a, real_b)
    return {**found, "G.idt_A": l1(fakes[0], real_b), "G.idt_B": l1(fakes[1], real_a)}, fakes


def _pools_keep_the_first(step: Any) -> None:
    """A full pool never takes anything new in, nor hands anything out."""
    for pool in step.pools.values():
        pool.query = lambda images, pool=pool: pool.images.extend(images[: pool.size - len(pool.images)]) or images


TRAINING_BUGS: tuple[TrainingBug, ...] = (
    TrainingBug("pool-missing", "fakes go to the discriminators past the image pool", STEP, ("discriminator loss",),
                {"pool_size": 0}),
    TrainingBug("pool-never-swaps", "a full image pool hands out no older fakes", STEP, ("discriminator loss",),
                change=_pools_keep_the_first),
    TrainingBug("fakes-after-update", "the discriminators see fakes of the updated generators", STEP,
                ("discriminator loss",), change=plant.around("prepare", _fakes_after_update)),
    TrainingBug("fakes-not-detached", "the discriminators' loss moves the generators", STEP,
                ("generator update", "generator moments"), change=plant.around("prepare", _fakes_not_detached)),
    TrainingBug("cyclegan-identity-weight", "identity weight not multiplied by the cycle's", STEP,
                ("generator loss",), {"identity": 0.05}),
    TrainingBug("cyclegan-identity-other", "identity loss of the other generator", STEP, ("generator loss",),
                change=plant.around("generator_objective", _identity_of_the_other)),
    TrainingBug("cyclegan-cross-entropy", "cross-entropy for least squares", STEP, ("loss",), {"gan_mode": "vanilla"}),
    TrainingBug("cyclegan-rate-epoch", "learning rate falls one epoch late", STEP, ("learning rate",),
                change=plant.late_rate(lambda settings: settings.steps_per_epoch)),
    TrainingBug("cyclegan-rate-rule", "the model zoo's rule for the learning rate", STEP, ("learning rate",),
                {"decay": "zoo"}),
    TrainingBug("discriminators-not-halved", "the discriminators' loss not halved", STEP, ("discriminator loss",),
                change=plant.around("weights", _not_halved)),
    TrainingBug("cycle-squared", "squared for absolute cycle error", STEP, ("generator loss",),
                patch=("ms_models.steps.cyclegan.l1", plant.mean_square)),
    TrainingBug("cyclegan-judges-exchanged", "D_A judges the other system's domain", STEP, ("D_A", "D_B"),
                change=plant.with_attribute("judges", lambda own: {"A": own["B"], "B": own["A"]})),
)  # fmt: skip
