"""A runtime as a third leg: a file's outputs and its layers, measured against the reference in float64.

The outputs are those of the file as it is, with the runtime's own optimisations. The layers come from a copy that
puts out their values too, or from files cut out of it; that keeps a runtime from fusing across them, so these serve to
find the layer only.
"""

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import InputError, first_line
from parity_tests.harness.accumulated import Key
from parity_tests.harness.capture import outputs_of
from parity_tests.harness.compare import rms
from parity_tests.harness.experiments import Finding, find_cause_in_file
from parity_tests.harness.inputs import image
from parity_tests.harness.judge import Verdict, blamed, judge
from parity_tests.harness.measurement import Kind, Measurement, Quantity, Values
from parity_tests.harness.onnx.alone import nodes_alone
from parity_tests.harness.onnx.cut import Cutter
from parity_tests.harness.onnx.layers import candidates, layer_values, only_fitting, with_outputs
from parity_tests.harness.onnx.outputs import FileOutput, file_outputs
from parity_tests.harness.onnx.runtimes import ONNX_RUNTIME, ExportedFile, Layers, Runtime, open_exported, run_model
from parity_tests.harness.onnx.weights import rounded_weights
from parity_tests.harness.onnx.write import write_onnx
from parity_tests.harness.outputs import WHOLE, References, file_head, run_references
from parity_tests.harness.rewrites import Cause, Change
from parity_tests.harness.sides.base import Array, LayerCall, inside
from parity_tests.harness.values import fed

Write = Callable[[Array, Path], None]  # writes the network at a path, with these pictures [N, C, H, W] as an example
SAME = 1e-3  # share of its size within which a value of the file is a layer's input
# order of a measurement and what was fed -> the call in float64, which of its outputs, and what the file makes of it
Made = dict[tuple[int, Values], tuple[LayerCall, int, Array]]


@dataclass(frozen=True)
class Judged:
    """What became of a file."""

    verdicts: tuple[Verdict, ...]
    finding: Finding | None = None  # what experiments showed on what is blamed first


def onnx_writer(network: Any, names: Sequence[str]) -> Write:
    """Return what exports a PyTorch network, with outputs of these names, to ONNX."""
    return lambda pictures, path: write_onnx(network, pictures, names, path)


def judge_exported(
    network: Any, names: Sequence[str], inputs: Array, probe: Array, runtime: Runtime, source: Path | Write
) -> Judged:
    """Judge a runtime against a PyTorch network: the layers that are found in the file, and every output.

    The layers are judged on the small pictures, where the budget is narrow, and so are the outputs; those of a given
    file also at the size of the whole run. A file that takes one size only is judged at that size.

    Args:
        network: the reference in its form for inference, in float32.
        names: of its outputs.
        inputs: picture [1, C, H, W] of the whole run.
        probe: small pictures [N, C, h, w], on which wrong norms stand out.
        runtime: what runs the file.
        source: file to judge, or what exports the network for it.

    Raises InputError: the file cannot be run, or the network not be exported.
    """
    given = open_exported(source, runtime) if isinstance(source, Path) else None
    wanted = [_fit(given, pictures) for pictures in (probe, inputs)] if given else [probe]
    every: list[Judged] = []
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / f"network{runtime.suffix}"
        for number, pictures in enumerate({pictures.shape[2:]: pictures for pictures in wanted}.values()):
            if not isinstance(source, Path):
                source(pictures, exported)
            runs = (
                small_runs(network, pictures) if number == 0 else [FileRun(pictures, run_references(network, pictures))]
            )
            every.append(judge_file(given or open_exported(exported, runtime), runs, names, runtime=runtime))
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


def judge_file(
    file: ExportedFile,
    runs: Sequence[FileRun],
    names: Sequence[str] = (),
    causes: bool = True,
    runtime: Runtime = ONNX_RUNTIME,
) -> Judged:
    """Judge runs of a file, see `measure_file`; `causes`: look for the bug behind what is blamed first."""
    every = [(run, Made()) for run in runs]
    found = [(judge(each), run, made) for run, made in every for each in measure_file(file, run, names, made, runtime)]
    rounded = _rounded(file, runs[0], runtime)
    verdicts = (*(verdict for verdict, _ in rounded), *(verdict for verdict, _, _ in found))
    first = next(iter(blamed(verdicts)), None)
    if not causes or first is None:
        return Judged(verdicts)
    known = next((cause for verdict, cause in rounded if verdict is first), None)
    return Judged(verdicts, Finding(known) if known else _finding(first, found))


def _finding(first: Verdict, found: Sequence[tuple[Verdict, FileRun, Made]]) -> Finding | None:
    """What experiments show on what is blamed first, or else on what is around it, whose own code may feed it wrongly;
    None where none can be made."""
    if first.measurement.problem:
        return None
    without_cause = None
    for verdict, run, made in _around(first, found):
        key = verdict.measurement.order, verdict.measurement.probe.values
        if key not in made:
            continue
        holds = verdict.measurement.layer != first.measurement.layer
        finding = find_cause_in_file(run.references.truth_side, *made[key], verdict.measurement, own_code=holds)
        if finding and finding.cause:
            return finding
        without_cause = without_cause or finding
    return without_cause


def _around(first: Verdict, found: Sequence[tuple[Verdict, FileRun, Made]]) -> Iterator[tuple[Verdict, FileRun, Made]]:
    """What is blamed first, then what else of that run is out of budget and holds it, innermost first."""
    own = next(each for each in found if each[0] is first)
    layer = first.measurement.layer
    yield own
    holding = (each for each in found if each[1] is own[1] and each[0] is not first and not each[0].equal)
    holding = (each for each in holding if inside(layer, each[0].measurement.layer))
    yield from sorted(holding, key=lambda each: -len(each[0].measurement.layer))


def _rounded(file: ExportedFile, run: FileRun, runtime: Runtime) -> list[tuple[Verdict, Cause]]:
    """The weights that the file holds with fewer digits than the network."""
    references, found = run.references, []
    places = {key: place for place, key in enumerate(references.truth)}
    head = file_head(runtime.mode, references.types[""], run.inputs)
    for name, kind in rounded_weights(file.model, references.side.weights()) if file.model else ():
        layer, _, leaf = name.rpartition(".")
        own = replace(head, layer=layer, layer_type=references.types.get(layer, ""), order=places.get((layer, 0), 0))
        own = replace(own, quantity=Quantity(Kind.WEIGHT, leaf), problem=f"the file holds it rounded to {kind}")
        found.append((judge(own), Cause(Change.WEIGHT, f"rounded to {kind}", name)))
    return found


def _fit(file: ExportedFile, pictures: Array) -> Array:
    """Return the pictures if the file takes their size, else seeded ones of the size that it takes."""
    batch, channels, height, width = wanted = [
        own or given for own, given in zip(file.shape, pictures.shape, strict=True)
    ]
    if channels != pictures.shape[1]:
        raise InputError(f"{file.path}: takes {channels} channels, the network {pictures.shape[1]}")
    if (height, width) == pictures.shape[2:]:
        return np.resize(pictures, wanted)
    return image("toonport/0", batch, height, width, channels)


def measure_file(
    file: ExportedFile,
    run: FileRun,
    names: Sequence[str] = (),
    made: Made | None = None,
    runtime: Runtime = ONNX_RUNTIME,
) -> Iterator[Measurement]:
    """Measure the layers that are found in a file, in the order of computation, then its outputs.

    Activations among the layers are also run alone on large numbers, norms on numbers of a low spread.

    Args:
        file: what is measured.
        run: what it is run on.
        names: of the network's outputs; empty: those of the file, in its order.
        made: gets what the file makes of each call.
        runtime: what runs it.
    """
    made, inputs, references = Made() if made is None else made, run.inputs, run.references
    head = file_head(runtime.mode, references.types[""], inputs)
    head = replace(head, probe=replace(head.probe, values=run.values))
    order = {key: place for place, key in enumerate(references.truth)}
    last = replace(head, order=len(order))
    try:
        chosen = _run_layers(file, inputs, references.truth, runtime)
        outputs = runtime.run(file.path, {file.input: inputs})
        alone = _run_alone(file, run, {key: name for key, (name, _) in chosen.items()}, runtime)
    except InputError:
        raise
    except Exception as error:  # the errors of runtimes have no common base
        yield replace(last, problem=f"{runtime.name} cannot run it: {first_line(error)}")
        return
    for key, (_, value) in chosen.items():
        layer, quantity = key[0], outputs_of(references.truth[key].outputs, key[1])[0]
        own = replace(head, layer=layer, layer_type=references.types[layer], quantity=quantity, order=order[key])
        made[order[key], Values.RECORDED] = references.truth[key], 0, value
        yield references.measure(own, key, value)
        if key in alone:
            values, given, found = alone[key]
            made[order[key], values] = LayerCall(layer, given, references.truth[key].outputs), 0, found
            yield references.measure_alone(replace(own, probe=replace(own.probe, values=values)), given, found)
    found_outputs = file_outputs(list(outputs), file.promised, names or list(outputs))
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


def _run_alone(
    file: ExportedFile, run: FileRun, names: Mapping[Key, str], runtime: Runtime
) -> dict[Key, tuple[Values, tuple[Array, ...], Array]]:
    """What layers that are one activation or norm are fed alone, and what the file makes of it; `names` of values."""
    if not names:
        return {}
    truth, first = run.references.truth, dict[str, Key]()
    for key, name in names.items():
        if len(truth[key].inputs) == 1:
            first.setdefault(name, key)  # a layer comes before those that hold it and return the same value
    own = {name: truth[key].inputs for name, key in first.items()}
    axes = {name: truth[key].outputs[0].ndim for name, key in first.items()}
    _, possible = nodes_alone(file.model, axes)
    sources = _values_in(file, run.inputs, {node.source for node in possible.values()})
    whole = {name: axes[name] for name, node in possible.items() if _is_close(sources[node.source], own[name][0])}
    model, alone = nodes_alone(file.model, whole)
    if not alone:
        return {}
    inputs = {name: fed(node.values, own[name]) for name, node in alone.items()}
    found = run_model(runtime, model, {node.given: inputs[name][0] for name, node in alone.items()})
    return {first[name]: (node.values, inputs[name], found[node.made]) for name, node in alone.items()}


def _values_in(file: ExportedFile, inputs: Array, names: Collection[str]) -> dict[str, Array]:
    """Values of a file by name, as ONNX Runtime computes them."""
    wanted = [name for name in names if name != file.input]
    found = run_model(ONNX_RUNTIME, with_outputs(file.model, wanted), {file.input: inputs}) if wanted else {}
    return {file.input: inputs, **found}


def _is_close(value: Array, wanted: Array) -> bool:
    """Whether a node is fed what its layer is: a layer that does more before it is not."""
    same = value.shape == wanted.shape
    return same and bool(np.allclose(value, wanted, SAME, SAME * (rms(wanted) or 1.0), equal_nan=True))


def _run_layers(
    file: ExportedFile, inputs: Array, calls: Mapping[Key, LayerCall], runtime: Runtime
) -> dict[Key, tuple[str, Array]]:
    """What the layers that are found in the file return there, with the names of these values."""
    if runtime.layers is Layers.NONE:
        return {}
    possible = candidates(layer_values(file.model, {layer for layer, _ in calls}), calls)
    if not possible:
        return {}
    wanted = list(dict.fromkeys(name for names in possible.values() for name in names))
    if runtime.layers is Layers.CUT:
        return _run_cut(file, inputs, calls, possible, runtime)
    found = run_model(runtime, with_outputs(file.model, wanted), {file.input: inputs})
    chosen = {key: only_fitting(names, found, calls[key].outputs[0].shape) for key, names in possible.items()}
    return {key: (name, found[name]) for key, name in chosen.items() if name is not None}


def _run_cut(
    file: ExportedFile,
    inputs: Array,
    calls: Mapping[Key, LayerCall],
    possible: Mapping[Key, Sequence[str]],
    runtime: Runtime,
) -> dict[Key, tuple[str, Array]]:
    """The same, each layer alone, fed what the layers before it return in the reference."""
    cutter = Cutter(file.model)
    fed, found, chosen = {file.input: inputs}, dict[str, Array](), dict[Key, tuple[str, Array]]()
    for key, names in possible.items():
        truth = calls[key].outputs[0]
        for name in names:
            if name not in found:
                model = cutter.cut(name, fed)
                found |= run_model(runtime, model, {value.name: fed[value.name] for value in model.graph.input})
        fitting = only_fitting(names, found, truth.shape)
        if fitting is not None:
            chosen[key] = fitting, found[fitting]
            if found[fitting].shape == truth.shape:
                fed[fitting] = np.asarray(truth, np.float32)
    return chosen
