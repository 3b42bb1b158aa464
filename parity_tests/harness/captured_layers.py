"""What a reference answers when its layers are compared one by one, captured for a port on a machine without PyTorch.

On the machine with PyTorch the comparison runs once with the reference in the port's place, and everything that both
precisions answer is kept. Elsewhere the same comparison runs with the port, and reads these answers.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import InputError, guarded
from convert.plan import Plan, plan_from
from ms_models.environment import computing, device_in_use
from parity_tests.harness.capture import Pair
from parity_tests.harness.captures import Capture, read_arrays, save_arrays
from parity_tests.harness.cutting import cut_probes
from parity_tests.harness.legs import Legs
from parity_tests.harness.pair import (
    borrowed,
    copied,
    faults_of,
    held_by_port,
    target_of,
    term_scales_of,
    trained_in,
    twins_of,
)
from parity_tests.harness.recorded import RecordedSide
from parity_tests.harness.run import Comparison, Say, compare_pair, silent
from parity_tests.harness.sides.base import Array, Dropout, Gradients, LayerCall, LayerError, Side, inside
from parity_tests.harness.sides.mindspore import MindSporeSide
from parity_tests.harness.sides.torch import TorchSide
from parity_tests.harness.sides.tree import Tree, decoded, encoded
from parity_tests.harness.stages import MODES

ANSWERS, INDEX, HELD = "layers", "layers.json", "layers.safetensors"
TRUTH, REFERENCE = "truth", "reference"  # stand for the two sides in the keys of their answers


def capture_layers(module: Any, dtype: str, given: Tree, folder: Path) -> None:
    """Keep in a folder what a copy of a PyTorch network answers to `given`, in every mode of a comparison.

    Raises InputError: the inputs hold objects of other classes than Python's containers.
    """
    truth, own = TorchSide(copied(module).double(), "float64"), TorchSide(copied(module), dtype)
    first = {
        f"{name}.{key}": value for name, side in ((TRUTH, truth), (REFERENCE, own)) for key, value in _moving(side)
    }
    pair = Pair(
        truth=_answering(truth, folder, TRUTH),
        reference=_answering(own, folder, REFERENCE),
        port=TorchSide(copied(module), dtype),
        reference_weights={},
        port_weights={},
        term_scales=term_scales_of(module),
        dtype=dtype,
    )
    small, other = cut_probes(pair, given)
    inputs = {"given": given, "small": small, "other": other}
    try:
        forms = {name: _described(values) for name, values in inputs.items()}
    except TypeError as error:
        raise InputError(f"capture: layers=True takes tensors in containers, numbers and text, not {error}") from error
    arrays = {f"{name}.{place}": array for name, values in inputs.items() for place, array in enumerate(values)}
    compare_pair("reference", pair, given, small, other=other)
    save_arrays(folder / HELD, first | arrays, {})
    scales = {layer: float(scale) for layer, scale in pair.term_scales.items()}
    dropouts = {path: form and asdict(form) for path, form in own.dropouts.items()}
    facts = {"inputs": forms, "term_scales": scales, "dropouts": dropouts}
    (folder / INDEX).write_text(json.dumps(facts) + "\n")


def _answering(side: Side, folder: Path, name: str) -> RecordedSide:
    """A side whose answers are kept in a capture, and replayed from there."""
    return RecordedSide(side, folder / ANSWERS, {}, replay=True, identity=name)


def _moving(side: Side) -> Iterator[tuple[str, Array]]:
    for kind, values in (("weights", side.weights()), ("state", side.state())):
        yield from ((f"{kind}.{name}", value) for name, value in values.items())


def _described(values: Sequence[Array]) -> dict[str, Any]:
    form = {"form": encoded(values.form), "paths": list(values.paths)} if isinstance(values, Tree) else {}
    return {"count": len(values), **form}


def compare_with_capture(
    capture: Capture, cell: Any, plan: Plan, modes: Iterable[str] = MODES, say: Say = silent
) -> Comparison:
    """Compare a MindSpore cell with a captured reference, as `run.compare` does with the reference itself.

    Args:
        capture: of a PyTorch network, made with `layers=True`.
        cell: the port, with its weights.
        plan: which tensor and layer is which, see `plan_with`.
        modes: from MODES.
        say: told in words what has been measured so far.

    Raises InputError: the capture holds no layers.
    """
    try:
        facts = json.loads((capture.folder / INDEX).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{capture.folder}: holds no answers of single layers; capture with layers=True") from error
    arrays = read_arrays(capture.folder / HELD)[0]
    with guarded(capture.folder / INDEX, "damaged"):
        given, small, other = (_inputs(name, facts["inputs"][name], arrays) for name in ("given", "small", "other"))
    with borrowed(cell), computing():  # without PyTorch, which may not be there
        pair = _pair(capture, cell, plan, facts, arrays)
        words = Legs(device_in_use()).words
        return compare_pair(capture.name, pair, given, small, modes, {"devices": words}, say, other)


def plan_with(capture: Capture, cell: Any, layers: Mapping[str, str]) -> Plan:
    """Return which tensor and layer of a cell is which of a captured PyTorch network."""
    return plan_from(capture.description, target_of(cell), layers)


def _inputs(name: str, facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> Sequence[Array]:
    own = tuple(arrays[f"{name}.{place}"] for place in range(facts["count"]))
    return Tree(own, decoded(facts["form"]), tuple(facts["paths"])) if "form" in facts else list(own)


def _pair(capture: Capture, cell: Any, plan: Plan, facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> Pair:
    carried = {row.torch for row in plan.rows if row.carried}
    port, port_weights = held_by_port(cell, plan)
    port_twins = twins_of({name: port[name] for name in capture.tensors if name in port})
    trained = {name: held.trained for name, held in capture.tensors.items() if held.parameter}
    return Pair(
        truth=_answering(_Absent(capture, TRUTH, facts, arrays), capture.folder, TRUTH),
        reference=_answering(_Absent(capture, REFERENCE, facts, arrays), capture.folder, REFERENCE),
        port=MindSporeSide(cell, dtype=capture.dtype, plan=plan),
        reference_weights={name: value for name, value in capture.weights().items() if name not in carried},
        port_weights=port_weights,
        term_scales=facts["term_scales"],
        dtype=capture.dtype,
        faults=faults_of(capture.twins, port_twins, trained, trained_in(cell, plan)),
        twins=capture.twins,
    )


class _Absent(Side):
    """A side whose network is elsewhere: it knows its layers, keeps weights and state, which answers put in place."""

    def __init__(self, capture: Capture, name: str, facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        super().__init__(f"torch, captured {name}", None, {})
        self._types = dict(capture.layer_types)
        self._dropouts = {path: form and Dropout(**form) for path, form in facts["dropouts"].items()}
        self._weights, self._state = (
            {key.removeprefix(start): value for key, value in arrays.items() if key.startswith(start)}
            for start in (f"{name}.weights.", f"{name}.state.")
        )

    def call(self, layer: str, inputs: Sequence[Array]) -> Sequence[Array]:
        """See `Side.call`."""
        raise self._unknown(layer)

    def trace(self, inputs: Sequence[Array], visit: Callable[[LayerCall], None]) -> None:
        """See `Side.trace`."""
        raise self._unknown("")

    def trace_with_cotangents(self, inputs: Sequence[Array]) -> list[tuple[LayerCall, tuple[Array, ...]]]:
        """See `Side.trace_with_cotangents`."""
        raise self._unknown("")

    def gradients(self, layer: str, inputs: Sequence[Array], cotangents: Sequence[Array]) -> Gradients:
        """See `Side.gradients`."""
        raise self._unknown(layer)

    def _unknown(self, layer: str) -> LayerError:
        return LayerError(layer, RuntimeError("it is elsewhere, and what is asked here was not captured"))

    def state(self, layer: str = "") -> dict[str, Array]:
        """See `Side.state`."""
        return {name: np.array(value) for name, value in self._state.items() if inside(name, layer)}

    def set_state(self, state: Mapping[str, Array]) -> None:
        """See `Side.set_state`."""
        self._state |= state

    def set_training(self, training: bool, resting: Collection[str] = ()) -> None:
        """See `Side.set_training`; its answers are found by the mode."""

    @property
    def dropouts(self) -> Mapping[str, Dropout | None]:
        """See `Side.dropouts`."""
        return self._dropouts

    def weights(self) -> dict[str, Array]:
        """See `Side.weights`."""
        return {name: np.array(value) for name, value in self._weights.items()}

    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """See `Side.set_weights`."""
        for name in weights.keys() & self._weights.keys():
            self._weights[name] = np.asarray(weights[name], self._weights[name].dtype)
