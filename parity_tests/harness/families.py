"""Comparisons of registry families: networks from a file or seeded, training steps, exported files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from convert.conversion import load_networks, mindspore_arrays, torch_arrays
from convert.devices import CPU, DEVICES
from convert.disk import sha256_of
from convert.errors import InputError
from convert.family import Family, Part
from convert.identify import Network
from convert.plan import build_plan
from convert.registry import family_named, part_named
from convert.tensors import Array
from ms_models.build import build_mindspore
from ms_models.build import for_inference as port_for_inference
from parity_tests.harness.forked import run_elsewhere
from parity_tests.harness.inputs import formula_state, in_channels
from parity_tests.harness.judge import blamed, judge
from parity_tests.harness.measurement import Mode
from parity_tests.harness.onnx import mindir
from parity_tests.harness.onnx.leg import Judged, Write, judge_exported, onnx_writer
from parity_tests.harness.onnx.runtimes import Layers
from parity_tests.harness.outputs import file_head
from parity_tests.harness.pair import build_pair
from parity_tests.harness.places import find_places
from parity_tests.harness.recorded import recorded
from parity_tests.harness.replay.write import Build, Replay, write_case
from parity_tests.harness.request import CompareOptions, Source, source_name
from parity_tests.harness.run import SHOWN, Comparison, Say, compare_pair, part_inputs, probe_inputs, silent
from parity_tests.harness.sides.torch import TorchSide
from parity_tests.harness.stages import MODES, QUICK_LEAVES_OUT
from parity_tests.harness.training_comparison import compare_training
from torch_ref.build import build_torch, for_inference

PLAIN = "computed as on other devices"  # a form: narrow, by formulas for which the CPU has faster kernels
PRELOAD = ("parity_tests.harness.families", "mindspore", "torch")  # what every piece of a comparison needs
MakeSource = Callable[[], Source]
Leg = Callable[[MakeSource, CompareOptions, Say], Comparison]
# work on a numbered piece, and the numbers -> what becomes of them, in order; both can be pickled
Spread = Callable[[Callable[[int], Comparison], Sequence[int]], Iterator[Comparison]]


def compare_family(options: CompareOptions, say: Say = silent, spread: Spread | None = None) -> list[Comparison]:
    """Compare the networks of a family, and its training steps where they are asked for.

    With more than one of `options.jobs` each piece of work runs in a process of its own, and its memory comes back.

    Args:
        options: what to compare, and how.
        say: what is told how far it is.
        spread: does the pieces elsewhere, instead.

    Raises InputError: a file, part, mode or device that cannot be used.
    """
    pieces = _pieces(options)
    begun = sorted(range(len(pieces)), key=lambda number: pieces[number].network)  # steps first: they take longest
    ended: list[Comparison] = []
    if spread:
        for comparison in spread(partial(_run_piece, options), begun):
            ended.append(comparison)
            say(f"{len(ended)} of {len(pieces)} pieces done")
    elif options.jobs > 1 and len(pieces) > 1:
        tasks = [partial(_run_piece, options, number) for number in begun]
        ended = run_elsewhere(tasks, options.jobs, PRELOAD, say)
    else:
        begun, ended = list(range(len(pieces))), [_run(piece, options, say) for piece in pieces]
    parts: dict[str, list[Comparison]] = {}
    for piece, (_, comparison) in zip(pieces, sorted(zip(begun, ended, strict=True), key=itemgetter(0)), strict=True):
        parts.setdefault(piece.name, []).append(comparison)
    return [_joined(legs) for legs in parts.values()]


@dataclass(frozen=True)
class _Piece:
    """A piece of a comparison that needs no other."""

    name: str  # of what is compared; pieces of one name make one comparison
    network: bool  # or training steps
    run: Callable[[Say], Comparison]


def _pieces(options: CompareOptions) -> list[_Piece]:
    """Everything that is asked for, in the order of the report."""
    family = family_named(options.family)
    sources = _sources(family, options) if set(options.modes) - {"train"} else []
    found = [_Piece(name, True, partial(leg, build, options)) for name, build in sources for leg in _legs(options)]
    for name, build in _as_elsewhere(family, options):
        found.append(_Piece(name, True, partial(_compare_sides, build, options)))
    if _trains(family, options) and options.dtype == "float32":
        found += [_Piece(name, False, run) for name, run in compare_training(family, options)]
    return found


def _run_piece(options: CompareOptions, number: int, say: Say = silent) -> Comparison:
    """Run one piece of a comparison, with its share of the cores."""
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // options.jobs))
    return _run(_pieces(options)[number], options, say)


def _run(piece: _Piece, options: CompareOptions, say: Say) -> Comparison:
    """Run a piece on the devices that are asked for."""
    with options.legs.running():
        found = piece.run(say)
    return replace(found, facts={**found.facts, "devices": options.legs.words})


def not_asked_for(options: CompareOptions) -> list[str]:
    """Return what such a comparison leaves out, each with its reason."""
    left = [name for name in DEVICES if name != options.device]
    if "onnx" not in options.modes:
        left.append(options.runtime.name)
    if "train" not in options.modes and family_named(options.family).training:
        left.append("training steps")
    reasons = [f"{name}: not asked for" for name in left]
    if _trains(family_named(options.family), options):
        reasons += _steps_left_out(options)
    if set(options.modes) - {"train"}:
        reasons += _forms_left_out(family_named(options.family), options)
    return [*reasons, *not_measured(options), *(QUICK_LEAVES_OUT if options.quick else ())]


def _forms_left_out(family: Family, options: CompareOptions) -> Iterator[str]:
    if any(part.variants for part in family.parts):
        yield f"other architectures{' as graphs' if _with_other_forms(options) else ''}: not asked for"
    if family.training and options.device == CPU and not any(_as_elsewhere(family, options)):
        yield "the port's formulas for other devices: not asked for"


def _steps_left_out(options: CompareOptions) -> list[str]:
    if options.dtype != "float32":
        return [f"training steps: compared in float32 only, not in {options.dtype}"]
    return [] if options.compiled else ["training steps in pieces and resumed, as graphs: not asked for (--compiled)"]


def not_measured(options: CompareOptions) -> list[str]:
    """Return what cannot be measured of an exported file in the runtime that was asked for."""
    outputs_only = "onnx" in options.modes and options.runtime.layers is Layers.NONE
    why = f"layers in {options.runtime.name}: its files put out no other values and cannot be cut"
    return [why] if outputs_only else []


def _with_other_forms(options: CompareOptions) -> bool:
    """Whether the family's other architectures are compared, too: where nothing says which network, on what."""
    chosen = options.weights or options.picture or options.size or options.captures or options.onnx
    return options.part == "all" and options.dtype == "float32" and not options.quick and not chosen


def _trains(family: Family, options: CompareOptions) -> bool:
    return "train" in options.modes and family.training is not None and options.part == "all"


def _sources(family: Family, options: CompareOptions) -> list[tuple[str, MakeSource]]:
    """The networks to compare, by name."""
    part = None if options.part == "all" else part_named(family, options.part).name
    sources = list(_from_file(family, part, options) if options.weights else _seeded(family, part, options))
    if options.onnx and "onnx" in options.modes and len(sources) > 1:
        names = ", ".join(name.removeprefix(f"{family.name} ") for name, _ in sources)
        raise InputError(f"{options.onnx}: which network is it? say --part, one of {names}")
    return sources


def _from_file(family: Family, part: str | None, options: CompareOptions) -> Iterator[tuple[str, MakeSource]]:
    """The networks of a file; the port's weights are those of `ported`, if given."""
    weights, ported = str(options.weights), options.ported
    networks = load_networks(weights, family.name, part)
    others = {other.part.name: other for other in load_networks(ported, family.name, part)} if ported else {}
    facts = {"weights": Path(weights).name, "sha256": sha256_of(Path(weights)) if Path(weights).is_file() else ""}
    for network in networks:
        other = network
        if ported:
            only = next(iter(others.values())) if len(networks) == 1 else None
            other = _built_alike(network, others.get(network.part.name, only), ported)
        yield source_name(family, network.part), partial(_source, family, network, other, facts)


def _source(family: Family, network: Network, other: Network, facts: Mapping[str, Any]) -> Source:
    return Source(family, network.part, network.kwargs, torch_arrays(network), mindspore_arrays(other), facts)


def _built_alike(network: Network, other: Network | None, path: str) -> Network:
    if other is None:
        raise InputError(f"{path}: has no network {network.part.name}")
    if dict(network.kwargs) != dict(other.kwargs):
        raise InputError(f"{path}: is built with {dict(other.kwargs)}, the reference with {dict(network.kwargs)}")
    return other


def _seeded(family: Family, part: str | None, options: CompareOptions) -> Iterator[tuple[str, MakeSource]]:
    """One network of each kind, with seeded weights in the released configuration."""
    if options.ported:
        raise InputError("--ported needs --weights: the reference's own checkpoint")
    kinds: dict[object, Part] = {}
    for candidate in family.parts:
        if part in (None, candidate.name):
            kinds.setdefault((candidate.class_name, tuple(candidate.kwargs.items())), candidate)
    for candidate in kinds.values():
        build = partial(seeded_source, family, candidate, candidate.kwargs, options.seed)
        yield source_name(family, candidate), build
    if _with_other_forms(options):
        for candidate in {each.class_name: each for each in reversed(kinds.values())}.values():
            for form, kwargs in other_forms(family, candidate):
                build = partial(seeded_source, family, candidate, kwargs, options.seed, form)
                yield source_name(family, candidate, form), build


def _as_elsewhere(family: Family, options: CompareOptions) -> Iterator[tuple[str, MakeSource]]:
    """One narrow network of each kind, for the formulas that the CPU has faster kernels for, by name."""
    running = set(options.modes) & {Mode.ISOLATED, Mode.ACCUMULATED}
    if not (running and options.device == CPU and _with_other_forms(options)):
        return
    for part in {each.class_name: each for each in reversed(family.parts)}.values():
        if family.training:
            build = partial(seeded_source, family, part, narrow_kwargs(family, part.kwargs), options.seed, PLAIN)
            yield source_name(family, part, PLAIN), build


def narrow_kwargs(family: Family, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments of a network, made narrow as for training steps."""
    narrow = dict(family.training.narrow) if family.training else {}
    return {**kwargs, **{name: value for name, value in narrow.items() if name in kwargs}}


def seeded_source(family: Family, part: Part, kwargs: Mapping[str, Any], seed: int, form: str = "") -> Source:
    """A network with seeded weights, the same on both sides; see `Source`."""
    plan = build_plan(part, kwargs)
    state = formula_state(f"seed{seed}/{part.name}", plan.shapes)
    facts = {"weights": f"seeded ({seed}){', narrow' if form else ''}"}
    return Source(family, part, kwargs, state, plan.to_mindspore(state), facts, form)


def other_forms(family: Family, part: Part) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and constructor arguments of a part's other forms, narrow: few, with every setting of each architecture."""
    names = {name: None for kwargs in (part.kwargs, *part.variants) for name in kwargs}

    def settings(kwargs: Mapping[str, Any]) -> set[tuple[str, str, Any]]:
        """Every setting, None where it is left to its default, with the architecture that it is of."""
        return {(kwargs.get("architecture", ""), name, kwargs.get(name)) for name in names}

    seen, left = settings(part.kwargs), list(part.variants)
    narrow = family.training.narrow if family.training else ()
    while left:
        kwargs = max(left, key=lambda each: len(settings(each) - seen))
        new = settings(kwargs) - seen
        if not new:
            return
        seen |= new
        left.remove(kwargs)
        architecture = kwargs.get("architecture", "")
        is_new = (architecture, "architecture", architecture) in new
        told = () if is_new else (name for name in kwargs if (architecture, name, kwargs[name]) in new)
        words = (f"{name} {kwargs[name]}" for name in told if name not in narrow)
        form = ", ".join(filter(None, (architecture, *words)))
        yield form, narrow_kwargs(family, kwargs)


def compare_source(source: Source, options: CompareOptions, say: Say = silent) -> Comparison:
    """Compare one network, and judge its ONNX file, in the modes that are asked for."""
    return _joined([leg(lambda: source, options, say) for leg in _legs(options)])


def _legs(options: CompareOptions) -> list[Leg]:
    """What is done for one network: both sides compared, its file judged."""
    sides, file = set(options.modes) & set(MODES), "onnx" in options.modes
    return [*([_compare_sides] if sides else []), *([_compare_file] if file else [])]


def _joined(legs: Sequence[Comparison]) -> Comparison:
    """One comparison of a network's; the cause is that of the first leg in which anything differs."""
    first = legs[0]
    return replace(
        first,
        verdicts=tuple(verdict for leg in legs for verdict in leg.verdicts),
        modes=tuple(mode for leg in legs for mode in leg.modes),
        places={key: place for leg in reversed(legs) for key, place in leg.places.items()},
        finding=next((leg.finding for leg in legs if not leg.equal), None),
    )


def _inputs(source: Source, options: CompareOptions) -> tuple[Array, Array]:
    """Pictures of the whole run, and small ones."""
    part, kwargs = source.part, source.kwargs
    probe = probe_inputs(part, kwargs, options.seed)
    inputs = probe if source.form else part_inputs(part, kwargs, options.seed, options.size)
    if options.picture:
        picture = options.picture(options.size or inputs.shape[-1], part.growth(kwargs))
        inputs = in_channels(picture, part.channels(kwargs))
    return inputs, probe


def _facts(source: Source, inputs: Array, probe: Array) -> dict[str, Any]:
    return {**source.facts, "kwargs": dict(source.kwargs), "input": list(inputs.shape), "probe": list(probe.shape)}


def _compare_file(build: MakeSource, options: CompareOptions, say: Say) -> Comparison:
    """Judge a network's file."""
    source = build()
    say(f"{source.name}: {options.runtime.name}")
    inputs, probe = _inputs(source, options)
    network = for_inference(build_torch(source.part, source.kwargs, source.reference))
    judged = _judge_exported(network, source, options, inputs, probe)
    blamed_in_file = [verdict.measurement.layer for verdict in blamed(judged.verdicts)[:SHOWN]]
    places = find_places(TorchSide(network), None, [probe], blamed_in_file)
    facts = {**_facts(source, inputs, probe), "runtime": options.runtime.name}
    return Comparison(source.name, judged.verdicts, ("onnx",), facts, finding=judged.finding, places=places)


def _compare_sides(build: MakeSource, options: CompareOptions, say: Say) -> Comparison:
    """Compare reference and port in the modes that are asked for; plain formulas on small pictures in eval mode."""
    source = build()
    say(f"{source.name}: building")
    inputs, probe = _inputs(source, options)
    facts = _facts(source, inputs, probe)
    pair = build_pair(source.part, source.kwargs, source.reference, source.port, options.dtype)
    batch_norm = any("BatchNorm" in kind for kind in pair.reference.layer_types().values())
    smallest = source.part.smallest(source.kwargs)
    if batch_norm and smallest >= min(inputs.shape[-2:]):  # its last layers see one value a picture
        inputs = np.concatenate([inputs, inputs[..., ::-1]])
    if options.captures:
        pair = recorded(pair, options.captures, options.reuse_port)
    plain, replay = source.form == PLAIN, options.replay
    with kernels_of(source.form):
        return compare_pair(
            source.name,
            pair,
            [inputs],
            [probe],
            [mode for mode in options.modes if mode in MODES],
            facts,
            say,
            quick=options.quick or plain,
            write_case=partial(write_case, _replay(source, replay)) if replay and not plain else None,
            pictures=options.pictures and not source.form,
            graphs=not source.form,
        )


def kernels_of(form: str) -> AbstractContextManager[None]:
    """Run the port by the kernels that a form is compared in."""
    from ms_models.kernels import Kernels, computing_by

    return computing_by(Kernels.PLAIN if form == PLAIN else Kernels.FASTEST)


def _replay(source: Source, folder: Path) -> Replay:
    """How the scripts of a case build the networks."""
    resolving, what = "from convert.family import resolve", f"{source.part.class_name!r})(**{dict(source.kwargs)!r})"
    launch = "from ms_models.environment import launch_directly"
    return Replay(
        folder,
        Build(f'resolve("torch_ref", {what}', own=(resolving,)),
        Build(f'resolve("ms_models", {what}', own=(resolving, launch), setup=("launch_directly()",)),
    )


def _judge_exported(network: Any, source: Source, options: CompareOptions, inputs: Array, probe: Array) -> Judged:
    try:
        if options.onnx_obstacle:
            raise InputError(options.onnx_obstacle)
        exported = options.onnx or _writer(network, source, options)
        return judge_exported(network, source.part.outputs, inputs, probe, options.runtime, exported)
    except InputError as error:
        if options.onnx_required:
            raise
        head = file_head(options.runtime.mode, type(network).__name__, inputs)
        return Judged((judge(replace(head, not_run=f"{options.runtime.name}: {error}")),))


def _writer(network: Any, source: Source, options: CompareOptions) -> Write:
    """What exports the network to the format of the runtime; MINDIR files come from the port."""
    names, suffix = source.part.outputs, options.runtime.suffix
    if suffix == ".onnx":
        return onnx_writer(network, names)
    if suffix == ".mindir":
        cell = port_for_inference(build_mindspore(source.part, source.kwargs, source.port))
        return lambda pictures, path: mindir.write(cell, pictures, names, path)
    raise InputError(f"{options.runtime.name}: nothing here writes {suffix} files; give one with --onnx FILE{suffix}")
