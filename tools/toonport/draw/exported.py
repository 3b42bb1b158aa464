"""ONNX files that draw: what they say of themselves, and what runs them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convert.devices import CPU
from convert.errors import InputError, first_line
from convert.tensors import Array
from parity_tests.harness.onnx import openvino
from parity_tests.harness.onnx.session import open_session

RUNNERS = ("onnxruntime", "openvino")
NUMBERS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


@dataclass(frozen=True)
class Opened:
    """An ONNX file, ready to run."""

    shapes: Sequence[tuple[int | None, ...]]  # of its inputs, None where a length is free
    numbers: Any  # numpy type of its first input; None: another, or it has none
    outputs: tuple[str, ...]  # names, in order
    facts: Mapping[str, str]  # what its metadata says
    run: Callable[[Array], list[Array]]  # first input -> the outputs, in order


def open_file(path: Path, backend: str, device: str = CPU, threads: int | None = None) -> Opened:
    """Open an ONNX file with one of RUNNERS; `threads` None: all.

    Raises InputError: no such file, or the backend cannot run it on this device.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return (_by_openvino if backend == "openvino" else _by_onnxruntime)(path, device, threads)


def _by_onnxruntime(path: Path, device: str, threads: int | None) -> Opened:
    try:
        session = open_session(path, threads, device)
    except InputError:
        raise
    except Exception as error:  # ONNX Runtime has an exception class of its own for each reason
        raise InputError(f"{path}: not an ONNX file that ONNX Runtime can run ({first_line(error)})") from error
    inputs, names = session.get_inputs(), [output.name for output in session.get_outputs()]
    return Opened(
        [tuple(side if isinstance(side, int) else None for side in taken.shape) for taken in inputs],
        NUMBERS.get(inputs[0].type) if inputs else None,
        tuple(names),
        session.get_modelmeta().custom_metadata_map,
        lambda batch: list(session.run(names, {inputs[0].name: batch})),
    )


def _by_openvino(path: Path, device: str, threads: int | None) -> Opened:
    if device != CPU:
        raise InputError(f"device {device} is not usable by OpenVINO here; it draws on the CPU")
    try:
        model, names, facts = openvino.opened(path, threads)
    except InputError:
        raise
    except Exception as error:  # protobuf, ONNX and OpenVINO each have errors of their own
        raise InputError(f"{path}: not an ONNX file that OpenVINO can run ({first_line(error)})") from error
    shapes = [taken.get_partial_shape() for taken in model.inputs]
    return Opened(
        [tuple(side.get_length() if side.is_static else None for side in shape) for shape in shapes],
        model.inputs[0].get_element_type().to_dtype().type if model.inputs else None,
        tuple(names),
        facts,
        lambda batch: list(openvino.outputs(model, [batch])),
    )
