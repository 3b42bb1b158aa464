"""toonport bench: how fast, as ratios in one run."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from typing import TYPE_CHECKING

from toonport.commands.options import Subparsers, add_command, add_option, number
from toonport.commands.ui import out, print_json, spinner
from toonport.photo.batch import cores

if TYPE_CHECKING:
    from toonport.bench.timing import Ratio


CASES = ("runtime", "whole", "folder")
EPILOG = """runtime: eager PyTorch / ONNX Runtime on the photo2cartoon generator at 256x256
whole:   photo file to cartoon file / the generator alone
folder:  one process / one process per core on a folder of photos

The contenders of a ratio take turns, so that other work on the machine falls
on both; figures of a busy machine still scatter, which the quartiles show.
The exit code does not depend on the figures."""


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    parser = add_command(subparsers, "bench", run, "measure speed, as ratios", EPILOG)
    parser.add_argument("--case", choices=CASES, action="append", help="only this one (may be repeated)")
    add_option(parser, "--weights", help="photo2cartoon checkpoint (default: seeded weights)")
    parser.add_argument("--rounds", type=number, default=20, help="runs of each contender (default: 20)")
    parser.add_argument("--photos", type=number, default=100, help="photos in the folder (default: 100)")
    parser.add_argument("--threads", type=number, help="threads and processes (default: the cores)")


def _line(ratio: Ratio) -> str:
    verdict = "met" if ratio.good else "missed"
    figures = f"{ratio.value:.2f} (quartiles {ratio.low:.2f}-{ratio.high:.2f}, in processor time {ratio.cpu:.2f})"
    return f"{ratio.title}: {figures}; goal {ratio.wanted}: {verdict}; {ratio.details}"


def run(args: argparse.Namespace) -> int:
    """Run the benchmarks and print them."""
    from toonport.bench.cases import run_cases

    threads = args.threads or cores()
    load = os.getloadavg()[0]
    out.print(f"{threads} threads; load of the machine at the start {load:.1f}; contenders take turns")
    found: list[Ratio] = []
    with spinner("exporting the generator") as say:
        for ratio in run_cases(args.case or list(CASES), args.weights, args.rounds, args.photos, threads):
            out.print(_line(ratio))
            found.append(ratio)
            say("measuring")
    print_json(args.json, {"threads": threads, "load": load, "ratios": [asdict(ratio) for ratio in found]})
    return 0
