"""The training step of White-box Cartoonization: generator first, then both discriminators.

Paper: Learning to Cartoonize Using White-box Cartoon Representations (CVPR 2020). Systems:
SystemErrorWang/White-box-Cartoonization (WhiteboxSettings) and ArthurinRUC/FacialCartoonization (FacialSettings).
The landmark term is described in docs/landmark_term.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from torch_ref.filters import colour_shift, guided_filter
from torch_ref.losses import l1, least_squares
from torch_ref.losses_whitebox import feature_distance, landmark_loss, luminance, total_variation

__all__ = ["FacialSettings", "WhiteboxSettings", "WhiteboxStep", "block_means", "draw_colour_weights", "learning_rate"]

Array = NDArray[np.floating]
Windows = tuple[NDArray[np.int64], Array, Array]  # pixels, offsets and weights of `landmark_loss`
SHIFTS = {"b": (0.014, 0.214), "g": (0.487, 0.687), "r": (0.199, 0.399)}  # range of each colour's texture weight
SURFACE = (5, 0.2)  # radius and eps of the filter that makes the surface representation
BLOCK = 8
COLOURS, DISTRIBUTIONS = ("rgb", "bgr"), ("uniform", "normal")


@dataclass(frozen=True)
class WhiteboxSettings:
    """Weights of the loss terms and of the optimisers; the defaults are White-box Cartoonization's.

    Attributes:
        variation, surface, texture, content, structure: weights of the loss terms (w0 to w4).
        landmark: weight of the landmark term; 0 switches it off.
        sharpness: of the landmark term's soft-argmax.
        filter_eps: eps of the guided filter (radius 1) that the generator's output goes through.
        colours: "rgb" or "bgr", the order in which pictures come.
        shift: distribution of the texture weights, "uniform" or "normal" (deviation 0.1).
        shift_per_pixel: whether every pixel and picture has its own texture weights, or one each serves a batch.
        pretrain: True trains only the generator, to reproduce its input.
        lr, beta1, beta2: Adam of the generator and of the discriminators.
        total_steps, decay: with decay, the learning rate falls linearly to 0 over the second half of the steps.
        seed: of the texture weights.
    """

    variation: float = 1e4
    surface: float = 0.1
    texture: float = 1.0
    content: float = 200.0
    structure: float = 200.0
    landmark: float = 0.0
    sharpness: float = 20.0
    filter_eps: float = 1e-2
    colours: str = "bgr"
    shift: str = "uniform"
    shift_per_pixel: bool = False
    pretrain: bool = False
    lr: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.99
    total_steps: int = 100_000
    decay: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown order of colours or distribution."""
        if self.colours not in COLOURS:
            raise ValueError(f"unknown colours '{self.colours}'; orders: {', '.join(COLOURS)}")
        if self.shift not in DISTRIBUTIONS:
            raise ValueError(f"unknown shift '{self.shift}'; distributions: {', '.join(DISTRIBUTIONS)}")


@dataclass(frozen=True)
class FacialSettings(WhiteboxSettings):
    """The same with FacialCartoonization's defaults."""

    content: float = 300.0
    structure: float = 300.0
    filter_eps: float = 0.1
    colours: str = "rgb"
    shift_per_pixel: bool = True


def learning_rate(settings: WhiteboxSettings, step: int) -> float:
    """Learning rate used in `step` (counted from 1): constant, or linear to 0 at the last step, never below."""
    half = settings.total_steps // 2
    if not settings.decay or step <= half or half == 0:
        return settings.lr
    return max(0.0, settings.lr - settings.lr / half * (step - half))


def block_means(pictures: Array) -> Array:
    """Mean colour of squares of 8x8 pixels: the simplest structure, where no segmentation is given.

    [N, C, H, W], H and W multiples of 8 -> the same shape.
    """
    batch, channels, height, width = pictures.shape
    blocks = pictures.reshape(batch, channels, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    return np.broadcast_to(blocks.mean((3, 5), keepdims=True), blocks.shape).reshape(pictures.shape)


def draw_colour_weights(
    random: np.random.Generator, settings: WhiteboxSettings, shape: tuple[int, ...]
) -> tuple[Array, Array, Array]:
    """Draw the texture weights of blue, green and red, in this order, for pictures of `shape` [N, C, H, W]."""
    size = (shape[0], 1, *shape[2:]) if settings.shift_per_pixel else (1, 1, 1, 1)
    if settings.shift == "normal":
        blue, green, red = (random.normal((low + high) / 2, 0.1, size) for low, high in SHIFTS.values())
    else:
        blue, green, red = (random.uniform(low, high, size) for low, high in SHIFTS.values())
    return blue, green, red


class WhiteboxStep:
    """Holds the networks and both optimisers; one call trains one batch.

    Args:
        networks: "generator", "disc_gray" (texture) and "disc_blur" (surface), all in one form.
        settings: loss and optimiser weights.
        frozen: VGG19; may be None for pre-training only.
        superpixels: pictures [N, 3, H, W] RGB in [-1, 1] -> their structure, the same shape.
        landmarks: photos [N, 3, H, W] RGB in [-1, 1] -> pixels, offsets and weights of `landmark_loss`; needed when
            the landmark term is switched on.

    Raises:
        ValueError: a term is switched on and what it needs is missing.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        settings: WhiteboxSettings,
        frozen: nn.Module | None = None,
        superpixels: Callable[[Array], Array] = block_means,
        landmarks: Callable[[Array], Windows] | None = None,
    ) -> None:
        self.networks, self.settings, self.frozen = dict(networks), settings, frozen
        self.superpixels, self.landmarks = superpixels, landmarks
        self.step_number = 0
        self.random = np.random.default_rng(settings.seed)
        self.optimizers = {"G": self._adam("generator"), "D": self._adam("disc_blur", "disc_gray")}
        if frozen is not None:
            frozen.eval().requires_grad_(False)
        elif not settings.pretrain:
            raise ValueError("White-box training needs VGG19 for its content and structure terms")

    def _adam(self, *parts: str) -> torch.optim.Adam:
        parameters = [value for part in parts for value in self.networks[part].parameters()]
        return torch.optim.Adam(parameters, self.settings.lr, (self.settings.beta1, self.settings.beta2))

    def __call__(self, real_a: Tensor, real_b: Tensor) -> dict[str, float]:
        """Train one batch of photos and cartoons; returns every loss term before weighting, and totals.

        Images are [N, 3, H, W] in [-1, 1], H and W multiples of 8, in the colour order of the settings.

        Raises:
            ValueError: the landmark term is on and there is nothing that finds landmarks.
        """
        self.step_number += 1
        for network in self.networks.values():
            network.train()
        for optimizer in self.optimizers.values():
            optimizer.param_groups[0]["lr"] = learning_rate(self.settings, self.step_number)
        if self.settings.pretrain:
            terms = self.pretrain_phase(real_a)
        else:
            terms = self.generator_phase(real_a, real_b)
            terms |= self.discriminator_phase(real_a, real_b)
        return {name: float(value.detach()) for name, value in terms.items()}

    def pretrain_phase(self, photo: Tensor) -> dict[str, Tensor]:
        """Teach the generator to reproduce the photo, without the guided filter."""
        loss = l1(self.networks["generator"](photo), photo)
        self._descend("G", loss)
        return {"G.reconstruction": loss, "G.total": loss}

    def generator_phase(self, photo: Tensor, cartoon: Tensor) -> dict[str, Tensor]:
        """Update the generator against the discriminators as they are."""
        gray_weights = self._colour_weights(cartoon)
        windows = self._windows(photo)
        output = self.output(photo)
        structure = self._structure(output)
        settings = self.settings
        terms = {
            "G.variation": total_variation(output),
            "G.surface": least_squares(self.networks["disc_blur"](surface(output)), 1.0),
            "G.texture": least_squares(self.networks["disc_gray"](self._texture(output, gray_weights)), 1.0),
            "G.content": feature_distance(self._features(photo), self._features(output)),
            "G.structure": feature_distance(self._features(structure), self._features(output)),
        }
        factors = [settings.variation, settings.surface, settings.texture, settings.content, settings.structure]
        if windows is not None:
            before, after = (luminance(picture, settings.colours) for picture in (photo, output))
            terms["G.landmark"] = landmark_loss(before, after, *windows, settings.sharpness)
            factors.append(settings.landmark)
        total = torch.stack([factor * term for factor, term in zip(factors, terms.values(), strict=True)]).sum()
        self._descend("G", total)
        return {**terms, "G.total": total}

    def discriminator_phase(self, photo: Tensor, cartoon: Tensor) -> dict[str, Tensor]:
        """Update the discriminators on cartoons and on the output of the generator that was just updated."""
        gray_weights = self._colour_weights(cartoon)
        with torch.no_grad():
            output = self.output(photo)
        judge_blur, judge_gray = self.networks["disc_blur"], self.networks["disc_gray"]
        terms = {
            "D.blur.fake": least_squares(judge_blur(surface(output)), 0.0),
            "D.blur.real": least_squares(judge_blur(surface(cartoon)), 1.0),
            "D.gray.fake": least_squares(judge_gray(self._texture(output, gray_weights)), 0.0),
            "D.gray.real": least_squares(judge_gray(self._texture(cartoon, gray_weights)), 1.0),
        }
        total = 0.5 * torch.stack(list(terms.values())).sum()
        self._descend("D", total)
        return {**terms, "D.total": total}

    def output(self, photo: Tensor) -> Tensor:
        """The generator's picture after its guided filter: [N, 3, H, W] -> [N, 3, H, W]."""
        return guided_filter(photo, self.networks["generator"](photo), 1, self.settings.filter_eps)

    def _texture(self, picture: Tensor, weights: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return colour_shift(picture, weights, self.settings.colours)

    def _colour_weights(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        drawn = draw_colour_weights(self.random, self.settings, tuple(like.shape))
        blue, green, red = (torch.as_tensor(one, dtype=like.dtype, device=like.device) for one in drawn)
        return blue, green, red

    def _rgb(self, picture: Tensor) -> Tensor:
        return picture if self.settings.colours == "rgb" else torch.flip(picture, (1,))

    def _features(self, picture: Tensor) -> Tensor:
        assert self.frozen is not None
        return self.frozen(self._rgb(picture))

    def _structure(self, output: Tensor) -> Tensor:
        found = self.superpixels(self._rgb(output.detach()).cpu().numpy())
        return self._rgb(torch.as_tensor(np.array(found), dtype=output.dtype, device=output.device))

    def _windows(self, photo: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        if not self.settings.landmark:
            return None
        if self.landmarks is None:
            raise ValueError("the landmark term is switched on, and nothing is given that finds landmarks")
        pixels, offsets, weights = self.landmarks(self._rgb(photo).cpu().numpy())
        device, dtype = photo.device, photo.dtype
        return (
            torch.as_tensor(pixels, device=device),
            torch.as_tensor(offsets, dtype=dtype, device=device),
            torch.as_tensor(weights, dtype=dtype, device=device),
        )

    def _descend(self, phase: str, total: Tensor) -> None:
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        total.backward()
        self.optimizers[phase].step()
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()


def surface(picture: Tensor) -> Tensor:
    """Surface representation: the picture smoothed along its own edges, [N, 3, H, W] -> [N, 3, H, W]."""
    return guided_filter(picture, picture, *SURFACE)
