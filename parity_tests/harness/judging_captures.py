"""Judges captured runs: the whole-network comparison of `accumulated`, from files, without either framework."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from convert.errors import InputError
from convert.plan import Plan, Target, plan_from
from parity_tests.harness.accumulated import Runs, Visit, looked_at, measure_accumulated, numbered
from parity_tests.harness.capture import Pair, measure_weights
from parity_tests.harness.captures import NOISE, OWN, TRUTH, Capture, read_index
from parity_tests.harness.judge import judge
from parity_tests.harness.measurement import Measurement, Mode, Probe
from parity_tests.harness.pair import faults_of
from parity_tests.harness.run import Comparison
from parity_tests.harness.sides.base import Array, Gradients, LayerCall, LayerError, Side
from parity_tests.harness.sides.tree import floating


def compare_captures(first: Path, second: Path, layers: Mapping[str, str] | None = None) -> Comparison:
    """Judge the captured runs of a reference and its port.

    Args:
        first, second: folders that `toonport.capture` wrote: one of a PyTorch network with its truth, and one of the
            port, or of the same PyTorch network on another machine.
        layers: PyTorch path -> MindSpore path of layers that are called otherwise.

    Returns:
        The same verdicts that comparing both networks in one process gives on these runs in the modes weights and
        accumulated; layers alone and gradients need the networks.

    Raises InputError: no captures, of networks that cannot be compared, or of runs on other inputs.
    """
    reference, port = _in_order(read_index(first), read_index(second))
    plan = _plan(reference, port, layers or {})
    _require_same_runs(reference, port)
    pairs = [_pair(reference, port, plan, run) for run in range(len(reference.runs))]
    verdicts = [judge(measurement) for measurement in measure_weights(pairs[0])]
    for run, pair in enumerate(pairs):
        verdicts += [judge(measurement) for measurement in _measured(reference, pair, run)]
    facts = {"reference": str(reference.folder), "port": str(port.folder), "runs": len(pairs)}
    return Comparison(reference.name, tuple(verdicts), (Mode.WEIGHTS, Mode.ACCUMULATED), facts)


def _measured(reference: Capture, pair: Pair, run: int) -> Iterator[Measurement]:
    inputs = _inputs(reference, run)
    training = bool(reference.runs[run]["training"])
    yield from measure_accumulated(looked_at(pair, inputs), inputs, Probe.of(inputs, training), _Replayed())


def _in_order(first: Capture, second: Capture) -> tuple[Capture, Capture]:
    """Reference and port."""
    kinds = first.framework, second.framework
    reference, port = (second, first) if kinds == ("mindspore", "torch") else (first, second)
    if reference.framework != "torch":
        raise InputError(f"{first.folder}, {second.folder}: one of the two is of the reference in PyTorch")
    if not all(TRUTH in run["roles"] for run in reference.runs):
        raise InputError(f"{reference.folder}: holds no float64 runs; capture the reference with truth=True")
    if reference.dtype != port.dtype:
        raise InputError(f"the reference was captured in {reference.dtype}, the port in {port.dtype}")
    return reference, port


def _plan(reference: Capture, port: Capture, layers: Mapping[str, str]) -> Plan:
    """Which tensor and layer is which; empty where both are of PyTorch, and so are called the same."""
    if port.framework == "torch":
        return Plan((), {}, {})
    shapes = {name: held.shape for name, held in port.tensors.items()}
    known = [(path, path in reference.types, "reference") for path in layers]
    known += [(path, path in port.types, "port") for path in layers.values()]
    if missing := [f"the {side} has no layer {path}" for path, there, side in known if not there]:
        raise InputError(f"--map: {'; '.join(missing)}")
    return plan_from(reference.description, Target(shapes, set(port.types)), layers)


def _require_same_runs(reference: Capture, port: Capture) -> None:
    if len(reference.runs) != len(port.runs):
        raise InputError(
            f"{len(reference.runs)} runs in {reference.folder}, {len(port.runs)} in {port.folder}: not the same runs"
        )
    for run, (own, other) in enumerate(zip(reference.runs, port.runs, strict=True)):
        if own["training"] != other["training"]:
            raise InputError(f"run {run + 1}: one side was in train mode, the other in eval mode")
        pairs = zip(_inputs(reference, run), _inputs(port, run), strict=False)
        for place, (wanted, found) in enumerate(pairs):
            if wanted.shape != found.shape or not np.array_equal(wanted, found, equal_nan=floating(wanted)):
                raise InputError(f"run {run + 1}: input {place} of the port is not that of the reference")


def _inputs(capture: Capture, run: int) -> Sequence[Array]:
    """What the network itself was given, which is its last call."""
    *_, last = capture.calls(run, OWN)
    return last.inputs


def _pair(reference: Capture, port: Capture, plan: Plan, run: int) -> Pair:
    """The two sides of one run."""
    lacking = {row.torch for row in plan.rows if row.carried}
    state = {name: value for name, value in reference.weights().items() if name not in lacking}
    names = plan.names
    renamed = {own: names.get(own, own) for own in port.tensors}
    values = {renamed[own]: value for own, value in port.weights().items()}
    values |= {row.torch: row.to_torch(values[row.torch]) for row in plan.rows if row.torch in values}
    trained = {name: held.trained for name, held in reference.tensors.items() if held.parameter}
    port_trained = {renamed[own]: held.trained for own, held in port.tensors.items() if held.parameter}
    known = reference.tensors.keys() | port_trained.keys()
    port_weights = {name: value for name, value in values.items() if name in known}
    port_twins = {renamed[name]: renamed[other] for name, other in port.twins.items()}
    paths = {own: path for path, own in reversed(tuple(plan.paths.items()))}
    sides = (
        _CapturedSide(reference, run, TRUTH),
        _CapturedSide(reference, run, OWN),
        _CapturedSide(port, run, OWN, paths),
    )
    faults = faults_of(reference.twins, port_twins, trained, port_trained)
    return Pair(*sides, state, port_weights, {}, reference.dtype, faults, reference.twins)


class _CapturedSide(Side):
    """A side whose run was captured.

    Args:
        capture: where.
        run: which of its runs.
        role: OWN or TRUTH; the noise runs of a reference are asked for by their seeds.
        paths: the network's own path of a layer -> how PyTorch calls it.
    """

    def __init__(self, capture: Capture, run: int, role: str, paths: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{capture.framework}, captured", None, {})
        self._capture, self._run, self._role, self._paths = capture, run, role, paths or {}
        self._types = {self._paths.get(path, path): kind for path, kind in capture.layer_types.items()}

    def replay(self, seed: int, visit: Callable[[LayerCall], None]) -> None:
        """Visit the calls of the run, or of the noise run of a seed."""
        for call in self._capture.calls(self._run, f"{NOISE}{seed}" if seed else self._role):
            visit(LayerCall(self._paths.get(call.layer, call.layer), call.inputs, call.outputs))

    def trace(self, inputs: Sequence[Array], visit: Callable[[LayerCall], None]) -> None:
        """See `Side.trace`."""
        self.replay(0, visit)

    def call(self, layer: str, inputs: Sequence[Array]) -> Sequence[Array]:
        """See `Side.call`."""
        raise LayerError(layer, RuntimeError("the run was captured elsewhere"))

    def gradients(self, layer: str, inputs: Sequence[Array], cotangents: Sequence[Array]) -> Gradients:
        """See `Side.gradients`."""
        raise LayerError(layer, RuntimeError("the run was captured elsewhere"))

    def state(self, layer: str = "") -> dict[str, Array]:
        """See `Side.state`; a file does not move."""
        return {}

    def set_state(self, state: Mapping[str, Array]) -> None:
        """See `Side.set_state`."""

    def set_training(self, training: bool, resting: Collection[str] = ()) -> None:
        """See `Side.set_training`; a run stays in the mode in which it was captured."""

    def weights(self) -> dict[str, Array]:
        """See `Side.weights`."""
        return {}

    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """See `Side.set_weights`."""


class _Replayed(Runs):
    """Runs that are read from files."""

    def trace(self, side: Side, inputs: Sequence[Array], visit: Visit, seed: int = 0) -> None:
        """See `Runs.trace`."""
        assert isinstance(side, _CapturedSide)
        side.replay(seed, numbered(visit))
