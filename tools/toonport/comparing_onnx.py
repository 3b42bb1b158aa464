"""ONNX Runtime in a comparison: the network's own export, or a file that the user names, judged layer by layer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import InputError
from convert.family import Part
from convert.tensors import Array
from parity_tests.harness.inputs import image
from parity_tests.harness.judge import Verdict, judge
from parity_tests.harness.measurement import Kind, Measurement, Mode, Probe, Quantity
from parity_tests.harness.onnx.leg import OnnxFile, measure_onnx, open_onnx
from parity_tests.harness.onnx.write import write_onnx

__all__ = ["OnnxLeg", "judge_onnx"]


@dataclass(frozen=True)
class OnnxLeg:
    """How ONNX Runtime takes part in a comparison.

    Attributes:
        file: the file to judge; None: the network is exported for the comparison.
        required: whether it is an error if it cannot be run; else the report says why it was not.
        obstacle: why it cannot be run under the other options, or "".
    """

    file: Path | None = None
    required: bool = True
    obstacle: str = ""


def judge_onnx(leg: OnnxLeg, part: Part, network: Any, inputs: Array, probe: Array) -> Iterator[Verdict]:
    """Judge ONNX Runtime against a PyTorch network: the layers that are found in the file, and every output.

    The layers are judged on the small pictures, where the budget is narrow, the outputs at both sizes. A file that
    takes one size only is judged at that size.

    Args:
        leg: what is run.
        part: names the outputs.
        network: the reference in its form for inference, in float32.
        inputs: picture [1, C, H, W] of the whole run.
        probe: small pictures [N, C, h, w], on which wrong norms stand out.

    Raises:
        InputError: the leg is required and cannot be run.
    """
    try:
        if leg.obstacle:
            raise InputError(leg.obstacle)
        if leg.file:
            yield from _given(open_onnx(leg.file), network, inputs, probe)
        else:
            yield from _exported(part, network, inputs, probe)
    except InputError as error:
        if leg.required:
            raise
        kind, reason = type(network).__name__, f"ONNX Runtime: {error}"
        head = Measurement(Mode.ONNX, Probe.of([inputs]), "", kind, Quantity(Kind.OUTPUT), 0)
        yield judge(replace(head, not_run=reason))


def _exported(part: Part, network: Any, inputs: Array, probe: Array) -> Iterator[Verdict]:
    """Files are made for one size of picture; each size gets its own."""
    sizes = {one.shape[2:]: one for one in (probe, inputs)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        for number, pictures in enumerate(sizes.values()):
            write_onnx(network, pictures, part.outputs, path)
            yield from _judged(open_onnx(path), network, pictures, layers=number == 0)


def _given(file: OnnxFile, network: Any, inputs: Array, probe: Array) -> Iterator[Verdict]:
    fitted = {one.shape[2:]: one for one in (_fit(file, pictures) for pictures in (probe, inputs))}
    for number, pictures in enumerate(fitted.values()):
        yield from _judged(file, network, pictures, layers=number == 0)


def _fit(file: OnnxFile, pictures: Array) -> Array:
    """Return the pictures if the file takes their size, else seeded ones of the size that it takes."""
    batch, channels, *_ = wanted = [own or given for own, given in zip(file.shape, pictures.shape, strict=True)]
    if channels != pictures.shape[1]:
        raise InputError(f"{file.path}: takes {channels} channels, the network {pictures.shape[1]}")
    if wanted[2:] == list(pictures.shape[2:]):
        return np.resize(pictures, wanted)
    return image("toonport/0", batch, wanted[2], wanted[3], channels)


def _judged(file: OnnxFile, network: Any, pictures: Array, layers: bool) -> Sequence[Verdict]:
    return [judge(measurement) for measurement in measure_onnx(network, file, pictures, layers)]
