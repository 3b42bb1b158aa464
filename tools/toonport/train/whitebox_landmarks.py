"""What the landmark term of the White-box training step needs from the photos: see docs/landmark_term.md.

The detector sees the photos only. For each of four landmarks (both eyes, nose, mouth) this gives the pixels of the
patches that the step compares, as plain numbers that both frameworks use alike.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from convert.tensors import Array
from toonport.photo.picture import Picture

FindPoints = Callable[[Picture], Array | None]
DETECTOR_SIDE = 320  # dlib's detector misses faces below 80 pixels; smaller photos are enlarged to this side


class LandmarkWindows:
    """Photos [N, 3, H, W] RGB in [-1, 1] -> pixels, offsets and weights for the training step.

    Args:
        find: picture [H, W, 3] RGB uint8 -> the 68 points [68, 2] as (x, y) of its largest face, or None.
        patch: half side of the patches that are compared, in pixels.
        search: how far a landmark is looked for, in pixels.
    """

    def __init__(self, find: FindPoints | None = None, patch: int = 4, search: int = 4) -> None:
        self.find, self.patch, self.search = find or dlib_points(), patch, search

    def __call__(self, photos: Array) -> tuple[Array, Array, Array]:
        """Find the landmarks of every photo; a photo without a face gets weight 0."""
        pictures = np.clip((photos.transpose(0, 2, 3, 1) + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)
        found = [self.find(np.ascontiguousarray(picture)) for picture in pictures]
        nowhere = np.full((4, 2), np.nan)
        landmarks = np.stack([nowhere if points is None else four_landmarks(points) for points in found])
        return windows_of(landmarks, photos.shape[2], photos.shape[3], self.patch, self.search)


def four_landmarks(points: Array) -> Array:
    """The middles of both eyes and of the mouth, and the tip of the nose, of 68 points: [68, 2] -> [4, 2]."""
    return np.stack([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48:68].mean(0)])


def windows_of(landmarks: Array, height: int, width: int, patch: int, search: int) -> tuple[Array, Array, Array]:
    """Return which pixels the step compares.

    Args:
        landmarks: [N, 4, 2] as (x, y) in pixels, the eyes first; NaN where none was found.
        height, width: of the photos.
        patch, search: see `LandmarkWindows`.

    Returns:
        pixels [N, 4, M, P], flat positions of the P pixels of a patch at each of M places; offsets [M, 2] of the
        places from the landmark; weights [N, 4], 1 / (number of landmarks found * squared eye distance), 0 for a
        landmark that was not found or whose window leaves the picture.
    """
    steps, reach = _square(search), _square(patch)  # [M, 2], [P, 2]
    border = patch + search
    centres = np.rint(np.nan_to_num(landmarks, nan=border)).astype(np.int64)  # [N, 4, 2]
    inside = ((centres >= border) & (centres < np.array([width, height]) - border)).all(2)
    usable = inside & np.isfinite(landmarks).all(2)
    safe = np.where(usable[..., None], centres, border)
    places = safe[:, :, None, None] + steps[:, None] + reach  # [N, 4, M, P, 2]
    pixels = np.clip(places[..., 1], 0, height - 1) * width + np.clip(places[..., 0], 0, width - 1)
    eyes = np.nan_to_num(np.linalg.norm(landmarks[:, 1] - landmarks[:, 0], axis=1), nan=1.0)  # [N]
    weights = usable / (max(1, int(usable.sum())) * np.maximum(eyes, 1.0)[:, None] ** 2)
    return pixels, steps.astype(np.float64), weights


def _square(radius: int) -> NDArray[np.int64]:
    """All (x, y) with both between -radius and radius, row by row."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.stack([x.reshape(-1), y.reshape(-1)], axis=1)


def dlib_points() -> FindPoints:
    """Return the finder of the 68 points of the largest upright face, by dlib.

    Raises InputError: dlib or its landmark file is not installed; says what to install.
    """
    import cv2

    from toonport.photo.landmarks import open_landmarks
    from toonport.photo.landmarks_dlib import detect

    landmarks = open_landmarks("dlib")

    def find(picture: Picture) -> Array | None:
        """See `FindPoints`."""
        factor = max(1.0, DETECTOR_SIDE / min(picture.shape[:2]))
        enlarged = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR).astype(np.uint8)
        boxes = [box for box, _ in detect(enlarged, 0.0)]
        if not boxes:
            return None
        largest = max(boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
        return landmarks(enlarged, [largest])[0] / factor

    return find
