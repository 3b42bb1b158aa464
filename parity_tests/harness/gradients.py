"""Layer-isolated gradients: vector-Jacobian products of every layer, fed the reference's own inputs.

The cotangent of a layer (what flows into it from above) is recorded in a backward run of the reference and
brought to a root mean square of 1, so that deep layers are judged as sharply as shallow ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from parity_tests.harness.backends import Array, Gradients, LayerCall
from parity_tests.harness.capture import Pair, refused
from parity_tests.harness.compare import Measurement, measure, rms
from parity_tests.harness.inputs import feature

__all__ = ["measure_gradients"]

NOISE_RUNS = 3


def measure_gradients(pair: Pair, inputs: Sequence[Array], probe: str) -> Iterator[Measurement]:
    """Compare the gradients of every layer with respect to its inputs and its parameters.

    Containers that only chain their layers are left out: they have no computation of their own.
    """
    with pair.reference.preserved():
        calls = pair.reference.trace_with_cotangents(inputs)
    types, known = pair.reference.layer_types(), pair.port.layer_types()
    parents = {path.rpartition(".")[0] for path in types if path} | {""}
    for order, (call, cotangents) in enumerate(calls):
        if call.layer in known and types[call.layer] != "Sequential" and call.inputs:
            mode = "block gradients" if call.layer in parents else "gradients"
            head = Measurement(mode, probe, call.layer, types[call.layer], "gradient", order, dtype=pair.dtype)
            yield from _measure_layer(pair, head, call, [_unit(one, index) for index, one in enumerate(cotangents)])


def _unit(cotangent: Array, index: int) -> Array:
    """Scale to a root mean square of 1; a cotangent of zeros is replaced by seeded numbers."""
    size = rms(cotangent)
    if size == 0.0:
        return feature(f"cotangent/{index}", cotangent.shape)
    return (cotangent / size).astype(np.float32)


def _measure_layer(
    pair: Pair, head: Measurement, call: LayerCall, cotangents: Sequence[Array]
) -> Iterator[Measurement]:
    moved = [pair.moved(call.inputs, seed) for seed in range(NOISE_RUNS)]
    with pair.truth.preserved(call.layer), pair.reference.preserved(call.layer), pair.port.preserved(call.layer):
        truth = _named(pair.truth.gradients(call.layer, call.inputs, cotangents))
        references = []
        for variant in moved:
            with pair.reference.preserved(call.layer):
                references.append(_named(pair.reference.gradients(call.layer, variant, cotangents)))
        try:
            port = _named(pair.port.gradients(call.layer, call.inputs, cotangents))
        except (RuntimeError, TypeError, ValueError) as error:
            yield refused(head, "differentiate", error)
            return
    largest = max((rms(value) for value in truth.values()), default=0.0)
    for name, wanted in truth.items():
        scale = largest if head.mode == "block gradients" else _term_scale(name, wanted, call, cotangents)
        yield measure(replace(head, tensor=name), wanted, [one[name] for one in references], port.get(name), scale)


def _term_scale(name: str, gradient: Array, call: LayerCall, cotangents: Sequence[Array]) -> float:
    """Size of a parameter's gradient if its terms did not cancel: root of their number times their size."""
    if name.startswith("gradient of input"):
        return 0.0
    terms = max(1.0, sum(one.size for one in cotangents) / max(1, gradient.shape[0] if gradient.ndim else 1))
    return float(np.sqrt(terms)) * max(1.0, rms(call.inputs[0]))


def _named(gradients: Gradients) -> dict[str, Array]:
    by_input = {f"gradient of input {index}": value for index, value in enumerate(gradients.inputs)}
    return by_input | {f"gradient of {name}": value for name, value in gradients.parameters.items()}
