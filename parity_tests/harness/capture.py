"""Runs a reference and its port side by side and yields measurements, layer by layer.

Nothing is judged here. The truth is the reference in float64; its float32 run shows how much noise the
arithmetic itself makes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity_tests.harness.backends import Array, LayerCall, Side, lacks_kernel
from parity_tests.harness.compare import Measurement, measure, rms, ulp_neighbour
from parity_tests.harness.sensitivity import bug_effects

__all__ = [
    "Key",
    "Pair",
    "layer_calls",
    "measure_accumulated",
    "measure_isolated",
    "measure_weights",
    "output_names",
    "refused",
]

NOISE_RUNS = 3
FEW_NUMBERS, RUNS_OF_FEW = 64, 8  # a tensor of a few numbers tells little about its noise in one run
LOW_SPREAD = 3e-3  # standard deviation at which an epsilon of 1e-5 weighs as much as the variance


@dataclass(frozen=True)
class Pair:
    """A reference in two precisions and its port, holding the same weights.

    Attributes:
        truth: PyTorch in float64.
        reference: PyTorch in the compared precision.
        port: MindSpore in the compared precision.
        reference_weights, port_weights: PyTorch name -> values as loaded on either side.
        term_scales: layer -> factor that turns the size of its input into the size of the terms it sums.
    """

    truth: Side
    reference: Side
    port: Side
    reference_weights: dict[str, Array]
    port_weights: dict[str, Array]
    term_scales: dict[str, float]
    dtype: str = "float32"

    def moved(self, arrays: Sequence[Array], seed: int) -> list[Array]:
        """The inputs of one noise run: moved by about one unit in the last place, not at all for seed 0."""
        return [ulp_neighbour(array, seed, self.dtype) for array in arrays]

    def set_training(self, training: bool) -> None:
        """Switch all three networks between train and eval mode."""
        for side in (self.truth, self.reference, self.port):
            side.set_training(training)


def measure_weights(pair: Pair) -> Iterator[Measurement]:
    """Compare the weights that both networks hold; they must be the same bits."""
    types = pair.reference.layer_types()
    for order, (name, wanted) in enumerate(pair.reference_weights.items()):
        layer, _, leaf = name.rpartition(".")
        head = Measurement("weights", "as loaded", layer, types.get(layer, ""), leaf, order)
        yield measure(head, wanted.astype(np.float64), [wanted], pair.port_weights.get(name))
    for name in pair.port_weights.keys() - pair.reference_weights.keys():
        layer, _, leaf = name.rpartition(".")
        problem = "the reference has no such tensor"
        yield Measurement("weights", "as loaded", layer, "", leaf, -1, problem=problem)


def measure_isolated(pair: Pair, inputs: Sequence[Array], probe: str) -> Iterator[Measurement]:
    """Feed every layer the reference's own recorded input, so that errors neither add up nor cancel.

    Single layers are also fed the same input shrunk to a spread of LOW_SPREAD, at which a wrong epsilon
    shows.
    """
    calls: list[LayerCall] = []
    with pair.reference.preserved():
        pair.reference.trace(inputs, calls.append)
    parents = {path.rpartition(".")[0] for path in pair.reference.layer_types() if path} | {""}
    for order, call in enumerate(calls):
        terms = _terms(pair, call, calls[:order])
        yield from _measure_call(pair, call.layer, call.inputs, order, probe, terms)
        if call.layer not in parents and call.inputs and call.inputs[0].ndim == 4:
            shrunk = _shrunk(call.inputs)
            terms = _terms(pair, LayerCall(call.layer, shrunk, call.outputs), ())
            yield from _measure_call(pair, call.layer, shrunk, order, f"{probe}, low spread", terms)


def _terms(pair: Pair, call: LayerCall, earlier: Sequence[LayerCall]) -> dict[tuple[int, ...], float]:
    """Output shape -> size of the numbers that are added up to make it, in the layer or in a layer inside it."""
    prefix = f"{call.layer}." if call.layer else ""
    found: dict[tuple[int, ...], float] = {}
    for one in (call, *earlier):
        scale = pair.term_scales.get(one.layer, 0.0)
        if scale and one.inputs and (one is call or one.layer.startswith(prefix)):
            for output in one.outputs:
                found[output.shape] = max(found.get(output.shape, 0.0), scale * rms(one.inputs[0]))
    return found


def _shrunk(inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    spread = float(np.std(inputs[0], dtype=np.float64))
    return ((inputs[0] * np.float32(LOW_SPREAD / spread) if spread else inputs[0]), *inputs[1:])


def _measure_call(
    pair: Pair,
    layer: str,
    inputs: Sequence[Array],
    order: int,
    probe: str,
    terms: Mapping[tuple[int, ...], float],
) -> Iterator[Measurement]:
    kind = pair.reference.layer_types()[layer]
    if layer not in pair.port.layer_types():
        problem = "the port has no layer of this name"
        yield Measurement("isolated", probe, layer, kind, "output", order, problem=problem)
        return
    truth = _run(pair.truth, layer, inputs)
    runs = RUNS_OF_FEW if min((one.size for one in truth.values()), default=0) < FEW_NUMBERS else NOISE_RUNS
    references = [_run(pair.reference, layer, pair.moved(inputs, seed)) for seed in range(runs)]
    try:
        port = _run(pair.port, layer, inputs)
    except (RuntimeError, TypeError, ValueError) as error:
        yield refused(Measurement("isolated", probe, layer, kind, "output", order, dtype=pair.dtype), "run", error)
        return
    for name, wanted in truth.items():
        effects = bug_effects(kind, inputs, wanted) if name == "output" else {}
        hints = {"effects": effects} if effects else {}
        head = Measurement("isolated", probe, layer, kind, name, order, dtype=pair.dtype, hints=hints)
        yield measure(head, wanted, [one[name] for one in references], port.get(name), terms.get(wanted.shape, 0.0))


def refused(head: Measurement, what: str, error: Exception) -> Measurement:
    """Say that the port raised an error: a fault of the port, unless the framework lacks the precision."""
    reason = f"the port cannot {what} it: {_first_line(error)}"
    if head.dtype != "float32" and lacks_kernel(error):
        return replace(head, not_run=f"MindSpore has no {head.dtype} kernel here: {_first_line(error)}")
    return replace(head, problem=reason)


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip("-= ")]
    return lines[0][:160] if lines else type(error).__name__


def _run(side: Side, layer: str, inputs: Sequence[Array]) -> dict[str, Array]:
    """One call's outputs and what it left in the layer's state, by name; the state is put back."""
    with side.preserved(layer):
        outputs = side.call(layer, inputs)
        after = side.state(layer)
    names = ["output"] if len(outputs) == 1 else [f"output {index}" for index in range(len(outputs))]
    prefix = f"{layer}." if layer else ""
    state = {f"{name.removeprefix(prefix)} afterwards": value for name, value in after.items()}
    return {**dict(zip(names, outputs, strict=True)), **state}


def measure_accumulated(pair: Pair, inputs: Sequence[Array], probe: str) -> Iterator[Measurement]:
    """Run both whole networks and compare every layer's output as errors build up along the way.

    Each measurement also says how far the port's input of that layer was off, in multiples of the noise
    there, so that a layer that makes an error stands out from one that passes it on.
    """
    truths = layer_calls(pair.truth, inputs)
    references = [layer_calls(pair.reference, pair.moved(inputs, seed)) for seed in range(NOISE_RUNS)]
    types = pair.reference.layer_types()
    try:
        ports = layer_calls(pair.port, inputs)
    except (RuntimeError, TypeError, ValueError) as error:
        yield refused(Measurement("accumulated", probe, "", types[""], "output", 0, dtype=pair.dtype), "run", error)
        return
    order = 0
    for key, wanted in truths.items():
        noisy, found = [one[key] for one in references], ports.get(key)
        before = _input_error(wanted, noisy, found)
        for index, (name, truth) in enumerate(zip(output_names(key, wanted), wanted.outputs, strict=True)):
            kind = types[wanted.layer]
            head = Measurement(
                "accumulated", probe, wanted.layer, kind, name, order, input_error=before, dtype=pair.dtype
            )
            port = found.outputs[index] if found and len(found.outputs) > index else None
            yield measure(head, truth, [one.outputs[index] for one in noisy], port)
            order += 1


Key = tuple[str, int]  # layer, and which of its calls


def layer_calls(side: Side, inputs: Sequence[Array], whole_only: bool = False) -> dict[Key, LayerCall]:
    """Return every call of every layer, in the order of computation; `whole_only`: without the layers' tensors."""
    calls: dict[Key, LayerCall] = {}

    def visit(call: LayerCall) -> None:
        key = call.layer, sum(1 for layer, _ in calls if layer == call.layer)
        calls[key] = LayerCall(call.layer, (), ()) if whole_only and call.layer else call

    with side.preserved():
        side.trace(inputs, visit)
    return calls


def output_names(key: Key, call: LayerCall) -> list[str]:
    """Say in words which tensor each output of a call is."""
    words = ["output"] if len(call.outputs) == 1 else [f"output {index}" for index in range(len(call.outputs))]
    return words if key[1] == 0 else [f"{word}, call {key[1] + 1}" for word in words]


def _input_error(truth: LayerCall, references: Sequence[LayerCall], port: LayerCall | None) -> float | None:
    """Error of the port's first input in multiples of the noise there; None where there is no noise."""
    if not truth.inputs or port is None or not port.inputs or port.inputs[0].shape != truth.inputs[0].shape:
        return None
    noise = max(rms(one.inputs[0] - truth.inputs[0]) for one in references)
    return rms(port.inputs[0] - truth.inputs[0]) / noise if noise else None
