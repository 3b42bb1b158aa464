"""ONNX Runtime as a third leg: a file's outputs and its layers, measured against the reference in float64.

The outputs are those of the file as it is, with ONNX Runtime's own optimisations. The layers come from a copy that
puts out their values too; that keeps ONNX Runtime from fusing across them, so the copy serves to find the layer only.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convert.errors import InputError
from parity_tests.harness.capture import Key, layer_calls, outputs_of
from parity_tests.harness.compare import measure, ulp_neighbour
from parity_tests.harness.measurement import Kind, Measurement, Mode, Probe, Quantity
from parity_tests.harness.onnx.layers import candidates, layer_values, only_fitting, with_outputs
from parity_tests.harness.onnx.session import open_session
from parity_tests.harness.sides.base import Array, LayerCall
from parity_tests.harness.sides.torch import TorchSide

__all__ = ["OnnxFile", "measure_file", "measure_onnx", "open_onnx", "run_onnx", "traces"]

NOISE_RUNS = 2


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file that ONNX Runtime takes.

    Attributes:
        path: where it lies.
        model: onnx.ModelProto.
        shape: of its only input [N, C, H, W]; None where it is free.
    """

    path: Path
    model: Any
    shape: tuple[int | None, ...]


def open_onnx(path: Path) -> OnnxFile:
    """Open an ONNX file.

    Raises:
        InputError: not a file that ONNX Runtime takes, or not one with pictures as its only input.
    """
    import onnx

    try:
        model = onnx.load(str(path))
        opened = open_session(path).get_inputs()
    except Exception as error:  # protobuf, ONNX and ONNX Runtime each have errors of their own, without a common base
        raise InputError(f"{path}: not an ONNX file that ONNX Runtime takes ({_first_line(error)})") from error
    if len(opened) != 1 or len(opened[0].shape) != 4 or opened[0].type != "tensor(float)":
        found = ", ".join(f"{one.name} {one.type}{one.shape}" for one in opened)
        raise InputError(f"{path}: takes {found or 'nothing'}; one float32 input [N, C, H, W] is needed")
    shape = tuple(side if isinstance(side, int) else None for side in opened[0].shape)
    return OnnxFile(path, model, shape)


def measure_onnx(network: Any, file: OnnxFile, inputs: Array, layers: bool = True) -> Iterator[Measurement]:
    """Measure the layers that are found in a file, in the order of computation, then its outputs.

    Args:
        network: PyTorch reference in eval mode, in float32.
        file: what is measured.
        inputs: float32 [N, C, H, W].
        layers: False for the outputs only.
    """
    types = TorchSide(network).layer_types()
    yield from measure_file(file, inputs, *traces(network, inputs, layers), types)


def traces(network: Any, inputs: Array, layers: bool = True) -> tuple[dict[Key, LayerCall], list[dict[Key, LayerCall]]]:
    """Run a PyTorch network in float64, and in float32 on inputs moved by about one unit in the last place.

    Without `layers`, only what the whole network takes and returns is kept.
    """
    truths = layer_calls(TorchSide(copy.deepcopy(network).double(), "float64"), [inputs], not layers)
    side = TorchSide(copy.deepcopy(network), "float32")
    return truths, [layer_calls(side, [ulp_neighbour(inputs, seed)], not layers) for seed in range(NOISE_RUNS)]


def measure_file(
    file: OnnxFile,
    inputs: Array,
    truths: Mapping[Key, LayerCall],
    references: Sequence[Mapping[Key, LayerCall]],
    types: Mapping[str, str],
) -> Iterator[Measurement]:
    """Measure a file against runs of the reference that are at hand; see `measure_onnx`.

    Args:
        file, inputs: see `measure_onnx`.
        truths: what every layer did in float64.
        references: the same in float32, on inputs moved by about one unit in the last place.
        types: layer -> class name.
    """
    order = {key: place for place, key in enumerate(truths)}
    head = Measurement(Mode.ONNX, Probe.of([inputs]), "", types[""], Quantity(Kind.OUTPUT), len(order))
    try:
        layers = _run_layers(file, inputs, truths)
        outputs = run_onnx(file.path, inputs)
    except Exception as error:  # ONNX Runtime's errors have no common base
        yield replace(head, problem=f"ONNX Runtime cannot run it: {_first_line(error)}")
        return
    for key, value in layers.items():
        call = truths[key]
        quantity = outputs_of(call.outputs, key[1])[0]
        own = replace(head, layer=key[0], layer_type=types[key[0]], quantity=quantity, order=order[key])
        yield measure(own, call.outputs[0], [one[key].outputs[0] for one in references], value)
    whole = ("", 0)
    for index, (name, value) in enumerate(outputs.items()):
        own = replace(head, quantity=Quantity(Kind.OUTPUT, name), order=len(order) + index)
        if index < len(truths[whole].outputs):
            noisy = [one[whole].outputs[index] for one in references]
            yield measure(own, truths[whole].outputs[index], noisy, value)
        else:
            yield replace(own, problem="the reference has no such tensor")


def _run_layers(file: OnnxFile, inputs: Array, calls: Mapping[Key, LayerCall]) -> dict[Key, Array]:
    """What the layers that are found in the file return there."""
    possible = candidates(layer_values(file.model, {layer for layer, _ in calls}), calls)
    if not possible:
        return {}
    wanted = {name: None for names in possible.values() for name in names}
    found = run_onnx(with_outputs(file.model, wanted).SerializeToString(), inputs)
    chosen = {key: only_fitting(names, found, calls[key].outputs[0].shape) for key, names in possible.items()}
    return {key: found[name] for key, name in chosen.items() if name is not None}


def run_onnx(source: Path | bytes, inputs: Array) -> dict[str, Array]:
    """Run an ONNX file (its path, or its content) on the CPU; returns its outputs by name, in order."""
    session = open_session(source)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: inputs}), strict=True))


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).strip().splitlines() if line.strip()), type(error).__name__)[:200]
