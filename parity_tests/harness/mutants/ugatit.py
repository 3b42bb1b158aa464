"""The bugs that porters make, as small patches, to test the checker itself.

Each mutation says where it strikes (a subject of the registry), what it changes, and what must be blamed. The
checker must catch every one in at least one mode and name the right layer or training phase.

Not in the list: photo2cartoon's content vectors in another order. Each encoder block adds an instance norm, whose
mean is zero, so all four vectors are the same numbers and their order changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from parity_tests.harness.mutants import planting as plant

__all__ = ["MUTATIONS", "Mutation", "Subject"]

Subject = tuple[str, str]
UGATIT: Subject = ("ugatit", "genA2B")
PHOTO2CARTOON: Subject = ("photo2cartoon", "genA2B")
LOCAL: Subject = ("photo2cartoon", "disLA")
FACE: Subject = ("mobilefacenet", "mobilefacenet")


@dataclass(frozen=True)
class Mutation:
    """One planted bug.

    Attributes:
        name: short and unique.
        what: the bug in words.
        subject: (family, part) that is compared, or (family, "training").
        blame: fragments of which one must occur in the blamed layer, layer type, or training phase.
        cell: changes the MindSpore network (or its weights) in place, or None.
        patch: context manager factory that is active during the comparison, or None.
        kwargs: constructor arguments, where other than the released configuration made narrow is meant.
    """

    name: str
    what: str
    subject: Subject
    blame: tuple[str, ...]
    cell: Callable[[Any], None] | None = None
    patch: Callable[[], Any] | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def planted(self, cell: Any) -> Iterator[None]:
        """Plant the bug in a network for the time of a comparison."""
        with ExitStack() as stack:
            if self.patch:
                stack.enter_context(self.patch())
            if self.cell:
                self.cell(cell)
            yield


MUTATIONS: tuple[Mutation, ...] = (
    Mutation("biased-variance", "AdaLIN and LIN divide by N instead of N - 1", UGATIT, ("AdaLIN", "LIN"),
             patch=plant.method("ms_models.layers", "normalize_unbiased", plant.biased)),
    Mutation("biased-instance-branch", "only the instance branch is biased", UGATIT, ("AdaLIN", "LIN"),
             patch=plant.method("ms_models.layers", "mix_instance_and_layer", plant.mix_biased(True, False))),
    Mutation("biased-layer-branch", "only the layer branch is biased", UGATIT, ("AdaLIN", "LIN"),
             patch=plant.method("ms_models.layers", "mix_instance_and_layer", plant.mix_biased(False, True))),
    Mutation("rho-swapped", "rho and 1 - rho swapped", UGATIT, ("AdaLIN", "LIN"),
             patch=plant.method("ms_models.layers", "mix_instance_and_layer", plant.mix_swapped)),
    Mutation("norm-without-gradient", "no gradient through mean and variance", UGATIT, ("AdaLIN", "LIN"),
             patch=plant.method("ms_models.layers", "mix_instance_and_layer", plant.mix_no_gradient_through_mean)),
    Mutation("adalin-eps-x10", "AdaLIN eps 1e-4", UGATIT, ("AdaLIN",), plant.eps("AdaLIN", 10)),
    Mutation("adalin-eps-/10", "AdaLIN eps 1e-6", UGATIT, ("AdaLIN",), plant.eps("AdaLIN", 0.1)),
    Mutation("lin-eps-x10", "LIN eps 1e-4", UGATIT, ("LIN",), plant.eps("LIN", 10)),
    Mutation("instance-norm-eps-x10", "instance norm eps 1e-4", UGATIT, ("InstanceNorm2d",),
             plant.eps("InstanceNorm2d", 10)),
    Mutation("instance-norm-eps-/10", "instance norm eps 1e-6", UGATIT, ("InstanceNorm2d",),
             plant.eps("InstanceNorm2d", 0.1)),
    Mutation("batch-norm", "batch norm in the place of instance norm", UGATIT, ("InstanceNorm2d",),
             plant.batch_norm_for_instance_norm),
    Mutation("rho-not-limited", "rho left above 1", UGATIT, ("UpBlock1_1.norm1",), plant.no_rho_limit),
    Mutation("rho-fresh", "rho keeps its initial value", UGATIT, ("norm", "UpBlock2"), plant.fresh_rho),
    Mutation("pad-zero", "zero for reflection padding", UGATIT, ("ReflectionPad2d",), plant.pad_mode("constant")),
    Mutation("pad-replicate", "replication for reflection padding", UGATIT, ("ReflectionPad2d",),
             plant.pad_mode("replicate")),
    Mutation("pad-one-side", "all padding on the left and top", UGATIT, ("UpBlock1_1.pad1",), plant.pad_one_side),
    Mutation("bilinear", "bilinear for nearest up-sampling", UGATIT, ("Upsample",), patch=plant.bilinear(False)),
    Mutation("bilinear-corners", "bilinear, align_corners", UGATIT, ("Upsample",), patch=plant.bilinear(True)),
    Mutation("nearest-shifted", "nearest up-sampling shifted by one pixel", UGATIT, ("Upsample",),
             patch=plant.method("ms_models.layers", "upsample_nearest", plant.shifted_nearest)),
    Mutation("cam-weights-swapped", "CAM: average and maximum weights swapped", UGATIT, ("gap_fc", "gmp_fc"),
             plant.swapped("gap_fc.weight", "gmp_fc.weight")),
    Mutation("cam-mean-for-max", "CAM: average pooling in the maximum branch", UGATIT, ("ResnetGenerator",),
             patch=plant.method("ms_models.ugatit", "channel_max", plant.mean_for_max)),
    Mutation("concat-order", "CAM: the two halves concatenated the other way round", UGATIT, ("ResnetGenerator",),
             patch=lambda: mock.patch("ms_models.ugatit.ops", plant.OpsWithSwappedCat())),
    Mutation("gamma-beta-swapped", "gamma and beta heads swapped", UGATIT, ("gamma", "beta"),
             plant.swapped("gamma.weight", "beta.weight")),
    Mutation("transposed-square", "a square linear weight transposed", UGATIT, ("FC.2",),
             plant.transposed("FC.2.weight")),
    Mutation("transposed-conv", "a square convolution weight with in and out channels swapped", UGATIT,
             ("UpBlock1_1.conv1",), plant.transposed("UpBlock1_1.conv1.weight")),
    Mutation("swapped-keys", "two tensors of equal shape swapped", UGATIT, ("UpBlock1_1.conv",),
             plant.swapped("UpBlock1_1.conv1.weight", "UpBlock1_1.conv2.weight")),
    Mutation("half-precision", "weights rounded to float16", UGATIT, ("",), plant.half_precision),
    Mutation("missing-bias", "a bias left at zero", UGATIT, ("conv1x1",), plant.zeroed("conv1x1.bias")),
    Mutation("other-direction", "genB2A loaded as genA2B", UGATIT, ("",), plant.other_network),
    Mutation("content-style-swapped", "content and style vectors swapped", PHOTO2CARTOON, ("SoftAdaLIN",),
             plant.content_and_style_swapped),
    Mutation("soft-weights-swapped", "content and style weights swapped", PHOTO2CARTOON, ("SoftAdaLIN", "norm"),
             plant.soft_weights_swapped),
    Mutation("hourglass-shifted", "up-sampling shifted by one pixel inside the hourglasses", PHOTO2CARTOON,
             ("HourGlassBlock",),
             patch=lambda: mock.patch("ms_models.photo2cartoon.upsample_nearest", plant.shifted_nearest)),
    Mutation("no-spectral-norm", "weight_orig used as it is", LOCAL, ("SpectralNorm", "Conv2d", "Linear"),
             patch=plant.method("ms_models.layers:SpectralNorm", "normalized_weight", plant.no_spectral_norm)),
    Mutation("spectral-norm-frozen", "no power iteration in train mode", LOCAL, ("Conv2d", "Linear"),
             patch=plant.spectral(lambda self: False)),
    Mutation("spectral-norm-eval", "power iteration in eval mode too", LOCAL, ("Conv2d", "Linear"),
             patch=plant.spectral(lambda self: True)),
    Mutation("spectral-norm-twice", "two power iterations per step", LOCAL, ("Conv2d", "Linear"),
             patch=plant.spectral(lambda self: self.training, steps=2)),
    Mutation("spectral-norm-frobenius", "Frobenius norm for the spectral norm", LOCAL, ("Conv2d", "Linear"),
             patch=plant.spectral(lambda self: self.training, axis=1)),
    Mutation("sigma-without-gradient", "no gradient through sigma", LOCAL, ("Conv2d", "Linear"),
             patch=plant.method("ms_models.layers:SpectralNorm", "normalized_weight", plant.sigma_without_gradient)),
    Mutation("cam-normalized-weight", "CAM multiplies by the normalised weight", LOCAL, ("Discriminator",),
             plant.cam_uses_normalized_weight),
    Mutation("leaky-slope", "LeakyReLU slope 0.01", LOCAL, ("LeakyReLU",), plant.slope(0.01)),
    Mutation("relu-for-leaky", "ReLU for LeakyReLU", LOCAL, ("LeakyReLU", "model."), plant.relu_for_leaky),
    Mutation("discriminator-mean-for-max", "average pooling in the maximum branch", LOCAL, ("Discriminator",),
             patch=plant.method("ms_models.photo2cartoon", "channel_max", plant.mean_for_max)),
    Mutation("batch-norm-training", "batch norm in train mode at inference", FACE, ("BatchNorm2d",),
             plant.batch_norm_always_training),
    Mutation("batch-norm-eps", "batch norm eps 1e-3", FACE, ("BatchNorm2d",), plant.batch_norm_with(eps=1e-3)),
    Mutation("batch-norm-momentum", "PyTorch's momentum 0.1 given to MindSpore as it is", FACE, ("BatchNorm2d",),
             plant.batch_norm_with(momentum=0.1)),
    Mutation("prelu-shared", "one PReLU slope for all channels", FACE, ("PReLU", "prelu"), plant.shared_prelu),
    Mutation("no-unit-length", "embedding not brought to unit length", FACE, ("MobileFaceNet",),
             plant.no_final_unit_length),
    Mutation("bgr", "colours in the order BGR", FACE, ("conv1.conv",), plant.channels_reversed),
)  # fmt: skip
