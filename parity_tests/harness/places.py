"""Where the code of a layer is written: its class, and the line that calls it, in either framework."""

import inspect
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from parity_tests.harness.measurement import Measurement
from parity_tests.harness.recorded import run_by
from parity_tests.harness.sides.base import Array, LayerError, NetworkSide, Side
from parity_tests.harness.sides.tree import Tree
from parity_tests.harness.trainers import Trainer

HARNESS = Path(__file__).parent
LIBRARIES = ("torch", "mindspore")  # whose own lines call layers on behalf of a user's line


@dataclass(frozen=True)
class Place:
    """Where the code of a layer is written on one side, each as "file:line"; "" where it cannot be found."""

    definition: str = ""  # its class
    call: str = ""  # the line that calls it first


@dataclass(frozen=True)
class Places:
    """Where the code of a layer is written on both sides."""

    reference: Place
    port: Place


Key = tuple[str, str]  # layer, and phase of a training step or ""


def key_of(measurement: Measurement) -> Key:
    """What a measurement's place is found under."""
    return measurement.layer, measurement.quantity.phase


def find_places(
    reference: Side, port: Side | None, inputs: Sequence[Array], layers: Iterable[str]
) -> dict[Key, Places]:
    """Return where the code of layers is, on both sides.

    Args:
        reference, port: the sides, each run once; None: a port that is no code, such as an ONNX file.
        inputs: what both are run on.
        layers: which layers are asked for; nothing is run for none.
    """
    wanted = list(dict.fromkeys(layers))
    if not wanted:
        return {}
    there, here = (_found_in(side, inputs, wanted) for side in (reference, port))
    return {(layer, ""): Places(there.get(layer, Place()), here.get(layer, Place())) for layer in wanted}


def find_step_places(reference: Trainer, port: Trainer, measurements: Iterable[Measurement]) -> dict[Key, Places]:
    """Return where the classes of layers are that training steps train, and what computes the losses of the phase."""

    def place(trainer: Trainer, layer: str, phase: str) -> Place:
        """Where they are on one side."""
        part, _, path = layer.partition(".")
        own = trainer.side(part).layers.get(path) if part in trainer.networks else None
        return Place("" if own is None else defined_at(type(own)), defined_at(trainer.step.objective(phase)))

    keys = dict.fromkeys(map(key_of, measurements))
    return {key: Places(place(reference, *key), place(port, *key)) for key in keys}


def defined_at(definition: Any) -> str:
    """Return "file:line" of a class or function, "" where it was not written in a file."""
    with suppress(OSError, TypeError):
        return _shown(inspect.getsourcefile(definition) or "", inspect.getsourcelines(definition)[1])
    return ""


def _found_in(side: Side | None, inputs: Sequence[Array], layers: Sequence[str]) -> dict[str, Place]:
    if side is None:
        return {}
    calls, types = _calls(side, inputs), {layer: type(side.layers[layer]) for layer in layers if layer in side.layers}
    return {layer: Place(defined_at(kind), calls.get(layer, "")) for layer, kind in types.items()}


def _calls(side: Side, inputs: Sequence[Array]) -> dict[str, str]:
    """Layer -> the line that calls it first; without those that are not reached where the side cannot run."""
    found: dict[str, str] = {}
    side = run_by(side)
    if not isinstance(side, NetworkSide):
        return found

    def entered(layer: str) -> None:
        """Note the line that is running."""
        if layer and layer not in found:
            found[layer] = line_of(sys._getframe())

    with suppress(LayerError), side.preserved(), side.watched(_nothing, entered):
        side.call("", inputs)
    return found


def _nothing(layer: str, given: Tree, outputs: Any) -> None:
    """Leave the outputs of a layer as they are."""


def line_of(frame: FrameType | None) -> str:
    """The innermost line that belongs neither to this package nor to a framework."""
    while frame is not None and _passed_over(frame.f_code.co_filename):
        frame = frame.f_back
    return "" if frame is None else _shown(frame.f_code.co_filename, frame.f_lineno)


def _passed_over(file: str) -> bool:
    frameworks = (Path(sys.modules[name].__file__ or "").parent for name in LIBRARIES if name in sys.modules)
    path = Path(file)
    return not path.is_file() or any(folder in path.parents for folder in (HARNESS, *frameworks))


def _shown(file: str, line: int) -> str:
    """A file's path from the innermost folder that Python looks into, and a line of it."""
    path = Path(file).resolve()
    bases = [Path(entry).resolve() for entry in ("", *sys.path)]
    inside = [base for base in bases if base in path.parents]
    shown = path.relative_to(max(inside, key=lambda base: len(base.parts))) if inside else path
    return f"{shown.as_posix()}:{line}"
