"""Finds the faces of a photo whichever way it is turned.

A photo is first looked at small, where the usual portrait is found at once; then at more detail, and in all four
quarter turns; at last enlarged, for the small faces of groups. A score below `SURE` is taken only where no turn offers
a better one.
"""

from collections.abc import Sequence

import numpy as np

from toonport.photo.faces import Face, Landmarks, turn_back
from toonport.photo.landmarks_dlib import detect
from toonport.photo.looks import THRESHOLD, Found, agreed, enlargement, look
from toonport.photo.picture import Picture

QUICK_SIDE = 256  # shows as many of the faces of real photos as 320 does, in two thirds of the time
SIDES = (1024, 2048)
LARGEST_SIDE = 4096
GROUP_SIDES = (1024, 1448, 2048, 2896, LARGEST_SIDE)  # each shows faces of a group that the others miss
SURE = 1.0


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
    if every:
        return _every_face(picture, landmarks)
    if _best(quick := look(picture, QUICK_SIDE)) >= SURE:
        return _with_points(picture, quick, 0, landmarks)
    for side in _different(picture, SIDES):
        upright = look(picture, side)
        if _best(upright) >= SURE:
            return _with_points(picture, upright, 0, landmarks)
        turned = [upright, *(look(picture, side, turns) for turns in range(1, 4))]
        best = _best_turn(turned)
        if turned[best]:
            return _distinct(_with_points(picture, turned[best], best, landmarks))
    return _with_points(picture, look(picture, LARGEST_SIDE), 0, landmarks)


def find_faces_as_reference(picture: Picture, landmarks: Landmarks) -> list[Face]:
    """Return the upright faces that the detector sees at the photo's own size, as the reference looks for them."""
    return _with_points(picture, detect(picture, 0.0), 0, landmarks)


def _every_face(picture: Picture, landmarks: Landmarks) -> list[Face]:
    """Return the faces that looks at several sizes show in the photo's best turn, and the sure ones of the others."""
    middle = _different(picture, SIDES)[-1]
    turned = [look(picture, middle, turns, 0.0) for turns in range(4)]
    best = _best_turn(turned)
    if _best(turned[best]) < THRESHOLD:
        best = 0
    others = [side for side in _different(picture, GROUP_SIDES) if side != middle]
    found = agreed([turned[best], *(look(picture, side, best, 0.0) for side in others)])
    faces = _with_points(picture, found, best, landmarks)
    for turns in {0, 1, 2, 3} - {best}:
        sure = [(box, score) for box, score in turned[turns] if score >= SURE]
        faces += _with_points(picture, sure, turns, landmarks)
    return _distinct(faces)


def _different(picture: Picture, sides: Sequence[int]) -> list[int]:
    """Return the sides at which to look, in order, without those that the bounds on a look make equal."""
    sizes = {enlargement(picture, side): side for side in reversed(sides)}
    return sorted(sizes.values())


def _best(found: Found) -> float:
    return found[0][1] if found else -np.inf


def _best_turn(turned: Sequence[Found]) -> int:
    return max(range(4), key=lambda turns: _best(turned[turns]))


def _distinct(faces: list[Face]) -> list[Face]:
    """Return the faces, the surest first, without those whose middle lies in a surer one: the same, seen turned."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        middle = face.points.mean(axis=0)
        boxes = ((surer.points.min(axis=0), surer.points.max(axis=0)) for surer in kept)
        if not any((first < middle).all() and (middle < last).all() for first, last in boxes):
            kept.append(face)
    return kept


def _with_points(picture: Picture, found: Found, turns: int, landmarks: Landmarks) -> list[Face]:
    height, width = picture.shape[:2]
    points = landmarks(np.rot90(picture, turns), [box for box, _ in found])
    scores = (score for _, score in found)
    return [
        Face(turn_back(face, turns, height, width), score, turns) for face, score in zip(points, scores, strict=True)
    ]
