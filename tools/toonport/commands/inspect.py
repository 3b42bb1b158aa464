"""toonport inspect: what a checkpoint file holds, without loading it."""

import argparse
import json
import math
from pathlib import Path
from typing import Any

from convert.errors import InputError
from convert.identify import identify, open_source
from convert.tensors import Checkpoint
from toonport.commands.options import Subparsers, add_command
from toonport.commands.ui import out, print_table


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    parser = add_command(subparsers, "inspect", run, "print a checkpoint as a table")
    parser.add_argument("file", metavar="FILE", help=".pt, .pth, .ckpt or .safetensors")
    parser.add_argument("--json", action="store_true", help="print JSON instead")


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return format, recognised networks and every tensor of a checkpoint as plain data."""
    try:
        found = identify(checkpoint)
        networks = [
            {
                "family": network.family.name,
                "part": network.part.name,
                "kwargs": dict(network.kwargs),
                "spelling": network.spelling,
                "tensors": len(network.tensors),
            }
            for network in found
        ]
        unknown = ""
    except InputError as error:
        networks, unknown = [], str(error)
    tensors = [
        {"name": name, "dtype": spec.dtype, "shape": list(spec.shape), "numbers": math.prod(spec.shape)}
        for name, spec in checkpoint.specs.items()
    ]
    return {
        "file": checkpoint.path.name,
        "format": checkpoint.format,
        "networks": networks,
        "not_recognised": unknown,
        "tensors": tensors,
        "extras": dict(checkpoint.extras),
    }


def run(args: argparse.Namespace) -> int:
    """Print the table or the JSON."""
    data = describe(open_source(Path(args.file)))
    if args.json:
        print(json.dumps(data, indent=1))
        return 0
    rows = [[row["name"], row["dtype"], str(row["shape"]), f"{row['numbers']:,}"] for row in data["tensors"]]
    print_table(["tensor", "dtype", "shape", "numbers"], rows, right=(3,))
    total = sum(row["numbers"] for row in data["tensors"])
    out.print(f"{data['file']}: {data['format']}, {len(rows)} tensors, {total:,} numbers")
    for network in data["networks"]:
        settings = ", ".join(f"{name}={value}" for name, value in network["kwargs"].items())
        out.print(f"  {network['family']} {network['part']} ({settings}), {network['spelling']} names")
    if data["not_recognised"]:
        out.print(f"  not recognised: {data['not_recognised']}")
    return 0
