"""How alike the faces of a photo and its cartoon are to a face-recognition network: what the Face-ID loss trains."""

import numpy as np

from convert.tensors import Array

NAME = "Face-ID similarity"
DEFINITION = (
    "mean over pairs of the cosine between MobileFaceNet's vectors of a photo and of its cartoon; the face region of "
    "aligned portraits, cut as in the Face-ID loss, which is 1 less this"
)


def similarities(photos: Array, cartoons: Array) -> list[float]:
    """Return the cosine of each pair of vectors, [N, D] both, in [-1, 1]."""
    first, second = np.asarray(photos, np.float64), np.asarray(cartoons, np.float64)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return [float(value) for value in (first * second).sum(1) / np.maximum(lengths, 1e-8)]
