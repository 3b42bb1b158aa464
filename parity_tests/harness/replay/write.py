"""Writes a case as a folder: its numbers, and one short script for each framework that runs it alone."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convert.disk import atomic_path
from parity_tests.harness.capture import Pair
from parity_tests.harness.measurement import Kind, Measurement, Mode
from parity_tests.harness.pair import array_of
from parity_tests.harness.recorded import run_by
from parity_tests.harness.replay.case import Case, smallest_cases
from parity_tests.harness.report.words import layer_words, quantity_words
from parity_tests.harness.sides.base import Array, Side
from parity_tests.harness.sides.mindspore import buffers_of, held, walk
from parity_tests.harness.sides.torch import TorchSide
from parity_tests.harness.sides.tree import Slot, Tree, arguments, floating

LARGEST = 1_000_000  # bytes of a case's numbers
WITHIN = 0.01  # by which a script's multiple may differ from the one that was measured
SECONDS = 300.0  # that a script may take
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


class Unwritable(Exception):  # noqa: N818  # not an error: another case is tried
    """Why a case cannot be told as a script."""


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
    pair = replace(pair, truth=run_by(pair.truth), reference=run_by(pair.reference), port=run_by(pair.port))
    target, reason = replay.folder / name.replace(" ", "_"), "no layer differs when it is run alone"
    with smallest_cases(pair, probe, blamed) as cases:
        for case in cases:
            try:
                files = _files(replay, name, pair, case)
            except Unwritable as why:
                reason = str(why)
                continue
            if reason := _fault(files, case):
                continue
            _put(files, target)
            size = sum(len(content) for content in files.values())
            what = f"{layer_words(case.layer)}, {quantity_words(case.verdict.measurement.quantity)}"
            return f"{what}, {case.verdict.multiple:.3g} × its budget: {target} ({max(1, size // 1000)} kB)"
    return f"no case to replay: {reason}"


def _files(replay: Replay, name: str, pair: Pair, case: Case) -> dict[str, bytes]:
    """Name -> content of a case's files."""
    numbers = {f"input.{place}": array for place, array in enumerate(case.inputs)}
    numbers |= {f"cotangent.{place}": array for place, array in enumerate(case.cotangents)}
    numbers["expected"] = case.expected
    for framework, side in (("torch", pair.reference), ("mindspore", pair.port)):
        numbers |= {f"{framework}.{key}": value for key, value in _held(side, case.layer).items()}
    scripts = {f"run_{framework}.py": _script(framework, replay, name, pair, case).encode() for framework in FRAMEWORKS}
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "case.npz"
        np.savez_compressed(packed, **numbers)
        if packed.stat().st_size > LARGEST:
            raise Unwritable(f"the numbers of {layer_words(case.layer)} take {packed.stat().st_size / 1e6:.1f} MB")
        return {"case.npz": packed.read_bytes(), **scripts}


def _held(side: Side, layer: str) -> dict[str, Array]:
    """Everything a layer holds, by its name inside the layer, as the framework lays it out."""
    own = side.layers[layer]
    if isinstance(side, TorchSide):
        return {name: array_of(value) for name, value in own.state_dict().items()}
    buffers = {name: place[key] for name, (place, key) in buffers_of(own)}
    return {name: array_of(value) for name, value in [*held(own), *buffers.items()]}


def _script(framework: str, replay: Replay, name: str, pair: Pair, case: Case) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    side, build = (pair.reference, replay.reference) if framework == "torch" else (pair.port, replay.port)
    found, layer = case.verdict.measurement, side.layers[case.layer]
    quantity, outputs = found.quantity, _outputs(side, case)
    resting = [path for path in pair.reference.dropouts if path in side.layers] if found.probe.training else []
    names = buffers_of(layer) if framework == "mindspore" else ()
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(f"run_{framework}.py.j2").render(
        title=f"{layer_words(case.layer)} of {name}",
        build=build,
        path=_own_path(side, case.layer),
        resting=[_own_path(side, path) for path in resting],
        training=bool(found.probe.training),
        compiled=found.probe.compiled,
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


def _fault(files: Mapping[str, bytes], case: Case) -> str:
    """Run the port's script; return why it is no case, or "" where it finds the multiple that was measured."""
    with tempfile.TemporaryDirectory() as folder:
        _put(files, Path(folder))
        command = [sys.executable, str(Path(folder) / "run_mindspore.py")]
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return f"its script took more than {SECONDS:g} s"
    words = ran.stdout.split()
    if ran.returncode or len(words) < 2:
        return f"its script ended with: {(ran.stderr.strip() or 'nothing').splitlines()[-1]}"
    found, wanted = float(words[0]), case.verdict.multiple
    same = found == wanted or abs(found - wanted) <= WITHIN * wanted
    return "" if same else f"alone, it is {found:.3g} × its budget, not {wanted:.3g}: it depends on what ran before"


def _put(files: Mapping[str, bytes], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(content)
