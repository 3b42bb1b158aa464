"""Numbers only: how far two results are from the float64 truth and from each other. No judgement here."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from parity_tests.harness.measurement import Measurement
from parity_tests.harness.sides.base import Array
from parity_tests.tolerances import ULPS

HINT_FACTOR = 20.0


def rms(values: Array) -> float:
    """Root mean square in float64; 0 for an empty array."""
    flat = np.asarray(values, np.float64).reshape(-1)
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


def measure(
    head: Measurement, truth: Array, references: Sequence[Array], port: Array | None, term_scale: float = 0.0
) -> Measurement:
    """Fill in the numbers of a measurement.

    Args:
        head: which tensor it is; its numbers are replaced.
        truth: float64 PyTorch.
        references: PyTorch in the compared precision on the exact input, then on inputs moved by one ulp.
        port: the port's result, or None if it has none.
        term_scale: scale of the terms that the layer sums, where known (guards against cancellation).
    """
    problem = _problem(truth, port)
    if problem or port is None:
        return replace(head, count=truth.size, problem=problem)
    reference = np.asarray(references[0], np.float64)
    delta = np.asarray(port, np.float64) - reference
    noise, error = max(rms(np.asarray(run, np.float64) - truth) for run in references), rms(port - truth)
    return replace(
        head,
        count=truth.size,
        scale=max(rms(truth), term_scale),
        noise=noise,
        error=error,
        difference=float(np.abs(delta).max(initial=0.0)),
        relative=rms(delta) / rms(reference) if rms(reference) else float(bool(delta.any())),
        hints=_hints(reference, delta) if error > HINT_FACTOR * noise and delta.any() else {},
    )


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


def _problem(truth: Array, port: Array | None) -> str:
    if port is None:
        return "the port has no such tensor"
    if tuple(port.shape) != tuple(truth.shape):
        return f"shape {list(port.shape)} where the reference has {list(truth.shape)}"
    if not np.isfinite(port).all() and np.isfinite(truth).all():
        return "NaN or infinite values where the reference is finite"
    return ""
