"""toonport inspect: what a checkpoint file holds, without loading it, and what two files differ in."""

import argparse
import math
from pathlib import Path
from typing import Any

from convert.differences import AGREEING, Difference, differences
from convert.errors import InputError
from convert.identify import Network, identify, open_source
from convert.own import own_network
from convert.tensors import Checkpoint
from toonport.commands.options import Subparsers, add_command, add_own_pair
from toonport.commands.ui import bar, out, print_json, print_table

EPILOG = """examples:
  toonport inspect my.pt
  toonport inspect photo2cartoon_weights.pt photo2cartoon.ckpt
  toonport inspect my.pt my.ckpt --torch mynet.py:Net --mindspore mynet_ms.py:Net --map map.toml
With two files the exit code is 0 where every tensor is the same bits, under whatever name, and 1 where not. Names are
told apart by the naming rules of the family or of your own pair, else by likeness and by values."""


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    text = "print a checkpoint as a table, or what two differ in"
    parser = add_command(subparsers, "inspect", run, text, EPILOG)
    parser.add_argument("file", metavar="A", help="checkpoint of any format; {part} for one file each")
    parser.add_argument("other", metavar="B", nargs="?", help="another one, of any format: compare both")
    add_own_pair(parser)
    parser.add_argument("--all", action="store_true", help="of two files: print equal tensors, too")


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
    """Print the table or the JSON; with two files, 0 if they are the same and 1 if not."""
    if args.other:
        return _compare(args)
    if args.torch or args.mindspore:
        raise InputError("--torch and --mindspore are for comparing two files")
    data = describe(open_source(Path(args.file)))
    print_json(args.json, data)
    rows = [[row["name"], row["dtype"], str(row["shape"]), f"{row['numbers']:,}"] for row in data["tensors"]]
    total = sum(row["numbers"] for row in data["tensors"])
    out.print(f"{data['file']}: {data['format']}, {len(rows)} tensors, {total:,} numbers")
    for network in data["networks"]:
        settings = ", ".join(f"{name}={value}" for name, value in network["kwargs"].items())
        out.print(f"  {network['family']} {network['part']} ({settings}), {network['spelling']} names")
    if data["not_recognised"]:
        out.print(f"  not recognised: {data['not_recognised']}")
    print_table(["tensor", "dtype", "shape", "numbers"], rows, right=(3,))
    return 0


def _compare(args: argparse.Namespace) -> int:
    first, second = open_source(Path(args.file)), open_source(Path(args.other))
    found: list[Difference] = []
    with bar("comparing") as progress:
        for difference in differences(first, second, _own_networks(args, first, second)):
            found.append(difference)
            progress(len(found), len(first.tensors), difference.first or difference.second)
    differing = [each for each in found if each.result not in AGREEING]
    _print(found, differing, args.all)
    print_json(args.json, {"equal": not differing, "tensors": [_row(each) for each in found]})
    return 1 if differing else 0


def _own_networks(
    args: argparse.Namespace, first: Checkpoint, second: Checkpoint
) -> tuple[list[Network], list[Network]] | None:
    """What both files hold of a user's own pair; None where no pair was named."""
    if not (args.torch or args.mindspore):
        return None
    if not (args.torch and args.mindspore):
        raise InputError("your own networks: --torch and --mindspore are needed together")
    from toonport.own_pair import pair_from

    pair = pair_from(args.torch, args.mindspore, args.kwargs, args.map)
    plan = pair.build()[2]
    return [own_network(first, plan, pair.name)], [own_network(second, plan, pair.name)]


def _print(found: list[Difference], differing: list[Difference], every: bool) -> None:
    shown = found if every else [each for each in found if each in differing]
    if shown:
        headings = ["A", "B", "by", "result", "shape A", "shape B", "max|Δ|", "cosine", "sha256 A", "sha256 B"]
        print_table(headings, [_cells(each) for each in shown], right=(6, 7))
    moved = sum(each.moved for each in found)
    out.print(
        f"{len(found)} tensors, {len(differing)} differences; {moved} under another name"
        + ("" if every or not found else "; --all shows every tensor")
    )


def _cells(each: Difference) -> list[str]:
    shapes = [str(list(shape)) if kind else "" for shape, kind in zip(each.shapes, each.types, strict=True)]
    largest = "" if each.largest is None else f"{each.largest:.3g}"
    cosine = "" if each.cosine is None else f"{each.cosine:.9g}"
    hashes = [digest[:12] for digest in each.hashes]
    return [each.first, each.second, each.found_by, each.result.value, *shapes, largest, cosine, *hashes]


def _row(each: Difference) -> dict[str, Any]:
    """A tensor as plain data; a difference that is infinite is text, which JSON has no number for."""
    largest = each.largest if each.largest is None or math.isfinite(each.largest) else "infinite"
    return {
        "A": each.first or None,
        "B": each.second or None,
        "by": each.found_by,
        "result": each.result.value,
        "shapes": [list(shape) if kind else None for shape, kind in zip(each.shapes, each.types, strict=True)],
        "types": [kind or None for kind in each.types],
        "sha256": [digest or None for digest in each.hashes],
        "largest_difference": largest,
        "cosine": each.cosine,
    }
