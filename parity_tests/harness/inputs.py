"""Seeded inputs and weights that every framework and machine can rebuild bit for bit, from numpy alone.

A value depends only on a text tag and its position, through a 32-bit integer hash: no random
generator whose stream may change between versions. Values are made in float64 and rounded once to
float32, so that float32 and float64 runs start from identical numbers.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.errors import InputError
from convert.family import Part
from convert.identify import Network
from convert.plan import build_plan

Float32 = NDArray[np.float32]
SEEDING = ("demo", "bench")  # programs that write checkpoints of seeded weights; their tags begin so
UNTRAINED = "seeded, untrained"  # what exported files say of such weights
TELLING = 16  # numbers of a tensor that tell by whom it was seeded
LUMINANCE = (0.299, 0.587, 0.114)  # of R, G and B: ITU-R BT.601, as Pillow makes pictures grey

# u, v and the weight of both forms of spectral norm in PyTorch.
SPECTRAL_NAMES = (
    ("weight_u", "weight_v", "weight_orig"),
    ("weight_u", "weight_v", "weight_matrices"),
    ("parametrizations.weight.0._u", "parametrizations.weight.0._v", "parametrizations.weight.original"),
)


def noise(tag: str, count: int) -> NDArray[np.float64]:
    """Return `count` numbers in (0, 1) that depend only on `tag` and their position."""
    mask = np.uint64(0xFFFFFFFF)
    h = np.arange(count, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(zlib.crc32(tag.encode()))
    h &= mask
    for shift, factor in ((15, 2246822519), (13, 3266489917)):
        h ^= h >> np.uint64(shift)
        h = (h * np.uint64(factor)) & mask
    h ^= h >> np.uint64(16)
    return (h.astype(np.float64) + 0.5) / 2.0**32


def feature(tag: str, shape: tuple[int, ...], scale: float = 1.0, shift: float = 0.0) -> Float32:
    """Return an array of `shape` with values uniform in (shift - scale, shift + scale)."""
    return (shift + scale * _centred(tag, shape)).astype(np.float32)


def image(tag: str, batch: int, height: int, width: int, channels: int = 3) -> Float32:
    """Return pictures [batch, channels, height, width] in [-1, 1]: a smooth wave plus noise."""
    b, k, y, x = np.ogrid[:batch, :channels, :height, :width]
    wave = np.sin(2 * np.pi * (1 + k) * y / height + 0.7 * b) * np.cos(2 * np.pi * 2 * x / width + 0.9 * k)
    grain = _centred(tag, (batch, channels, height, width))
    return np.clip(0.6 * wave + 0.35 * grain, -1, 1).astype(np.float32)


def in_channels(pictures: Float32, channels: int, order: str = "RGB") -> Float32:
    """Return pictures [N, 3, H, W] as a network of so many channels takes them: as they are, or grey [N, 1, H, W].

    Args:
        pictures: in [-1, 1].
        channels: of the network's input.
        order: of the pictures' colours, "RGB" or "BGR".

    Raises InputError: neither 3 nor 1 channels.
    """
    if channels == 3:
        return pictures
    if channels != 1:
        raise InputError(f"the network takes {channels} channels; a photo has 3, and is fed to networks of 3 or 1")
    weights = np.array(LUMINANCE if order == "RGB" else LUMINANCE[::-1])
    return np.einsum("nchw,c->nhw", pictures.astype(np.float64), weights)[:, None].astype(np.float32)


def formula_state(tag: str, layout: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[np.generic]]:
    """Return a state dict for a network: PyTorch key -> array.

    Args:
        tag: name of the network's weights; two networks with different tags get different numbers.
        layout: PyTorch key -> shape, as in the network's state dict.
    """
    state: dict[str, NDArray[np.generic]] = {}
    for key, shape in layout.items():
        if not any(key.endswith(names[:2]) for names in SPECTRAL_NAMES):
            state[key] = _value(tag, key, tuple(shape))
    for key in layout:
        for u_name, v_name, weight_name in SPECTRAL_NAMES:
            prefix = key.removesuffix(u_name)
            if key.endswith(u_name) and prefix + weight_name in layout:
                state[key], state[prefix + v_name] = _singular_vectors(f"{tag}:{key}", state[prefix + weight_name])
    return {key: state[key] for key in layout}


def seeded_weights(part: Part, kwargs: Mapping[str, Any], tag: str) -> dict[str, NDArray[np.generic]]:
    """Return seeded weights of a registered network built with these arguments: PyTorch name -> values."""
    return formula_state(tag, build_plan(part, kwargs).shapes)


def is_seeded(network: Network) -> bool:
    """Whether a network of a checkpoint has the weights that a program of this project seeded, and nobody trained."""
    shapes = {name: tuple(entry.spec.shape) for name, entry in network.tensors.items()}
    vectors = tuple(end for names in SPECTRAL_NAMES for end in names[:2])  # they follow from their weights
    telling = [name for name, shape in shapes.items() if np.prod(shape) >= TELLING and not name.endswith(vectors)]
    if not telling:
        return False
    name = min(telling, key=lambda name: np.prod(shapes[name]))
    found, part = network.tensors[name].read(), network.part.name
    seeded = (formula_state(f"{program}/{part}", {name: shapes[name]})[name] for program in SEEDING)
    return any(np.array_equal(found, values) for values in seeded)


def _centred(tag: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return (2 * noise(tag, int(np.prod(shape, dtype=np.int64))) - 1).reshape(shape)


def _value(tag: str, key: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """One state-dict entry; the rules keep every layer's output at a healthy scale."""
    last = key.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    centred = _centred(f"{tag}:{key}", shape)
    uniform = (centred + 1) / 2
    if last in {"rho", "w_gamma", "w_beta"}:
        value = np.clip(1.2 * uniform - 0.1, 0, 1)
    elif last == "running_var":
        value = 0.5 + uniform
    elif last in {"running_mean", "bias", "beta"}:
        value = _shift_scale(tag, last, shape) * centred
    elif last == "gamma" or len(shape) == 1:
        prelu = any(part.startswith("prelu") for part in key.split("."))
        value = 0.1 + 0.3 * uniform if prelu else 0.75 + 0.5 * uniform
    else:
        gain = 0.6 if key.endswith("project.conv.weight") else 1.4
        value = gain * np.sqrt(3 / np.prod(shape[1:])) * centred
    return value.astype(np.float32)


def _shift_scale(tag: str, last: str, shape: tuple[int, ...]) -> float:
    if last == "running_mean" or (last == "beta" and len(shape) == 4):
        return 0.2
    return 0.02 if tag.rsplit("/", 1)[-1].startswith("dis") else 0.1


def _singular_vectors(tag: str, weight: NDArray[np.generic]) -> tuple[Float32, Float32]:
    """Three power iterations from a hashed start: u [rows] and v [columns] of the flattened weight."""
    matrix = weight.astype(np.float64).reshape(weight.shape[0], -1)
    u = _unit(_centred(tag, (matrix.shape[0],)))
    for _ in range(3):
        v = _unit(matrix.T @ u)
        u = _unit(matrix @ v)
    return u.astype(np.float32), v.astype(np.float32)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def sample_positions(count: int, size: int) -> NDArray[np.int64]:
    """Return the `count` flat positions at which golden files sample a tensor of `size` elements."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(2654435761)
    return ((steps & np.uint64(0xFFFFFFFF)) % np.uint64(size)).astype(np.int64)


def sample(array: NDArray[np.generic], count: int) -> NDArray[np.generic]:
    """Return the golden sample of a tensor: all of it when it has at most `count` elements."""
    flat = array.reshape(-1)
    return flat if flat.size <= count else flat[sample_positions(count, flat.size)]
