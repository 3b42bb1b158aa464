"""toonport doctor: versions, devices, shadowed packages, and what to install."""

import argparse

from toonport.commands.options import Subparsers, add_command
from toonport.commands.ui import out, print_table
from toonport.doctor import examine


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    add_command(subparsers, "doctor", run, "say what is installed, usable and missing")


def run(args: argparse.Namespace) -> int:
    """Print the findings; 0 if nothing needed is missing or in the way, else 2."""
    findings = examine()
    print_table(["what", "state", "detail"], [[found.what, found.state, found.detail] for found in findings])
    bad = [f"{found.what}: {found.detail}" for found in findings if found.state in {"missing", "problem"}]
    out.print(f"{len(bad)} to mend: {'; '.join(bad)}" if bad else "ready")
    return 2 if bad else 0
