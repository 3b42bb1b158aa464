"""Bugs of a whole tensor: what may be done to a layer's output or to one of its weights; see `experiments`."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from parity_tests.harness.candidates import moved_by_one
from parity_tests.harness.compare import rms
from parity_tests.harness.rewrites import Cause, Change
from parity_tests.harness.sides.base import Array, inside

Values = tuple[tuple[str, Callable[[Any], Any]], ...]  # what is made of a parameter
VALUES: Values = (
    ("zero", lambda value: value * 0),
    ("its complement to 1", lambda value: 1 - value),
    ("cut to [0, 1]", lambda value: value.clamp(0, 1)),
    ("rounded to float16", lambda value: value.half().to(value.dtype)),
    ("rounded to bfloat16", lambda value: value.bfloat16().to(value.dtype)),
    ("reversed along axis 0", lambda value: value.flip(0)),
    ("axes 0 and 1 exchanged", lambda value: value.transpose(0, 1)),
    ("the first one for all", lambda value: value.flatten()[0].expand_as(value)),
)
OPPOSITE: Values = (("negated", lambda value: -value),)  # mostly a sign in the code that uses it


def larger(x: Array) -> Array:
    """Another picture of as large numbers, a few pixels higher and wider."""
    batch, channels, height, width = x.shape
    noise = np.random.default_rng(0).standard_normal((batch, channels, height + 3, width + 2))
    return np.asarray(x.mean() + (x.std() or 1.0) * noise, x.dtype)


def functions() -> Iterator[tuple[str, Callable[[Array], Array]]]:
    """Yield what may be done to an output."""
    import torch

    def by_torch(function: Callable[[Any], Any]) -> Callable[[Array], Array]:
        return lambda x: np.asarray(function(torch.from_numpy(np.ascontiguousarray(x))))

    for function in (torch.tanh, torch.sigmoid, torch.relu):
        yield f"through {function.__name__}", by_torch(function)
    yield "cut to [-1, 1]", lambda x: x.clip(-1, 1)
    yield "in [0, 1]", lambda x: (x + 1) / 2
    yield "channels reversed", lambda x: x[:, ::-1]
    yield "height and width exchanged", lambda x: x.swapaxes(-1, -2)
    for axes, where in (((2,), "down"), ((3,), "across"), ((2, 3), "both ways")):
        for by in (1, -1):
            for around, ends in ((True, ", around"), (False, "")):
                moved = partial(moved_by_one, axes=axes, by=by, around=around)
                yield f"shifted by one pixel {where}{ends}", by_torch(moved)


def weight_cause(right: Mapping[str, Array], found: Mapping[str, Array], layer: str) -> Cause | None:
    """What was done to a layer's first weight whose numbers differ, by its numbers alone; None where all are right."""
    for name, wanted in right.items():
        own = found.get(name) if inside(name, layer) else None
        if own is not None and wanted.shape == own.shape and not np.array_equal(wanted, own):
            for what, made in _copies(right, name):
                if made.shape == own.shape and np.array_equal(made, own):
                    return Cause(Change.WEIGHT, what, name)
            return Cause(Change.WEIGHT, _relation(wanted, own), name)
    return None


def _relation(wanted: Array, found: Array) -> str:
    """What an unknown weight has to do with the right one, within rounding."""
    ratio = float(np.vdot(wanted, found) / (np.vdot(wanted, wanted) or 1))
    shift = float(np.mean(found - wanted))
    for words, made in ((f"{found.flat[0]:g} everywhere", np.full_like(wanted, found.flat[0])),
                        (f"shifted by {shift:.4g}", wanted + shift),
                        (f"× {ratio:.4g}", wanted * ratio)):  # fmt: skip
        if np.allclose(made, found, rtol=1e-5, atol=1e-6 * (rms(wanted) or 1.0)):
            return words
    return "other values"


def _copies(weights: Mapping[str, Array], name: str) -> Iterator[tuple[str, Array]]:
    wanted = weights[name]
    yield "zero", wanted * 0
    yield "rounded to float16", wanted.astype(np.float16).astype(wanted.dtype)
    for axis in range(wanted.ndim):
        yield f"reversed along axis {axis}", np.flip(wanted, axis)
    for first in range(wanted.ndim):
        for second in range(first):
            yield f"axes {second} and {first} exchanged", wanted.swapaxes(first, second)
    yield "its complement to 1", 1 - wanted
    for other, values in weights.items():
        if other != name and values.shape == wanted.shape:
            yield f"the values of {other}", values
