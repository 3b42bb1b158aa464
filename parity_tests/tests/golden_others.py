"""Weights and inputs of the recorded numbers of the other systems, rebuilt from integers.

Their formula differs from `harness/inputs.py`: another hash, another scale of the weights, other pictures.
"""

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Gain = float | Sequence[tuple[str, float]]


def u01(name: str, count: int) -> NDArray[np.float64]:
    """Return `count` numbers in (0, 1) that depend only on `name` and their position."""
    mask = np.uint64(0xFFFFFFFF)
    h = (np.arange(count, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(zlib.crc32(name.encode()))) & mask
    for shift, factor in ((16, 2246822519), (13, 3266489917)):
        h ^= h >> np.uint64(shift)
        h = (h * np.uint64(factor)) & mask
    h ^= h >> np.uint64(16)
    return (h.astype(np.float64) + 0.5) / 2.0**32


def uniform(name: str, shape: tuple[int, ...], low: float, high: float) -> Float32:
    """Return an array of `shape` with values in (low, high)."""
    values = low + (high - low) * u01(name, int(np.prod(shape)))
    return values.reshape(shape).astype(np.float32)


def image(name: str, shape: tuple[int, int, int, int]) -> Float32:
    """Return pictures [N, C, H, W] in [-0.9, 0.9]: a wave plus noise."""
    n, c, y, x = np.ogrid[tuple(slice(side) for side in shape)]
    phase = 2 * np.pi * u01(f"phase:{name}", 1)[0]
    wave = np.sin(2 * np.pi * ((c + 1) * x / shape[3] + (n + 2) * y / shape[2]) + phase)
    grain = 2 * u01(f"input:{name}", int(np.prod(shape))).reshape(shape) - 1
    return (0.5 * wave + 0.4 * grain).astype(np.float32)


def parameters(shapes: Mapping[str, tuple[int, ...]], gain: Gain, prefix: str = "") -> dict[str, Float32]:
    """Return values for every tensor that is not a scalar: key -> array.

    Args:
        shapes: key -> shape.
        gain: factor of the weights, or (pattern, factor) pairs of which the first that occurs in the key wins.
        prefix: what the recorded key has in front.
    """
    return {key: _value(prefix + key, shape, gain) for key, shape in shapes.items() if shape}


def _value(key: str, shape: tuple[int, ...], gain: Gain) -> Float32:
    u, last = u01(key, int(np.prod(shape))), key.rsplit(".", 1)[-1]
    centred = 2 * u - 1
    if len(shape) > 1:
        factor = gain if isinstance(gain, int | float) else next(one for rule, one in gain if re.search(rule, key))
        values = factor * np.sqrt(3 / np.prod(shape[1:])) * centred
    elif last.endswith(("_u", "_v")):
        values = centred / np.linalg.norm(centred)
    elif last == "gamma":
        values = 0.5 + 0.5 * u if shape == (1,) else 1 + 0.2 * centred
    elif last in {"moving_variance", "running_var"}:
        values = 1 + 0.1 * u
    else:
        values = 0.1 * centred
    return values.reshape(shape).astype(np.float32)


def positions(size: int) -> NDArray[np.int64]:
    """Return the flat positions at which the records sample a tensor of `size` elements."""
    return np.arange(size) if size < 16 else np.array([int((step + 0.5) * size / 16) for step in range(16)])


def distance(record: Mapping[str, Any], array: NDArray[Any]) -> float:
    """Return the largest relative distance of an array from a recorded statistic: samples and norm."""
    flat = np.asarray(array, np.float64).reshape(-1)
    if "shape" in record and list(array.shape) != record["shape"]:
        return float("inf")
    places = positions(flat.size)
    wanted = np.array(record["samples"] if "samples" in record else record["s"])
    found = flat[places if wanted.size == places.size else places[::4]]
    scale = max(float(np.abs(wanted).max()), 1e-300)
    norm = abs(float(np.linalg.norm(flat)) - record["l2"]) / max(record["l2"], 1e-300)
    return max(float(np.abs(found - wanted).max()) / scale, norm)
