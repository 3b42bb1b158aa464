"""toonport doctor: versions, devices, shadowed packages, and what to install."""

import argparse
from dataclasses import asdict

from convert.errors import InputError
from toonport.commands.options import Subparsers, add_command
from toonport.commands.ui import out, print_json, print_table
from toonport.doctor import examine
from toonport.environments import environment, named

EPILOG = """examples:
  toonport doctor
  toonport doctor --json a.json --seed torch=1 --weights net=my.pt --samples faces/
  toonport compare --environment a.json b.json      what two machines differ in
toonport.environment(...) in your own script returns the same with the settings that the script has made."""


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    text = "versions, variables, settings and what the options name, printed; with a name in .json, written for compare"
    parser = add_command(subparsers, "doctor", run, "say what is installed, usable and missing", EPILOG, text)
    group = parser.add_argument_group("what --json holds, too (each as often as needed)")
    group.add_argument(
        "--seed", action="append", default=[], metavar="NAME=N", help="a seed that you use, e.g. torch=1"
    )
    group.add_argument("--weights", action="append", default=[], metavar="[NAME=]FILE", help="hash its tensors")
    text = "hash a folder's files, in the order in which they are listed; or a text file of names, in yours"
    group.add_argument("--samples", action="append", default=[], metavar="[NAME=]FOLDER", help=text)


def run(args: argparse.Namespace) -> int:
    """Print the findings; 0 if nothing needed is missing or in the way, else 2."""
    given = [named(getattr(args, option), f"--{option}") for option in ("seed", "weights", "samples")]
    if any(given) and not args.json:
        raise InputError("--seed, --weights and --samples go into the file of --json")
    findings = examine()
    print_table(["what", "state", "detail"], [[found.what, found.state, found.detail] for found in findings])
    bad = [f"{found.what}: {found.detail}" for found in findings if found.state in {"missing", "problem"}]
    if args.json:
        data = environment(*given) | {"findings": [asdict(found) for found in findings]}
        print_json(args.json, data)
    out.print(f"{len(bad)} to mend: {'; '.join(bad)}" if bad else "ready")
    return 2 if bad else 0
