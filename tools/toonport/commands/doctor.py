"""toonport doctor: versions, devices, shadowed packages, and what to install."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from convert.devices import DEVICES
from convert.errors import InputError
from toonport.commands.options import Subparsers, add_command
from toonport.commands.ui import out, print_json, print_table, spinner
from toonport.doctor import examine
from toonport.environments import environment, named
from toonport.exit_codes import ExitCode

EPILOG = """examples:
  toonport doctor
  toonport doctor --json a.json --seed torch=1 --weights net=my.pt --samples faces/
  toonport doctor --device gpu                      layers, a network and a training step, judged
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
    group = parser.add_argument_group("a graded check of one device, in place of the examination")
    group.add_argument("--device", choices=DEVICES, help="judge what each framework computes there")
    group.add_argument("--page", metavar="FILE", help="put its rows into this page's table, e.g. docs/devices.md")


def run(args: argparse.Namespace) -> int:
    """Print the findings; 0 if nothing needed is missing or in the way, else 2. Of a device see `_check`."""
    given = [named(getattr(args, option), f"--{option}") for option in ("seed", "weights", "samples")]
    if any(given) and not args.json:
        raise InputError("--seed, --weights and --samples go into the file of --json")
    if args.page and not args.device:
        raise InputError("--page goes with --device")
    if args.device:
        if any(given):
            raise InputError("--seed, --weights and --samples are not of a device")
        return _check(args)
    return _examine(args, given)


def _examine(args: argparse.Namespace, given: Sequence[Any]) -> int:
    findings = examine()
    print_table(["what", "state", "detail"], [[found.what, found.state, found.detail] for found in findings])
    bad = [f"{found.what}: {found.detail}" for found in findings if found.state in {"missing", "problem"}]
    if args.json:
        data = environment(*given) | {"findings": [asdict(found) for found in findings]}
        print_json(args.json, data)
    out.print(f"{len(bad)} to mend: {'; '.join(bad)}" if bad else "ready")
    return 2 if bad else 0


def _check(args: argparse.Namespace) -> int:
    """Judge a device; 0 if all that ran is equal, 1 if not. Raises InputError: no framework sees it."""
    from toonport.device_check import GRADES, check_device, device_words, write_rows

    with spinner(f"doctor {args.device}") as say:
        found = check_device(args.device, say)
    name, driver = device_words(args.device)
    rows = [[each.framework, *each.cells, str(each.missing or "")] for each in found]
    print_table(["framework", *GRADES, "missing"], rows)
    equal = all(each.equal for each in found)
    if args.page:
        write_rows(Path(args.page), args.device, found)
    frameworks = [{"name": row[0], "missing": row[-1]} | dict(zip(GRADES, row[1:-1], strict=True)) for row in rows]
    print_json(args.json, {"device": name, "driver": driver, "equal": equal, "frameworks": frameworks})
    out.print(f"{name}, driver {driver}: {'equal' if equal else 'DIFFERENT'}")
    return ExitCode.DONE if equal else ExitCode.DIFFERENT
