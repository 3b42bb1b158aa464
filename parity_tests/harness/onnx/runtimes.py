"""Programs that run exported files, each a row: which files it takes, and how its layers are measured."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from convert.devices import CPU, DEVICES, GPU
from convert.errors import InputError, first_line
from parity_tests.harness.onnx import litert, mindir, openvino
from parity_tests.harness.onnx.outputs import promised
from parity_tests.harness.onnx.session import run_named
from parity_tests.harness.sides.base import Array
from parity_tests.tolerances import Mode

# path of a file and its inputs by name -> all of its outputs by name
Run = Callable[[Path, Mapping[str, Array]], Mapping[str, Array]]


class Layers(str, Enum):
    """How the layers of a file are measured in a runtime."""

    OUTPUTS = "outputs"  # by a copy of the file that puts out their values, too
    CUT = "cut"  # by a file of its own for each, cut out between its value and the layers before it
    NONE = "none"  # not at all: the outputs alone


@dataclass(frozen=True)
class ExportedFile:
    """An exported file that takes pictures."""

    path: Path  # where it lies
    input: str  # name of its only input
    shape: tuple[int | None, ...]  # of that input [N, C, H, W]; None where it is free
    promised: Sequence[str] = ()  # names of the outputs that the file says it was given, in order
    model: Any = None  # onnx.ModelProto; None: another format


@dataclass(frozen=True)
class Runtime:
    """What runs an exported file."""

    name: str  # what reports call it
    mode: Mode  # row of its tolerances
    run: Run  # raises any exception where it cannot run a file
    layers: Layers = Layers.OUTPUTS  # how layers are measured
    suffix: str = ".onnx"  # of the files that it takes
    devices: Sequence[str] = DEVICES  # where it runs them


def open_onnx(path: Path) -> ExportedFile:
    """Open an ONNX file.

    Raises InputError: not an ONNX file, or not one with pictures as its only input.
    """
    import onnx

    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf and ONNX have errors of their own, without a common base
        raise InputError(f"{path}: not an ONNX file ({first_line(error)})") from error
    fixed = {constant.name for constant in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in fixed]
    types = [value.type.tensor_type for value in inputs]
    if len(inputs) != 1 or len(types[0].shape.dim) != 4 or types[0].elem_type != onnx.TensorProto.FLOAT:
        found = ", ".join(f"{value.name} {_words(kind)}" for value, kind in zip(inputs, types, strict=True))
        raise InputError(f"{path}: takes {found or 'nothing'}; one float32 input [N, C, H, W] is needed")
    shape = tuple(dim.dim_value or None for dim in types[0].shape.dim)
    return ExportedFile(path, inputs[0].name, shape, promised(model), model)


def _words(kind: Any) -> str:
    import onnx

    sides = [str(dim.dim_value or dim.dim_param) for dim in kind.shape.dim]
    return f"{onnx.TensorProto.DataType.Name(kind.elem_type).lower()}[{', '.join(sides)}]"


def open_exported(path: Path, runtime: Runtime) -> ExportedFile:
    """Open a file of the format that a runtime takes.

    Raises InputError: another format, or no pictures as its only input.
    """
    if path.suffix.lower() != runtime.suffix:
        raise InputError(f"{path}: {runtime.name} takes {runtime.suffix} files")
    if runtime.suffix == ".onnx":
        return open_onnx(path)
    describe = mindir.describe if runtime.suffix == ".mindir" else litert.describe
    try:
        name, shape, names = describe(path)
    except Exception as error:  # MindSpore and LiteRT each have errors of their own
        raise InputError(f"{path}: not a file that {runtime.name} takes ({first_line(error)})") from error
    return ExportedFile(path, name, shape, names)


def run_model(runtime: Runtime, model: Any, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    """Run an onnx.ModelProto in a runtime; returns its outputs by name."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, str(path))
        return runtime.run(path, inputs)


ONNX_RUNTIME = Runtime("ONNX Runtime", Mode.ONNX, run_named, devices=(CPU, GPU))
RUNTIMES: Mapping[str, Runtime] = {
    "onnxruntime": ONNX_RUNTIME,
    "openvino": Runtime("OpenVINO", Mode.OPENVINO, openvino.run, devices=(CPU,)),
    "litert": Runtime("LiteRT", Mode.LITERT, litert.run, Layers.NONE, ".tflite", (CPU,)),
    "mindir": Runtime("MINDIR", Mode.MINDIR, mindir.run, Layers.NONE, ".mindir"),
}


def own_runtime(name: str, function: Callable[..., Any]) -> Runtime:
    """Return a runtime of the user's own.

    Args:
        name: what reports call it.
        function: `run(path, {name: array}) -> {name: array}`: runs the ONNX file at a path, a pathlib.Path, on its
            inputs by name, float32 numpy arrays, and returns all of its outputs by name, numpy arrays. It is called
            with the whole file, and with one cut out of it for each layer, whose inputs may be several.
    """
    return Runtime(name, Mode.RUNTIME, partial(_checked, function), Layers.CUT)


def _checked(function: Callable[..., Any], path: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """What a user's function returns. Raises InputError: it is not what was asked for."""
    import numpy as np

    found = function(path, dict(inputs))
    if not isinstance(found, Mapping):
        raise InputError(f"run returns {type(found).__name__}, not a dictionary of arrays by name")
    return {str(name): np.asarray(value) for name, value in found.items()}
