"""The twin of `torch_ref/steps/whitebox.py`."""

from collections.abc import Mapping

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from convert.recipes.whitebox import PHASES, WhiteboxSettings, block_means, draw_colour_weights
from ms_models.filters import colour_shift, guided_filter
from ms_models.losses import l1, least_squares
from ms_models.losses_whitebox import feature_distance, landmark_loss, luminance, total_variation
from ms_models.step import Step, Terms
from ms_models.whitebox import UpSample

SURFACE = (5, 0.2)  # radius and eps of the filter that makes the surface representation


class WhiteboxStep(Step):
    """Trains the generator on photos and the discriminators on cartoons, [N, 3, H, W] in the settings' colour order.

    Hooks: "superpixels", pictures [N, 3, H, W] RGB in [-1, 1] -> their structure, the same shape, H and W multiples of
    8 for the one it starts with; "landmarks", photos likewise -> pixels, offsets and weights of `landmark_loss`, where
    the landmark term is switched on.

    Args:
        networks: "generator", "disc_gray" (texture) and "disc_blur" (surface), all in one form.
        settings: loss and optimiser weights.
        frozen: VGG19; may be None for pre-training only.

    Raises ValueError: VGG19 is needed and missing.
    """

    phases = PHASES

    def __init__(
        self, networks: Mapping[str, nn.Cell], settings: WhiteboxSettings, frozen: nn.Cell | None = None
    ) -> None:
        super().__init__(networks, settings, frozen)
        self.hooks = {"superpixels": block_means, **({"landmarks": None} if settings.landmark else {})}
        if frozen is None and not settings.pretrain:
            raise ValueError("White-box training needs VGG19 for its content and structure terms")

    @property
    def colours(self) -> str:
        """See `StepForm.colours`."""
        return str(self.settings.colours)

    def due(self) -> tuple[str, ...]:
        """Pre-training moves the generator alone."""
        return ("G",) if self.settings.pretrain else tuple(self.phases)

    def prepare(self, phase: str, first: Tensor, second: Tensor, made: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Add features, texture weights and landmarks; the judges see the output of the updated generator."""
        if self.settings.pretrain:
            return (first,)
        gray_weights = self._colour_weights(second)
        if phase == "G":
            structure = self._structure(*self.descent.forward(self.drawn, first))
            features = (self._features(first), self._features(structure))
            return (first, *features, *gray_weights, *self._windows(first))
        return (*self.descent.forward(self.drawn, first), second, *gray_weights)

    def generator_objective(self, photo: Tensor, *others: Tensor) -> tuple[Terms, tuple[Tensor, ...]]:
        """Judge surface and texture, keep content and structure; pre-training teaches to reproduce the photo.

        Args:
            photo: [N, 3, H, W].
            others: none in pre-training; VGG19's features of the photo and of the output's structure, the three texture
                weights, and what the landmark term needs.
        """
        if self.settings.pretrain:  # without the guided filter
            return {"G.reconstruction": l1(self.networks["generator"](photo), photo)}, ()
        (output,) = self.drawn(photo)
        content, structure, *_ = others
        features = self._features(output)
        terms = {
            "G.variation": total_variation(output),
            "G.surface": least_squares(self.networks["disc_blur"](surface(output)), 1.0),
            "G.texture": least_squares(self.networks["disc_gray"](self._texture(output, *others[2:5])), 1.0),
            "G.content": feature_distance(content, features),
            "G.structure": feature_distance(structure, features),
        }
        if self.settings.landmark:
            pixels, offsets, weights = others[5:]
            before, after = luminance(photo, self.colours), luminance(output, self.colours)
            terms["G.landmark"] = landmark_loss(before, after, pixels, offsets, weights, self.settings.sharpness)
        return terms, ()

    def discriminator_objective(
        self, output: Tensor, cartoon: Tensor, *gray_weights: Tensor
    ) -> tuple[Terms, tuple[Tensor, ...]]:
        """Judge surface and texture of the generator's output and of cartoons."""
        judge_blur, judge_gray = self.networks["disc_blur"], self.networks["disc_gray"]
        terms = {
            "D.blur.fake": least_squares(judge_blur(surface(output)), 0.0),
            "D.blur.real": least_squares(judge_blur(surface(cartoon)), 1.0),
            "D.gray.fake": least_squares(judge_gray(self._texture(output, *gray_weights)), 0.0),
            "D.gray.real": least_squares(judge_gray(self._texture(cartoon, *gray_weights)), 1.0),
        }
        return terms, ()

    def unused(self, network: nn.Cell) -> tuple[str, ...]:
        """See `Step.unused`: in form "published", ConvReLU does not take part."""
        blocks = [(path, cell) for path, cell in network.cells_and_names() if isinstance(cell, UpSample)]
        return tuple(f"{path}.ConvReLU." for path, cell in blocks if cell.form == "published")

    def drawn(self, photo: Tensor) -> tuple[Tensor]:
        """The generator's picture after its guided filter: [N, 3, H, W] -> [N, 3, H, W]."""
        return (guided_filter(photo, self.networks["generator"](photo), 1, self.settings.filter_eps),)

    def _texture(self, picture: Tensor, blue: Tensor, green: Tensor, red: Tensor) -> Tensor:
        return colour_shift(picture, (blue, green, red), self.colours)

    def _colour_weights(self, like: Tensor) -> tuple[Tensor, ...]:
        drawn = draw_colour_weights(self.random, self.settings, tuple(like.shape))
        each = (np.repeat(weights, len(like) // len(weights), 0) for weights in drawn)
        return tuple(Tensor(weights, like.dtype) for weights in each)

    def _rgb(self, picture: Tensor) -> Tensor:
        if self.colours == "rgb":
            return picture
        return ops.cat((picture[:, 2:], picture[:, 1:2], picture[:, :1]), 1)

    def _features(self, picture: Tensor) -> Tensor:
        return self.frozen(self._rgb(picture))

    def _structure(self, output: Tensor) -> Tensor:
        found = self.hook("superpixels")(self._rgb(output).asnumpy())
        return self._rgb(Tensor(np.array(found), output.dtype))

    def _windows(self, photo: Tensor) -> tuple[Tensor, ...]:
        """Pixels [N, K, M, P], offsets [N, 1, M, 2] and weights [N, K] of the landmark term, if it is switched on."""
        if not self.settings.landmark:
            return ()
        pixels, offsets, weights = self.hook("landmarks")(self._rgb(photo).asnumpy())
        pieces = self.descent.execution.accumulate  # the term is a sum over pictures: a mean over pieces divides it
        arrays = np.repeat(offsets[None, None], len(photo), 0), weights * pieces
        return (Tensor(pixels, ms.int64), *(Tensor(array, photo.dtype) for array in arrays))


def surface(picture: Tensor) -> Tensor:
    """Surface representation: the picture smoothed along its own edges, [N, 3, H, W] -> [N, 3, H, W]."""
    return guided_filter(picture, picture, *SURFACE)
