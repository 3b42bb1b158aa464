"""Faces and their 68 landmarks.

The points are those of the iBUG 300-W scheme: 0-16 jaw, 17-26 brows, 27-35 nose, 36-47 eyes (36 and 45 are
the outer corners), 48-67 mouth.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


# Sets landmarks: an upright picture, RGB uint8 [H, W, 3], and the boxes of its faces -> [68, 2] of every box, in order
Landmarks = Callable[[NDArray[np.uint8], list[Box]], list[Points]]


def largest(faces: list[Face]) -> Face:
    """Return the face with the largest landmark box: the reference's choice among several."""
    return max(faces, key=lambda face: face.area)


def turn_back(points: Points, turns: int, height: int, width: int) -> Points:
    """Carry points from `np.rot90(picture, turns)` back to the picture, whose size is height x width."""
    x, y = points[:, 0], points[:, 1]
    back = {0: (x, y), 1: (width - 1 - y, x), 2: (width - 1 - x, height - 1 - y), 3: (y, height - 1 - x)}
    return np.stack(back[turns % 4], axis=1)
