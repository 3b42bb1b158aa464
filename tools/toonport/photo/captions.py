"""Captions on the pictures of a sheet, and the scale of a heat map, drawn into their corners so that sizes stay."""

from typing import TypeAlias

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from toonport.photo.picture import Picture

SMALLEST = 96  # side in pixels below which a picture has no room for words
MARGIN = 3
SCALE = (48, 6)  # width and height of the bar of a scale, at most
Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont


def captioned(picture: Picture, words: str, with_scale: bool = False) -> Picture:
    """Return a copy of a picture, RGB uint8 [H, W, 3], with words in its upper left corner.

    Args:
        picture: left as it is where it is small.
        words: what it shows.
        with_scale: it is a heat map: a bar below shows which colours mean little and which much attention.
    """
    if min(picture.shape[:2]) < SMALLEST:
        return picture
    image = Image.fromarray(np.ascontiguousarray(picture))
    draw, size = ImageDraw.Draw(image), max(10, min(16, image.height // 16))
    font = ImageFont.load_default(size)
    _label(draw, (MARGIN, MARGIN), words, font)
    if with_scale:
        _scale(image, draw, font, size)
    return np.asarray(image)


def _label(draw: ImageDraw.ImageDraw, place: tuple[int, int], words: str, font: Font) -> int:
    """Write black words on white, and return where they end."""
    left, top, right, bottom = draw.textbbox(place, words, font=font)
    draw.rectangle((left - 2, top - 2, right + 2, bottom + 2), fill="white")
    draw.text(place, words, fill="black", font=font)
    return int(right) + 2


def _scale(image: Image.Image, draw: ImageDraw.ImageDraw, font: Font, size: int) -> None:
    width, height = min(SCALE[0], image.width // 3), SCALE[1]
    levels = np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))  # [h, w]
    bar = Image.fromarray(np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_JET)[:, :, ::-1]))
    y = image.height - MARGIN - max(height, size) - 2
    x = _label(draw, (MARGIN, y), "low", font) + 2
    image.paste(bar, (x, y + 3))
    _label(draw, (x + width + 4, y), "high", font)
