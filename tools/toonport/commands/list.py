"""toonport list: every family and part, with its paper, source and licence."""

import argparse
from typing import Any

from convert.family import Family
from convert.registry import families
from toonport.commands.options import Subparsers, add_command
from toonport.commands.ui import out, print_json, print_table


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    add_command(subparsers, "list", run, "list the families and their networks")


def run(args: argparse.Namespace) -> int:
    """Print one block per family."""
    for family in families():
        out.print(f"{family.name}  {family.title}", style="bold")
        out.print(f"  paper {family.paper}; source {family.source}; licence {family.licence}")
        rows = [
            [part.name, part.class_name, ", ".join(f"{name}={value}" for name, value in part.kwargs.items())]
            for part in family.parts
        ]
        print_table(["part", "network", "released configuration"], rows)
        out.print(f"  works: {_works(family)}")
        for note in family.notes:
            out.print(f"  note: {note}")
    print_json(args.json, {"families": [_facts(family) for family in families()]})
    return 0


def _facts(family: Family) -> dict[str, Any]:
    """A family as plain data."""
    return {
        "name": family.name,
        "title": family.title,
        "paper": family.paper,
        "source": family.source,
        "licence": family.licence,
        "parts": [
            {"name": part.name, "network": part.class_name, "kwargs": dict(part.kwargs)} for part in family.parts
        ],
        "draws": family.cartoonize is not None,
        "trains": family.training is not None,
        "notes": list(family.notes),
    }


def _works(family: Family) -> str:
    """What can be done with a family, by what the registry says of it."""
    words = ["convert both ways, compare, export to ONNX and MINDIR"]
    if family.cartoonize:
        words.append("cartoonize with MindSpore, PyTorch or ONNX Runtime")
    if family.training:
        words.append("train in MindSpore or PyTorch")
    return "; ".join(words)
