"""Writes a case as a folder: its numbers, and one short script for each framework that runs it alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from parity_tests.harness.capture import Pair
from parity_tests.harness.measurement import Kind, Measurement, Mode
from parity_tests.harness.pair import array_of
from parity_tests.harness.recorded import run_by
from parity_tests.harness.replay.case import Case, smallest_cases
from parity_tests.harness.replay.folder import Unwritable, checked, packed, put, rendered, said
from parity_tests.harness.report.words import layer_words
from parity_tests.harness.sides.base import Array, LayerError, Side
from parity_tests.harness.sides.mindspore import buffers_of, held, walk
from parity_tests.harness.sides.torch import TorchSide
from parity_tests.harness.sides.tree import Slot, Tree, arguments, floating

FRAMEWORKS = ("torch", "mindspore")


@dataclass(frozen=True)
class Build:
    """How a script builds a network."""

    network: str  # expression
    standard: tuple[str, ...] = ()  # modules of Python's own library that it needs
    own: tuple[str, ...] = ()  # statements that import what else it needs
    setup: tuple[str, ...] = ()  # statements that come before it


@dataclass(frozen=True)
class Replay:
    """Where cases are written, and how their scripts build the networks."""

    folder: Path
    reference: Build
    port: Build


def write_case(replay: Replay, name: str, pair: Pair, probe: Sequence[Array], blamed: Measurement) -> str:
    """Write the smallest case that is found for a tensor, and return in words where, or why there is none.

    A case is kept only if its script, run in a process of its own, finds the multiple that was measured.

    Args:
        replay: where to, and how networks are built.
        name: of the comparison; its folder is named after it.
        pair: reference and port.
        probe: inputs of the networks.
        blamed: the tensor that is blamed first.
    """
    if blamed.mode is Mode.WEIGHTS:
        return "no case to replay: the weights differ as they are loaded; toonport inspect A B shows where"
    if blamed.dtype != "float32":
        return f"no case to replay: they are made in fp32, not in {blamed.dtype}"
    if not blamed.count:
        return f"no case to replay: {blamed.problem}"
    pair = replace(pair, truth=run_by(pair.truth), reference=run_by(pair.reference), port=run_by(pair.port))
    target, reason = replay.folder / name.replace(" ", "_"), "no layer differs when it is run alone"
    with smallest_cases(pair, probe, blamed) as cases:
        for case in cases:
            try:
                files = _files(replay, name, pair, case)
                checked(files, case.verdict.multiple)
            except Unwritable as why:
                reason = str(why)
                continue
            except LayerError as error:
                reason = f"the port cannot run {layer_words(case.layer)}: {error.reason}"
                continue
            put(files, target)
            return said(layer_words(case.layer), case.verdict, files, target)
    return f"no case to replay: {reason}"


def _files(replay: Replay, name: str, pair: Pair, case: Case) -> dict[str, bytes]:
    """Name -> content of a case's files."""
    numbers = {f"input.{place}": array for place, array in enumerate(case.inputs)}
    numbers |= {f"cotangent.{place}": array for place, array in enumerate(case.cotangents)}
    numbers["expected"] = case.expected
    for framework, side in (("torch", pair.reference), ("mindspore", pair.port)):
        numbers |= {f"{framework}.{key}": value for key, value in _held(side, case.layer).items()}
    scripts = {f"run_{framework}.py": _script(framework, replay, name, pair, case) for framework in FRAMEWORKS}
    return {"case.npz": packed(numbers, layer_words(case.layer)), **scripts}


def _held(side: Side, layer: str) -> dict[str, Array]:
    """Everything a layer holds, by its name inside the layer, as the framework lays it out."""
    own = side.layers[layer]
    if isinstance(side, TorchSide):
        return {name: array_of(value) for name, value in own.state_dict().items()}
    buffers = {name: place[key] for name, (place, key) in buffers_of(own)}
    return {name: array_of(value) for name, value in [*held(own), *buffers.items()]}


def _script(framework: str, replay: Replay, name: str, pair: Pair, case: Case) -> bytes:
    side, build = (pair.reference, replay.reference) if framework == "torch" else (pair.port, replay.port)
    found, layer = case.verdict.measurement, side.layers[case.layer]
    quantity, outputs = found.quantity, _outputs(side, case)
    resting = [path for path in pair.reference.dropouts if path in side.layers] if found.probe.training else []
    names = buffers_of(layer) if framework == "mindspore" else ()
    facts = dict(
        title=f"{layer_words(case.layer)} of {name}",
        build=build,
        path=_own_path(side, case.layer),
        resting=[_own_path(side, path) for path in resting],
        training=bool(found.probe.training),
        compiled=found.probe.compiled,
        runs=found.probe.call or 1,
        gradient=bool(case.cotangents),
        count=len(case.inputs),
        floating=[place for place, array in enumerate(case.inputs) if floating(array)],
        call=_call_source(case.inputs),
        outputs=[source for source, array in outputs if floating(array)],
        output=outputs[case.output][0] if quantity.kind is Kind.OUTPUT else "",
        kind=quantity.kind.name,
        name=side.own_name(case.layer, quantity.name),
        index=quantity.index or 0,
        buffers=[key.rpartition(".")[::2] for key, _ in names],
        budget=case.budget,
    )
    return rendered(f"run_{framework}.py.j2", facts)


def _own_path(side: Side, layer: str) -> str:
    """Where a layer is in its own network."""
    if isinstance(side, TorchSide):
        return layer
    return next(path for path, cell in walk(side.network) if cell is side.layers[layer])


def _outputs(side: Side, case: Case) -> list[tuple[str, Array]]:
    """Each output, and the Python that takes it out of the `result`: "result[1]", "result['mask']"."""
    with side.preserved(case.layer):
        outputs = side.call(case.layer, case.inputs)
    form = outputs.form if isinstance(outputs, Tree) else tuple(map(Slot, range(len(outputs))))
    found = dict(_accessors(form, "result"))
    return [(found[place], array) for place, array in enumerate(outputs)]


def _accessors(form: Any, source: str) -> Iterator[tuple[int, str]]:
    """Number of each array in a structure, and the Python that takes it out of it."""
    if isinstance(form, Slot):
        yield form.index, source
    elif is_dataclass(form):
        for own in fields(form):
            yield from _accessors(getattr(form, own.name), f"{source}.{own.name}")
    else:
        inner = form.items() if isinstance(form, Mapping) else enumerate(form) if isinstance(form, tuple | list) else ()
        for key, value in inner:
            yield from _accessors(value, f"{source}[{key!r}]")


def _call_source(inputs: Sequence[Array]) -> str:
    """The arguments of the call as Python."""
    if not isinstance(inputs, Tree):
        return "*inputs"
    args, keywords = arguments(inputs, [Slot(place) for place in range(len(inputs))])
    return ", ".join([*map(_source, args), *(f"{name}={_source(value)}" for name, value in keywords.items())])


def _source(form: Any) -> str:
    if isinstance(form, Slot):
        return f"inputs[{form.index}]"
    if type(form) in (list, tuple):
        inner = ", ".join(map(_source, form))
        return f"[{inner}]" if isinstance(form, list) else f"({inner},)"
    if type(form) is dict:
        return "{" + ", ".join(f"{key!r}: {_source(value)}" for key, value in form.items()) + "}"
    if form is None or type(form) in (bool, int, float, str):
        return repr(form)
    raise Unwritable(f"a layer is called with a {type(form).__name__}")
