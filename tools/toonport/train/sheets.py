"""Sample sheets: one column per picture, rows of originals, translations and class activation maps.

The rows are those of U-GAT-IT and photo2cartoon: real A, CAM of A2A, A2A, CAM of A2B, A2B, CAM of A2B2A, A2B2A, and
the same for B. Unlike there, the columns are always the same pictures, and no training batch is used up.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert.disk import atomic_path
from convert.tensors import Array
from toonport.train.data import Batches
from toonport.train.engine import Engine

COLUMNS = 5
Pixels = NDArray[np.uint8]


def make_sheets(engine: Engine, batches: Batches, columns: int = COLUMNS) -> dict[str, Pixels]:
    """Return the sheets "A2B" and, where there is a way back, "B2A" as [H, W, 3] RGB bytes.

    Args:
        engine: the networks; they run in eval mode and are not changed.
        batches: where the pictures come from.
        columns: training pictures, and as many test pictures.
    """
    chains = engine.translators()
    sheets = {}
    for domain, chain in enumerate(chains[:2]):
        back = chains[1 - domain] if len(chains) > 1 else None
        strips = [_column(engine, picture, chain, back) for picture in batches.columns(domain, columns)]
        sheets["A2B" if domain == 0 else "B2A"] = np.concatenate(strips, axis=1)
    return sheets


def _column(engine: Engine, picture: Array, chain: tuple[str, ...], back: tuple[str, ...] | None) -> Pixels:
    real = picture[None]  # [1, 3, H, W]
    fake = engine.generate(chain, real)
    results = [fake]
    if back:
        results = [engine.generate(back, real), fake, engine.generate(back, fake[0])]
    rows = [_pixels(real)]
    for outputs in results:
        rows += [cam_picture(outputs[2], real.shape[-1])] if len(outputs) == 3 else []
        rows.append(_pixels(outputs[0]))
    return np.concatenate(rows, axis=0)


def _pixels(image: Array) -> Pixels:
    """[1, 3, H, W] in [-1, 1] -> [H, W, 3] bytes; one channel becomes grey."""
    values = np.clip((image[0].transpose(1, 2, 0) * 0.5 + 0.5) * 255, 0, 255).astype(np.uint8)
    return np.repeat(values, 3, axis=2) if values.shape[2] == 1 else values


def cam_picture(heatmap: Array, side: int) -> Pixels:
    """Return a heat map [1, 1, h, w] as a coloured picture [side, side, 3] RGB; a flat map is all zero."""
    import cv2

    values = heatmap[0, 0] - heatmap.min()
    highest = values.max()
    grey = np.asarray(255 * (values / highest if highest > 0 else values)).astype(np.uint8)
    coloured = cv2.applyColorMap(cv2.resize(grey, (side, side)), cv2.COLORMAP_JET)
    return np.ascontiguousarray(coloured[:, :, ::-1])


def write_sheet(sheet: Pixels, target: Path) -> None:
    """Write a sheet as a PNG file."""
    from PIL import Image

    with atomic_path(target) as temporary:
        Image.fromarray(sheet).save(temporary, format="PNG")
