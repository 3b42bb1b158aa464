"""The structure of a picture: segments of one colour each, made with scikit-image.

Paper: Learning to Cartoonize Using White-box Cartoon Representations (CVPR 2020); SLIC (TPAMI 2012); Efficient
Graph-Based Image Segmentation (IJCV 2004). Systems: White-box Cartoonization and FacialCartoonization. The training
steps of both frameworks take these functions as they are: pictures [N, 3, H, W] RGB in [-1, 1] in and out.

Segments depend on the version of scikit-image, so a training run is repeatable only with the same one. Where the
sources group segments by four similarities of selective search, the adaptive structure joins the neighbours that
are closest in mean colour, until as many pairs of neighbours are left as in the sources.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from convert.tensors import Array

FLAT, BUSY = 20.0, 40.0  # standard deviation of a segment on a scale of 0 to 255
BRIGHTEN = 1.2


def slic_structure(pictures: Array, segments: int = 200) -> Array:
    """SLIC superpixels in the mean colour of each: FacialCartoonization's default and White-box's simple form."""
    from skimage.color import label2rgb
    from skimage.segmentation import slic

    def superpixels(picture: Array) -> Array:
        """[H, W, 3] -> [H, W, 3]."""
        labels = slic(picture, n_segments=segments, sigma=1, compactness=10, convert2lab=True)
        return np.asarray(label2rgb(labels, picture, kind="avg", bg_label=0))

    return _each(superpixels, pictures)


def adaptive_structure(pictures: Array, pairs: int = 200) -> Array:
    """Segments of felzenszwalb, joined, in a colour between mean and median, brightened by a power of 1.2."""
    from skimage.segmentation import felzenszwalb

    def joined(picture: Array) -> Array:
        """[H, W, 3] -> [H, W, 3]."""
        pixels = (picture + 1) * 127.5
        first = felzenszwalb(picture, scale=10, sigma=0.8, min_size=100)
        labels = joined_segments(colour_segments(pixels, first), first, pairs)
        unit = np.clip(colour_segments(pixels, labels) / 255, 0, 1) ** BRIGHTEN
        return unit / max(float(unit.max()), 1e-12) * 2 - 1

    return _each(joined, pictures)


def colour_segments(pixels: Array, labels: Array) -> Array:
    """Give each segment one colour: its mean where it is flat, its median where it is busy, between them in between.

    pixels [H, W, 3], 0 to 255; labels [H, W], a whole number per segment.
    """
    out = np.empty_like(pixels, dtype=np.float64)
    for label in np.unique(labels):
        inside = labels == label
        segment = pixels[inside]  # [pixels, 3]
        spread = float(segment.std())
        mean, median = segment.mean(0), np.median(segment, axis=0)
        share = 0.0 if spread < FLAT else (0.5 if spread <= BUSY else 1.0)  # of the median
        out[inside] = (1 - share) * mean + share * median
    return out


def joined_segments(pixels: Array, labels: Array, pairs: int) -> Array:
    """Join neighbouring segments, closest in mean colour first, until at most `pairs` pairs of neighbours are left."""
    from skimage.graph import rag_mean_color

    if labels.min() == labels.max():  # one segment has no neighbours
        return np.ones_like(labels)
    regions = rag_mean_color(pixels, labels)
    while regions.number_of_edges() > pairs:
        first, second, _ = min(regions.edges(data="weight"), key=lambda edge: edge[2])
        kept, gone = regions.nodes[second], regions.nodes[first]
        kept["total color"] = kept["total color"] + gone["total color"]
        kept["pixel count"] += gone["pixel count"]
        kept["mean color"] = kept["total color"] / kept["pixel count"]
        regions.merge_nodes(first, second, weight_func=_colour_distance)
    table = np.zeros(int(labels.max()) + 1, np.int64)
    for number, node in enumerate(regions.nodes, 1):
        table[regions.nodes[node]["labels"]] = number
    return table[labels]


def _colour_distance(regions: Any, source: int, target: int, neighbour: int) -> dict[str, float]:
    difference = regions.nodes[target]["mean color"] - regions.nodes[neighbour]["mean color"]
    return {"weight": float(np.linalg.norm(difference))}


def _each(function: Callable[[Array], Array], pictures: Array) -> Array:
    found = [function(picture.transpose(1, 2, 0).astype(np.float64)).transpose(2, 0, 1) for picture in pictures]
    return np.stack(found).astype(pictures.dtype)
