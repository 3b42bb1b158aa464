"""toonport compare: run the reference and the port side by side and judge every layer."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.apply import load_networks, mindspore_arrays, torch_arrays
from convert.errors import InputError
from convert.files import Array, sha256_of
from convert.identify import Network
from convert.plan import build_plan
from convert.registry import Family, Part, family_named, part_named
from toonport.ui import out, spinner

__all__ = ["add_parser", "compare_family"]

EPILOG = """examples:
  toonport compare photo2cartoon --weights photo2cartoon_weights.pt
  toonport compare photo2cartoon --weights photo2cartoon_weights.pt --ported photo2cartoon.ckpt
  toonport compare photo2cartoon --part genA2B --json report.json --html report.html
Without --weights, seeded weights in the released configuration are used."""
BRIEF_ROWS = 12


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "compare",
        help="judge the MindSpore port against the PyTorch reference, layer by layer",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("family", metavar="FAMILY", help="see toonport list")
    parser.add_argument("--part", default="all", help="one network (default: all in the file)")
    parser.add_argument("--weights", metavar="FILE", help="checkpoint for both sides; any format")
    parser.add_argument("--ported", metavar="FILE", help="another checkpoint for the MindSpore side")
    parser.add_argument("--mode", default="all", help="weights, isolated, accumulated, or all; several with commas")
    parser.add_argument("--size", type=int, help="side of the picture for the whole run (default: as released)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the picture and of seeded weights")
    parser.add_argument("--device", choices=("cpu", "gpu", "ascend"), default="cpu", help="device of the port")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON")
    parser.add_argument("--html", metavar="FILE", help="write the report as one offline page")
    parser.add_argument("--brief", action="store_true", help="print only the outcome and what to look at first")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compare, print, write the reports; 0 if equal, 1 if not."""
    from parity_tests.harness.report import HEADING, line, report_data, summary_lines, write_json

    comparisons = compare_family(
        args.family, args.part, args.weights, args.ported, args.mode, args.size, args.seed, args.device
    )
    for comparison in comparisons:
        shown = comparison.blamed[:BRIEF_ROWS] if args.brief else comparison.verdicts
        if shown:
            out.print(HEADING)
        for verdict in shown:
            out.print(line(verdict), style=None if verdict.equal else "bold red", markup=False)
        out.print("\n".join(summary_lines(comparison)), markup=False)
    data = report_data(comparisons, args.device, [f"{name}: not asked for" for name in _other_devices(args.device)])
    if args.json:
        write_json(Path(args.json), data)
    if args.html:
        from parity_tests.harness.report_html import difference_pictures, write_html

        pictures = {one.name: difference_pictures(*one.pictures) for one in comparisons if one.pictures}
        write_html(Path(args.html), data, pictures)
    return 0 if data["verdict"] == "equal" else 1


def _other_devices(device: str) -> list[str]:
    return [name for name in ("cpu", "gpu", "ascend") if name != device]


def compare_family(
    family_name: str,
    part: str = "all",
    weights: str | None = None,
    ported: str | None = None,
    mode: str = "all",
    size: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> list[Any]:
    """Compare the networks of a family; returns one `Comparison` each. The arguments are the options'.

    Raises:
        InputError: a file, part, mode or device that cannot be used.
    """
    family = family_named(family_name)
    wanted = None if part == "all" else part_named(family, part).name
    _choose_device(device)
    sources = _from_file(family, wanted, weights, ported) if weights else _seeded(family, wanted, ported, seed)
    return [_compare_one(family, *source, mode, size, seed) for source in sources]


def _choose_device(device: str) -> None:
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
        state = formula_state(f"seed{seed}/{candidate.name}", {row.torch: row.spec.shape for row in plan.rows})
        port = {row.mindspore: state[row.torch] for row in plan.rows if not row.carried}
        sources.append((candidate, candidate.kwargs, state, port, {"weights": f"seeded ({seed})"}))
    return sources


def _compare_one(
    family: Family,
    part: Part,
    kwargs: Mapping[str, Any],
    reference: Mapping[str, Array],
    port: Mapping[str, Array],
    facts: Mapping[str, Any],
    mode: str,
    size: int | None,
    seed: int,
) -> Any:
    from parity_tests.harness.pair import build_pair
    from parity_tests.harness.run import MODES, compare_pair, part_inputs

    name = f"{family.name} {part.name}"
    modes = MODES if mode == "all" else tuple(mode.split(","))
    with spinner(f"{name}: building") as say:
        pair = build_pair(part, kwargs, reference, port)
        probe = part_inputs(part, kwargs, seed, part.smallest(kwargs), batch=2)
        inputs = part_inputs(part, kwargs, seed, size)
        try:
            return compare_pair(
                name,
                pair,
                [inputs],
                [probe],
                modes,
                {**facts, "kwargs": dict(kwargs), "input": list(inputs.shape), "probe": list(probe.shape)},
                lambda stage, done: say(f"{name}: {stage}, {done} tensors"),
            )
        except ValueError as error:
            if "cannot run an input of" in str(error):
                raise InputError(str(error)) from error
            raise
