"""One comparison from start to end: build the inputs, run the modes, judge, and collect a report."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import InputError
from convert.family import Part
from ms_models.environment import device_in_use
from parity_tests.harness.accumulated import looked_at
from parity_tests.harness.capture import Pair
from parity_tests.harness.coverage import Coverage, find_coverage
from parity_tests.harness.cutting import cut_probes
from parity_tests.harness.experiments import Finding, find_cause
from parity_tests.harness.inputs import image
from parity_tests.harness.judge import ALONE, Outcome, Verdict, blamed, judge, outcome
from parity_tests.harness.legs import Legs
from parity_tests.harness.measurement import NOT_COMPARABLE, OTHER_LAYOUT, Measurement, Mode, Resting, Unreached
from parity_tests.harness.pair import as_inputs, borrowed, copied, pair_networks, require_networks
from parity_tests.harness.places import Key as PlaceKey
from parity_tests.harness.places import Places, find_places
from parity_tests.harness.recorded import recorded
from parity_tests.harness.sides.base import Array, LayerError
from parity_tests.harness.stages import MODES, Stages
from parity_tests.tolerances import ULPS

SHOWN = 20  # blamed tensors that reports show
GROWTH = 4  # probes are longer on one side by about this part of the other
Say = Callable[[str], None]  # told in words what is being done
# name, pair, small inputs and what is blamed first -> in words, where the smallest case is written that still differs
WriteCase = Callable[[str, Pair, Sequence[Array], Measurement], str]


def silent(text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Comparison:
    """The judged result of comparing one network."""

    name: str  # what was compared, e.g. "photo2cartoon genA2B".
    verdicts: tuple[Verdict, ...]  # every tensor of every mode
    modes: tuple[str, ...]  # the modes that ran
    facts: Mapping[str, Any] = field(default_factory=dict)  # configuration, weights and inputs, for the report
    pictures: tuple[Array, ...] = ()  # input, reference output and port output of an image network, or empty
    finding: Finding | None = None  # what experiments on the first difference showed, None where none were made
    resting: tuple[Resting, ...] = ()  # what did not move in a training run, so that its bugs could not be seen
    places: Mapping[PlaceKey, Places] = field(default_factory=dict)  # where the code of what is blamed is
    unreached: tuple[Unreached, ...] = ()  # sides of kinks that the probes did not reach
    case: str = ""  # in words, where the smallest case is written that still differs, or why there is none

    @property
    def equal(self) -> bool:
        """Whether every tensor is within its budget."""
        return all(verdict.equal for verdict in self.verdicts)

    @property
    def outcome(self) -> Outcome:
        """How it ends: where too much could not be judged, neither equal nor different."""
        return outcome(self.verdicts)

    @property
    def layer_count(self) -> int:
        """Number of layers of the reference that were to be compared alone."""
        return len(
            {verdict.measurement.layer for verdict in self.verdicts if verdict.measurement.probe.size is not None}
        )

    @property
    def covered(self) -> list[str]:
        """Layers of the reference that the port has no layer for; they are compared within what holds them."""
        ran = [verdict.measurement for verdict in self.verdicts if verdict.measurement.mode in ALONE]
        known = {measurement.layer for measurement in ran if not measurement.not_run}
        apart = {NOT_COMPARABLE, OTHER_LAYOUT}
        return list(dict.fromkeys(it.layer for it in ran if it.not_run in apart and it.layer not in known))

    @property
    def blamed(self) -> list[Verdict]:
        """The tensors to look at first; empty when equal."""
        return blamed(self.verdicts)

    @property
    def not_run(self) -> dict[str, int]:
        """Why layers were not run in the compared precision -> how many tensors that concerns."""
        reasons = (verdict.measurement.not_run for verdict in self.verdicts)
        return dict(Counter(reason for reason in reasons if reason))

    def first_of(self, mode: Mode) -> Verdict | None:
        """Return the first layer, in the order of computation, that leaves its budget in a mode."""
        failing = (verdict for verdict in self.verdicts if verdict.measurement.mode is mode and not verdict.equal)
        return min(failing, key=lambda verdict: verdict.measurement.order, default=None)


def part_inputs(
    part: Part, kwargs: Mapping[str, Any], seed: int, side: int | tuple[int, int] | None = None, batch: int = 1
) -> Array:
    """Return a seeded picture batch for a part, [batch, C, H, W] in [-1, 1].

    Args:
        part: the network.
        kwargs: how it is built.
        seed: of the pictures.
        side: of square pictures, or height and width; None: as released.
        batch: number of pictures, no two alike.
    """
    side = side or kwargs.get("img_size", part.input_shape[2])
    height, width = side if isinstance(side, tuple) else (side, side)
    return image(f"toonport/{seed}", batch, height, width, part.channels(kwargs))


def probe_inputs(part: Part, kwargs: Mapping[str, Any], seed: int) -> Array:
    """Return two small seeded pictures for a part, wider than high where it runs such pictures."""
    side, step = part.smallest(kwargs), part.growth(kwargs)
    if step is None:
        return part_inputs(part, kwargs, seed, side, batch=2)
    more = max(step, side // GROWTH // step * step)
    width = side + more
    return part_inputs(part, kwargs, seed, (side, width | 1 if step == 1 else width), batch=2)


def turned(arrays: Sequence[Array]) -> list[Array]:
    """Return inputs with height and width of their pictures swapped; others as they are."""
    return [np.ascontiguousarray(array.swapaxes(2, 3)) if array.ndim == 4 else array for array in arrays]


def compare_pair(
    name: str,
    pair: Pair,
    inputs: Sequence[Array],
    probe: Sequence[Array],
    modes: Iterable[str] = MODES,
    facts: Mapping[str, Any] | None = None,
    say: Say = silent,
    other: Sequence[Array] | None = None,
    quick: bool = False,
    write_case: WriteCase | None = None,
    pictures: bool = False,
    graphs: bool = True,
) -> Comparison:
    """Compare a pair in the given modes.

    Args:
        name: what is compared.
        pair: reference and port.
        inputs: for the accumulated run, usually of the released size.
        probe: for the layer-isolated runs; small, because there a wrong variance or epsilon stands far
            above the noise.
        modes: from MODES.
        facts: passed through to the report.
        say: told in words what has been measured so far.
        other: for the layer-isolated runs in train mode; None: `probe`, turned by a quarter.
        quick: leave out what `QUICK_LEAVES_OUT` says.
        write_case: called where something differs.
        pictures: run both networks once more for the report's pictures.
        graphs: run the port as a graph, too.

    Raises InputError: an unknown mode, or a precision in which the port cannot run anything on this device.
    """
    modes = tuple(modes)
    if unknown := set(modes) - set(MODES):
        raise InputError(f"unknown mode {', '.join(sorted(unknown))}; modes: {', '.join(MODES)}")
    verdicts: list[Verdict] = []
    other = turned(probe) if other is None else other
    with _reference_named(name):
        if set(modes) != {Mode.WEIGHTS}:
            pair = looked_at(pair, probe)
        covered = find_coverage(pair.reference, (probe, other), not quick) if Mode.ISOLATED in modes else Coverage()
        stages = Stages(pair, inputs, probe, other, modes, verdicts, covered.widened, graphs)
        for stage, measurements in stages.quick() if quick else stages.every():
            for done, measurement in enumerate(measurements, 1):
                verdicts.append(judge(measurement))
                say(f"{name}: {stage}, {done} tensors")
    ran = _require_some(name, pair, modes, verdicts)
    drawn = _pictures(pair, probe if quick else inputs) if pictures and Mode.ACCUMULATED in ran else ()
    found = Comparison(name, tuple(verdicts), modes, facts or {}, drawn, _finding(pair, probe, verdicts))
    return replace(_traced_back(found, pair, probe, write_case), unreached=covered.unreached)


def _traced_back(found: Comparison, pair: Pair, probe: Sequence[Array], write_case: WriteCase | None) -> Comparison:
    """A comparison with the code of what is blamed, and with a case that still differs."""
    blamed = [verdict.measurement for verdict in found.blamed[:SHOWN]]
    places = find_places(pair.reference, pair.port, probe, [each.layer for each in blamed])
    case = write_case(found.name, pair, probe, blamed[0]) if write_case and blamed else ""
    return replace(found, places=places, case=case)


@contextmanager
def _reference_named(name: str) -> Iterator[None]:
    """Turn an error of the reference into one that names it; those of the port are measurements."""
    try:
        yield
    except LayerError as error:
        where = f"layer {error.layer}" if error.layer else "network"
        raise InputError(f"{name}: the reference's {where} cannot run on these inputs: {error.reason}") from error


def _require_some(name: str, pair: Pair, modes: Collection[str], verdicts: Sequence[Verdict]) -> set[Mode]:
    """Return the modes that were run; raises InputError where nothing was but weights, and more was asked for."""
    ran = {verdict.measurement.mode for verdict in verdicts if not verdict.measurement.not_run}
    if ran <= {Mode.WEIGHTS} and set(modes) != {Mode.WEIGHTS}:
        reason = next(verdict.measurement.not_run for verdict in verdicts if verdict.measurement.not_run)
        raise InputError(f"{name}: nothing could be run in {pair.dtype}: {reason}")
    return ran


def _finding(pair: Pair, probe: Sequence[Array], verdicts: Sequence[Verdict]) -> Finding | None:
    """What experiments show on the layer that is blamed first, on its outputs where they differ, too; None where a side
    cannot run it, or differs as a graph only."""
    wrong = [verdict.measurement for verdict in blamed(verdicts)]
    wrong = [each for each in wrong if each.layer == wrong[0].layer and not each.probe.compiled]
    first = next((each for each in wrong if each.mode in (Mode.WEIGHTS, Mode.ISOLATED)), next(iter(wrong), None))
    finding = None
    if first is not None:
        with suppress(LayerError):
            finding = find_cause(pair, probe, first)
        pair.set_training(False)
    return finding


def _pictures(pair: Pair, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """Input and both outputs when the network turns one picture into another, else nothing."""
    found: tuple[Array, ...] = ()
    with suppress(LayerError), pair.reference.preserved(), pair.port.preserved():
        found = (*inputs[:1], *pair.reference.call("", inputs)[:1], *pair.port.call("", inputs)[:1])
    return found if len(found) == 3 and all(array.ndim == 4 and array.shape[1] == 3 for array in found) else ()


def compare(
    torch_module: Any,
    ms_cell: Any,
    inputs: Any = (),
    modes: Iterable[str] = MODES,
    probe: Any = None,
    name: str = "network",
    dtype: str = "float32",
    captures: Path | None = None,
    keywords: Mapping[str, Any] | None = None,
    names: Mapping[str, str] | None = None,
    say: Say = silent,
    quick: bool = False,
    write_case: WriteCase | None = None,
    pictures: bool = False,
    reference_device: str | None = None,
    tf32: bool = False,
) -> Comparison:
    """Compare any PyTorch module with any MindSpore cell; `names` says where layers are called otherwise.

    Both are left in the mode, precision and state in which they came.

    Args:
        torch_module: the reference; its weights are used as they are.
        ms_cell: the port, with its weights already loaded.
        inputs: what both networks take: one array or tensor of either framework, or several as a list or tuple, among
            them also nested lists, dictionaries, named tuples, dataclasses, None, numbers and strings; a dictionary
            alone holds keyword arguments. Floating arrays are brought to `dtype`, others stay as they are.
        modes: from MODES.
        probe: smaller inputs for the layer-isolated runs; default: two different pictures cut from `inputs`, not
            square where the networks run that, see `cutting`.
        name: what to call the network in the report.
        dtype: "float32", "float16", "bfloat16" or "float64": what both compute in, judged by PyTorch's noise in it.
        captures: folder that keeps every tensor of both sides; the reference's are used again in later runs.
        keywords: keyword arguments beside `inputs`.
        names: path of a layer in `torch_module` -> its path in `ms_cell`, e.g. {"down.0": "encoder.conv1"}; the layers
            inside it follow. "" is the network itself: {"": "net"} for a port that is wrapped.
        say: told in words what has been measured so far.
        quick: leave out what `QUICK_LEAVES_OUT` says; of `modes`, those of `QUICK_MODES` are run.
        write_case: called where something differs.
        pictures: run networks of pictures once more for the report's pictures, `.pictures`.
        reference_device: where PyTorch runs, "cpu" or "gpu"; None: where the port does, if PyTorch knows that device.
        tf32: let devices multiply in TF32, and grant its noise; else every side multiplies in float32.

    Returns:
        A Comparison: `.equal`, `.blamed`, and every judged tensor.

    Raises InputError: something that is no network or cannot be an input, or the reference cannot run on it.
    """
    require_networks(torch_module, ms_cell)
    if dtype not in ULPS:
        raise InputError(f"dtype is one of {', '.join(ULPS)}, not {dtype!r}")
    given = as_inputs(inputs, keywords)
    legs = Legs.asked(device_in_use(), reference_device, tf32)
    with borrowed(ms_cell), legs.running():
        pair = pair_networks(copied(torch_module).cpu(), ms_cell, dtype=dtype, layers=names)
        small, other = cut_probes(pair, given) if probe is None else (as_inputs(probe, keywords),) * 2
        pair = recorded(pair, Path(captures)) if captures else pair
        facts, more = {"devices": legs.words}, {"quick": quick, "pictures": pictures}
        return compare_pair(name, pair, given, small, modes, facts, say, other, write_case=write_case, **more)
