"""Numbers only: how far two results are from the float64 truth and from each other. No judgement here."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from parity_tests.harness.measurement import Measurement
from parity_tests.harness.sides.base import Array
from parity_tests.tolerances import ULPS

HINT_FACTOR = 20.0


def rms(values: Array) -> float:
    """Root mean square in float64; 0 for an empty array."""
    flat = wide(values).reshape(-1)
    return float(np.sqrt(np.mean(np.square(flat)))) if flat.size else 0.0


def ulp_neighbour(values: Array, seed: int, dtype: str = "float32", units: int = 1) -> Array:
    """Move each value by units in the last place of `dtype` up, down, or not at all (seed 0: none moves).

    In float32 only float32 values are moved, by exactly that many units; in the other precisions every float is
    moved by up to twice as many. The same seed with `-units` moves every value the other way.
    """
    values = np.asarray(values)
    if seed == 0 or values.dtype.kind != "f" or (dtype == "float32" and values.dtype != np.float32):
        return values
    steps = units * np.random.default_rng(seed).integers(-1, 2, values.shape)
    if dtype != "float32":
        wide = np.float64 if dtype == "float64" else np.float32
        return (values * (1 + steps * ULPS[dtype])).astype(wide)
    towards = np.where(steps > 0, np.float32(np.inf), np.float32(-np.inf))
    for taken in range(abs(units)):
        values = np.where(np.abs(steps) > taken, np.nextafter(values, towards), values).astype(np.float32)
    return values


def deviation(values: Array, truth: Array) -> float:
    """Root mean square of the difference between two results, where both are finite."""
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        delta = wide(values) - wide(truth)
    return rms(delta if np.isfinite(delta).all() else delta[np.isfinite(delta)])


def measure(
    head: Measurement,
    truth: Array,
    references: Sequence[Array],
    port: Array | None,
    term_scale: float = 0.0,
    noise: float = 0.0,
) -> Measurement:
    """Fill in the numbers of a measurement.

    Args:
        head: which tensor it is; its numbers are replaced.
        truth: float64 PyTorch.
        references: PyTorch in the compared precision on the exact input, then on inputs moved by one ulp.
        port: the port's result, or None if it has none.
        term_scale: scale of the terms that the layer sums, where known (guards against cancellation).
        noise: deviation of further runs in the compared precision that are not kept.
    """
    problem = _problem(truth, references, port)
    if problem or port is None:
        return replace(head, count=truth.size, problem=problem)
    truth, port, *references = [wide(values) for values in (truth, port, *references)]
    finite = np.logical_and.reduce([np.isfinite(values) for values in (truth, port, *references)])
    left_out = int(finite.size - np.count_nonzero(finite))
    if left_out:
        truth, port, *references = [values[finite] for values in (truth, port, *references)]
    reference, delta = references[0], port - references[0]
    noise, error = max(noise, *(rms(run - truth) for run in references)), rms(port - truth)
    return replace(
        head,
        count=truth.size,
        not_finite=left_out,
        scale=max(rms(truth), term_scale),
        noise=noise,
        error=error,
        difference=float(np.abs(delta).max(initial=0.0)),
        relative=rms(delta) / rms(reference) if rms(reference) else float(bool(delta.any())),
        hints=_hints(reference, delta) if error > HINT_FACTOR * noise and delta.any() else {},
    )


def wide(values: Array) -> Array:
    """Return numbers as float64; complex ones as pairs [..., 2] of real and imaginary part."""
    values = np.asarray(values)
    if values.dtype.kind == "c":
        values = np.stack([values.real, values.imag], -1)
    return np.asarray(values, np.float64)


def _hints(reference: Array, delta: Array) -> dict[str, float]:
    """Facts about a clear difference that point at its cause; `channel` is a share of the squared difference."""
    power, total = float(np.vdot(reference, reference)), float(np.vdot(delta, delta))
    hints: dict[str, float] = {"ratio": 1 + float(np.vdot(reference, delta)) / power if power else 0.0}
    if delta.ndim == 4 and min(delta.shape[2:]) > 2:
        hints["ring"] = _ring(delta)
        hints["channel"] = float(np.square(delta.mean((0, 2, 3))).sum()) * (delta.size / delta.shape[1]) / total
    return hints


def _ring(delta: Array) -> int:
    """Width of the border outside of which nothing differs, up to a quarter of the side; 0 if there is none."""
    for width in range(1, min(delta.shape[2:]) // 4 + 1):
        if not delta[:, :, width:-width, width:-width].any():
            return width
    return 0


def _problem(truth: Array, references: Sequence[Array], port: Array | None) -> str:
    if port is None:
        return "the port has no such tensor"
    if tuple(port.shape) != tuple(truth.shape):
        return f"shape {list(port.shape)} where the reference has {list(truth.shape)}"
    if "c" in {port.dtype.kind, truth.dtype.kind} and port.dtype.kind != truth.dtype.kind:
        return f"{port.dtype.name} where the reference has {truth.dtype.name}"
    kind = _special(port)
    if not kind.any() and np.isfinite(references[0]).all():
        return ""
    same = np.logical_or.reduce([kind == _special(run) for run in references])
    if same.all():
        return ""
    return (
        "NaN or infinite values where the reference is finite"
        if np.isfinite(references[0]).all()
        else "NaN or infinite values at other places than in the reference"
    )


def _special(values: Array) -> NDArray[np.int8]:
    """0 where a number is finite, 1 where it is NaN, 2 and 3 where it is plus and minus infinity."""
    values = np.asarray(values)
    if values.dtype.kind == "c":
        codes: NDArray[np.int8] = 4 * _special(values.real) + _special(values.imag)
        return codes
    if values.dtype.kind != "f":
        return np.zeros(values.shape, np.int8)
    return np.select([np.isnan(values), np.isposinf(values), np.isneginf(values)], [1, 2, 3], 0).astype(np.int8)
