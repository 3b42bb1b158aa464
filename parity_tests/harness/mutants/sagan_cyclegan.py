"""Bugs of self-attention, of the moving spectral norm and of training with a gradient penalty."""

from typing import Any

import mindspore
import numpy as np
from mindspore import ops

from ms_models.gradient_penalty import gradient_penalty
from ms_models.sagan_cyclegan import pixels
from ms_models.spectral_wrapper import SpectralNorm, iterate
from parity_tests.harness.mutants import planting as plant
from parity_tests.harness.mutants.bugs import NetworkBug, Patch, Subject, TrainingBug

GENERATOR: Subject = ("sagan_cyclegan", "netG_A")
JUDGE: Subject = ("sagan_cyclegan", "netD_A")
STEP: Subject = ("sagan_cyclegan", "training")
ATTENTION = ("Self_Attention",)
NORM, LOSS = "ms_models.spectral_wrapper.SpectralNorm.normalized_weight", "ms_models.sagan_cyclegan.GANLoss.construct"


def _attention(other_axis: bool = False, scaled: bool = False, gain: bool = True, skip: bool = True) -> Patch:
    def construct(self: Any, x: Any) -> Any:
        """Self-attention with the softmax over the other axis, scaled scores, no gain, or no skip."""
        f, g, h = pixels(self.conv_f(x)), pixels(self.conv_g(x)), pixels(self.conv_h(x))
        score = ops.bmm(f.swapaxes(1, 2), g) / (f.shape[1] ** 0.5 if scaled else 1.0)
        weights = self.softmax(score.swapaxes(1, 2)) if other_axis else self.softmax(score).swapaxes(1, 2)
        out = ops.bmm(h, weights).reshape(x.shape)
        return (self.gamma * out if gain else out) + (x if skip else 0)

    return "ms_models.sagan_cyclegan.Self_Attention.construct", construct


def _output_axis(self: Any) -> Any:
    """Divide by a sigma of the weight flattened by output channel, as torch.nn.utils.spectral_norm does."""
    weight = self.module.weight_matrices
    matrix = weight.swapaxes(0, 1).reshape(weight.shape[1], -1)
    u, v = iterate(ops.stop_gradient(matrix), mindspore.Tensor(np.ones(weight.shape[1], np.float32)))
    return weight / ops.matmul(u, ops.matmul(matrix, v))


moving_weight = SpectralNorm.normalized_weight


def _rests_in_eval(self: Any) -> Any:
    """Use the stored vectors, without an iteration, in eval mode."""
    return moving_weight(self) if self.training else self.resting_weight()


def _shifted(layer: Any, original: Any, x: Any) -> Any:
    """A transposed convolution cropped at one end only, which shifts the picture by one pixel."""
    out = original(x)
    out = ops.cat((out[:, :, -1:], out[:, :, :-1]), 2)
    return ops.cat((out[:, :, :, -1:], out[:, :, :, :-1]), 3)


NETWORK_BUGS: tuple[NetworkBug, ...] = (
    NetworkBug("attention-axis", "attention: softmax over the wrong axis", GENERATOR, ATTENTION,
               patch=_attention(other_axis=True)),
    NetworkBug("attention-scaled", "attention: scores divided by the root of the width", GENERATOR, ATTENTION,
               patch=_attention(scaled=True)),
    NetworkBug("attention-no-gain", "attention: gamma missing", GENERATOR, ATTENTION, patch=_attention(gain=False)),
    NetworkBug("attention-no-skip", "attention: input not added", JUDGE, ATTENTION, patch=_attention(skip=False)),
    NetworkBug("attention-queries-swapped", "attention: conv_f and conv_g swapped", JUDGE, ("conv_f", "conv_g"),
               plant.swapped("attn1.conv_f.weight", "attn1.conv_g.weight")),
    NetworkBug("wrapper-output-axis", "spectral norm of a transposed convolution along the output axis", GENERATOR,
               ("SpectralNorm",), patch=(NORM, _output_axis)),
    NetworkBug("wrapper-rests", "spectral norm rests in eval mode", JUDGE, ("SpectralNorm",),
               patch=(NORM, _rests_in_eval)),
    NetworkBug("transposed-shift", "transposed convolution shifted by one pixel", GENERATOR,
               ("last.0", "ConvTranspose2d"), plant.each("Conv2dTranspose", plant.around("construct", _shifted))),
)  # fmt: skip


def _penalty_without_gradient(*args: Any) -> Any:
    """The penalty is added to the loss, and no gradient comes from it: second order lost."""
    return ops.stop_gradient(gradient_penalty(*args))


def _hinge_exchanged(self: Any, logits: Any, real: bool = True, for_generator: bool = False) -> Any:
    sign = 1.0 if real else -1.0
    return -sign * logits.mean() if for_generator else ops.relu(1 + sign * logits).mean()


TRAINING_BUGS: tuple[TrainingBug, ...] = (
    TrainingBug("penalty-on-fakes", "gradient penalty taken at the fakes only", STEP, ("discriminator loss",),
                change=plant.with_attribute("penalty_points", lambda _: lambda real, fake: fake)),
    TrainingBug("penalty-first-order", "gradient penalty without its gradient", STEP, ("discriminator",),
                patch=("ms_models.steps.sagan_cyclegan.gradient_penalty", _penalty_without_gradient)),
    TrainingBug("hinge-sign", "hinge with real and fake exchanged", STEP, ("loss",), patch=(LOSS, _hinge_exchanged)),
    TrainingBug("identity-a-twice", "identity A counted twice, B never", STEP, ("generator loss",),
                {"reference_exact": True}),
)  # fmt: skip
