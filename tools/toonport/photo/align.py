"""Turns a face upright and crops it to a square, by the reference's ratios.

Source: minivision-ai/photo2cartoon (MIT). What lies outside the photo becomes white.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from convert.errors import InputError
from toonport.photo.faces import Points
from toonport.photo.picture import Picture, resize

RIGHT_EYE, LEFT_EYE = 36, 45  # outer corners, of the person
WHITE = (255, 255, 255)
MARGIN = 3  # pixels beside those that are needed, for interpolation and rounding
SUBPIXEL_BITS = 8  # binary places in which OpenCV is told the corners of a polygon
ABOVE, BELOW, BESIDE = 0.8, 0.3, 0.3  # room around the landmark box, as shares of its height and width


@dataclass(frozen=True)
class Crop:
    """A face cut out of a photo."""

    pixels: Picture  # RGB uint8 [S, S, 3]
    inside: NDArray[np.bool_]  # [S, S], True where the pixel comes from the photo, False where it was filled with white
    _sized: dict[int, Picture] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def side(self) -> int:
        """Side of the square in pixels."""
        return len(self.pixels)

    def at(self, side: int) -> Picture:
        """Return the pixels at another size, [side, side, 3]; made once, as matte and generator often take the same."""
        if side not in self._sized:
            self._sized[side] = resize(self.pixels, side, side)
        return self._sized[side]


def eye_angle(points: Points, as_reference: bool = False) -> float:
    """Return the angle in radians of the line through the outer eye corners; image axes, so clockwise is positive.

    The full circle is used, so a face that is on its side or upside down comes out upright.

    Args:
        points: landmarks [68, 2].
        as_reference: use the half circle, as the reference does; then such a face keeps its quarter turns.

    Raises InputError: both corners are the same point.
    """
    dx, dy = points[LEFT_EYE] - points[RIGHT_EYE]
    if dx == 0 and dy == 0:
        raise InputError("the landmarks are no face: both eye corners are the same point")
    if as_reference:
        return float(np.arctan(dy / dx)) if dx else float(np.copysign(np.pi / 2, dy))
    return float(np.arctan2(dy, dx))


def upright_matrix(height: int, width: int, angle: float) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """Return what turns a photo by `angle`, and the canvas that holds all of the turned photo.

    Args:
        height, width: of the photo, in pixels.
        angle: radians, as `eye_angle` returns.

    Returns:
        An affine matrix [2, 3] from the photo's (x, y) to the canvas's, and the canvas's (width, height).
    """
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
    return matrix, (max(1, new_width), max(1, new_height))


def carried(points: Points, matrix: NDArray[np.float64]) -> Points:
    """Carry points [N, 2] by an affine matrix [2, 3]."""
    return points @ matrix[:, :2].T + matrix[:, 2]


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


def crop_face(picture: Picture, points: Points, angle: float = 0.0) -> Crop:
    """Return the square crop of a face, turned upright, at the photo's own resolution; white outside the photo.

    Only the crop is turned, not the photo around it. OpenCV rounds the places it reads to 1/32 of a pixel, so a
    few pixels in a thousand differ by some grey levels from a crop of the turned photo.

    Args:
        picture: RGB uint8 [H, W, 3].
        points: landmarks [68, 2].
        angle: radians by which to turn, as `eye_angle` returns.

    Raises InputError: the face lies wholly outside the picture.
    """
    height, width = picture.shape[:2]
    matrix, _ = upright_matrix(height, width, angle)
    top, left, side = crop_window(carried(points, matrix))
    matrix[:, 2] -= (left, top)
    inside = _polygon(carried(_corners(width, height), matrix), side)
    if not inside.any():
        raise InputError("the landmarks are no face: they lie outside the photo")
    needed = carried(_corners(side, side), np.asarray(cv2.invertAffineTransform(matrix), np.float64))
    (left, top), (right, bottom) = needed.min(axis=0).astype(int) - MARGIN, needed.max(axis=0).astype(int) + MARGIN
    left, top = max(0, left), max(0, top)  # OpenCV turns no picture of more than 32766 pixels in a row
    matrix[:, 2] += matrix[:, :2] @ (left, top)
    part = picture[top : max(0, bottom), left : max(0, right)]
    pixels = cv2.warpAffine(part, matrix, (side, side), borderValue=WHITE)
    return Crop(np.asarray(pixels, np.uint8), inside)


def _corners(width: int, height: int) -> Points:
    """Return the middles of the corner pixels of a picture, in order around it."""
    return np.array([(0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)], np.float64)


def _polygon(corners: Points, side: int) -> NDArray[np.bool_]:
    """Return where a convex polygon lies on a square [side, side]."""
    square = np.zeros((side, side), np.uint8)
    places = np.round(corners * 2**SUBPIXEL_BITS).astype(np.int32)
    cv2.fillConvexPoly(square, places, (1,), shift=SUBPIXEL_BITS)
    return square.view(np.bool_)
