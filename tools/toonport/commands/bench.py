"""toonport bench: how fast, as ratios in one run, beside goals and limits; where the time goes; how it grows."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.cores import cores
from convert.errors import InputError
from convert.suggest import did_you_mean
from toonport.commands.options import Subparsers, add_command, add_option, number
from toonport.commands.ui import out, print_json, print_table, spinner

if TYPE_CHECKING:
    from toonport.bench.suite import Outcome
    from toonport.bench.timing import Ratio


CASES = ("runtime", "openvino", "whole", "folder")
EPILOG = """toonport bench                    ratios of the photo pipeline:
  runtime: eager PyTorch / ONNX Runtime on the photo2cartoon generator, 256x256
  openvino: ONNX Runtime / OpenVINO, where that is installed
  whole:   photo file to cartoon file / the generator alone
  folder:  one process / one process per core on a folder of photos
toonport bench all                conversion, inference, training, ONNX: every
                                  figure beside its goal, competitor and limit
toonport bench profile FAMILY     time and memory by layer and kind of kernel
toonport bench profile FAMILY --train    the same of a training step
toonport bench curves             how cost grows with sizes, and the exponents
toonport bench page FILE.json ... the page of what --json of these wrote

The contenders of a ratio take turns, so that other work on the machine falls
on both; figures of a busy machine still scatter, which the quartiles show.
The exit code does not depend on the figures."""


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    parser = add_command(subparsers, "bench", run, "measure speed, as ratios", EPILOG)
    parser.add_argument("what", nargs="?", default="ratios", choices=tuple(MEASURES), metavar="WHAT",
                        help=f"{', '.join(MEASURES)} (default: ratios)")  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="NAME", help="profile: the family; page: JSON files")
    parser.add_argument("--case", action="append", help="only this case or curve (may be repeated)")
    add_option(parser, "--weights", help="photo2cartoon checkpoint (default: seeded weights)")
    parser.add_argument("--rounds", type=number, default=20, help="ratios: runs of each contender (default: 20)")
    parser.add_argument("--photos", type=number, default=100, help="ratios: photos in the folder (default: 100)")
    parser.add_argument("--threads", type=number, help="ratios: threads and processes (default: the cores)")
    parser.add_argument("--smallest", action="store_true", help="all, curves: once at the smallest size, to see it run")
    parser.add_argument("--train", action="store_true", help="profile: a training step")
    add_option(parser, "--size", help="profile: side of the pictures (default: as released; --train: 96)")
    parser.add_argument("--batch", type=number, default=1, help="profile: pictures at once (default: 1)")
    parser.add_argument("--width", type=number, help="profile: channels of the first layer (--train: 8)")
    parser.add_argument("--depth", type=number, default=2, help="profile: names of a layer's path shown (default: 2)")
    parser.add_argument("--out", metavar="DIR", default=".", help="page: folder for benchmarks.md and its pictures")


def run(args: argparse.Namespace) -> int:
    """Run the benchmarks and print them."""
    if args.names and args.what not in ("profile", "page"):
        raise InputError(f"bench {args.what}: takes no names; --case chooses")
    data = MEASURES[args.what](args)
    print_json(args.json, data)
    return 0


def _line(ratio: Ratio) -> str:
    verdict = "met" if ratio.good else "missed"
    figures = f"{ratio.value:.2f} (quartiles {ratio.low:.2f}-{ratio.high:.2f}, in processor time {ratio.cpu:.2f})"
    return f"{ratio.title}: {figures}; goal {ratio.wanted}: {verdict}; {ratio.details}"


def _ratios(args: argparse.Namespace) -> dict[str, Any]:
    from toonport.bench.cases import run_cases
    from toonport.draw.choices import usable_backends

    unknown = set(args.case or ()) - set(CASES)
    if unknown:
        name = min(unknown)
        raise InputError(f"unknown case '{name}'{did_you_mean(name, CASES)}; cases: {', '.join(CASES)}")
    threads = args.threads or cores()
    cases = args.case or [name for name in CASES if name != "openvino" or name in usable_backends()]
    load = os.getloadavg()[0]
    out.print(f"{threads} threads; load of the machine at the start {load:.1f}; contenders take turns")
    found: list[Ratio] = []
    with spinner("exporting the generator") as say:
        for ratio in run_cases(cases, args.weights, args.rounds, args.photos, threads):
            out.print(_line(ratio))
            found.append(ratio)
            say("measuring")
    return {"threads": threads, "load": load, "ratios": [asdict(ratio) for ratio in found]}


def _all(args: argparse.Namespace) -> dict[str, Any]:
    from toonport.bench.suite import chosen, run_all

    cases, found = chosen(args.case or ()), []
    around = _around()
    with spinner("measuring") as say:
        for outcome in run_all(cases, args.smallest, args.weights):
            _show(outcome)
            found.append(asdict(outcome))
            say(f"measured {len(found)} of {len(cases)} cases")
    return {"kind": "all", **around, "smallest": args.smallest, "outcomes": found}


def _around() -> dict[str, Any]:
    """Return what the figures depend on, and say so where the machine is busy."""
    from toonport.bench.page import circumstances, is_busy

    around = circumstances()
    if is_busy(around):
        machine = around["machine"]
        out.print(f"load {machine['load']} on {machine['cores']} cores: times will not be right")
    return around


def _show(outcome: Outcome) -> None:
    out.print(outcome.title, style="bold")
    for figure in outcome.figures:
        verdict = "met" if figure.met else "missed"
        spread = f" ({figure.low:.2f}-{figure.high:.2f})" if figure.low != figure.high else ""
        spread += "" if figure.cpu is None else f", in processor time {figure.cpu:.2f}"
        out.print(f"  {figure.title}: {figure.value:.2f}{spread}; goal {figure.wanted}: {verdict}")
    rows = [
        [name + (" (limit)" if name == outcome.limit else ""), f"{one['seconds']:.2f}", f"{one['first']:.1f}",
         f"{one['resident']:.0f}", f"{one['anonymous']:.0f}"]
        for name, one in outcome.contenders.items()
    ]  # fmt: skip
    print_table(["  contender", "s", "first s", "peak MiB", "without file pages"], rows, (1, 2, 3, 4))


def _profile(args: argparse.Namespace) -> dict[str, Any]:
    from toonport.bench.profile import as_data, cut, profile, rows, sizes_of

    if len(args.names) != 1:
        raise InputError("bench profile: name one family, see toonport list")
    around = _around()
    sizes = sizes_of(args.names[0], args.train, args.size, args.batch, args.width)
    with spinner("tracing"):
        made = profile(args.names[0], args.train, sizes)
    contenders = list(made.totals)
    for lines in (made.kinds, cut(made.layers, args.depth)):
        headings, cells = rows(lines, contenders)
        print_table(headings, cells, range(1, len(headings)))
        out.print("")
    for name, text in made.said().items():
        out.print(f"{name}: {text}")
    out.print(f"limit: a matrix product's {made.gemm / 1e9:.0f} GFLOP/s; MiB read: what kernels take in, first/last")
    return {"kind": "profile", **around, "profile": as_data(made)}


def _curves(args: argparse.Namespace) -> dict[str, Any]:
    from toonport.bench.curves import CURVES, grow
    from toonport.bench.page import power

    known = {curve.name: curve for curve in CURVES}
    unknown = set(args.case or ()) - known.keys()
    if unknown:
        raise InputError(f"unknown curve '{min(unknown)}'; curves: {', '.join(known)}")
    around, found = _around(), []
    with spinner("measuring") as say:
        for grown in grow([known[name] for name in args.case or known], args.smallest):
            for who, seconds in grown.seconds.items():
                pairs = ", ".join(f"{size:g}: {each:.3g} s" for size, each in zip(grown.sizes, seconds, strict=True))
                out.print(f"{grown.title}, {who}, by {grown.unit}: {pairs}; exponent {power(grown.exponents[who])}")
            found.append(asdict(grown))
            say(f"measured {len(found)} curves")
    return {"kind": "curves", **around, "smallest": args.smallest, "curves": found}


def _page(args: argparse.Namespace) -> dict[str, Any]:
    from toonport.bench.page import write_page

    written = write_page([Path(name) for name in args.names], Path(args.out))
    for path in written:
        out.print(f"wrote {path}")
    return {"written": [str(path) for path in written]}


MEASURES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "ratios": _ratios,
    "all": _all,
    "profile": _profile,
    "curves": _curves,
    "page": _page,
}
