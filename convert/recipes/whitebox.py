"""The training recipe of White-box Cartoonization.

Paper: Learning to Cartoonize Using White-box Cartoon Representations (CVPR 2020). Systems:
SystemErrorWang/White-box-Cartoonization (WhiteboxSettings) and ArthurinRUC/FacialCartoonization (FacialSettings).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convert.recipes.settings import Settings, fall_over_second_half, switch

Array = NDArray[np.floating]
PHASES = {"G": ("generator",), "D": ("disc_blur", "disc_gray")}
SHIFTS = {"b": (0.014, 0.214), "g": (0.487, 0.687), "r": (0.199, 0.399)}  # range of each colour's texture weight
BLOCK = 8
COLOURS, DISTRIBUTIONS = ("rgb", "bgr"), ("uniform", "normal")


@dataclass(frozen=True)
class WhiteboxSettings(Settings):
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
        adaptive_structure: of the training program, see `toonport.train.whitebox_structure`.
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
    pretrain: bool = switch("White-box's first stage: the generator learns to draw its input", steps=50_000)
    adaptive_structure: bool = switch("White-box: join superpixels of like colour for the structure term")
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

    def rate(self, phase: str, step: int) -> float:
        """See `Settings.rate`: constant, or linear to 0 at the last step."""
        return fall_over_second_half(self.lr, self.total_steps, step) if self.decay else self.lr

    def weights(self, phase: str, frozen: bool = False) -> dict[str, float]:
        """See `Settings.weights`; the discriminators' terms are halved."""
        if phase == "D":
            return dict.fromkeys(self.judges(phase), 0.5)
        if self.pretrain:
            return {"G.reconstruction": 1.0}
        names = ["variation", "surface", "texture", "content", "structure", *(["landmark"] if self.landmark else [])]
        return {f"G.{name}": getattr(self, name) for name in names}

    def judges(self, phase: str) -> dict[str, str]:
        """See `Settings.judges`."""
        if phase == "G":
            return {"G.surface": "disc_blur", "G.texture": "disc_gray"}
        return {f"D.{judge}.{kind}": f"disc_{judge}" for judge in ("blur", "gray") for kind in ("fake", "real")}


@dataclass(frozen=True)
class FacialSettings(WhiteboxSettings):
    """The same with FacialCartoonization's defaults."""

    content: float = 300.0
    structure: float = 300.0
    filter_eps: float = 0.1
    colours: str = "rgb"
    shift_per_pixel: bool = True


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
