"""Dropout: what its layers leave out at random is judged by what does not depend on chance.

In every other run these layers rest in eval mode, so that the same numbers come out each time; there they must be the
identity. Here each runs alone in train mode, twice, on numbers without zeros. Functions of dropout rest as well; what
they would leave out is known from their arguments.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from parity_tests.harness.accumulated import layer_calls
from parity_tests.harness.capture import BY_HAND, REFUSALS, Pair, not_comparable, refused
from parity_tests.harness.compare import measure
from parity_tests.harness.inputs import feature
from parity_tests.harness.measurement import Kind, Measurement, Mode, Probe, Quantity
from parity_tests.harness.sides.base import Array, Dropout, LayerCall, inside
from parity_tests.harness.sides.tree import floating

Uses = dict[str, list[Dropout | None]]  # innermost layer that both sides have -> forms of the uses in it, in order
DRAWS_IN_GRAPHS = "functions of dropout do not rest in a graph"
RATE_NOISE = 1e-7  # of a rate, which may have been 1 - its complement
DRAWS = 2**16  # random decisions in a run
SIDE = 4  # of pictures whose channels are left out as wholes
DEVIATIONS = 1.5  # standard deviations of a drawn share that count as noise; its budget is four times as wide


@dataclass(frozen=True)
class _Share:
    """A share of drawn things, as it should be."""

    name: str
    wanted: float
    draws: int
    found: float

    @property
    def noise(self) -> float:
        """How far chance moves it."""
        return DEVIATIONS * float(np.sqrt(self.wanted * (1 - self.wanted) / self.draws))


def measure_dropout(pair: Pair, inputs: Sequence[Array], probe: Probe) -> Iterator[Measurement]:
    """Compare every layer of dropout: how much it leaves out, as wholes or not, anew in every run, and what is left."""
    forms = pair.reference.dropouts
    calls: list[LayerCall] = []
    if any(forms.values()):
        with pair.reference.preserved():
            pair.reference.trace(inputs, calls.append)
    first = {call.layer: (order, call) for order, call in reversed(list(enumerate(calls)))}
    for order, call in reversed(first.values()):
        form = forms.get(call.layer)
        if form is None or not call.inputs or not_comparable(pair, call.layer, call.inputs):
            continue
        head = pair.head(Mode.ISOLATED, probe, call.layer, Quantity(Kind.DROPOUT), order)
        given = _given(call.inputs[0].shape, form.channels)
        try:
            pair.port.set_training(True)
            runs = [pair.port.call_drawing(call.layer, [given])[0] for _ in range(2)]
        except REFUSALS as error:
            yield refused(head, "run", error)
            continue
        finally:
            pair.set_training(True)
        yield from _measure_runs(head, form.rate, form.channels, given, runs)


def _given(shape: tuple[int, ...], channels: bool) -> Array:
    """Numbers around 1, enough for `DRAWS` decisions, in the layer's shape but for the batch."""
    inner = (*shape[1:2], *(min(SIDE, side) for side in shape[2:])) if channels else shape[1:]
    batch = -(-DRAWS // max(1, inner[0] if channels else prod(inner)))
    return np.asarray(1 + feature("dropout", (batch, *inner), 0.25), np.float32)


def _measure_runs(
    head: Measurement, rate: float, channels: bool, given: Array, runs: Sequence[Array]
) -> Iterator[Measurement]:
    if any(run.shape != given.shape for run in runs):
        yield measure(head, given, [given], runs[0])
        return
    kept = [run != 0 for run in runs]  # [N, C, ...]
    for share in _shares(rate, channels, kept):
        own = replace(head, quantity=replace(head.quantity, name=share.name))
        wanted = np.array([share.wanted])
        yield measure(own, wanted, [wanted], np.array([share.found]), noise=share.noise)
    left = np.where(kept[0], given / np.float32(1 - rate) if rate < 1 else 0, 0)
    own = replace(head, quantity=replace(head.quantity, name="what is left"))
    yield measure(own, np.asarray(left, np.float64), [left], runs[0])


def _shares(rate: float, channels: bool, kept: Sequence[Array]) -> Iterator[_Share]:
    first, second = kept
    inner = first[0, 0].size if first.ndim > 2 else 1
    draws = first.size // inner if channels else first.size
    yield _Share("share left out", rate, draws, 1 - float(first.mean()))
    yield _Share("share left in twice", (1 - rate) ** 2, draws, float((first & second).mean()))
    if inner > 1:
        groups = first.reshape(-1, inner)
        mixed = 0.0 if channels else 1 - rate**inner - (1 - rate) ** inner
        found = float((groups.any(1) & ~groups.all(1)).mean())
        yield _Share("share of channels left out in parts", mixed, len(groups), found)


def measure_functions(pair: Pair, inputs: Sequence[Array], probe: Probe) -> Iterator[Measurement]:
    """Compare the uses of dropout that are no layers of both networks, by the innermost layers that both have.

    Args:
        pair: reference and port, in the mode of the probe.
        inputs: probe.
        probe: its description.
    """
    wanted, own = _uses(pair, inputs, bool(probe.training))
    for order, layer in enumerate(dict.fromkeys([*wanted, *own])):
        head = pair.head(Mode.ISOLATED, probe, layer, Quantity(Kind.DROPOUT, "uses"), order)
        forms, others = wanted.get(layer, []), own.get(layer, [])
        if len(forms) != len(others):
            words = f"leaves out elements at {len(others)} places, the reference at {len(forms)}"
            yield replace(head, not_run=BY_HAND) if layer in pair.drawing else replace(head, problem=words)
            continue
        for index, (form, other) in enumerate(zip(forms, others, strict=True)):
            yield from _measure_use(
                replace(head, quantity=Quantity(Kind.DROPOUT, "share left out", index)), form, other
            )


def drops_in_functions(pair: Pair, inputs: Sequence[Array]) -> bool:
    """Whether the port leaves out elements in functions, in the mode that it is in."""
    try:
        return bool(pair.port.uses_of_dropout(inputs))
    except REFUSALS:
        return False  # other measurements say so


def _by_layer(pair: Pair, uses: Sequence[tuple[str, Dropout | None]]) -> Uses:
    found: Uses = {}
    for path, form in uses:
        while path and any(path not in side.layer_types() for side in (pair.reference, pair.port)):
            path = path.rpartition(".")[0]
        found.setdefault(path, []).append(form)
    return found


def drawn_by_hand(pair: Pair, inputs: Sequence[Array]) -> Pair:
    """Return the pair with the layers of the port that leave out elements in a way of their own, and what they feed.

    They return other numbers in every run, although dropout is at rest, where the reference has dropout.
    """
    wanted, own = _uses(pair, inputs, training=True)
    fewer = [layer for layer, forms in wanted.items() if len(forms) > len(own.get(layer, []))]
    if not fewer:
        return pair
    first, second = (layer_calls(pair.port, inputs) for _ in range(2))
    moved = {key for key, call in first.items() if key in second and not _equal(call.outputs, second[key].outputs)}
    drawing = {key[0] for key in moved if _equal(first[key].inputs, second[key].inputs)}
    holding = {layer for layer in drawing if any(it == layer or inside(it, layer) for it in fewer)}
    return replace(pair, drawing=frozenset(holding), moved=frozenset(key[0] for key in moved if holding))


def _equal(one: Sequence[Array], other: Sequence[Array]) -> bool:
    pairs = zip(one, other, strict=True) if len(one) == len(other) else [(np.zeros(1), np.ones(1))]
    return all(np.array_equal(first, second, equal_nan=floating(first)) for first, second in pairs)


def _uses(pair: Pair, inputs: Sequence[Array], training: bool) -> tuple[Uses, Uses]:
    """Uses of dropout in the reference and the port, but for layers that both have; none where a side cannot tell."""
    known = pair.port.layer_types().keys()
    try:
        for side in (pair.reference, pair.port):
            side.set_training(training, [path for path in pair.reference.dropouts if path in known])
        found = [side.uses_of_dropout(inputs) for side in (pair.reference, pair.port)]
    except REFUSALS:
        found = [None]  # other measurements say so
    finally:
        pair.set_training(training)
    wanted, own = ([], []) if None in found else found
    return _by_layer(pair, wanted or []), _by_layer(pair, own or [])


def _measure_use(head: Measurement, form: Dropout | None, other: Dropout | None) -> Iterator[Measurement]:
    if form is None or other is None:
        return
    if form.channels != other.channels:
        words = ("single elements", "whole channels")
        yield replace(head, problem=f"leaves out {words[other.channels]}, the reference {words[form.channels]}")
        return
    wanted = np.array([form.rate])
    yield measure(head, wanted, [wanted], np.array([other.rate]), noise=RATE_NOISE)
