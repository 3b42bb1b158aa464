"""Turns a face upright and crops it to a square, by the reference's ratios.

Source: minivision-ai/photo2cartoon (MIT). What lies outside the photo becomes white.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from convert.errors import InputError
from toonport.photo.faces import Points
from toonport.photo.picture import Picture

__all__ = ["Crop", "crop_face", "crop_window", "eye_angle", "turn_upright"]

RIGHT_EYE, LEFT_EYE = 36, 45  # outer corners, of the person
WHITE = (255, 255, 255)
ABOVE, BELOW, BESIDE = 0.8, 0.3, 0.3  # room around the landmark box, as shares of its height and width


@dataclass(frozen=True)
class Crop:
    """A face cut out of a photo.

    Attributes:
        pixels: RGB uint8 [S, S, 3].
        inside: [S, S], True where the pixel comes from the photo, False where it was filled with white.
    """

    pixels: Picture
    inside: NDArray[np.bool_]


def eye_angle(points: Points, as_reference: bool = False) -> float:
    """Return the angle in radians of the line through the outer eye corners; image axes, so clockwise is positive.

    The full circle is used, so a face that is on its side or upside down comes out upright.

    Args:
        points: landmarks [68, 2].
        as_reference: use the half circle, as the reference does; then such a face keeps its quarter turns.

    Raises:
        InputError: both corners are the same point.
    """
    dx, dy = points[LEFT_EYE] - points[RIGHT_EYE]
    if dx == 0 and dy == 0:
        raise InputError("the landmarks are no face: both eye corners are the same point")
    if as_reference:
        return float(np.arctan(dy / dx)) if dx else float(np.copysign(np.pi / 2, dy))
    return float(np.arctan2(dy, dx))


def turn_upright(picture: Picture, points: Points, angle: float) -> tuple[Picture, Points, NDArray[np.bool_]]:
    """Return the photo turned by `angle` on a canvas that holds all of it, with its landmarks.

    Args:
        picture: RGB uint8 [H, W, 3].
        points: landmarks [68, 2].
        angle: radians, as `eye_angle` returns.

    Returns:
        The turned photo [H', W', 3], its landmarks [68, 2], and where it comes from the photo [H', W'].
    """
    height, width = picture.shape[:2]
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    new_width = int(width * abs(cos) + height * abs(sin))
    new_height = int(width * abs(sin) + height * abs(cos))
    right, down = new_width // 2 - width // 2, new_height // 2 - height // 2
    matrix = np.array(
        [
            [cos, sin, (1 - cos) * width / 2 - sin * height / 2 + right],
            [-sin, cos, sin * width / 2 + (1 - cos) * height / 2 + down],
        ]
    )
    size = (max(1, new_width), max(1, new_height))
    turned = cv2.warpAffine(picture, matrix, size, borderValue=WHITE)
    inside = cv2.warpAffine(np.ones((height, width), np.uint8), matrix, size, flags=cv2.INTER_NEAREST)
    return np.asarray(turned, np.uint8), points @ matrix[:, :2].T + matrix[:, 2], inside.astype(bool)


def crop_window(points: Points) -> tuple[int, int, int]:
    """Return (top, left, side) of the square around upright landmarks, in pixels; it may reach outside the photo."""
    left, top = points.min(axis=0)
    right, bottom = points.max(axis=0)
    height, width = bottom - top, right - left
    top, bottom = int(top - ABOVE * height), int(bottom + BELOW * height)
    left, right = int(left - BESIDE * width), int(right + BESIDE * width)
    height, width = bottom - top, right - left
    if height > width:
        left -= (height - width) // 2
    else:
        top -= (width - height) // 2
    return int(top), int(left), int(max(height, width)) + 1  # both ends belong to the crop


def crop_face(picture: Picture, points: Points, inside: NDArray[np.bool_] | None = None) -> Crop:
    """Return the square crop of an upright face, at the photo's own resolution; white outside the photo.

    Args:
        picture: RGB uint8 [H, W, 3].
        points: landmarks [68, 2] of the upright face.
        inside: [H, W], where the picture holds the photo; None: everywhere.

    Raises:
        InputError: the face lies wholly outside the picture.
    """
    height, width = picture.shape[:2]
    top, left, side = crop_window(points)
    rows = slice(max(0, top), min(height, top + side))
    columns = slice(max(0, left), min(width, left + side))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        raise InputError("the landmarks are no face: they lie outside the photo")
    pixels = np.full((side, side, 3), 255, np.uint8)
    known = np.zeros((side, side), np.bool_)
    target = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    pixels[target] = picture[rows, columns]
    known[target] = True if inside is None else inside[rows, columns]
    return Crop(pixels, known)
