"""Between a portrait and a network: white background, value range, the finished picture, heat maps, sheets.

Source of the arithmetic: minivision-ai/photo2cartoon (MIT). Grey levels are cut to whole numbers, not rounded,
because the reference does so; a level that lacks less than a thousandth counts as reached, so that the last bit
of a float does not decide between 254 and white.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from toonport.photo.picture import Picture, resize

REACHED = 1e-3
GAP = 8  # white pixels between the pictures of a sheet


def mask_of(rgba: Picture) -> NDArray[np.float64]:
    """Return the alpha channel [H, W, 1] in 0..1; 1 everywhere for a picture without one."""
    if rgba.shape[2] == 3:
        return np.ones((*rgba.shape[:2], 1))
    return rgba[:, :, 3:].astype(np.float64) / 255


def on_white(rgba: Picture) -> Picture:
    """Return a cut-out [H, W, 4] on white, uint8 [H, W, 3]."""
    mask = mask_of(rgba)
    return np.floor(rgba[:, :, :3] * mask + 255 * (1 - mask) + REACHED).astype(np.uint8)


def to_input(rgba: Picture, channels: str = "RGB") -> NDArray[np.float32]:
    """Return what a network takes: [1, 3, H, W] in [-1, 1], the cut-out on white.

    Args:
        rgba: [H, W, 4] uint8, or [H, W, 3] without a matte, at the network's size.
        channels: "RGB" or "BGR", the order in which the network was trained.
    """
    mask = mask_of(rgba)[:, :, 0]
    values = np.stack(_ordered(cv2.split(rgba)[:3], channels)) * mask  # [3, H, W]
    values += (1 - mask) * 255
    values /= 127.5
    values -= 1
    return values[None].astype(np.float32)


def finish(output: NDArray[Any], rgba: Picture, channels: str = "RGB") -> Picture:
    """Return a network's output as a picture: its own pixels where the person is, white elsewhere.

    Args:
        output: [1, 3, H, W] in [-1, 1]; values outside that range are cut off.
        rgba: what `to_input` was given, at the output's size.
        channels: as for `to_input`.

    Returns:
        RGB uint8 [H, W, 3].
    """
    mask = mask_of(rgba)[:, :, 0]
    values = np.clip(output[0], -1, 1).astype(np.float64)  # [3, H, W]
    values += 1
    values *= 127.5
    values *= mask
    values += 255 * (1 - mask)
    levels = (values + REACHED).astype(np.uint8)  # cuts to whole numbers
    return np.asarray(cv2.merge(_ordered(levels, channels)), np.uint8)


def _ordered(planes: Sequence[NDArray[Any]], channels: str) -> list[NDArray[Any]]:
    """Return red, green and blue planes in the network's order, or the network's as red, green and blue."""
    return list(planes if channels == "RGB" else planes[::-1])


def heat_picture(heat: NDArray[Any], height: int, width: int) -> Picture:
    """Return a class activation map [h, w] as colours, RGB uint8 [height, width, 3]; a flat map is all blue."""
    values = heat - heat.min()
    top = float(values.max())
    levels = np.uint8(255 * (values / top)) if top > 0 else np.zeros(values.shape, np.uint8)
    sized = cv2.resize(np.asarray(levels), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(cv2.applyColorMap(sized, cv2.COLORMAP_JET)[:, :, ::-1])


def sheet(pictures: list[Picture], height: int) -> Picture:
    """Return pictures side by side at one height, on white."""
    tiles = [resize(pixels, height, max(1, round(pixels.shape[1] * height / len(pixels)))) for pixels in pictures]
    gap = np.full((height, GAP, 3), 255, np.uint8)
    row = [part for tile in tiles for part in (tile, gap)][:-1]
    return np.ascontiguousarray(np.concatenate(row, axis=1))
