"""Comparisons of registry families: networks from a file or seeded, training steps, ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from convert.conversion import load_networks, mindspore_arrays, torch_arrays
from convert.disk import sha256_of
from convert.errors import InputError
from convert.family import Family, Part
from convert.identify import Network
from convert.plan import build_plan
from convert.registry import family_named, part_named
from convert.tensors import Array
from toonport.commands.ui import spinner
from toonport.comparing_onnx import OnnxLeg, judge_onnx

__all__ = ["NETWORK_MODES", "choose_device", "choose_modes", "compare_family", "compare_training"]

NETWORK_MODES = ("weights", "isolated", "gradients", "accumulated")
OTHER_MODES = ("train", "onnx")


def choose_modes(text: str) -> tuple[str, ...]:
    """Return the modes that an option's text means; "all" is every one.

    Raises:
        InputError: an unknown mode; lists the known ones.
    """
    chosen = (*NETWORK_MODES, *OTHER_MODES) if text == "all" else tuple(text.split(","))
    unknown = [mode for mode in chosen if mode not in (*NETWORK_MODES, *OTHER_MODES)]
    if unknown:
        known = ", ".join((*NETWORK_MODES, *OTHER_MODES))
        raise InputError(f"unknown mode {', '.join(unknown)}; modes: {known}, all")
    return chosen


def compare_training(family: Family, steps: int, seed: int) -> Any:
    """Compare training steps of a family on seeded narrow networks; returns a `Comparison`.

    The arithmetic of a step does not depend on the width, and narrow networks keep it to seconds.
    """
    from parity_tests.harness.judge import judge
    from parity_tests.harness.measurement import Mode
    from parity_tests.harness.report.words import probe_words
    from parity_tests.harness.run import Comparison
    from parity_tests.harness.training import measure_training, small_setup

    setup = small_setup(family, steps, seed)
    name = f"{family.name} training"
    with spinner(f"{name}: {steps} steps") as say:
        verdicts = []
        for done, measurement in enumerate(measure_training(setup), 1):
            verdicts.append(judge(measurement))
            say(f"{name}: {probe_words(measurement.probe)}, {done} tensors")
    facts = {"networks": "seeded, narrow", "steps": steps, "seed": seed}
    return Comparison(name, tuple(verdicts), (Mode.TRAINING,), facts)


def compare_family(
    family_name: str,
    part: str = "all",
    weights: str | None = None,
    ported: str | None = None,
    modes: Sequence[str] = NETWORK_MODES,
    size: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    picture: Path | None = None,
    dtype: str = "float32",
    captures: Path | None = None,
    replay: bool = False,
    onnx: OnnxLeg | None = None,
) -> list[Any]:
    """Compare the networks of a family; returns one `Comparison` each. The arguments are the options'.

    `onnx` says how the mode of that name is run; None: the network's own export, which must succeed.

    Raises:
        InputError: a file, part, mode or device that cannot be used.
    """
    family = family_named(family_name)
    wanted = None if part == "all" else part_named(family, part).name
    choose_device(device)
    sources = _from_file(family, wanted, weights, ported) if weights else _seeded(family, wanted, ported, seed)
    leg = (onnx or OnnxLeg()) if "onnx" in modes else None
    if leg and leg.file and len(sources) > 1:
        names = ", ".join(source[0].name for source in sources)
        raise InputError(f"{leg.file}: which network is it? say --part, one of {names}")
    return [
        _compare_one(family, *source, modes, size, seed, picture, dtype, captures, replay, leg) for source in sources
    ]


def choose_device(device: str) -> None:
    """Make MindSpore use a device: "cpu", "gpu" or "ascend".

    Raises:
        InputError: it is not usable here.
    """
    if device == "cpu":
        return
    import mindspore

    try:
        mindspore.set_device(device.capitalize() if device == "ascend" else device.upper())
    except (RuntimeError, ValueError) as error:
        raise InputError(f"device {device} is not usable here: {str(error).strip().splitlines()[0]}") from error


Source = tuple[Part, Mapping[str, Any], Mapping[str, Array], Mapping[str, Array], Mapping[str, Any]]


def _from_file(family: Family, part: str | None, weights: str, ported: str | None) -> list[Source]:
    networks = load_networks(weights, family.name, part)
    others = {one.part.name: one for one in load_networks(ported, family.name, part)} if ported else {}
    facts = {"weights": Path(weights).name, "sha256": _hash(weights)}
    sources: list[Source] = []
    for network in networks:
        other = others.get(network.part.name, next(iter(others.values()), None) if len(networks) == 1 else None)
        if ported and other is None:
            raise InputError(f"{ported}: has no network {network.part.name}")
        port = mindspore_arrays(_same(network, other, ported) if other else network)
        sources.append((network.part, network.kwargs, torch_arrays(network), port, facts))
    return sources


def _same(network: Network, other: Network, path: str | None) -> Network:
    if dict(network.kwargs) != dict(other.kwargs):
        raise InputError(f"{path}: is built with {dict(other.kwargs)}, the reference with {dict(network.kwargs)}")
    return other


def _hash(path: str) -> str:
    return sha256_of(Path(path)) if Path(path).is_file() else ""


def _seeded(family: Family, part: str | None, ported: str | None, seed: int) -> list[Source]:
    """One network of each kind, with seeded weights in the released configuration."""
    if ported:
        raise InputError("--ported needs --weights: the reference's own checkpoint")
    from parity_tests.harness.inputs import formula_state

    kinds: dict[object, Part] = {}
    for candidate in family.parts:
        if part in (None, candidate.name):
            kinds.setdefault((candidate.class_name, tuple(candidate.kwargs.items())), candidate)
    sources: list[Source] = []
    for candidate in kinds.values():
        plan = build_plan(candidate, candidate.kwargs)
        state = formula_state(f"seed{seed}/{candidate.name}", plan.shapes)
        port = plan.to_mindspore(state)
        sources.append((candidate, candidate.kwargs, state, port, {"weights": f"seeded ({seed})"}))
    return sources


def _compare_one(
    family: Family,
    part: Part,
    kwargs: Mapping[str, Any],
    reference: Mapping[str, Array],
    port: Mapping[str, Array],
    facts: Mapping[str, Any],
    modes: Sequence[str],
    size: int | None,
    seed: int,
    picture: Path | None,
    dtype: str,
    captures: Path | None,
    replay: bool,
    leg: OnnxLeg | None,
) -> Any:
    from parity_tests.harness.pair import build_pair
    from parity_tests.harness.recorded import recorded
    from parity_tests.harness.run import Comparison, compare_pair, part_inputs
    from toonport.photo.picture import network_picture
    from torch_ref.build import build_torch, for_inference

    name = f"{family.name} {part.name}"
    own = tuple(mode for mode in modes if mode in NETWORK_MODES)
    with spinner(f"{name}: building") as say:
        probe = part_inputs(part, kwargs, seed, part.smallest(kwargs), batch=2)
        inputs = part_inputs(part, kwargs, seed, size)
        if picture:
            inputs = network_picture(picture, inputs.shape[-1])
        facts = {**facts, "kwargs": dict(kwargs), "input": list(inputs.shape), "probe": list(probe.shape)}
        comparison = Comparison(name, (), (), facts)
        try:
            if own:
                pair = build_pair(part, kwargs, reference, port, dtype)
                batch_norm = any("BatchNorm" in kind for kind in pair.reference.layer_types().values())
                if batch_norm and part.smallest(kwargs) >= inputs.shape[-1]:  # its last layers see one value a picture
                    inputs = np.concatenate([inputs, inputs[..., ::-1]])
                if captures:
                    pair = recorded(pair, captures, replay)
                comparison = compare_pair(
                    name, pair, [inputs], [probe], own, facts, lambda stage, n: say(f"{name}: {stage}, {n} tensors")
                )
        except ValueError as error:
            if "cannot run an input of" in str(error):
                raise InputError(str(error)) from error
            raise
        if leg is None:
            return comparison
        say(f"{name}: ONNX Runtime")
        verdicts = tuple(judge_onnx(leg, part, for_inference(build_torch(part, kwargs, reference)), inputs, probe))
        return replace(comparison, verdicts=comparison.verdicts + verdicts, modes=(*own, "onnx"))
