"""One comparison from start to end: build the inputs, run the modes, judge, and collect a report."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import InputError
from convert.family import Part
from parity_tests.harness.capture import Pair, measure_accumulated, measure_isolated, measure_weights
from parity_tests.harness.gradients import measure_gradients
from parity_tests.harness.inputs import image
from parity_tests.harness.judge import Verdict, blamed, judge
from parity_tests.harness.measurement import Measurement, Mode, Probe
from parity_tests.harness.pair import pair_networks
from parity_tests.harness.recorded import recorded
from parity_tests.harness.sides.base import Array

MODES = (Mode.WEIGHTS, Mode.ISOLATED, Mode.GRADIENTS, Mode.ACCUMULATED)
Say = Callable[[str], None]  # told in words what is being done


def silent(text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Comparison:
    """The judged result of comparing one network."""

    name: str  # what was compared, e.g. "photo2cartoon genA2B".
    verdicts: tuple[Verdict, ...]  # every tensor of every mode
    modes: tuple[str, ...]  # the modes that ran
    facts: Mapping[str, Any] = field(default_factory=dict)  # configuration, weights and inputs, for the report
    pictures: tuple[Array, ...] = ()  # input, reference output and port output of an image network, or empty

    @property
    def equal(self) -> bool:
        """Whether every tensor is within its budget."""
        return all(verdict.equal for verdict in self.verdicts)

    @property
    def blamed(self) -> list[Verdict]:
        """The tensors to look at first; empty when equal."""
        return blamed(self.verdicts)

    @property
    def not_run(self) -> dict[str, int]:
        """Why layers were not run in the compared precision -> how many tensors that concerns."""
        reasons = (verdict.measurement.not_run for verdict in self.verdicts)
        return dict(Counter(reason for reason in reasons if reason))

    def first_of(self, mode: Mode) -> Verdict | None:
        """Return the first layer, in the order of computation, that leaves its budget in a mode."""
        failing = (verdict for verdict in self.verdicts if verdict.measurement.mode is mode and not verdict.equal)
        return min(failing, key=lambda verdict: verdict.measurement.order, default=None)


def part_inputs(part: Part, kwargs: Mapping[str, Any], seed: int, side: int | None = None, batch: int = 1) -> Array:
    """Return a seeded picture batch for a part: [batch, C, side, side] in [-1, 1]; side defaults to the released."""
    channels, released = part.input_shape[1], part.input_shape[2]
    side = side or kwargs.get("img_size", released)
    return image(f"toonport/{seed}", batch, side, side, channels)


def compare_pair(
    name: str,
    pair: Pair,
    inputs: Sequence[Array],
    probe: Sequence[Array],
    modes: Iterable[str] = MODES,
    facts: Mapping[str, Any] | None = None,
    say: Say = silent,
) -> Comparison:
    """Compare a pair in the given modes.

    Args:
        name: what is compared.
        pair: reference and port.
        inputs: for the accumulated run, usually of the released size.
        probe: for the layer-isolated runs; small, because there a wrong variance or epsilon stands far
            above the noise.
        modes: from MODES.
        facts: passed through to the report.
        say: told in words what has been measured so far.

    Raises InputError: an unknown mode, or a precision in which the port cannot run anything on this device.
    """
    modes = tuple(modes)
    if unknown := set(modes) - set(MODES):
        raise InputError(f"unknown mode {', '.join(sorted(unknown))}; modes: {', '.join(MODES)}")
    verdicts: list[Verdict] = []
    for stage, measurements in _stages(pair, inputs, probe, modes):
        for done, measurement in enumerate(measurements, 1):
            verdicts.append(judge(measurement))
            say(f"{name}: {stage}, {done} tensors")
    ran = {verdict.measurement.mode for verdict in verdicts if not verdict.measurement.not_run}
    if ran <= {Mode.WEIGHTS} and set(modes) != {Mode.WEIGHTS}:
        reason = next(verdict.measurement.not_run for verdict in verdicts if verdict.measurement.not_run)
        raise InputError(f"{name}: nothing could be run in {pair.dtype}: {reason}")
    pictures = _pictures(pair, inputs) if Mode.ACCUMULATED in ran else ()
    return Comparison(name, tuple(verdicts), modes, facts or {}, pictures)


def _pictures(pair: Pair, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """Input and both outputs when the network turns one picture into another, else nothing."""
    with pair.reference.preserved(), pair.port.preserved():
        reference, port = pair.reference.call("", inputs)[0], pair.port.call("", inputs)[0]
    found = (inputs[0], reference, port)
    return found if all(array.ndim == 4 and array.shape[1] == 3 for array in found) else ()


def _stages(
    pair: Pair, inputs: Sequence[Array], probe: Sequence[Array], modes: tuple[str, ...]
) -> Iterator[tuple[str, Iterator[Measurement]]]:
    if Mode.WEIGHTS in modes:
        yield "weights", measure_weights(pair)
    stateful = bool(pair.reference.state())
    for training in (False, True) if stateful else (False,):
        mode = "train" if training else "eval"
        pair.set_training(training)
        small, whole = Probe.of(probe, training), Probe.of(inputs, training)
        if Mode.ISOLATED in modes:
            yield f"layers alone, {mode}", measure_isolated(pair, probe, small)
        if Mode.GRADIENTS in modes:
            yield f"gradients, {mode}", measure_gradients(pair, probe, small)
        if Mode.ACCUMULATED in modes:
            yield f"whole network, {mode}", measure_accumulated(pair, inputs, whole)
    pair.set_training(False)


def compare(
    torch_module: Any,
    ms_cell: Any,
    inputs: Sequence[Array] | Array,
    modes: Iterable[str] = MODES,
    probe: Sequence[Array] | Array | None = None,
    name: str = "network",
    dtype: str = "float32",
    captures: Path | None = None,
) -> Comparison:
    """Compare any PyTorch module with any MindSpore cell that uses the same layer names.

    Args:
        torch_module: the reference; its weights are used as they are.
        ms_cell: the port, with its weights already loaded.
        inputs: one array or several, float32, as the network takes them.
        modes: from MODES.
        probe: smaller inputs for the layer-isolated runs; default: `inputs`.
        name: what to call the network in the report.
        dtype: "float32", "float16", "bfloat16" or "float64": both networks are cast to it and judged by the
            noise that PyTorch makes in it.
        captures: folder that keeps every tensor of both sides; the reference's are used again in later runs.

    Returns:
        A Comparison: `.equal`, `.blamed`, and every judged tensor.
    """
    arrays = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
    small = arrays if probe is None else ([probe] if isinstance(probe, np.ndarray) else list(probe))
    pair = pair_networks(torch_module, ms_cell, dtype=dtype)
    return compare_pair(name, recorded(pair, captures) if captures else pair, arrays, small, modes)
