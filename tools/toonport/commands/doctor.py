"""toonport doctor: versions, devices, shadowed packages, and what to install."""

from __future__ import annotations

import argparse

from toonport.commands.ui import out, print_table
from toonport.doctor import examine

__all__ = ["add_parser"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("doctor", help="say what is installed, usable and missing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the findings; 0 if nothing needed is missing or in the way, else 2."""
    findings = examine()
    print_table(["what", "state", "detail"], [[one.what, one.state, one.detail] for one in findings])
    bad = [one for one in findings if one.state in {"missing", "problem"}]
    out.print(
        "ready" if not bad else f"{len(bad)} to mend: {'; '.join(f'{one.what}: {one.detail}' for one in bad)}",
        markup=False,
    )
    return 2 if bad else 0
