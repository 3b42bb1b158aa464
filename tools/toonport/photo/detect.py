"""Finds the faces of a photo whichever way it is turned.

The detector sees faces of 80 px and more that are within some 30 degrees of upright. A photo is first looked
at small, where the usual portrait is found at once; then at more detail, and in all four quarter turns. A score below
`SURE` is taken only where no turn offers a better one.
"""

import numpy as np

from toonport.photo.faces import Box, Face, Landmarks, turn_back
from toonport.photo.landmarks_dlib import detect
from toonport.photo.picture import Picture, resize

QUICK_SIDE = 256  # shows as many of the faces of real photos as 320 does, in two thirds of the time
SIDES = (1024, 2048)
# Scores measured on real photos: faces 0.3 and more; things that are no face up to 0.12.
SURE = 1.0
THRESHOLD = 0.25
LARGEST_ENLARGEMENT = 4.0
SMALLEST = 20  # pixels; a quarter of the smallest face, and dlib fails on a picture of one row

Found = list[tuple[Box, float]]


def find_faces(picture: Picture, landmarks: Landmarks, every: bool = False) -> list[Face]:
    """Return the faces of a photo, the surest first.

    Args:
        picture: RGB uint8 [H, W, 3], turned in any way.
        landmarks: what sets the points.
        every: look for small faces beside large ones and for turned ones beside upright ones; else the search ends
            at the first size and turn that shows a sure face, upright first.

    Returns:
        Faces with landmarks in the photo's own pixels; empty when there are none.
    """
    if not every and _best(quick := _at_side(picture, QUICK_SIDE, 0)) >= SURE:
        return _with_points(picture, quick, 0, landmarks)
    for side in _sides(picture, every):
        upright = _at_side(picture, side, 0)
        if not every and _best(upright) >= SURE:
            return _with_points(picture, upright, 0, landmarks)
        turned = [upright, *(_at_side(picture, side, turns) for turns in range(1, 4))]
        best = max(range(4), key=lambda turns: _best(turned[turns]))
        faces = _with_points(picture, turned[best], best, landmarks)
        for turns in {0, 1, 2, 3} - {best} if every else ():
            faces += _with_points(
                picture, [(box, score) for box, score in turned[turns] if score >= SURE], turns, landmarks
            )
        if faces:
            return _distinct(faces)
    return []


def _sides(picture: Picture, every: bool) -> list[int]:
    """Return the sides at which to look, in order; a small photo is not enlarged beyond the first."""
    fitting = [side for side in SIDES if side == SIDES[0] or side <= 2 * max(picture.shape[:2])]
    return fitting[::-1] if every else fitting


def _best(found: Found) -> float:
    return found[0][1] if found else -np.inf


def _distinct(faces: list[Face]) -> list[Face]:
    """Return the faces, the surest first, without those whose middle lies in a surer one: the same, seen turned."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        middle = face.points.mean(axis=0)
        boxes = ((surer.points.min(axis=0), surer.points.max(axis=0)) for surer in kept)
        if not any((first < middle).all() and (middle < last).all() for first, last in boxes):
            kept.append(face)
    return kept


def find_faces_as_reference(picture: Picture, landmarks: Landmarks) -> list[Face]:
    """Return the upright faces that the detector sees at the photo's own size, as the reference looks for them."""
    return _with_points(picture, detect(picture, 0.0), 0, landmarks)


def _at_side(picture: Picture, side: int, turns: int) -> Found:
    """Look at the photo with its longer side at `side` pixels, after quarter turns; boxes in turned full pixels."""
    height, width = picture.shape[:2]
    factor = min(side / max(height, width), LARGEST_ENLARGEMENT)
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    if min(size) < SMALLEST:
        return []
    small = resize(_halved(picture, factor), *size)
    found = detect(np.rot90(small, turns), THRESHOLD)
    return [((box[0] / factor, box[1] / factor, box[2] / factor, box[3] / factor), score) for box, score in found]


def _halved(picture: Picture, factor: float) -> Picture:
    """Halve the photo while it stays above `factor` of its size: many times faster than one large step."""
    while factor <= 0.5:
        height, width = (length // 2 for length in picture.shape[:2])
        picture, factor = resize(picture, max(1, height), max(1, width)), factor * 2
    return picture


def _with_points(picture: Picture, found: Found, turns: int, landmarks: Landmarks) -> list[Face]:
    height, width = picture.shape[:2]
    points = landmarks(np.rot90(picture, turns), [box for box, _ in found])
    scores = (score for _, score in found)
    return [
        Face(turn_back(face, turns, height, width), score, turns) for face, score in zip(points, scores, strict=True)
    ]
