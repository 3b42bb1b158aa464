"""Causes found by experiment: bugs planted in the reference, one by one, until one makes the port's own error.

The layer that is blamed runs again in float64 PyTorch on its recorded input. A candidate is the cause when the port is
as near to the reference with that bug as it should be to the reference itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from parity_tests.harness.arithmetic import Trace, arithmetic, fitted
from parity_tests.harness.candidates import candidates, detachments
from parity_tests.harness.capture import Pair, named, run_layer, state_of
from parity_tests.harness.changed_tensors import OPPOSITE, VALUES, Values, functions, larger, weight_cause
from parity_tests.harness.compare import rms, wide
from parity_tests.harness.measurement import Kind, Measurement, Mode, Quantity
from parity_tests.harness.rewrites import Cause, Change, Rewritten, rewriting
from parity_tests.harness.sides.base import Array, LayerCall, LayerError, Side, inside
from parity_tests.harness.sides.torch import TorchSide
from parity_tests.harness.sides.tree import changed, floating
from parity_tests.harness.values import fed, values_for

# how a candidate fails that does not run in this layer; what the layer itself raises is a RuntimeError then
RUNS_NOT = (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError)
WITHIN = 1e-3  # of the port's error, or of its size, what a candidate may leave: rounding is less, another bug more

Results = Mapping[Quantity, Array]
Planted = Callable[[], Results]  # runs the layer with a candidate bug
Made = Callable[[], Rewritten]  # makes the rewrite of a run


@dataclass(frozen=True)
class Finding:
    """What the experiments on one layer showed."""

    cause: Cause | None  # the bug that makes the port's error, None if no candidate does
    excluded: tuple[Change, ...] = ()  # kinds of bugs that were planted and make another error


def find_cause(pair: Pair, inputs: Sequence[Array], blamed: Measurement) -> Finding | None:
    """Look for the bug behind a layer's difference; None where no experiment can be made, or the port cannot run it.

    Args:
        pair: reference and port.
        inputs: the probe on which the layer was run.
        blamed: the tensor that is blamed first.
    """
    try:
        return _found_cause(pair, inputs, blamed)
    except LayerError:
        return None


def _found_cause(pair: Pair, inputs: Sequence[Array], blamed: Measurement) -> Finding | None:
    of_weight = weight_cause(pair.reference_weights, pair.port_weights, blamed.layer)
    if of_weight and blamed.mode in (Mode.WEIGHTS, Mode.ISOLATED):
        return Finding(of_weight)
    if not isinstance(pair.truth, TorchSide) or blamed.layer not in pair.port.layer_types():
        return None
    pair.set_training(bool(blamed.probe.training))
    if blamed.mode in (Mode.GRADIENTS, Mode.BLOCK_GRADIENTS):
        return _gradient_cause(pair, blamed.layer, inputs)
    if blamed.mode is not Mode.ISOLATED:
        return None
    call = _recorded(pair, blamed.layer, inputs)
    if call is None or not floating(call.inputs[0]) or not pair.port.accepts(blamed.layer, call.inputs):
        return None
    every = [_of_pair(pair, blamed.layer, inputs) for inputs in _fed(call)]
    own, *others = sorted((*every, *_of_larger(pair, call)), key=lambda layer: -layer.share)
    return own.finding(others) if own.share > 0 else None


def find_cause_in_file(
    truth: Side, call: LayerCall, output: int, value: Array, blamed: Measurement, own_code: bool = False
) -> Finding | None:
    """Look for the bug behind what a file makes of a layer that is blamed; None where it cannot be compared.

    Args:
        truth: PyTorch in float64.
        call: of the layer there, on what it was fed in the run of the file.
        output: which of its outputs is compared.
        value: what the file makes of it.
        blamed: the measurement of it.
        own_code: leave out the weights of the layers inside, which are judged themselves.
    """
    key = list(named(call.outputs, ()))[output]
    rounding = blamed.noise / _size(call.outputs[output])
    try:
        return _Layer(truth, call.layer, call.inputs, {key: value}, rounding, own_code=own_code).finding()
    except LayerError:
        return None


def _of_pair(pair: Pair, layer: str, inputs: Sequence[Array]) -> "_Layer":
    """What a port makes of a layer on one input."""
    truth = run_layer(pair.truth, layer, inputs)
    rounding = _distance(run_layer(pair.reference, layer, inputs), truth)
    port = run_layer(pair.port, layer, inputs, [quantity for quantity in truth if quantity.kind is Kind.OUTPUT])
    return _Layer(pair.truth, layer, inputs, port, rounding, truth)


def _of_larger(pair: Pair, call: LayerCall) -> "Iterator[_Layer]":
    """The layer on larger pictures, where it takes them: on a row of pixels width and picture are the same."""
    pictures = [value for value in call.inputs if value.ndim == 4 and floating(value)]
    if len({value.shape[2:] for value in pictures}) != 1:
        return
    inputs = changed(call.inputs, [larger(x) if x.ndim == 4 and floating(x) else x for x in call.inputs])
    if pair.port.accepts(call.layer, inputs):
        with suppress(LayerError, ValueError):
            yield _of_pair(pair, call.layer, inputs)


def _recorded(pair: Pair, layer: str, inputs: Sequence[Array]) -> LayerCall | None:
    calls: list[LayerCall] = []
    with pair.reference.preserved():
        pair.reference.trace(inputs, lambda call: calls.append(call) if call.layer == layer else None)
    return calls[0] if calls and len(calls[0].inputs) else None


def _fed(call: LayerCall) -> Iterator[Sequence[Array]]:
    """The recorded input, and those made from it."""
    yield call.inputs
    for values in values_for(call.inputs):
        yield changed(call.inputs, fed(values, call.inputs))


class _Layer:
    """The layer that is blamed, on one input.

    Args:
        truth: runs it in float64.
        layer: its path.
        inputs: what it is fed.
        port: what the port makes of them.
        rounding: what rounding makes of that, as a share of its size.
        wanted: what the truth makes of the inputs; None: `port` is of a file, whose tensors alone are compared.
        own_code: leave out the weights of the layers inside.
    """

    def __init__(
        self,
        truth: Side,
        layer: str,
        inputs: Sequence[Array],
        port: Results,
        rounding: float,
        wanted: Results | None = None,
        own_code: bool = False,
    ) -> None:
        self._side, self._layer, self._inputs, self._port, self._rounding = truth, layer, inputs, port, rounding
        self._keys, self._in_file, self._own_code = set(wanted or port), wanted is None, own_code
        self._truth = wanted or self._run()
        self._error = _distance(self._port, self._truth)

    @property
    def share(self) -> float:
        """The port's error as a share of the output, 0 where rounding makes as much."""
        return self._error if self._error > 10 * self._rounding else 0.0

    def finding(self, others: Sequence["_Layer"] = ()) -> Finding:
        """Plant every candidate; the one that leaves least is the cause, the first of those that leave rounding only.

        Args:
            others: the same layer on other inputs, on which a cause must hold as well.
        """
        trace, tried = Trace(), list[Change]()
        likely = ((cause, run, None) for cause, run in self._planted(trace))
        written = ((cause, partial(self._run_anew, made), made) for cause, made in self._rewritten(trace))
        opposite = ((cause, run, None) for cause, run in self._other_parameters(OPPOSITE))
        for stage in (likely, written, opposite):
            fitting = list[tuple[float, Cause, Made | None]]()
            for candidate, run, made in stage:
                tried.append(candidate.change)
                left = self._left(run)
                if left <= self._limit:
                    fitting.append((left, candidate, made))
            for _, cause, made in sorted(fitting, key=lambda fit: max(fit[0], self._rounding)):
                if all(other._agrees(cause, made) for other in others):
                    return Finding(cause)
        return Finding(None, tuple(dict.fromkeys(tried)))

    def _agrees(self, cause: Cause, made: Made | None) -> bool:
        """Whether a cause that was found on another input makes the port's error here, too; `made`: what rewrites."""
        limit = self._limit if self.share else max(WITHIN, self._limit)
        if made:
            return self._left(partial(self._run_anew, made)) <= limit
        planted = chain(self._planted(Trace()), self._other_parameters(OPPOSITE))
        return any(other == cause and self._left(run) <= limit for other, run in planted)

    @property
    def _limit(self) -> float:
        """What a cause may leave, as a share of the size; nothing but rounding where the shape differs."""
        share = WITHIN * min(self._error, 1.0) if np.isfinite(self._error) else 0.0
        return max(share, 10 * self._rounding)

    def _left(self, run: Planted) -> float:
        """What is left of the port's error beside a candidate's, infinite if that does not run."""
        try:
            with np.errstate(invalid="ignore", over="ignore"):  # a candidate may make no numbers
                left = _distance(self._port, run())
        except RUNS_NOT:
            return float("inf")
        return left if np.isfinite(left) else float("inf")

    def _rewritten(self, trace: Trace) -> Iterator[tuple[Cause, Made]]:
        """The layer's own arithmetic changed; `trace`: of the layer."""
        most = trace.affordable
        yield from arithmetic(trace.written, most)
        if all(_alike(self._port.get(key), value) for key, value in self._truth.items()):
            wanted = self._outputs(self._port)
            yield from fitted(trace.written, lambda rewrite: self._outputs(self._run(rewrite)), wanted, most)

    def _outputs(self, results: Results) -> Array:
        """All numbers of the outputs, one after the other."""
        own = [wide(results[key]).ravel() for key in self._truth if key.kind is Kind.OUTPUT]
        return np.concatenate(own or [np.zeros(0)])

    def _run_anew(self, made: Made) -> Results:
        return self._run(made())

    def _planted(self, trace: Trace) -> Iterator[tuple[Cause, Planted]]:
        with trace.watching(1):
            self._run()
        for cause, rewrite in candidates(trace.names):
            yield cause, partial(self._run, rewrite)
        yield from self._modes()
        yield from self._given()
        yield from self._returned()
        yield from self._parameters()

    def _run(self, rewrite: Any = None, inputs: Sequence[Array] | None = None) -> Results:
        with rewriting(rewrite) if rewrite else nullcontext():
            found = run_layer(self._side, self._layer, self._inputs if inputs is None else inputs)
        return {key: value for key, value in found.items() if key in self._keys}

    def _modes(self) -> Iterator[tuple[Cause, Planted]]:
        """Train mode for eval mode or the other way, and state that moves twice or never."""
        module = self._module()
        training = module.training

        def other() -> Results:
            """Run in the other mode."""
            module.train(not training)
            try:
                return self._run()
            finally:
                module.train(training)

        def twice() -> Results:
            """Run again on what the first run left behind."""
            with self._side.preserved(self._layer):
                self._side.call(self._layer, self._inputs)
                return self._run()

        yield Cause(Change.MODE, "eval mode" if training else "train mode"), other
        yield Cause(Change.MODE, "state moved twice"), twice
        before = {key: value for key, value in state_of(self._side, self._layer).items() if key in self._truth}
        for key, value in before.items():
            yield Cause(Change.STATE, "left as it was", key.name), partial(self._with_state, {key: value})
        if len(before) > 1:
            yield Cause(Change.STATE, "left as it was"), partial(self._with_state, before)

    def _with_state(self, state: Results) -> Results:
        return {**self._truth, **state}

    def _given(self) -> Iterator[tuple[Cause, Planted]]:
        """Inputs exchanged, left out, or with their channels reversed."""
        given = list(self._inputs)
        for first in range(len(given)):
            for second in range(first):
                order = list(given)
                order[first], order[second] = order[second], order[first]
                yield Cause(Change.INPUT, f"{second + 1} and {first + 1} exchanged"), self._with(order)
        for index, value in enumerate(given):
            left_out = [*given[:index], value * 0, *given[index + 1 :]]
            yield Cause(Change.INPUT, f"{index + 1} left out"), self._with(left_out)
        for what, value in (("channels reversed", given[0][:, ::-1]), ("in [0, 1]", (given[0] + 1) / 2)):
            yield Cause(Change.INPUT, what), self._with([np.ascontiguousarray(value), *given[1:]])

    def _with(self, inputs: Sequence[Array]) -> Planted:
        return lambda: self._run(inputs=changed(self._inputs, inputs))

    def _returned(self) -> Iterator[tuple[Cause, Planted]]:
        """What a function of the layer's output would give."""
        for what, function in functions():
            yield Cause(Change.OUTPUT, what), partial(self._changed, function)
        first = next((key for key in self._truth if key.kind is Kind.OUTPUT), None)
        wanted, found = (self._truth.get(first), self._port.get(first)) if first else (None, None)
        if wanted is not None and found is not None and _alike(found, wanted):
            right, own = wide(wanted), wide(found)
            ratio = float(np.vdot(right, own) / (np.vdot(right, right) or 1))
            yield Cause(Change.OUTPUT, f"× {ratio:.4g}"), partial(self._changed, partial(np.multiply, ratio))

    def _changed(self, function: Callable[[Array], Array]) -> Results:
        return {
            key: function(value) if key.kind is Kind.OUTPUT and not key.index else value
            for key, value in self._truth.items()
        }

    def _parameters(self) -> Iterator[tuple[Cause, Planted]]:
        """One parameter of the layer changed, or two of one shape exchanged."""
        yield from self._other_parameters(VALUES)
        own = self._weights()
        for name, other, value in self._alike(own):
            yield Cause(Change.WEIGHT, f"the values of {other}", name), self._other_values({name: value.detach().clone})
        pairs = [(one, other) for one in own for other in own if one < other and own[one].shape == own[other].shape]
        for one, other in pairs if len(pairs) < len(own) + 8 else []:
            values = {one: own[other].detach().clone, other: own[one].detach().clone}
            yield Cause(Change.WEIGHT, "exchanged", f"{one} and {other}"), self._other_values(values)

    def _other_parameters(self, values: Values) -> Iterator[tuple[Cause, Planted]]:
        for name, value in self._weights().items():
            for what, made in values:
                yield Cause(Change.WEIGHT, what, name), self._other_values({name: partial(made, value.detach())})

    def _alike(self, own: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
        """Parameters of a single layer of a file, whose weights are not compared, with others' of the same shape."""
        if not self._in_file or any(True for _ in self._module().children()):
            return
        prefix = f"{self._layer}." if self._layer else ""
        for other, value in self._side.network.named_parameters():
            for name in own if not inside(other, self._layer) else ():
                if value.ndim > 1 and own[name].shape == value.shape and prefix + name != other:
                    yield name, other, value

    def _other_values(self, values: Mapping[str, Callable[[], Any]]) -> Planted:
        def planted() -> Results:
            """Run with other values of some parameters, and put the right ones back."""
            own = dict(self._module().named_parameters())
            made = {name: value().clone() for name, value in values.items()}
            with ExitStack() as stack:
                for name, value in made.items():
                    stack.callback(own[name].data.copy_, own[name].detach().clone())
                    own[name].data.copy_(value)
                return self._run()

        return planted

    def _weights(self) -> dict[str, Any]:
        return dict(self._module().named_parameters(recurse=not self._own_code))

    def _module(self) -> Any:
        return self._side.layers[self._layer]


def _size(values: Array) -> float:
    return rms(values) or 1.0


def _alike(found: Array | None, wanted: Array) -> bool:
    """Whether there is a tensor of as many numbers, complex or not, in the same shape."""
    return found is not None and wide(found).shape == wide(wanted).shape


def _distance(found: Results, wanted: Results) -> float:
    """Largest root-mean-square difference of a tensor, as a share of its size; how often a norm ran is no result."""
    return max(
        rms(wide(found[key]) - wide(value)) / _size(value) if _alike(found.get(key), value) else float("inf")
        for key, value in wanted.items()
        if key.kind is not Kind.STATE or floating(value)
    )


def _gradient_cause(pair: Pair, layer: str, inputs: Sequence[Array]) -> Finding | None:
    """Look for the operation whose gradient the port does not take."""
    with pair.reference.preserved():
        calls = pair.reference.trace_with_cotangents(inputs)
    call, cotangents = next((each for each in calls if each[0].layer == layer), (None, ()))
    if call is None:
        return None
    units = [cotangent / _size(cotangent) for cotangent in cotangents]

    def gradients(side: Side) -> Results:
        """Every gradient of the layer on one side."""
        with side.preserved(layer):
            found = side.gradients(layer, call.inputs, units)
        by_input = {Quantity(Kind.INPUT_GRADIENT, index=place): value for place, value in enumerate(found.inputs)}
        return by_input | {Quantity(Kind.GRADIENT, name): value for name, value in found.parameters.items()}

    names: list[str] = []
    with rewriting(lambda name, *_: names.append(name)):
        truth = gradients(pair.truth)
    port = gradients(pair.port)
    error = _distance(port, truth)
    for cause, rewrite in detachments(names):
        try:
            with rewriting(rewrite):
                found = gradients(pair.truth)
        except RuntimeError:
            continue  # nothing is left to differentiate
        if _distance(port, found) <= WITHIN * min(error, 1.0):
            return Finding(cause)
    return Finding(None, (Change.DETACHED,))
