"""Runs .tflite files in LiteRT; pictures go in and come out as [N, C, H, W], whatever the file's own order is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parity_tests.harness.sides.base import Array

COLOURS = (1, 3)  # channels of pictures


def _opened(path: Path) -> tuple[Any, dict[str, Any]]:
    """An interpreter, and what it says of its input."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    inputs = interpreter.get_input_details()
    if len(inputs) != 1 or len(inputs[0]["shape"]) != 4 or inputs[0]["dtype"] is not np.float32:
        raise ValueError("one float32 input of four dimensions is needed")
    return interpreter, inputs[0]


def _channels_last(shape: Sequence[int]) -> bool:
    return shape[1] not in COLOURS and shape[3] in COLOURS


def describe(path: Path) -> tuple[str, tuple[int | None, ...], list[str]]:
    """Return name and shape [N, C, H, W] of a file's input, and names of outputs that it promises: none."""
    _, given = _opened(path)
    shape = [int(side) for side in given["shape"]]
    return given["name"], tuple(shape[place] for place in (0, 3, 1, 2)) if _channels_last(shape) else tuple(shape), []


def run(path: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run a .tflite file on its one input; returns its outputs by name, in order.

    Where the file takes [N, H, W, C], outputs with four dimensions are in this order, too, and are turned back.
    """
    interpreter, given = _opened(path)
    last = _channels_last(given["shape"])
    (pictures,) = inputs.values()
    pictures = pictures.transpose(0, 2, 3, 1) if last else pictures
    interpreter.resize_tensor_input(given["index"], pictures.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], np.ascontiguousarray(pictures))
    interpreter.invoke()
    found = {output["name"]: interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()}
    return {name: value.transpose(0, 3, 1, 2) if last and value.ndim == 4 else value for name, value in found.items()}
