"""The files of captured runs: what one side of a pair computed, wherever it ran, for a judge elsewhere.

A folder holds `capture.json` (what the network is, which runs there are), `weights.safetensors` as the first run found
them, and for each run a folder per role: "own" is the run itself, of a PyTorch network "truth" the same in float64 and
"noise1", "noise2" the runs that show what rounding does. There is one safetensors file per call of a layer, in the
order in which the calls returned.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from convert.descriptions import Description
from convert.errors import InputError, first_line, guarded
from convert.tensors import TensorSpec, tensor_sha256
from parity_tests.harness.sides.base import Array, LayerCall
from parity_tests.harness.sides.tree import Tree

FORM, VERSION = "toonport capture", 1
INDEX, WEIGHTS = "capture.json", "weights.safetensors"
OWN, TRUTH, NOISE = "own", "truth", "noise"
PAIRS = "pairs"  # complex numbers, which the files lack, as pairs of real ones


@dataclass(frozen=True)
class Held:
    """A tensor that a network holds."""

    shape: tuple[int, ...]
    dtype: str
    sha256: str
    parameter: bool  # rather than a buffer
    trained: bool


@dataclass(frozen=True)
class Capture:
    """What `capture.json` says."""

    framework: str  # "torch" or "mindspore"
    dtype: str  # precision of the network
    name: str  # class of the network
    types: Mapping[str, Sequence[str]]  # dotted path of every layer -> names of its class and base classes
    layer_types: Mapping[str, str]  # the same paths -> what to call the type
    tensors: Mapping[str, Held]  # everything the network holds, by the framework's own name
    twins: Mapping[str, str]  # name -> first name of the same tensor, of tensors that several layers share
    runs: Sequence[Mapping[str, Any]]  # of each run: "training", and "roles"
    folder: Path = field(default=Path(), compare=False)

    @property
    def description(self) -> Description:
        """A PyTorch network as a plan sees it."""
        types = {path: tuple(names) for path, names in self.types.items()}
        tensors = {name: (TensorSpec(held.shape, held.dtype), held.parameter) for name, held in self.tensors.items()}
        return Description(types, self.layer_types, tensors)

    def weights(self) -> dict[str, Array]:
        """Values of everything the network holds. Raises InputError: the file is missing, broken or of another one."""
        values = read_arrays(self.folder / WEIGHTS)[0]
        hashes = {name: tensor_sha256(array) for name, array in values.items()}
        other = [name for name, held in self.tensors.items() if hashes.get(name) != held.sha256]
        if other:
            raise InputError(f"{self.folder / WEIGHTS}: not what was captured: {', '.join(other[:3])}")
        return {name: values[name] for name in self.tensors}

    def calls(self, run: int, role: str) -> Iterator[LayerCall]:
        """The calls of a run, read one at a time. Raises InputError: a file is missing or broken."""
        folder = self.folder / f"run{run}" / role
        for number in range(self.runs[run]["roles"][role]):
            yield read_call(folder / f"{number:06d}.safetensors")


def write_index(folder: Path, capture: Capture) -> None:
    """Write `capture.json`."""
    data = {name: value for name, value in vars(capture).items() if name != "folder"}
    data["tensors"] = {name: vars(held) for name, held in capture.tensors.items()}
    (folder / INDEX).write_text(json.dumps({"form": FORM, "version": VERSION, **data}, indent=1) + "\n")


def read_index(folder: Path) -> Capture:
    """Read `capture.json`. Raises InputError: the folder holds no capture, or one of another version."""
    try:
        data = json.loads((folder / INDEX).read_text())
        form, version = data.pop("form"), data.pop("version")
        if (form, version) != (FORM, VERSION):
            raise InputError(f"{folder}: a {form} of version {version}, not a {FORM} of version {VERSION}")
        tensors = {name: Held(tuple(held.pop("shape")), **held) for name, held in data.pop("tensors").items()}
        return Capture(**data, tensors=tensors, folder=folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{folder}: no captured run; toonport.capture writes them ({first_line(error)})") from error


def write_weights(folder: Path, values: Mapping[str, Array]) -> None:
    """Write what a network holds."""
    save_arrays(folder / WEIGHTS, values, {})


def write_call(path: Path, call: LayerCall) -> None:
    """Write one call of a layer."""
    arrays = {f"{kind}.{place}": value for kind, place, value in _placed(call)}
    paths = {"in": _paths(call.inputs), "out": _paths(call.outputs)}
    save_arrays(path, arrays, {"layer": call.layer, "paths": json.dumps(paths)})


def read_call(path: Path) -> LayerCall:
    """Read one call of a layer. Raises InputError: the file is missing or broken."""
    arrays, said = read_arrays(path)
    try:
        paths = json.loads(said["paths"])
        inputs, outputs = (
            Tree(tuple(arrays[f"{kind}.{place}"] for place in range(len(paths[kind]))), None, tuple(paths[kind]))
            for kind in ("in", "out")
        )
        return LayerCall(said["layer"], inputs, outputs)
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a captured call ({first_line(error)})") from error


def _placed(call: LayerCall) -> Iterator[tuple[str, int, Array]]:
    for kind, values in (("in", call.inputs), ("out", call.outputs)):
        yield from ((kind, place, value) for place, value in enumerate(values))


def _paths(values: Sequence[Array]) -> list[str]:
    return list(values.paths) if isinstance(values, Tree) else [str(place) for place in range(len(values))]


def save_arrays(path: Path, arrays: Mapping[str, Array], said: Mapping[str, str]) -> None:
    """Write arrays and texts into one file."""
    from safetensors.numpy import save_file

    pairs = {name for name, value in arrays.items() if value.dtype.kind == "c"}
    real = {name: _real(value) if name in pairs else value for name, value in arrays.items()}
    whole = {name: np.ascontiguousarray(value).reshape(value.shape) for name, value in real.items()}
    save_file(whole, path, {**said, PAIRS: json.dumps(sorted(pairs))})


def _real(value: Array) -> Array:
    return np.stack([value.real, value.imag], -1)


def read_arrays(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Read arrays and texts of a file. Raises InputError: it is missing or broken."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            said = file.metadata() or {}
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        pairs = json.loads(said.get(PAIRS, "[]"))
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from error
    with guarded(path, "not arrays of a captured run"):
        for name in pairs:
            found[name] = found[name][..., 0] + 1j * found[name][..., 1]
    return found, said


Keep = Callable[[LayerCall], None]


def keeper(folder: Path) -> tuple[Keep, Callable[[], int]]:
    """Return what writes calls into a folder, one file each, and what says how many it has written."""
    folder.mkdir(parents=True)
    written = 0

    def keep(call: LayerCall) -> None:
        """Write a call."""
        nonlocal written
        write_call(folder / f"{written:06d}.safetensors", call)
        written += 1

    return keep, lambda: written
