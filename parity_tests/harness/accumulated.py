"""Runs of the whole network: every layer's output, as errors build up along the way."""

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from math import prod

import numpy as np

from parity_tests.harness.capture import BY_HAND, NOISE_RUNS, REFUSALS, Pair, containers, named, outputs_of, refused
from parity_tests.harness.compare import deviation, measure, rms
from parity_tests.harness.measurement import NOT_COMPARABLE, OTHER_LAYOUT, Kind, Measurement, Mode, Probe, Quantity
from parity_tests.harness.on_disk import Shelf
from parity_tests.harness.sides.base import Array, LayerCall, LayerError, Side
from parity_tests.harness.sides.tree import changed, floating

SAME = 1e-3  # relative difference of numbers that are the same but for rounding
RECENT = 4  # tensors of a shape among which one is looked for that comes again

Key = tuple[str, int]  # layer, and which of its calls
Calls = dict[Key, LayerCall]
Visit = Callable[[Key, LayerCall], None]


def numbered(visit: Visit) -> Callable[[LayerCall], None]:
    """Return what visits calls with their number."""
    count: Counter[str] = Counter()

    def counted(call: LayerCall) -> None:
        """Visit a call."""
        visit((call.layer, count[call.layer]), call)
        count[call.layer] += 1

    return counted


class _Kept:
    """Calls that are kept with their first input; what comes again, as an output is the next input, is kept once.

    Where they are many they lie on disk.
    """

    def __init__(self) -> None:
        self.calls: Calls = {}
        self._shelf = Shelf()
        self._recent: dict[tuple[int, ...], deque[Array]] = {}

    def keep(self, key: Key, call: LayerCall) -> None:
        """Keep a call."""
        outputs = changed(call.outputs, [self._once(array) for array in call.outputs])
        self.calls[key] = LayerCall(call.layer, [self._once(array) for array in call.inputs[:1]], outputs)

    def _once(self, array: Array) -> Array:
        recent = self._recent.setdefault(array.shape, deque(maxlen=RECENT))
        same = (other for other in recent if other.dtype == array.dtype and np.array_equal(other, array))
        found = next(same, None)
        if found is None:
            recent.appendleft(found := self._shelf.put(array))
        return found


def layer_calls(side: Side, inputs: Sequence[Array], whole_only: bool = False) -> Calls:
    """Return every call of every layer, in the order of computation; `whole_only`: without the layers' tensors.

    The side's state is put back.
    """
    calls: Calls = {}

    def visit(key: Key, call: LayerCall) -> None:
        """Keep a call."""
        calls[key] = LayerCall(call.layer, (), ()) if whole_only and call.layer else call

    with side.preserved():
        side.trace(inputs, numbered(visit))
    return calls


class Runs:
    """How the network is run on each side; here every run is alone, and the side's state is put back."""

    def trace(self, side: Side, inputs: Sequence[Array], visit: Visit, seed: int = 0) -> None:
        """Run a side's network and visit every layer's call; `seed`: which of the runs of the reference it is."""
        with side.preserved():
            side.trace(inputs, numbered(visit))


def measure_accumulated(
    pair: Pair, inputs: Sequence[Array], probe: Probe, runs: Runs | None = None
) -> Iterator[Measurement]:
    """Run both whole networks and compare every layer's output as errors build up along the way.

    Each measurement also says how far the port's input of that layer was off, in multiples of the noise there, so that
    a layer that makes an error stands out from one that passes it on. Two runs are kept, the truth and one of the
    reference; the others are measured as they go.
    """
    runs = runs or Runs()
    truth, reference, noise = _Kept(), _Kept(), dict[Key, _CallNoise]()
    runs.trace(pair.truth, inputs, truth.keep)
    truths, references = truth.calls, reference.calls
    for seed in range(NOISE_RUNS):

        def note(key: Key, call: LayerCall, seed: int = seed) -> None:
            """Keep the first run; of each, how far it is from the truth."""
            if seed == 0:
                reference.keep(key, replace(call, inputs=()))
            noise[key] = _CallNoise.of(call, truths[key], noise.get(key))

        pair.noisy("", seed, inputs, partial(runs.trace, pair.reference, visit=note, seed=seed))
    found: dict[Key, list[Measurement]] = {}
    first = _first_orders(truths)

    def compare(key: Key, call: LayerCall) -> None:
        """Measure a call of the port."""
        if key in truths:
            head = pair.head(Mode.ACCUMULATED, probe, key[0], Quantity(Kind.OUTPUT), first[key])
            found[key] = list(
                _measure_outputs(
                    head, key, truths[key], references[key], noise[key], call, padded=key[0] in pair.padded
                )
            )
        else:
            found[key] = []

    try:
        runs.trace(pair.port, inputs, compare)
    except REFUSALS as error:
        layer = error.layer if isinstance(error, LayerError) else ""
        yield refused(pair.head(Mode.ACCUMULATED, probe, layer, Quantity(Kind.OUTPUT), 0), "run", error)
        return
    apart = _called_otherwise(pair, truths, found)
    for key, wanted in truths.items():
        head = pair.head(Mode.ACCUMULATED, probe, key[0], Quantity(Kind.OUTPUT), first[key])
        measured = found.get(key) or _measure_outputs(head, key, wanted, references[key], noise[key], None)
        reason = apart.get(key[0], "")
        yield from (replace(_without_numbers(head, it), not_run=reason) if reason else it for it in measured)


def _without_numbers(head: Measurement, measured: Measurement) -> Measurement:
    return replace(head, quantity=measured.quantity, order=measured.order)


def _first_orders(calls: Calls) -> dict[Key, int]:
    """Place of each call's first output in the order of computation."""
    places = [0, *accumulate(len(call.outputs) for call in calls.values())]
    return dict(zip(calls, places, strict=False))


@dataclass(frozen=True)
class _CallNoise:
    """How far runs of the reference are from the truth in one call: at its first input, and at each output."""

    input: float
    outputs: tuple[float, ...]

    @classmethod
    def of(cls, call: LayerCall, truth: LayerCall, other: "_CallNoise | None") -> "_CallNoise":
        """The noise of a run, or of another one where that is larger."""
        outputs = [deviation(own, wanted) for own, wanted in zip(call.outputs, truth.outputs, strict=True)]
        known = other or cls(0.0, (0.0,) * len(outputs))
        own = deviation(call.inputs[0], truth.inputs[0]) if call.inputs and floating(truth.inputs[0]) else 0.0
        return cls(max(known.input, own), tuple(map(max, known.outputs, outputs)))


def _measure_outputs(
    head: Measurement,
    key: Key,
    truth: LayerCall,
    reference: LayerCall,
    noise: _CallNoise,
    port: LayerCall | None,
    padded: bool = False,
) -> Iterator[Measurement]:
    """Compare what one call returned; `head` is of its first output; `padded`: but for axes of length 1."""
    own = named(port.outputs, outputs_of(truth.outputs)) if port else {}
    head = replace(head, input_error=_input_error(truth, noise.input, port))
    for index, quantity in enumerate(outputs_of(truth.outputs, key[1])):
        value = own.get(replace(quantity, call=0))
        if padded and value is not None and _without_ones(value.shape) == _without_ones(truth.outputs[index].shape):
            value = value.reshape(truth.outputs[index].shape)
        number = replace(head, quantity=quantity, order=head.order + index)
        yield measure(number, truth.outputs[index], [reference.outputs[index]], value, noise=noise.outputs[index])


def _called_otherwise(pair: Pair, truths: Collection[Key], ports: Collection[Key]) -> dict[str, str]:
    """Layer -> why its calls in a run of the whole network cannot be compared one by one.

    A layer without tensors and layers of its own may be a function in the port, or one for several places.
    """
    counts, own = Counter(layer for layer, _ in truths), Counter(layer for layer, _ in ports)
    parents, known = containers(pair.reference), pair.port.layer_types()
    with_weights = {name.rpartition(".")[0] for name in pair.reference_weights}
    otherwise = {
        layer: NOT_COMPARABLE
        for layer, count in counts.items()
        if layer not in known or (count != own[layer] and layer not in parents | with_weights)
    }
    return otherwise | dict.fromkeys(pair.apart, OTHER_LAYOUT) | dict.fromkeys(pair.moved, BY_HAND)


def looked_at(pair: Pair, inputs: Sequence[Array]) -> Pair:
    """Return the pair with its imprecise layers, and those that the port feeds as many numbers in another shape.

    What has other axes, e.g. NHWC, is compared within what holds it, where a wrong layout shows; what differs only by
    axes of length 1 is compared without these. None are found where the port cannot run.
    """
    pair = replace(pair, imprecise=pair.reference.imprecise(inputs))
    shapes: list[dict[Key, tuple[int, ...]]] = [{}, {}]
    doubtful: dict[Key, Array] = {}  # of the reference, of which another order of axes has the same shape
    turned: set[str] = set()
    try:
        for side, found in zip((pair.reference, pair.port), shapes, strict=True):

            def note(key: Key, call: LayerCall, found: dict[Key, tuple[int, ...]] = found) -> None:
                """Note the shape of the first input."""
                if not call.inputs:
                    return
                first = found[key] = call.inputs[0].shape
                if found is shapes[1] and key in doubtful and _turned(doubtful[key], call.inputs[0]):
                    turned.add(key[0])
                elif found is shapes[0] and len(first) > 2 and first[1] == first[-1]:
                    doubtful[key] = call.inputs[0]

            Runs().trace(side, inputs, note)
    except REFUSALS:
        return pair
    own, port = shapes
    differing = [key for key in own if key in port and own[key] != port[key] and prod(own[key]) == prod(port[key])]
    padded = frozenset(key[0] for key in differing if _without_ones(own[key]) == _without_ones(port[key]))
    return replace(pair, padded=padded, apart=frozenset({layer for layer, _ in differing} | turned) - padded)


def _turned(truth: Array, port: Array) -> bool:
    """Whether a port's numbers are those of the reference with the channels last in the place of first, or back."""
    if port.shape != truth.shape or not (floating(truth) and floating(port)):
        return False
    size = SAME * rms(truth)
    return rms(port - truth) > size and any(
        rms(port - np.moveaxis(truth, *axes)) <= size for axes in ((1, -1), (-1, 1))
    )


def _without_ones(shape: tuple[int, ...]) -> list[int]:
    return [side for side in shape if side != 1]


def _input_error(truth: LayerCall, noise: float, port: LayerCall | None) -> float | None:
    """Error of the port's first input in multiples of the noise there; None where there is no noise."""
    if not truth.inputs or port is None or not port.inputs or port.inputs[0].shape != truth.inputs[0].shape:
        return None
    if not floating(truth.inputs[0]) or not floating(port.inputs[0]):
        return None
    return deviation(port.inputs[0], truth.inputs[0]) / noise if noise else None
