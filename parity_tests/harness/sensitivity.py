"""What a probe could see: the size of the change that known bugs of a norm layer would make on its input.

If that change is smaller than the budget, the probe is blind to the bug, and the report must say so.
"""

from collections.abc import Sequence

import numpy as np

from parity_tests.harness.compare import rms
from parity_tests.harness.sides.base import Array

NORMS = ("InstanceNorm2d", "AdaLIN", "LIN")
EPS = 1e-5


def bug_effects(layer_type: str, inputs: Sequence[Array], output: Array) -> dict[str, float]:
    """Return bug -> root-mean-square change it would make in a norm layer's output; empty for other layers.

    Args:
        layer_type: class name in the reference.
        inputs: the layer's inputs, the first [N, C, H, W].
        output: what the layer makes of them, the same shape.
    """
    if layer_type not in NORMS or not inputs or np.ndim(inputs[0]) != 4:
        return {}
    pixels = int(np.prod(inputs[0].shape[2:]))
    size = rms(output)
    variance = np.asarray(inputs[0], np.float64).var((2, 3))  # [N, C]
    wrong = 1 - np.sqrt((variance + EPS) / (variance + 10 * EPS))
    return {"biased variance": size / (2 * pixels), "epsilon x10": size * rms(wrong)}
