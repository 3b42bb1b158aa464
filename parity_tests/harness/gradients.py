"""Layer-isolated gradients: vector-Jacobian products of every layer, fed the reference's own inputs.

The cotangent of a layer (what flows into it from above) is recorded in a backward run of the reference and
brought to a root mean square of 1, so that deep layers are judged as sharply as shallow ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial

import numpy as np

from parity_tests.harness.capture import NOISE_RUNS, REFUSALS, Pair, containers, not_comparable, refused, run_beforehand
from parity_tests.harness.compare import measure, rms, ulp_neighbour
from parity_tests.harness.inputs import feature
from parity_tests.harness.judge import UNMOVED, Kinks, Move
from parity_tests.harness.measurement import OTHER_LAYOUT, Kind, Measurement, Mode, Probe, Quantity
from parity_tests.harness.sides.base import Array, LayerCall, LayerError, Side
from parity_tests.harness.sides.tree import changed, floating
from parity_tests.tolerances import GRADIENT_SCALE_FLOOR, OWN_GRADIENTS


def measure_gradients(
    pair: Pair, inputs: Sequence[Array], probe: Probe, only: str | None = None
) -> Iterator[Measurement]:
    """Compare the gradients of every layer with respect to its inputs and its parameters.

    Containers that only chain their layers are left out: they have no computation of their own. `only`: the one layer
    that is measured.
    """
    try:
        with pair.reference.preserved():
            calls = pair.reference.trace_with_cotangents(inputs)
    except LayerError as error:
        head = pair.head(Mode.GRADIENTS, probe, error.layer, Quantity(Kind.GRADIENT), 0)
        yield replace(head, not_run=f"PyTorch cannot differentiate it: {error.reason}")
        return
    run_beforehand(pair, inputs)
    parents, kinks = containers(pair.reference), Kinks()
    for order, (call, cotangents) in enumerate(calls):
        if only is not None and call.layer != only:
            continue
        mode = Mode.BLOCK_GRADIENTS if call.layer in parents else Mode.GRADIENTS
        head = pair.head(mode, probe, call.layer, Quantity(Kind.GRADIENT), order)
        if head.layer_type == "Sequential" or not call.inputs or not_comparable(pair, call.layer, call.inputs):
            continue
        for of, own in _one_by_one([_unit(cotangent, index) for index, cotangent in enumerate(cotangents)]):
            yield from measure_layer(pair, head, call, own, of, kinks)


def _one_by_one(cotangents: Sequence[Array]) -> Iterator[tuple[int | None, list[Array]]]:
    """Each cotangent with the others zero, so that a small path is not hidden by a large one; and whose it is."""
    for index in range(len(cotangents)):
        alone = [value if place == index else np.zeros_like(value) for place, value in enumerate(cotangents)]
        yield index if len(cotangents) > 1 else None, alone


def _unit(cotangent: Array, index: int) -> Array:
    """Scale to a root mean square of 1; a cotangent of zeros is replaced by seeded numbers."""
    size = rms(cotangent)
    if size == 0.0:
        return feature(f"cotangent/{index}", cotangent.shape)
    return (cotangent / size).astype(np.float32)


def measure_layer(
    pair: Pair, head: Measurement, call: LayerCall, cotangents: Sequence[Array], of: int | None, kinks: Kinks
) -> Iterator[Measurement]:
    """Measure every gradient of one layer; of a graph in two runs, the second one in memory that the first one used.

    Args:
        pair: reference and port.
        head: without numbers.
        call: of the layer in the reference.
        cotangents: what flows into its floating outputs.
        of: the only output of several into which something flows.
        kinks: judges those that are a little out of budget again.
    """

    @cache
    def moved(move: Move) -> dict[tuple[Quantity, int | None], Measurement]:
        """What is measured on inputs that are moved."""
        seed, units = move
        inputs = changed(call.inputs, [ulp_neighbour(array, seed, pair.dtype, units) for array in call.inputs])
        own = _measured(pair, head, replace(call, inputs=inputs), cotangents, of)
        return {(each.quantity, each.probe.call): each for each in own}

    def of_moved(key: tuple[Quantity, int | None], move: Move) -> Measurement | None:
        """One tensor's; there is none where a graph runs once only."""
        return moved(move).get(key)

    for key, measured in moved(UNMOVED).items():
        yield kinks.judged_again(measured, partial(of_moved, key))


def _measured(
    pair: Pair, head: Measurement, call: LayerCall, cotangents: Sequence[Array], of: int | None
) -> Iterator[Measurement]:
    def run(side: Side, inputs: Sequence[Array]) -> dict[Quantity, Array]:
        """Every gradient on one side."""
        return layer_gradients(side, call.layer, inputs, cotangents, of)

    truth = run(pair.truth, call.inputs)
    noisy = partial(run, pair.reference)
    references = [pair.noisy(call.layer, seed, call.inputs, noisy) for seed in range(NOISE_RUNS)]
    runs: list[dict[Quantity, Array]] = []
    try:
        for _ in range(1 + head.probe.compiled):
            runs.append(run(pair.port, call.inputs))
    except REFUSALS as error:
        padded = call.layer in pair.padded
        yield replace(head, not_run=OTHER_LAYOUT) if padded else refused(head, "differentiate", error)
    largest = max((rms(value) for value in truth.values()), default=0.0)
    for quantity, wanted in truth.items():
        block = head.mode is Mode.BLOCK_GRADIENTS
        scale = _block_scale(rms(wanted), largest) if block else _term_scale(quantity, wanted, call, cotangents)
        own = [found[quantity] for found in references]
        for number, port in enumerate(runs, 1):
            probe = replace(head.probe, call=number) if head.probe.compiled else head.probe
            yield measure(replace(head, probe=probe, quantity=quantity), wanted, own, port.get(quantity), scale)


def layer_gradients(
    side: Side, layer: str, inputs: Sequence[Array], cotangents: Sequence[Array], of: int | None = None
) -> dict[Quantity, Array]:
    """Every gradient of a layer on one side, whose state is put back; see `measure_layer`."""
    places = [place for place, array in enumerate(inputs) if floating(array)]
    with side.preserved(layer):
        found = side.gradients(layer, inputs, cotangents)
    by_input = {
        Quantity(Kind.INPUT_GRADIENT, "", place, of=of): value
        for place, value in zip(places, found.inputs, strict=True)
    }
    return by_input | {Quantity(Kind.GRADIENT, name, of=of): value for name, value in found.parameters.items()}


def _block_scale(own: float, largest: float) -> float:
    """Size by which a block's gradient is judged: the largest of the block, but not far beyond the tensor's own."""
    return min(largest, max(OWN_GRADIENTS * own, GRADIENT_SCALE_FLOOR * largest))


def _term_scale(quantity: Quantity, gradient: Array, call: LayerCall, cotangents: Sequence[Array]) -> float:
    """Size of a parameter's gradient if its terms did not cancel: root of their number times their size."""
    if quantity.kind is Kind.INPUT_GRADIENT:
        return 0.0
    terms = max(
        1.0, sum(cotangent.size for cotangent in cotangents) / max(1, gradient.shape[0] if gradient.ndim else 1)
    )
    return float(np.sqrt(terms)) * max(1.0, rms(call.inputs[0]) if floating(call.inputs[0]) else 1.0)
