"""Faces and their 68 landmarks: one small interface, two backends.

The points are those of the iBUG 300-W scheme: 0-16 jaw, 17-26 brows, 27-35 nose, 36-47 eyes (36 and 45 are
the outer corners), 48-67 mouth. Both backends find faces with dlib's detector, as the reference does by
default, and differ in the network that sets the points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from convert.errors import InputError
from toonport.photo.picture import Picture

__all__ = [
    "LANDMARKS",
    "NO_FACE",
    "Box",
    "Face",
    "Landmarks",
    "Usable",
    "largest",
    "open_landmarks",
    "turn_back",
    "usable",
]

LANDMARKS = ("dlib", "face-alignment")
NO_FACE = "no face found"
Points = NDArray[np.float64]
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Face:
    """A face in a photo.

    Attributes:
        points: landmarks [68, 2] as (x, y) in the photo's pixels.
        score: how sure the detector is; its scale is the detector's own.
        turns: quarter turns, against the clock, that bring the face near upright.
    """

    points: Points
    score: float
    turns: int = 0

    @property
    def area(self) -> float:
        """Area of the box around the landmarks, in pixels."""
        return float(np.prod(np.ptp(self.points, axis=0)))


@dataclass(frozen=True)
class Usable:
    """Whether a backend can run here, and if not, what to do."""

    usable: bool
    detail: str


class Landmarks(Protocol):
    """A backend that sets landmarks on faces whose boxes are known."""

    def __call__(self, picture: Picture, boxes: list[Box]) -> list[Points]:
        """Return the landmarks [68, 2] of every box of an upright picture, in the boxes' order."""


def open_landmarks(name: str = "dlib", device: str = "cpu") -> Landmarks:
    """Return a landmark backend.

    Raises:
        InputError: unknown, not installed, or its weights are not there; says what to do.
    """
    if name == "dlib":
        from toonport.photo.landmarks_dlib import DlibLandmarks

        return DlibLandmarks()
    if name == "face-alignment":
        from toonport.photo.landmarks_fan import FaceAlignmentLandmarks

        return FaceAlignmentLandmarks(device)
    raise InputError(f"unknown landmark backend '{name}'; known: {', '.join(LANDMARKS)}")


def usable(name: str) -> Usable:
    """Say whether a landmark backend can run here, without loading it."""
    if name == "dlib":
        from toonport.photo.landmarks_dlib import examine
    else:
        from toonport.photo.landmarks_fan import examine
    return examine()


def largest(faces: list[Face]) -> Face:
    """Return the face with the largest landmark box: the reference's choice among several."""
    return max(faces, key=lambda face: face.area)


def turn_back(points: Points, turns: int, height: int, width: int) -> Points:
    """Carry points from `np.rot90(picture, turns)` back to the picture, whose size is height x width."""
    x, y = points[:, 0], points[:, 1]
    back = {0: (x, y), 1: (width - 1 - y, x), 2: (width - 1 - x, height - 1 - y), 3: (y, height - 1 - x)}
    return np.stack(back[turns % 4], axis=1)
