"""toonport port: write the MindSpore network of a PyTorch network, and keep it only if it is proven equal."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.devices import CPU
from parity_tests.harness.judge import Outcome
from parity_tests.harness.report.console import summary_lines
from parity_tests.harness.report.data import report_data
from toonport.commands.compare import EXIT_CODES
from toonport.commands.options import Subparsers, add_command, add_option
from toonport.commands.ui import out, print_json, spinner

if TYPE_CHECKING:
    from toonport.porting.porter import Port

EPILOG = """example:
  toonport port mynet.py:build --weights my.pt --inputs 3x256x256 --out ported/
What is not proven equal lies in ported.unproven/, with the report and the smallest case that still differs.
exit code: 0 equal and kept, 1 different, 2 refused (an operator without a rule is named), 4 cannot tell."""


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    text = "write the MindSpore network of your PyTorch network, and prove it"
    parser = add_command(subparsers, "port", run, text, EPILOG)
    where = "FILE.py:NAME or package.module:NAME, a class or a function (its code runs)"
    parser.add_argument("network", metavar="NET", help=where)
    parser.add_argument("--kwargs", metavar="JSON", help="what it is called with, e.g. '{\"width\": 8}'")
    text = "shapes such as 3x256x256, .npy, .npz or FILE.py:NAME"
    parser.add_argument("--inputs", metavar="IN", required=True, help=text)
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the port, which is not there yet")
    add_option(parser, "--weights", help="checkpoint in its own names; default: seeded weights")
    parser.add_argument("--key", help="dictionary or prefix of --weights to take")
    text = "write what has a rule, and what raises in the place of the rest; it is not proven"
    parser.add_argument("--partial", action="store_true", help=text)
    text = "also write an optimiser and a training step, and prove 50 steps"
    parser.add_argument("--train", action="store_true", help=text)
    add_option(parser, "--seed", help="of weights and inputs")


def run(args: argparse.Namespace) -> int:
    """Port, print how it ended; the exit code says it too."""
    from toonport.own_pair import kwargs_from
    from toonport.porting.porter import PortOptions, port

    options = PortOptions(
        network=args.network,
        inputs=args.inputs,
        out=Path(args.out),
        weights=args.weights,
        key=args.key,
        kwargs=kwargs_from(args.kwargs),
        seed=args.seed,
        partial=args.partial,
        train=args.train,
    )
    with spinner(f"port {args.network}") as say:
        found = port(options, say)
    for comparison in found.comparisons:
        out.print("\n".join(summary_lines(comparison)))
    out.print(
        "\n".join([*(f"left out: {each}" for each in found.left_out), *([found.problem] if found.problem else [])])
    )
    kept = "kept" if found.outcome is Outcome.EQUAL else "not proven, so not kept under its name"
    out.print(f"{found.folder}: {kept}")
    print_json(args.json, _facts(found))
    return EXIT_CODES[found.outcome]


def _facts(found: Port) -> dict[str, Any]:
    """How it ended, as plain data."""
    return {
        "outcome": str(found.outcome),
        "folder": str(found.folder),
        "comparisons": [report_data([comparison], CPU)["networks"][0] for comparison in found.comparisons],
        "left_out": list(found.left_out),
        "problem": found.problem,
    }
