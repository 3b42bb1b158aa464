"""Bugs of self-attention, of the moving spectral norm and of WGAN-like training, as small patches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

from parity_tests.harness.mutants import planting as plant
from parity_tests.harness.mutants.ugatit import Mutation, Subject
from parity_tests.harness.mutants.ugatit_training import TrainingMutation

__all__ = ["DTN_TRAINING_MUTATIONS", "SAGAN_MUTATIONS", "SAGAN_TRAINING_MUTATIONS"]

GENERATOR: Subject = ("sagan_cyclegan", "netG_A")
DISCRIMINATOR: Subject = ("sagan_cyclegan", "netD_A")


def _attention(
    other_axis: bool = False, scaled: bool = False, gain: bool = True, skip: bool = True
) -> Callable[[], Any]:
    """Patch of the self-attention with the softmax over the other axis, scaled scores, no gain, or no skip."""

    def construct(self: Any, x: Any) -> Any:
        from mindspore import ops

        from ms_models.sagan_cyclegan import pixels

        f, g, h = pixels(self.conv_f(x)), pixels(self.conv_g(x)), pixels(self.conv_h(x))
        score = ops.bmm(f.swapaxes(1, 2), g) / (f.shape[1] ** 0.5 if scaled else 1.0)
        weights = self.softmax(score.swapaxes(1, 2)) if other_axis else self.softmax(score).swapaxes(1, 2)
        out = ops.bmm(h, weights).reshape(x.shape)
        return (self.gamma * out if gain else out) + (x if skip else 0)

    return plant.method("ms_models.sagan_cyclegan:Self_Attention", "construct", construct)


def _output_axis(self: Any) -> Any:
    """Divide by a sigma of the weight flattened by output channel, as torch.nn.utils.spectral_norm does."""
    import numpy as np
    from mindspore import Tensor, ops

    from ms_models.spectral_wrapper import iterate

    weight = self.module.weight_matrices
    matrix = weight.swapaxes(0, 1).reshape(weight.shape[1], -1)
    u, v = iterate(ops.stop_gradient(matrix), Tensor(np.ones(weight.shape[1], np.float32)))
    return weight / ops.matmul(u, ops.matmul(matrix, v))


def _resting(self: Any) -> Any:
    """Use the stored vectors, without an iteration, in eval mode."""
    from ms_models.spectral_wrapper import SpectralNorm

    self.moving = self.training
    return ORIGINAL[SpectralNorm](self)


def _rests_in_eval() -> Any:
    from ms_models.spectral_wrapper import SpectralNorm

    ORIGINAL[SpectralNorm] = SpectralNorm.normalized_weight
    return mock.patch.object(SpectralNorm, "normalized_weight", _resting)


ORIGINAL: dict[type, Callable[..., Any]] = {}


def _unshifted_padding(cell: Any) -> None:
    """Transposed convolution cropped at one end only, which shifts the picture by one pixel."""
    layer = plant.first(cell, "Conv2dTranspose")
    original = layer.construct

    def construct(x: Any) -> Any:
        from mindspore import ops

        out = original(x)
        out = ops.cat((out[:, :, -1:], out[:, :, :-1]), 2)
        return ops.cat((out[:, :, :, -1:], out[:, :, :, :-1]), 3)

    layer.construct = construct


def _penalty_where(place: str) -> Callable[[Any], None]:
    def change(step: Any) -> None:
        step.penalty_points = lambda real, fake: {"real": real, "fake": fake}[place]

    return change


def _penalty_without_gradient() -> Any:
    """The penalty is added to the loss, and no gradient comes from it: second order lost."""
    import ms_models.steps.sagan_cyclegan as steps

    original = steps.gradient_penalty

    def penalty(*args: Any) -> Any:
        value, gradients = original(*args)
        return value, tuple(gradient * 0 for gradient in gradients)

    return mock.patch.object(steps, "gradient_penalty", penalty)


def _hinge_sign(self: Any, logits: Any, real: bool = True, for_generator: bool = False) -> Any:
    from mindspore import ops

    sign = 1.0 if real else -1.0
    return -sign * logits.mean() if for_generator else ops.relu(1 + sign * logits).mean()


def _hinge_for_generator(self: Any, logits: Any, real: bool = True, for_generator: bool = False) -> Any:
    from mindspore import ops

    return ops.relu(1 + (-1.0 if real else 1.0) * logits).mean()


def _bug(target: str, replacement: Any) -> Callable[[], Any]:
    return lambda: mock.patch(target, replacement)


LOSS = "ms_models.sagan_cyclegan.GANLoss.construct"
NORM = "ms_models.spectral_wrapper:SpectralNorm"

SAGAN_MUTATIONS: tuple[Mutation, ...] = (
    Mutation("attention-axis", "attention: softmax over the wrong axis", GENERATOR, ("Self_Attention",),
             patch=_attention(other_axis=True)),
    Mutation("attention-scaled", "attention: scores divided by the root of the width", GENERATOR, ("Self_Attention",),
             patch=_attention(scaled=True)),
    Mutation("attention-no-gain", "attention: gamma missing", GENERATOR, ("Self_Attention",),
             patch=_attention(gain=False)),
    Mutation("attention-no-skip", "attention: input not added", DISCRIMINATOR, ("Self_Attention",),
             patch=_attention(skip=False)),
    Mutation("attention-queries-swapped", "attention: conv_f and conv_g swapped", DISCRIMINATOR, ("conv_f", "conv_g"),
             plant.swapped("attn1.conv_f.weight", "attn1.conv_g.weight")),
    Mutation("wrapper-output-axis", "spectral norm of a transposed convolution along the output axis", GENERATOR,
             ("SpectralNorm",), patch=plant.method(NORM, "normalized_weight", _output_axis)),
    Mutation("wrapper-rests", "spectral norm rests in eval mode", DISCRIMINATOR, ("SpectralNorm",),
             patch=_rests_in_eval),
    Mutation("transposed-shift", "transposed convolution shifted by one pixel", GENERATOR,
             ("last.0", "ConvTranspose2d"), _unshifted_padding),
)  # fmt: skip

SAGAN_TRAINING_MUTATIONS: tuple[TrainingMutation, ...] = (
    TrainingMutation("penalty-on-fakes", "gradient penalty taken at the fakes only", ("discriminator loss",),
                     change=_penalty_where("fake"), family="sagan_cyclegan", both=(("gan_mode", "sn+gp"),)),
    TrainingMutation("penalty-first-order", "gradient penalty without its gradient", ("discriminator",),
                     patch=_penalty_without_gradient, family="sagan_cyclegan", both=(("gan_mode", "sn+gp"),)),
    TrainingMutation("hinge-sign", "hinge with real and fake exchanged", ("loss",),
                     patch=_bug(LOSS, _hinge_sign), family="sagan_cyclegan"),
    TrainingMutation("hinge-for-generators", "hinge in the generators' loss, too", ("generator loss",),
                     patch=_bug(LOSS, _hinge_for_generator), family="dtn"),
    TrainingMutation("identity-a-twice", "identity A counted twice, B never", ("generator loss",),
                     (("reference_exact", True),), family="sagan_cyclegan", both=(("identity", 0.05),)),
)  # fmt: skip


def _rec_never_judged(step: Any) -> None:
    """The discriminator sees the translations twice and the reconstructions never."""
    original = step.discriminator_phase
    step.discriminator_phase = lambda target, fake, rec: original(target, fake, fake)


def _domains_exchanged(step: Any) -> None:
    generators, discriminators = step.generator_phase, step.discriminator_phase
    real: list[Any] = []

    def exchanged(source: Any, target: Any) -> Any:
        real[:] = [source]
        return generators(target, source)

    step.generator_phase = exchanged
    step.discriminator_phase = lambda target, fake, rec: discriminators(real[0], fake, rec)


def _codes_detached(step: Any) -> None:
    """No gradient flows from the code of a translation back into encoder and decoder."""
    original, encoder = step.generator_phase, step.networks["encoder"]

    def phase(source: Any, target: Any) -> Any:
        from mindspore import ops

        real = {id(source), id(target)}
        step.networks["encoder"] = lambda x: encoder(x) if id(x) in real else ops.stop_gradient(encoder(x))
        try:
            return original(source, target)
        finally:
            step.networks["encoder"] = encoder

    step.generator_phase = phase


def _encoder_rests(step: Any) -> None:
    """The encoder is not among what the optimiser moves."""
    optimizer = step.optimizers["G"]
    kept = [index for index, value in enumerate(optimizer.parameters) if not value.name.startswith("encoder.")]
    for name in ("parameters", "exp_avg", "exp_avg_sq"):
        setattr(optimizer, name, [getattr(optimizer, name)[index] for index in kept])


DTN_TRAINING_MUTATIONS: tuple[TrainingMutation, ...] = (
    TrainingMutation("dtn-weights-exchanged", "weights of consistency and reconstruction exchanged",
                     ("generator loss",), (("consistency", 300.0), ("reconstruction", 10.0)), family="dtn"),
    TrainingMutation("dtn-rates-exchanged", "learning rates of generator and discriminator exchanged",
                     ("learning rate",), (("lr_g", 4e-4), ("lr_d", 1e-4)), family="dtn"),
    TrainingMutation("dtn-rec-never-judged", "reconstructions never shown to the discriminator",
                     ("discriminator loss",), change=_rec_never_judged, family="dtn"),
    TrainingMutation("dtn-domains-exchanged", "source and target exchanged", ("loss",), change=_domains_exchanged,
                     family="dtn"),
    TrainingMutation("dtn-codes-detached", "no gradient through the codes of translations",
                     ("generator update", "generator moments"), change=_codes_detached, family="dtn"),
    TrainingMutation("dtn-encoder-rests", "encoder left out of the optimiser", ("encoder",), change=_encoder_rests,
                     family="dtn"),
    TrainingMutation("dtn-not-clipped", "weights not clipped after a WGAN step", ("discriminator update",),
                     change=lambda step: setattr(step, "clip", lambda: None), family="dtn",
                     both=(("gan_mode", "wgan"),)),
)  # fmt: skip
