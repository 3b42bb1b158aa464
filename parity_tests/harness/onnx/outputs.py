"""Which output of a network each output of an exported file is, and what is absent, renamed or in another order."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

OUTPUTS = "toonport.outputs"  # key of the file's metadata: the names of the outputs that it was given, in order
FIRST = "output"  # what files of this project call the first


@dataclass(frozen=True)
class FileOutput:
    """One output of a file, of its network, or of both."""

    name: str  # in the file, or in the network where the file lacks it
    index: int | None  # which output of the network it is, None if it is none
    found: bool = True  # whether the file has it
    problem: str = ""  # why it is not what the file promises, else ""
    absent: str = ""  # why a file that promises nothing lacks it, else ""


def promised(model: Any) -> list[str]:
    """Return the names of the outputs that an onnx.ModelProto says it was given, in order; empty: it says nothing."""
    written = next((entry.value for entry in model.metadata_props if entry.key == OUTPUTS), None)
    return list(json.loads(written)) if written else []


def file_outputs(present: Sequence[str], promised: Sequence[str], names: Sequence[str]) -> list[FileOutput]:
    """Return the outputs of a file in its order, then those that it lacks.

    Files of this project say which outputs they were given: each must be there, under its name and at its place. In
    files from elsewhere, outputs are known by the network's names if all have one of them, else by their order.

    Args:
        present: names of the file's outputs, in its order.
        promised: names of those that it says it was given; empty: it says nothing.
        names: of the network's outputs, in order; may be fewer than the file has.
    """
    own = [name if place or name in present else FIRST for place, name in enumerate(names)]
    by_name = bool(promised) or set(present) <= set(own)
    known = promised or (own if by_name else [*present, *own[len(present) :]])
    known = [*known, *own[len(known) :]]
    found = [_present(name, place, known, by_name) for place, name in enumerate(present)]
    missing = ((place, name) for place, name in enumerate(known) if name not in present)
    return found + [_missing(name, place, place < len(promised)) for place, name in missing]


def _present(name: str, place: int, known: Sequence[str], by_name: bool) -> FileOutput:
    if name not in known:
        return FileOutput(name, None, problem="the reference has no such tensor")
    index = known.index(name)
    moved = f"output {place} of the file, which is output {index} of the network" if by_name and index != place else ""
    return FileOutput(name, index, problem=moved)


def _missing(name: str, index: int, promised: bool) -> FileOutput:
    if promised:
        return FileOutput(name, index, found=False, problem="the file has no output of this name")
    return FileOutput(name, index, found=False, absent="the file was made without this output")
