"""Finds the smallest case in which a layer still differs: batch, picture and weights are made small while it does."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from parity_tests.harness.capture import Pair, measure_call, run_beforehand, run_layer, terms_of
from parity_tests.harness.compare import deviation
from parity_tests.harness.gradients import layer_gradients, measure_layer
from parity_tests.harness.inputs import feature
from parity_tests.harness.judge import Kinks, Verdict, judge
from parity_tests.harness.measurement import Kind, Measurement, Mode, Probe, Quantity, Values
from parity_tests.harness.sides.base import Array, LayerCall, LayerError, inside
from parity_tests.harness.sides.tree import changed, floating
from parity_tests.harness.values import fed

PERIOD = 4093  # numbers after which a large weight repeats itself, so that a file of it is small
GENEROUS = 10.0  # times PyTorch's own error, the budget where shapes differ and none was measured
CLEAR = 2.0  # multiple of the budget that a smaller case must leave


@dataclass(frozen=True)
class Case:
    """One tensor of one layer, on inputs on which the port is out of its budget."""

    verdict: Verdict
    inputs: Sequence[Array]
    cotangents: Sequence[Array]  # of the layer's floating outputs, where a gradient is compared
    expected: Array  # in float64
    budget: float  # largest error that counts as equal; where shapes differ, a generous multiple of PyTorch's own
    output: int = 0  # which of the layer's outputs it is, where it is one

    @property
    def layer(self) -> str:
        """Path of the layer."""
        return self.verdict.measurement.layer


@contextmanager
def smallest_cases(pair: Pair, probe: Sequence[Array], blamed: Measurement) -> Iterator[Iterator[Case]]:
    """Yield cases of the layer that is blamed, then of those that hold it, out of budget on their own.

    The networks keep the case's weights while the block runs.
    """
    weights = [side.weights() for side in pair.sides]
    compiled = replace(pair, port=pair.port.as_graphs()) if blamed.probe.compiled else pair
    pair.set_training(bool(blamed.probe.training))
    try:
        yield _cases(compiled, probe, blamed)
    finally:
        for side, values in zip(pair.sides, weights, strict=True):
            side.set_weights(values)
        pair.set_training(False)


def _cases(pair: Pair, probe: Sequence[Array], blamed: Measurement) -> Iterator[Case]:
    calls: list[LayerCall] = []
    with pair.reference.preserved():
        pair.reference.trace(probe, calls.append)
    run_beforehand(pair, probe)
    weights = pair.reference.weights()
    layer: str | None = blamed.layer
    while layer is not None:
        call = next((call for call in calls if call.layer == layer and len(call.inputs)), None)
        own = blamed if layer == blamed.layer else replace(blamed, quantity=Quantity(Kind.OUTPUT), mode=Mode.ISOLATED)
        if call is not None and layer in pair.port.layer_types():
            head = replace(own, layer=layer, layer_type=pair.reference.layer_types()[layer])
            trial = _Trial(pair, head, weights)
            inputs = call.inputs
            if blamed.probe.values is not Values.RECORDED:
                inputs = changed(inputs, fed(blamed.probe.values, inputs))
            if trial.differs(inputs, 1.0):
                found = trial.smallest(inputs)
                if found is not None:
                    yield found
        layer = layer.rpartition(".")[0] if layer else None


class _Trial:
    """One layer whose difference is looked for on ever smaller inputs."""

    def __init__(self, pair: Pair, blamed: Measurement, weights: Mapping[str, Array]) -> None:
        self._pair, self._blamed, self._weights = pair, blamed, weights
        self._set_weights(lambda value: value)

    def differs(self, inputs: Sequence[Array], clear: float = CLEAR) -> Verdict | None:
        """The verdict on the tensor where it is out of budget as clearly, and in the same way; else None."""
        try:
            found = list(map(judge, self._measured(inputs)))
        except (LayerError, ValueError):
            return None
        quantity = self._blamed.quantity
        own = [each for each in found if each.measurement.quantity == quantity] or found[:1]
        measured = (each for each in own if each.measurement.count)
        alike = [each for each in measured if bool(each.measurement.problem) == bool(self._blamed.problem)]
        return next((each for each in alike if not each.equal and each.multiple >= clear), None)

    def smallest(self, inputs: Sequence[Array]) -> Case | None:
        """The smallest case that is found by halving, with weights that repeat themselves if it differs with them.

        None where it differs in one run and not in the next.
        """
        self._repeat_weights(inputs)
        axes = [0, *range(inputs[0].ndim - 1, 1, -1)]
        for axis in axes:
            while len(smaller := _halved(inputs, axis)) and self.differs(smaller):
                inputs = smaller
        verdict = self.differs(inputs, 1.0)
        if verdict is None:
            return None
        quantity, layer, truth = verdict.measurement.quantity, self._blamed.layer, self._pair.truth
        if not self._gradient:
            found = run_layer(truth, layer, inputs)
            output = list(found).index(quantity) if quantity.kind is Kind.OUTPUT else 0
            noise = deviation(run_layer(self._pair.reference, layer, inputs)[quantity], found[quantity])
            return Case(verdict, inputs, (), found[quantity], verdict.budget or GENEROUS * noise, output)
        cotangents = _cotangents(self._call(inputs), quantity.of)
        expected = layer_gradients(truth, layer, inputs, cotangents, quantity.of)[quantity]
        return Case(verdict, inputs, cotangents, expected, verdict.budget)

    @property
    def _gradient(self) -> bool:
        return self._blamed.mode in (Mode.GRADIENTS, Mode.BLOCK_GRADIENTS)

    def _call(self, inputs: Sequence[Array]) -> LayerCall:
        layer = self._blamed.layer
        with self._pair.reference.preserved(layer):
            return LayerCall(layer, inputs, self._pair.reference.call(layer, inputs))

    def _measured(self, inputs: Sequence[Array]) -> Iterator[Measurement]:
        was = self._blamed.probe
        probe = replace(Probe.of(inputs, was.training), compiled=was.compiled)
        head = replace(self._blamed, mode=self._blamed.mode if self._gradient else Mode.ISOLATED, probe=probe)
        head = replace(head, problem="", not_run="", effects={}, hints={})
        call = self._call(inputs)
        if self._gradient:
            of = self._blamed.quantity.of
            return measure_layer(self._pair, head, call, _cotangents(call, of), of, Kinks())
        head = replace(head, quantity=Quantity(Kind.OUTPUT))
        return measure_call(self._pair, head, inputs, terms_of(self._pair, call, ()))

    def _repeat_weights(self, inputs: Sequence[Array]) -> None:
        """Give large weights of the layer numbers that repeat themselves, unless it does not differ with them."""
        for keep in (_repeating, lambda value: value):
            self._set_weights(keep)
            if self.differs(inputs):
                return

    def _set_weights(self, change: Callable[[Array], Array]) -> None:
        values = {name: change(value) for name, value in self._weights.items() if inside(name, self._blamed.layer)}
        for side in self._pair.sides:
            side.set_weights(values)


def _repeating(value: Array) -> Array:
    return np.resize(value.reshape(-1)[:PERIOD], value.shape)


def _halved(inputs: Sequence[Array], axis: int) -> Sequence[Array]:
    """The first half along an axis of every input that is as long there as the first one; nothing where it is 1."""
    length = inputs[0].shape[axis] if axis < inputs[0].ndim else 1
    if length < 2:
        return ()
    alike = [axis < array.ndim and array.shape[axis] == length for array in inputs]
    halves = [
        np.ascontiguousarray(np.take(array, range(length // 2), axis)) if same else array
        for array, same in zip(inputs, alike, strict=True)
    ]
    return changed(inputs, halves)


def _cotangents(call: LayerCall, of: int | None) -> list[Array]:
    """Seeded numbers that flow into the floating outputs of a layer, or into one of them alone."""
    outputs = [output for output in call.outputs if floating(output)]
    return [
        feature(f"cotangent/{place}", output.shape, float(of in (None, place))) for place, output in enumerate(outputs)
    ]
