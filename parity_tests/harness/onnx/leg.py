"""ONNX Runtime as a third leg: a file's outputs and its layers, measured against the reference in float64.

The outputs are those of the file as it is, with ONNX Runtime's own optimisations. The layers come from a copy that
puts out their values too; that keeps ONNX Runtime from fusing across them, so the copy serves to find the layer only.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import InputError, first_line
from parity_tests.harness.accumulated import Key
from parity_tests.harness.capture import outputs_of
from parity_tests.harness.experiments import Finding, find_cause_in_file
from parity_tests.harness.inputs import image
from parity_tests.harness.judge import Verdict, blamed, judge
from parity_tests.harness.measurement import Kind, Measurement, Mode, Quantity, Values
from parity_tests.harness.onnx.alone import activations
from parity_tests.harness.onnx.layers import candidates, layer_values, only_fitting, with_outputs
from parity_tests.harness.onnx.outputs import FileOutput, file_outputs
from parity_tests.harness.onnx.session import open_session, run_named, run_onnx
from parity_tests.harness.onnx.write import write_onnx
from parity_tests.harness.outputs import WHOLE, References, file_head, run_references
from parity_tests.harness.sides.base import Array, LayerCall
from parity_tests.harness.values import fed


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file that ONNX Runtime takes."""

    path: Path  # where it lies
    model: Any  # onnx.ModelProto
    shape: tuple[int | None, ...]  # of its only input [N, C, H, W]; None where it is free


def open_onnx(path: Path) -> OnnxFile:
    """Open an ONNX file.

    Raises InputError: not a file that ONNX Runtime takes, or not one with pictures as its only input.
    """
    import onnx

    try:
        model = onnx.load(str(path))
        opened = open_session(path).get_inputs()
    except Exception as error:  # protobuf, ONNX and ONNX Runtime each have errors of their own, without a common base
        raise InputError(f"{path}: not an ONNX file that ONNX Runtime takes ({first_line(error)})") from error
    if len(opened) != 1 or len(opened[0].shape) != 4 or opened[0].type != "tensor(float)":
        found = ", ".join(f"{value.name} {value.type}{value.shape}" for value in opened)
        raise InputError(f"{path}: takes {found or 'nothing'}; one float32 input [N, C, H, W] is needed")
    shape = tuple(side if isinstance(side, int) else None for side in opened[0].shape)
    return OnnxFile(path, model, shape)


# order of a measurement and what was fed -> the call in float64, which of its outputs, and what the file makes of it
Made = dict[tuple[int, Values], tuple[LayerCall, int, Array]]


@dataclass(frozen=True)
class Judged:
    """What became of a file."""

    verdicts: tuple[Verdict, ...]
    finding: Finding | None = None  # what experiments showed on what is blamed first


def judge_onnx(network: Any, names: Sequence[str], inputs: Array, probe: Array, path: Path | None = None) -> Judged:
    """Judge ONNX Runtime against a PyTorch network: the layers that are found in the file, and every output.

    The layers are judged on the small pictures, where the budget is narrow, and so are the outputs; those of a given
    file also at the size of the whole run. A file that takes one size only is judged at that size.

    Args:
        network: the reference in its form for inference, in float32.
        names: of its outputs.
        inputs: picture [1, C, H, W] of the whole run.
        probe: small pictures [N, C, h, w], on which wrong norms stand out.
        path: file to judge; None: the network is exported for it.

    Raises InputError: the file cannot be run, or the network not be exported.
    """
    given = open_onnx(path) if path else None
    wanted = [_fit(given, pictures) for pictures in (probe, inputs)] if given else [probe]
    every: list[Judged] = []
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "network.onnx"
        for number, pictures in enumerate({pictures.shape[2:]: pictures for pictures in wanted}.values()):
            if not given:
                write_onnx(network, pictures, names, exported)
            runs = (
                small_runs(network, pictures) if number == 0 else [FileRun(pictures, run_references(network, pictures))]
            )
            every.append(judge_file(given or open_onnx(exported), runs, names))
    finding = next((each.finding for each in every if each.finding), None)
    return Judged(tuple(verdict for each in every for verdict in each.verdicts), finding)


@dataclass(frozen=True)
class FileRun:
    """What a file is run on, and what the network does with it."""

    inputs: Array  # float32 [N, C, H, W]
    references: References  # without the layers of the network, only outputs are measured
    values: Values = Values.RECORDED  # what was made of the pictures


def small_runs(network: Any, pictures: Array) -> list[FileRun]:
    """Return the runs on small pictures: layer by layer, and the outputs on numbers that reach more sides of kinks."""
    (large,) = fed(Values.LARGE, [pictures])
    first = FileRun(pictures, run_references(network, pictures, layers=True))
    return [first, FileRun(large, run_references(network, large), Values.LARGE)]


def judge_file(file: OnnxFile, runs: Sequence[FileRun], names: Sequence[str] = (), causes: bool = True) -> Judged:
    """Judge runs of a file, see `measure_onnx`; `causes`: look for the bug behind what is blamed first."""
    every = [(run, Made()) for run in runs]
    found = [(judge(each), run, made) for run, made in every for each in measure_onnx(file, run, names, made)]
    verdicts = tuple(verdict for verdict, _, _ in found)
    first = next(iter(blamed(verdicts)), None)
    if not causes or first is None or first.measurement.problem:
        return Judged(verdicts)
    run, made = next((run, made) for verdict, run, made in found if verdict is first)
    key = first.measurement.order, first.measurement.probe.values
    if key not in made:
        return Judged(verdicts)
    return Judged(verdicts, find_cause_in_file(run.references.truth_side, *made[key], first.measurement))


def _fit(file: OnnxFile, pictures: Array) -> Array:
    """Return the pictures if the file takes their size, else seeded ones of the size that it takes."""
    batch, channels, height, width = wanted = [
        own or given for own, given in zip(file.shape, pictures.shape, strict=True)
    ]
    if channels != pictures.shape[1]:
        raise InputError(f"{file.path}: takes {channels} channels, the network {pictures.shape[1]}")
    if (height, width) == pictures.shape[2:]:
        return np.resize(pictures, wanted)
    return image("toonport/0", batch, height, width, channels)


def measure_onnx(
    file: OnnxFile, run: FileRun, names: Sequence[str] = (), made: Made | None = None
) -> Iterator[Measurement]:
    """Measure the layers that are found in a file, in the order of computation, then its outputs.

    Activations among the layers are also run alone on large numbers.

    Args:
        file: what is measured.
        run: what it is run on.
        names: of the network's outputs; empty: those of the file, in its order.
        made: gets what the file makes of each call.
    """
    made, inputs, references = Made() if made is None else made, run.inputs, run.references
    head = file_head(Mode.ONNX, references.types[""], inputs)
    head = replace(head, probe=replace(head.probe, values=run.values))
    order = {key: place for place, key in enumerate(references.truth)}
    last = replace(head, order=len(order))
    try:
        chosen = _run_layers(file, inputs, references.truth)
        outputs = run_onnx(file.path, inputs)
        large = _run_activations(file, references, {key: name for key, (name, _) in chosen.items()})
    except Exception as error:  # ONNX Runtime's errors have no common base
        yield replace(last, problem=f"ONNX Runtime cannot run it: {first_line(error)}")
        return
    for key, (_, value) in chosen.items():
        layer, quantity = key[0], outputs_of(references.truth[key].outputs, key[1])[0]
        own = replace(head, layer=layer, layer_type=references.types[layer], quantity=quantity, order=order[key])
        made[order[key], Values.RECORDED] = references.truth[key], 0, value
        yield references.measure(own, key, value)
        if key in large:
            alone = replace(own, probe=replace(own.probe, values=Values.LARGE))
            made[order[key], Values.LARGE] = (
                LayerCall(layer, large[key][0], references.truth[key].outputs),
                0,
                large[key][1],
            )
            yield references.measure_alone(alone, *large[key])
    found_outputs = file_outputs(file.model, names or list(outputs))
    for place, output in enumerate(found_outputs):
        if output.found:
            made[last.order + place, run.values] = references.truth[WHOLE], output.index or 0, outputs[output.name]
    yield from _measure_outputs(last, references, outputs, found_outputs)


def _measure_outputs(
    head: Measurement, references: References, values: Mapping[str, Array], found: Sequence[FileOutput]
) -> Iterator[Measurement]:
    """Measure the outputs that the file has, and name those that it lacks."""
    for order, output in enumerate(found):
        own = replace(head, quantity=Quantity(Kind.OUTPUT, output.name), order=head.order + order)
        unknown = output.index is None or output.index >= len(references.truth[WHOLE].outputs)
        if output.found and not output.problem and not unknown:
            yield references.measure(own, WHOLE, values[output.name], output.index or 0)
        elif output.absent:
            yield replace(own, not_run=output.absent)
        else:
            yield replace(own, problem=output.problem or "the reference has no such tensor")


def _run_activations(
    file: OnnxFile, references: References, names: Mapping[Key, str]
) -> dict[Key, tuple[tuple[Array, ...], Array]]:
    """Large inputs of the layers that are activations, and what the file makes of them; names of the layers' values."""
    model, alone = activations(file.model, dict.fromkeys(names.values()))
    first: dict[str, Key] = {}  # a layer comes before those that hold it and return the same value
    for key, name in names.items():
        if name in alone and len(references.truth[key].inputs) == 1:
            first.setdefault(name, key)
    if not first:
        return {}
    inputs = {name: fed(Values.LARGE, references.truth[key].inputs) for name, key in first.items()}
    # activations without a layer of their own run too, on a number that nobody looks at
    every = {alone[name][0]: inputs[name][0] if name in inputs else np.zeros(1, np.float32) for name in alone}
    found = run_named(model.SerializeToString(), every)
    return {key: (inputs[name], found[alone[name][1]]) for name, key in first.items()}


def _run_layers(file: OnnxFile, inputs: Array, calls: Mapping[Key, LayerCall]) -> dict[Key, tuple[str, Array]]:
    """What the layers that are found in the file return there, with the names of these values."""
    possible = candidates(layer_values(file.model, {layer for layer, _ in calls}), calls)
    if not possible:
        return {}
    wanted = {name: None for names in possible.values() for name in names}
    found = run_onnx(with_outputs(file.model, wanted).SerializeToString(), inputs)
    chosen = {key: only_fitting(names, found, calls[key].outputs[0].shape) for key, names in possible.items()}
    return {key: (name, found[name]) for key, name in chosen.items() if name is not None}
