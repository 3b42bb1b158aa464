"""Runs ONNX files in OpenVINO, an optional package, in float32 whatever the processor could do faster."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from convert.devices import CPU
from convert.errors import InputError
from parity_tests.harness.sides.base import Array


@cache
def _core() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise InputError("OpenVINO is not installed: pip install 'toonport[openvino]'") from error
    return openvino.Core()


def opened(path: Path, threads: int | None = None) -> tuple[Any, list[str], dict[str, str]]:
    """Return an `openvino.CompiledModel` of an ONNX file on the CPU, names of its outputs, and the file's metadata.

    It computes in float32; left to itself, OpenVINO computes in bfloat16 on processors that can.

    Args:
        path: the file.
        threads: None: one per core.

    Raises:
        InputError: OpenVINO is not installed.
        Exception: it cannot run the file, or the file is none.
    """
    import onnx

    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "EXECUTION_MODE_HINT": "ACCURACY"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    core, file = _core(), onnx.load(str(path), load_external_data=False)
    model = core.compile_model(core.read_model(str(path)), CPU.upper(), settings)
    facts = {entry.key: entry.value for entry in file.metadata_props}
    return model, [output.name for output in file.graph.output], facts


def outputs(model: Any, inputs: Any) -> Iterator[Array]:
    """Run a compiled model on its inputs, in order or by name; yields copies of its outputs, in order."""
    found = model(inputs)
    yield from (np.array(found[port]) for port in model.outputs)


def run(path: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run an ONNX file; returns its outputs by name, in order."""
    model, names, _ = opened(path)
    return dict(zip(names, outputs(model, dict(inputs)), strict=True))
