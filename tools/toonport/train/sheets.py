"""Sample sheets: one column per picture, rows of originals, translations and class activation maps.

The rows are those of U-GAT-IT and photo2cartoon: real A, CAM of A2A, A2A, CAM of A2B, A2B, CAM of A2B2A, A2B2A, and
the same for B. Unlike there, the columns are always the same pictures, and no training batch is used up.
"""

from collections.abc import Sequence

import numpy as np

from convert.tensors import Array
from toonport.photo.captions import captioned
from toonport.photo.compose import heat_picture
from toonport.photo.picture import Picture
from toonport.train.data import Batches
from toonport.train.engine import Engine

COLUMNS = 5


def make_sheets(engine: Engine, batches: Batches) -> dict[str, Picture]:
    """Return the sheets "A2B" and, where there is a way back, "B2A" as [H, W, 3] RGB bytes.

    Each shows COLUMNS training pictures and as many test pictures; networks run in eval mode and are not changed.
    """
    chains = engine.translators()
    sheets = {}
    for domain, chain in enumerate(chains[:2]):
        back = chains[1 - domain] if len(chains) > 1 else None
        strips = [_column(engine, picture, chain, back) for picture in batches.columns(domain, COLUMNS)]
        names = _row_names("AB"[domain], "BA"[domain], back is not None)
        sheets["A2B" if domain == 0 else "B2A"] = _with_captions(np.concatenate(strips, axis=1), strips[0], names)
    return sheets


def _row_names(own: str, other: str, both_ways: bool) -> list[str]:
    """What the pictures of a column are, from top to bottom; attention maps come before their pictures."""
    there = f"{own} to {other}"
    return [f"real {own}", f"{own} to {own}", there, f"{there} to {own}"] if both_ways else [f"real {own}", there]


def _with_captions(sheet: Picture, column: Picture, names: Sequence[str]) -> Picture:
    """Write on the first column of a sheet what its rows are."""
    width = column.shape[1]
    count = round(column.shape[0] / width) if column.shape[0] % width == 0 else 0  # tiles are squares
    with_maps = count == 2 * len(names) - 1
    rows = [names[0], *(row for name in names[1:] for row in ([f"map of {name}"] if with_maps else []) + [name])]
    if count != len(rows):
        return sheet
    done = sheet.copy()
    for number, name in enumerate(rows):
        tile = done[number * width : (number + 1) * width, :width]
        tile[...] = captioned(tile, name, name.startswith("map of"))
    return done


def _column(engine: Engine, picture: Array, chain: tuple[str, ...], back: tuple[str, ...] | None) -> Picture:
    real = picture[None]  # [1, 3, H, W]
    fake = engine.generate(chain, real)
    results = [fake]
    if back:
        results = [engine.generate(back, real), fake, engine.generate(back, fake[0])]
    rows = [_pixels(real)]
    for outputs in results:
        rows += [heat_picture(outputs[2][0, 0], *real.shape[2:])] if len(outputs) == 3 else []
        rows.append(_pixels(outputs[0]))
    return np.concatenate(rows, axis=0)


def _pixels(image: Array) -> Picture:
    """[1, 3, H, W] in [-1, 1] -> [H, W, 3] bytes; one channel becomes grey."""
    values = np.clip((image[0].transpose(1, 2, 0) * 0.5 + 0.5) * 255, 0, 255).astype(np.uint8)
    return np.repeat(values, 3, axis=2) if values.shape[2] == 1 else values
