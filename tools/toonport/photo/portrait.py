"""The whole way from a photo to cut-out portraits: find, turn upright, crop, cut out."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from convert.devices import CPU
from convert.errors import InputError
from toonport.photo.align import Crop, crop_face, eye_angle
from toonport.photo.backends import LANDMARK_NAMES, MATTE_NAMES
from toonport.photo.compose import on_white
from toonport.photo.detect import find_faces, find_faces_as_reference
from toonport.photo.faces import NO_FACE, Face, largest
from toonport.photo.landmarks import open_landmarks
from toonport.photo.matte import bring_matte, open_matte
from toonport.photo.picture import Picture, resize

SMALL_CROP = 128  # half the side at which the portrait networks draw


@dataclass(frozen=True)
class PortraitOptions:
    """How photos become portraits."""

    landmarks: str = LANDMARK_NAMES[0]  # backend that sets the landmarks
    matte: str = MATTE_NAMES[0]  # backend that cuts the person out; "" keeps the background
    every: bool = False  # every face of a photo; else only the largest
    as_reference: bool = False  # keep what the reference does with turned faces and with the filled-in corners
    device: str = CPU  # CPU or GPU, for the backends that can use one
    threads: int = 2  # threads of the matte network


@dataclass(frozen=True)
class Portrait:
    """One face, cut out."""

    crop: Crop  # the face at the photo's own resolution, [S, S, 3]
    matte: Picture  # uint8 [S, S], 255 where the person is, 0 in the background and outside the photo
    angle: float  # by how many degrees the photo was turned; clockwise tilt of the face is positive
    warnings: tuple[str, ...] = field(default=())  # what the user should know about this one

    @property
    def side(self) -> int:
        """Side of the crop in pixels."""
        return self.crop.side

    @cached_property
    def rgba(self) -> Picture:
        """The cut-out, uint8 [S, S, 4]: white and transparent outside the photo."""
        return np.dstack([self.crop.pixels, self.matte])

    def at(self, side: int) -> Picture:
        """Return the cut-out at another size, uint8 [side, side, 4]."""
        return np.dstack([self.crop.at(side), resize(self.matte, side, side)])

    @property
    def white(self) -> Picture:
        """The portrait on white, RGB uint8 [S, S, 3]."""
        return on_white(self.rgba)


def warnings_of(portraits: Iterable[Portrait]) -> tuple[str, ...]:
    """Return what the user should know about the portraits of one photo, each thing once."""
    return tuple(dict.fromkeys(text for portrait in portraits for text in portrait.warnings))


class Portraits:
    """Makes portraits of photos; holds the loaded backends."""

    def __init__(self, options: PortraitOptions) -> None:
        self.options = options
        self._landmarks = open_landmarks(options.landmarks, options.device)
        bring_matte(options.matte)
        self._matte = open_matte(options.matte, options.threads) if options.matte else None

    def __call__(self, picture: Picture) -> list[Portrait]:
        """Return the portraits of a photo, RGB uint8 [H, W, 3], from left to right.

        Raises InputError: there is no face.
        """
        if self.options.as_reference:
            faces = find_faces_as_reference(picture, self._landmarks)
        else:
            faces = find_faces(picture, self._landmarks, self.options.every)
        if not faces:
            raise InputError(NO_FACE)
        chosen = sorted(faces, key=lambda face: face.points[:, 0].min()) if self.options.every else [largest(faces)]
        return [self._portrait(picture, face) for face in chosen]

    def _portrait(self, picture: Picture, face: Face) -> Portrait:
        angle = eye_angle(face.points, self.options.as_reference)
        crop = crop_face(picture, face.points, angle)
        matte = self._matte(crop) if self._matte else np.full(crop.inside.shape, 255, np.uint8)
        if not self.options.as_reference:
            matte[~crop.inside] = 0
        small = f"the face is small ({crop.side} px with its surroundings): expect little detail"
        return Portrait(crop, matte, float(np.degrees(angle)), (small,) if crop.side < SMALL_CROP else ())
