"""Several runs in a row, of which each must compute what it would alone: nothing may be left over from the run before.

The pictures, their shape, the mode and the weights change in between, so that a result kept too long shows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity_tests.harness.capture import NOISE_RUNS, REFUSALS, Calls, Pair, measure_calls, refused, traced
from parity_tests.harness.inputs import feature
from parity_tests.harness.measurement import Kind, Measurement, Mode, Probe, Quantity
from parity_tests.harness.sides.base import Array, Side

CHANGE = 0.25  # largest relative change of a weight


@dataclass(frozen=True)
class _Run:
    """One run of several."""

    turned: bool = False  # whether it gets the second pictures
    training: bool = False
    changed: bool = False  # whether the weights are other ones than at first


RUNS = (_Run(), _Run(turned=True), _Run(turned=True, training=True, changed=True), _Run(changed=True))


def measure_sequence(pair: Pair, probe: Sequence[Array], turned: Sequence[Array]) -> Iterator[Measurement]:
    """Run eval, eval, train and eval in a row, from the third on with other weights, and compare every layer's output.

    Args:
        pair: reference and port; weights, state and mode are as before afterwards.
        probe: small inputs.
        turned: others.
    """
    first = [side.weights() for side in pair.sides]
    other = _other_weights(pair.reference)
    inputs = [turned if run.turned else probe for run in RUNS]
    try:
        truths = _calls(pair, pair.truth, inputs, other)
        references = [
            _calls(pair, pair.reference, [pair.moved(arrays, seed) for arrays in inputs], other)
            for seed in range(NOISE_RUNS)
        ]
        try:
            ports = _calls(pair, pair.port, inputs, other)
        except REFUSALS as error:
            head = pair.head(Mode.ACCUMULATED, _probe(inputs[1], 1), "", Quantity(Kind.OUTPUT), 0)
            yield refused(head, "run several times in a row", error)
            return
    finally:
        for side, weights in zip(pair.sides, first, strict=True):
            side.set_weights(weights)
        pair.set_training(False)
    for number, arrays in enumerate(inputs):
        own = [calls[number] for calls in references]
        yield from measure_calls(pair, _probe(arrays, number), truths[number], own, ports[number])


def _probe(inputs: Sequence[Array], number: int) -> Probe:
    run = RUNS[number]
    return replace(Probe.of(inputs, run.training), call=number + 1, changed=run.changed)


def _other_weights(reference: Side) -> dict[str, Array]:
    """Other weights for every side, in the compared precision."""
    first = reference.weights()
    reference.set_weights({name: _changed(name, value) for name, value in first.items()})
    other = reference.weights()
    reference.set_weights(first)
    return other


def _changed(name: str, value: Array) -> Array:
    return np.asarray(value * (1 + feature(f"changed/{name}", value.shape, CHANGE)), value.dtype)


def _calls(pair: Pair, side: Side, inputs: Sequence[Sequence[Array]], other: Mapping[str, Array]) -> list[Calls]:
    """What every layer did in each run of one side, whose state goes on from run to run and is put back at the end."""
    first, calls = side.weights(), []
    with side.preserved():
        for run, arrays in zip(RUNS, inputs, strict=True):
            side.set_training(run.training, pair.reference.dropouts)
            side.set_weights(other if run.changed else first)
            calls.append(traced(side, arrays))
        side.set_weights(first)
    return calls
