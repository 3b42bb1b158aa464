"""Runs a reference and its port side by side and yields measurements, layer by layer.

Nothing is judged here. The truth is the reference in float64; its float32 run shows how much noise the
arithmetic itself makes.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np

from convert.errors import first_line
from parity_tests.harness.compare import measure, rms, ulp_neighbour, wide
from parity_tests.harness.measurement import NOT_COMPARABLE, OTHER_LAYOUT, Kind, Measurement, Mode, Probe, Quantity
from parity_tests.harness.sensitivity import bug_effects
from parity_tests.harness.sides.base import Array, LayerCall, LayerError, Side
from parity_tests.harness.sides.borders import RunsOnceError
from parity_tests.harness.sides.inexact import inexact_kernels, tf32_products
from parity_tests.harness.sides.mindspore import lacks_gradient, lacks_kernel
from parity_tests.harness.sides.tree import Tree, changed, floating
from parity_tests.harness.values import fed, values_for

NOISE_RUNS = 3
BY_HAND = "the port leaves out elements in a way of its own, which is not judged"
REFUSALS = (RuntimeError, TypeError, ValueError)  # what MindSpore raises where it cannot run a layer
FEW_NUMBERS, RUNS_OF_FEW = 64, 8  # a tensor of a few numbers tells little about its noise in one run

T = TypeVar("T")


@dataclass(frozen=True)
class Pair:
    """A reference in two precisions and its port, holding the same weights."""

    truth: Side  # PyTorch in float64
    reference: Side  # PyTorch in the compared precision
    port: Side  # MindSpore in the compared precision
    # reference_weights, port_weights: PyTorch name -> values as loaded on either side
    reference_weights: dict[str, Array]
    port_weights: dict[str, Array]
    term_scales: dict[str, float]  # layer -> factor that turns the size of its input into the size of the terms it sums
    dtype: str = "float32"  # the compared precision
    # faults: PyTorch name -> what is wrong with a weight besides its values: shared, or frozen, on one side only
    faults: Mapping[str, str] = field(default_factory=dict)
    # twins: PyTorch name -> first name of the same tensor, of tensors that several layers of the reference share
    twins: Mapping[str, str] = field(default_factory=dict)
    # apart, padded: layers that the port feeds the same numbers in another shape, see `accumulated.looked_at`:
    # with other axes, or only with other axes of length 1
    apart: frozenset[str] = frozenset()
    padded: frozenset[str] = frozenset()
    # drawing, moved: layers of the port that leave out elements in a way of their own, and what differs because of it
    drawing: frozenset[str] = frozenset()
    moved: frozenset[str] = frozenset()
    imprecise: frozenset[str] = frozenset()  # layers that compute what MindSpore's kernels are imprecise at

    def noisy(self, layer: str, seed: int, inputs: Sequence[Array], run: Callable[[Sequence[Array]], T]) -> T:
        """What `run` makes of the inputs of one noise run of a layer of the reference.

        They are moved by about one unit in the last place, some functions computed as inexactly as MindSpore does, and
        products as in TF32 where the legs allow it; nothing of it for seed 0.
        """
        moved = changed(inputs, [ulp_neighbour(array, seed, self.dtype) for array in inputs])
        kernels = inexact_kernels(seed if self.dtype == "float32" and layer in self.imprecise else 0)
        with kernels, tf32_products(seed):
            return run(moved)

    def set_training(self, training: bool) -> None:
        """Switch all three networks between train and eval mode.

        Layers of dropout stay in eval mode, so that the same numbers come out of every run; see `dropout`.
        """
        for side in self.sides:
            side.set_training(training, self.reference.dropouts)

    @property
    def sides(self) -> tuple[Side, Side, Side]:
        """Truth, reference and port."""
        return self.truth, self.reference, self.port

    def head(self, mode: Mode, probe: Probe, layer: str, quantity: Quantity, order: int) -> Measurement:
        """A measurement without its numbers."""
        kind = self.reference.layer_types().get(layer, "")
        return Measurement(mode, probe, layer, kind, quantity, order, dtype=self.dtype)


def measure_weights(pair: Pair) -> Iterator[Measurement]:
    """Compare the weights that both networks hold; they must be the same bits."""
    for order, (name, wanted) in enumerate(pair.reference_weights.items()):
        head, port = _weight(pair, name, order), pair.port_weights.get(name)
        if port is None and name in pair.twins:
            yield replace(head, not_run=f"shared with {pair.twins[name]}, compared there")
            continue
        if port is not None and port.dtype == wanted.dtype and np.array_equal(port, wanted):
            measured = replace(head, count=wanted.size, scale=rms(wanted))
        else:
            measured = measure(head, wide(wanted), [wanted], port)
        yield replace(measured, problem=measured.problem or pair.faults.get(name, ""))
    for name in pair.port_weights.keys() - pair.reference_weights.keys():
        yield replace(_weight(pair, name, -1), problem="the reference has no such tensor")


def _weight(pair: Pair, name: str, order: int) -> Measurement:
    layer, _, leaf = name.rpartition(".")
    return pair.head(Mode.WEIGHTS, Probe(), layer, Quantity(Kind.WEIGHT, leaf), order)


def measure_isolated(
    pair: Pair,
    inputs: Sequence[Array],
    probe: Probe,
    only: Collection[str] | None = None,
    plain: bool = False,
    widened: Collection[str] = (),
) -> Iterator[Measurement]:
    """Feed every layer the reference's own recorded input, so that errors neither add up nor cancel.

    Single layers are also fed other values, see `values`: in eval mode, and those with a state in train mode too; but
    not as graphs, each of which is compiled anew.

    Args:
        pair: reference and port.
        inputs: of the networks.
        probe: their description.
        only: the layers that are measured; None: every one.
        plain: measure single layers only, on their recorded input alone.
        widened: layers with others inside that are fed other values, too.
    """
    calls: list[LayerCall] = []
    with pair.reference.preserved():
        pair.reference.trace(inputs, calls.append)
    run_beforehand(pair, inputs)
    parents = containers(pair.reference)
    once = parents - set(widened)  # on their recorded input alone
    for order, call in enumerate(calls):
        if (only is not None and call.layer not in only) or (plain and call.layer in parents):
            continue
        head = pair.head(Mode.ISOLATED, probe, call.layer, Quantity(Kind.OUTPUT), order)
        stateful = bool(pair.reference.state(call.layer))
        known = None if stateful else call.outputs
        yield from measure_call(pair, head, call.inputs, terms_of(pair, call, calls[:order]), known)
        if not (plain or probe.compiled or call.layer in once or (probe.training and not stateful)):
            yield from _measure_on_values(pair, head, call)


def run_beforehand(pair: Pair, inputs: Sequence[Array]) -> None:
    """Run the truth and the port as a whole, so that a layer finds what other layers write into it, e.g. of AdaIN."""
    for side in (pair.truth, pair.port):
        with suppress(*REFUSALS), side.preserved():
            side.call("", inputs)


def containers(side: Side) -> set[str]:
    """Layers that hold other layers, and the network itself."""
    return {path.rpartition(".")[0] for path in side.layer_types() if path} | {""}


def terms_of(pair: Pair, call: LayerCall, earlier: Sequence[LayerCall]) -> dict[tuple[int, ...], float]:
    """Output shape -> size of the numbers that are added up to make it, in the layer or in a layer inside it."""
    prefix = f"{call.layer}." if call.layer else ""
    found: dict[tuple[int, ...], float] = {}
    for summing in (call, *(inner for inner in earlier if inner.layer.startswith(prefix))):
        scale = pair.term_scales.get(summing.layer, 0.0)
        if scale and summing.inputs and floating(summing.inputs[0]):
            for output in summing.outputs:
                found[output.shape] = max(found.get(output.shape, 0.0), scale * rms(summing.inputs[0]))
    return found


def measure_call(
    pair: Pair,
    head: Measurement,
    inputs: Sequence[Array],
    terms: Mapping[tuple[int, ...], float],
    known: Sequence[Array] | None = None,
) -> Iterator[Measurement]:
    """Measure every tensor that one layer makes of its inputs.

    Args:
        pair: reference and port.
        head: of the layer's output, without numbers.
        inputs: of the layer.
        terms: output shape -> size of the numbers that are added up to make it.
        known: what the reference makes of the inputs, of a layer without state; None: it is run.
    """
    layer = head.layer
    if reason := not_comparable(pair, layer, inputs):
        yield replace(head, not_run=reason)
        return
    before = state_of(pair.truth, layer)
    truth = run_layer(pair.truth, layer, inputs)
    references = list(_reference_runs(pair, layer, inputs, known, min((it.size for it in truth.values()), default=0)))
    try:
        port = run_layer(pair.port, layer, inputs, [quantity for quantity in truth if quantity.kind is Kind.OUTPUT])
    except REFUSALS as error:
        yield replace(head, not_run=OTHER_LAYOUT) if layer in pair.padded else refused(head, "run", error)
        return
    for quantity, wanted in truth.items():
        if quantity.kind is Kind.STATE and quantity not in port and not _moves(wanted, before.get(quantity)):
            continue  # a constant that the port keeps elsewhere
        effects = bug_effects(head.layer_type, inputs, wanted) if quantity == head.quantity else {}
        own = replace(head, quantity=quantity, effects=effects)
        yield measure(
            own, wanted, [run[quantity] for run in references], port.get(quantity), terms.get(wanted.shape, 0.0)
        )


def refused(head: Measurement, what: str, error: Exception) -> Measurement:
    """Say that the port raised an error: a fault of the port, unless the framework lacks the precision."""
    reason = error.reason if isinstance(error, LayerError) else first_line(error)
    if head.dtype != "float32" and lacks_kernel(error):
        return replace(head, not_run=f"MindSpore has no {head.dtype} kernel here: {reason}")
    if lacks_gradient(error):
        return replace(head, not_run=f"MindSpore has no gradient of complex numbers here: {reason}")
    if isinstance(error.__cause__, RunsOnceError):
        return replace(head, not_run=str(error.__cause__))
    if head.probe.compiled:
        return replace(head, not_run=f"MindSpore makes no graph of it: {reason}")
    return replace(head, problem=f"the port cannot {what} it: {reason}")


def run_layer(
    side: Side, layer: str, inputs: Sequence[Array], wanted: Sequence[Quantity] = ()
) -> dict[Quantity, Array]:
    """One call's outputs, named like the reference's, and what it left in the layer's state, which is put back."""
    with side.preserved(layer):
        outputs = side.call(layer, inputs)
        state = state_of(side, layer)
    return named(outputs, wanted) | state


def named(outputs: Sequence[Array], wanted: Sequence[Quantity]) -> dict[Quantity, Array]:
    """Outputs by name; as many in other containers than the reference's are its outputs in the same order."""
    own = outputs_of(outputs)
    in_order = len(own) == len(wanted) and set(own) != set(wanted)
    return dict(zip(wanted if in_order else own, outputs, strict=True))


def _reference_runs(
    pair: Pair, layer: str, inputs: Sequence[Array], known: Sequence[Array] | None, fewest: int
) -> Iterator[dict[Quantity, Array]]:
    """Yield what the reference makes of the inputs, see `measure_call`, and of noisy ones; `fewest`: numbers made."""
    run = partial(run_layer, pair.reference, layer)
    yield run(inputs) if known is None else named(known, ())
    seeds = range(1, RUNS_OF_FEW if fewest < FEW_NUMBERS else NOISE_RUNS)
    yield from (pair.noisy(layer, seed, inputs, run) for seed in seeds)


def _measure_on_values(pair: Pair, head: Measurement, call: LayerCall) -> Iterator[Measurement]:
    """Measure a layer on other values than its recorded ones."""
    for values in values_for(call.inputs, linear=call.layer in pair.term_scales):
        other = replace(call, inputs=changed(call.inputs, fed(values, call.inputs)))
        own = replace(head, probe=replace(head.probe, values=values))
        yield from measure_call(pair, own, other.inputs, terms_of(pair, other, ()))


def state_of(side: Side, layer: str) -> dict[Quantity, Array]:
    """The layer's state that is no weight, named as a run's results."""
    prefix = f"{layer}." if layer else ""
    return {Quantity(Kind.STATE, name.removeprefix(prefix)): value for name, value in side.state(layer).items()}


def _moves(after: Array, before: Array | None) -> bool:
    """Whether a run changes a floating state; how many batches a norm has seen is carried, not compared."""
    return floating(after) and (before is None or not np.array_equal(after, before, equal_nan=True))


def not_comparable(pair: Pair, layer: str, inputs: Sequence[Array]) -> str:
    """Why a layer of the reference has no counterpart that can be run alone, or ""."""
    if layer in pair.apart:
        return OTHER_LAYOUT
    if layer in pair.drawing:
        return BY_HAND
    if layer not in pair.port.layer_types():
        return NOT_COMPARABLE
    return "" if pair.port.accepts(layer, inputs) else NOT_COMPARABLE


def outputs_of(outputs: Sequence[Array], call: int = 0) -> list[Quantity]:
    """Say which output of a layer each tensor is that one of its calls returned; nested ones have their path."""
    if isinstance(outputs, Tree) and any(not path.isdigit() for path in outputs.paths) and len(outputs) > 1:
        return [Quantity(Kind.OUTPUT, path, None, call) for path in outputs.paths]
    return [Quantity(Kind.OUTPUT, "", index if len(outputs) > 1 else None, call) for index in range(len(outputs))]
