"""What the published tools call equal, as yes-or-no rules on a network's output, to set beside our own verdict.

Sources and thresholds: the tools' documentation; each looks only at the final output.
"""

from collections.abc import Callable, Mapping

import numpy as np

from parity_tests.harness.compare import rms
from parity_tests.harness.sides.base import Array

Rule = Callable[[Array, Array, Array], bool]


def _cosine(truth: Array, reference: Array, port: Array) -> bool:
    product = float(np.vdot(reference, port))
    return product / (float(np.linalg.norm(reference)) * float(np.linalg.norm(port))) >= 0.997


def _psnr(truth: Array, reference: Array, port: Array) -> bool:
    error = rms(port - reference)
    return error == 0 or 20 * np.log10(float(np.abs(reference).max()) / error) >= 30


PUBLISHED_RULES: Mapping[str, Rule] = {
    "Polygraphy cosine .997": _cosine,
    "Polygraphy PSNR 30": _psnr,
    "mindone 5e-3": lambda truth, reference, port: rms(port - reference) <= 5e-3 * rms(reference),
    "HF 5e-5": lambda truth, reference, port: bool(np.abs(port - reference).max() <= 5e-5),
    "TroubleShooter 1e-4": lambda truth, reference, port: bool(np.allclose(port, reference, 1e-4, 1e-4)),
    "PaDiff mean": lambda truth, reference, port: bool(np.isclose(port.mean(), reference.mean(), 1e-4, 0)),
    "reprod_log 1e-6": lambda truth, reference, port: bool(np.abs(port - reference).mean() <= 1e-6),
    "assert_close": lambda truth, reference, port: bool(np.allclose(port, reference, 1.3e-6, 1e-5)),
    "fp64 3x": lambda truth, reference, port: rms(port - truth) <= 3 * rms(reference - truth),
}


def published_verdicts(truth: Array, reference: Array, port: Array) -> dict[str, bool]:
    """Return rule -> whether it calls the port equal, of outputs of the same shape, the truth's in float64."""
    arrays = [np.asarray(output, np.float64) for output in (truth, reference, port)]
    if arrays[2].shape != arrays[0].shape or not np.isfinite(arrays[2]).all():
        return dict.fromkeys(PUBLISHED_RULES, False)
    return {name: bool(rule(*arrays)) for name, rule in PUBLISHED_RULES.items()}
