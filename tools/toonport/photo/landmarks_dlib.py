"""dlib's frontal-face detector (HOG) and its 68-point shape predictor: offline after installation.

The predictor's file is carried by the package `face_recognition_models`, which is used as a folder of data.
Sources: Dalal & Triggs 2005 (HOG); Kazemi & Sullivan 2014 (ensemble of regression trees); dlib (Boost licence).
"""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import InputError
from toonport.photo.backends import Usable
from toonport.photo.faces import Box, Points
from toonport.photo.picture import Picture

REMEDY = "pip install dlib-bin face_recognition_models==0.3.0"
PREDICTOR = "shape_predictor_68_face_landmarks.dat"


def predictor_file() -> Path | None:
    """Return the predictor's file inside the package that carries it, or None."""
    spec = importlib.util.find_spec("face_recognition_models")
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0]) / "models" / PREDICTOR if folders else None
    return path if path and path.is_file() else None


def examine() -> Usable:
    """Say whether dlib and the predictor's file are there."""
    if importlib.util.find_spec("dlib") is None:
        return Usable(False, f"dlib is not installed; {REMEDY}")
    if predictor_file() is None:
        return Usable(False, f"no {PREDICTOR}; {REMEDY}")
    return Usable(True, "68 points, offline")


@cache
def _detector() -> Any:
    try:
        import dlib
    except ImportError as error:
        raise InputError(f"faces are found with dlib, which is not installed; {REMEDY}") from error
    return dlib.get_frontal_face_detector()


def detect(picture: Picture, threshold: float) -> list[tuple[Box, float]]:
    """Return the upright faces of a picture as (box, score), best first; 80 px is the smallest it can see.

    Args:
        picture: RGB uint8 [H, W, 3].
        threshold: lowest score to accept; 0 is the detector's own choice.
    """
    boxes, scores, _ = _detector().run(np.ascontiguousarray(picture), 0, threshold)
    return [
        ((float(box.left()), float(box.top()), float(box.right()), float(box.bottom())), float(score))
        for box, score in zip(boxes, scores, strict=True)
    ]


class DlibLandmarks:
    """The shape predictor; about 100 MB of memory."""

    def __init__(self) -> None:
        import dlib

        self._box = dlib.rectangle
        self._predict = dlib.shape_predictor(str(predictor_file()))

    def __call__(self, picture: Picture, boxes: list[Box]) -> list[Points]:
        """Return the landmarks [68, 2] of every box."""
        picture = np.ascontiguousarray(picture)
        found = [self._predict(picture, self._box(*(round(side) for side in box))) for box in boxes]
        return [np.array([(point.x, point.y) for point in shape.parts()], np.float64) for shape in found]
