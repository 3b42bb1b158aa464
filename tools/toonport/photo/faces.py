"""Faces and their 68 landmarks.

The points are those of the iBUG 300-W scheme: 0-16 jaw, 17-26 brows, 27-35 nose, 36-47 eyes (36 and 45 are
the outer corners), 48-67 mouth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from toonport.photo.picture import Picture


NO_FACE = "no face found"
Points = NDArray[np.float64]
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Face:
    """A face in a photo."""

    points: Points  # landmarks [68, 2] as (x, y) in the photo's pixels
    score: float  # how sure the detector is; its scale is the detector's own
    turns: int = 0  # quarter turns, against the clock, that bring the face near upright

    @property
    def area(self) -> float:
        """Area of the box around the landmarks, in pixels."""
        return float(np.prod(np.ptp(self.points, axis=0)))


class Landmarks(Protocol):
    """A backend that sets landmarks on faces whose boxes are known."""

    def __call__(self, picture: Picture, boxes: list[Box]) -> list[Points]:
        """Return the landmarks [68, 2] of every box of an upright picture, in the boxes' order."""


def largest(faces: list[Face]) -> Face:
    """Return the face with the largest landmark box: the reference's choice among several."""
    return max(faces, key=lambda face: face.area)


def turn_back(points: Points, turns: int, height: int, width: int) -> Points:
    """Carry points from `np.rot90(picture, turns)` back to the picture, whose size is height x width."""
    x, y = points[:, 0], points[:, 1]
    back = {0: (x, y), 1: (width - 1 - y, x), 2: (width - 1 - x, height - 1 - y), 3: (y, height - 1 - x)}
    return np.stack(back[turns % 4], axis=1)
