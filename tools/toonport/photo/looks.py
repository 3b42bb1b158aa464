"""One look at a photo: at one size and in one turn, within bounds of pixels, time and memory.

The detector sees faces of 80 px and more that are within some 30 degrees of upright. A look at side S takes at most
4 S^2 pixels, never more than `MOST_PIXELS`; one core searches ten million in a second. Of a picture longer than twice
its breadth, such as a screenshot or a panorama, twice the breadth counts as the longer side; a large one is searched in
strips.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from toonport.photo.faces import Box
from toonport.photo.landmarks_dlib import detect
from toonport.photo.picture import Picture, resize

THRESHOLD = 0.25  # scores measured on real photos: faces 0.3 and more; things that are no face up to 0.12
LARGEST_ENLARGEMENT = 4.0
SMALLEST = 20  # pixels; a quarter of the smallest face, and dlib fails on a picture of one row
MOST_PIXELS = 2**25
LONGEST = 2  # breadths of a picture that count as its length
STRIP_PIXELS = 2**24  # of a strip at the size that is searched, for which dlib takes 150 MB
SAME = 0.3  # overlap, as a share of what two boxes cover, from which they are one face

Found = list[tuple[Box, float]]


def look(picture: Picture, side: int, turns: int = 0, threshold: float = THRESHOLD) -> Found:
    """Return the faces seen with the longer side at `side` pixels, best first.

    Args:
        picture: RGB uint8 [H, W, 3].
        side: of the picture as it is searched; smaller where a bound asks for it.
        turns: quarter turns, against the clock, that come before the search.
        threshold: lowest score.

    Returns:
        (box, score); boxes in the pixels of the turned picture.
    """
    factor = enlargement(picture, side)
    found = []
    for rows, columns in _strips(picture, factor):
        left, top = _corner(picture, rows, columns, turns)
        for box, score in _search(picture[rows, columns], factor, turns, threshold):
            moved = (left + box[0] / factor, top + box[1] / factor, left + box[2] / factor, top + box[3] / factor)
            found.append((moved, score))
    return _once(found)


def enlargement(picture: Picture, side: int) -> float:
    """Return by what factor a picture is enlarged for a look at `side`."""
    height, width = picture.shape[:2]
    length = min(max(height, width), LONGEST * min(height, width))
    pixels = min(4 * side**2, MOST_PIXELS)
    return float(min(side / length, LARGEST_ENLARGEMENT, np.sqrt(pixels / (height * width))))


def overlap(one: Box, other: Box) -> float:
    """Return the area that two boxes share, as a share of the area that they cover."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def agreed(looks: Sequence[Found]) -> Found:
    """Return the faces of several looks at one turn, best first.

    A face is sure enough in one look, or in the two that show it best together.

    Args:
        looks: what each of them found, with a threshold of 0.
    """
    seen = sorted(((score, box, number) for number, found in enumerate(looks) for box, score in found), reverse=True)
    places: list[tuple[Box, dict[int, float]]] = []
    for score, box, number in seen:
        scores = next((scores for place, scores in places if overlap(place, box) > SAME), None)
        if scores is None:
            places.append((box, {number: score}))
        else:
            scores.setdefault(number, score)
    best = [(box, sorted(scores.values(), reverse=True)) for box, scores in places]
    return [(box, scores[0]) for box, scores in best if sum(scores[:2]) >= THRESHOLD]


def _once(found: Found) -> Found:
    """Return the boxes, best first, without those that two strips share."""
    kept: Found = []
    for box, score in sorted(found, key=lambda seen: -seen[1]):
        if not any(overlap(box, other) > SAME for other, _ in kept):
            kept.append((box, score))
    return kept


def _strips(picture: Picture, factor: float) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of strips along the picture; neighbours share as much as the picture is broad."""
    height, width = picture.shape[:2]
    length, breadth = max(height, width), min(height, width)
    whole = slice(0, breadth)
    step = max(breadth, int(STRIP_PIXELS / factor**2 / breadth) - breadth)
    for start in range(0, max(1, length - breadth), step):
        strip = slice(start, min(length, start + step + breadth))
        yield (strip, whole) if height > width else (whole, strip)


def _corner(picture: Picture, rows: slice, columns: slice, turns: int) -> tuple[int, int]:
    """Return left and top of a strip in the turned picture."""
    height, width = picture.shape[:2]
    right, below = width - columns.stop, height - rows.stop
    return ((columns.start, rows.start), (rows.start, right), (right, below), (below, columns.start))[turns]


def _search(part: Picture, factor: float, turns: int, threshold: float) -> Found:
    height, width = (max(1, round(length * factor)) for length in part.shape[:2])
    if min(height, width) < SMALLEST:
        return []
    if factor > 1:
        small = np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    else:
        small = resize(_halved(part, factor), height, width)
    return detect(np.rot90(small, turns), threshold)


def _halved(picture: Picture, factor: float) -> Picture:
    """Halve the photo while it stays above `factor` of its size: many times faster than one large step."""
    while factor <= 0.5:
        height, width = (length // 2 for length in picture.shape[:2])
        picture, factor = resize(picture, max(1, height), max(1, width)), factor * 2
    return picture
