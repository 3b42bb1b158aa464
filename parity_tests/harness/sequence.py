"""Several runs in a row, of which each must compute what it would alone: nothing may be left over from the run before.

The pictures, their shape, the mode and the weights change in between, so that a result kept too long shows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity_tests.harness.accumulated import Runs, Visit, measure_accumulated, numbered
from parity_tests.harness.capture import Pair
from parity_tests.harness.inputs import feature
from parity_tests.harness.measurement import Measurement, Probe
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
    runs = _InARow()
    try:
        for number, run in enumerate(RUNS):
            arrays = turned if run.turned else probe
            pair.set_training(run.training)
            for side, weights in zip(pair.sides, first, strict=True):
                side.set_weights(other if run.changed else weights)
            own = replace(Probe.of(arrays, run.training), call=number + 1, changed=run.changed)
            yield from measure_accumulated(pair, arrays, own, runs)
    finally:
        for side, weights in zip(pair.sides, first, strict=True):
            side.set_weights(weights)
        runs.put_back()
        pair.set_training(False)


class _InARow(Runs):
    """Runs of which each goes on from what the same run before left in the network's state."""

    def __init__(self) -> None:
        self._first: list[tuple[Side, dict[str, Array]]] = []
        self._left: dict[tuple[int, int], dict[str, Array]] = {}

    def trace(self, side: Side, inputs: Sequence[Array], visit: Visit, seed: int = 0) -> None:
        """See `Runs.trace`."""
        if all(side is not known for known, _ in self._first):
            self._first.append((side, side.state()))
        side.set_state(self._left.get((id(side), seed)) or next(state for own, state in self._first if own is side))
        side.trace(inputs, numbered(visit))
        self._left[id(side), seed] = side.state()

    def put_back(self) -> None:
        """Give every side the state it had at first."""
        for side, state in self._first:
            side.set_state(state)


def _other_weights(reference: Side) -> dict[str, Array]:
    """Other weights for every side, in the compared precision."""
    first = reference.weights()
    reference.set_weights({name: _changed(name, value) for name, value in first.items()})
    other = reference.weights()
    reference.set_weights(first)
    return other


def _changed(name: str, value: Array) -> Array:
    return np.asarray(value * (1 + feature(f"changed/{name}", value.shape, CHANGE)), value.dtype)
