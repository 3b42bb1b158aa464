"""toonport convert: PyTorch, MindSpore and safetensors checkpoints into each other."""

import argparse
from pathlib import Path
from typing import Any

from convert.conversion import Conversion, Progress, convert_file
from convert.errors import InputError
from convert.formats import NAMES, READABLE
from convert.places import in_short
from toonport.commands.convert_many import planned, run_many
from toonport.commands.options import Subparsers, add_command, add_option, add_own_pair, number
from toonport.commands.ui import bar, out, print_json

EPILOG = """examples:
  toonport convert photo2cartoon_weights.pt photo2cartoon.ckpt           six networks, one file
  toonport convert photo2cartoon_weights.pt 'p2c_{part}.ckpt'            one file per network
  toonport convert 'p2c_{part}.ckpt' photo2cartoon_weights.pt            and back
  toonport convert photo2cartoon_weights.pt genA2B.ckpt --part genA2B    one network
  toonport convert 'runs/*.pt' ported/                                   many files, in several processes
  toonport convert a.pt b.pt 'ported/*.safetensors'
  toonport convert my.pt my.ckpt --torch mynet.py:Net --mindspore mynet_ms.py:Net
A ledger (DST.ledger.json) names every tensor, its rule and its hash. What an earlier conversion wrote, and nobody
changed since, is replaced; any other file only with --force."""


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    parser = add_command(subparsers, "convert", run, "convert a checkpoint; the suffixes give the direction", EPILOG)
    text = "checkpoints of any format and suffix (docs/inputs.md), or quoted patterns; {part} for one file each"
    parser.add_argument("sources", metavar="SRC", nargs="+", help=text)
    text = ".pt, .pth, .ckpt or .safetensors; {part} writes one file per network; a folder, or * for the name, for many"
    parser.add_argument("target", metavar="DST", help=text)
    add_own_pair(parser)
    add_option(parser, "--family", help="family of SRC (default: by the tensors)")
    add_option(parser, "--part", default="all", help="one network, e.g. genA2B (default: all)")
    parser.add_argument("--key", help="dictionary or prefix of SRC to take, where several sets of weights fit")
    parser.add_argument("--names", choices=("torch", "mindspore"), help="names in a .safetensors DST")
    parser.add_argument(
        "--style", help="write another system's networks, where they are the same (cyclegan: junyanz, zoo)"
    )
    parser.add_argument("--jobs", type=number, help="processes for many files (default: the cores, if they are large)")
    parser.add_argument("--force", action="store_true", help="replace a DST that is no earlier conversion's")


def _converted(args: argparse.Namespace, source: str, target: str, progress: Progress | None = None) -> Conversion:
    if not (args.torch or args.mindspore):
        part = None if args.part == "all" else args.part
        return convert_file(source, target, args.family, part, args.names, progress, args.style, args.key, args.force)
    if not (args.torch and args.mindspore):
        raise InputError("your own networks: --torch and --mindspore are needed together")
    from toonport.own_pair import convert_own, pair_from

    pair = pair_from(args.torch, args.mindspore, args.kwargs, args.map)
    return convert_own(pair, source, target, args.names, progress, args.key, args.force)


def run(args: argparse.Namespace) -> int:
    """Convert and say what was done."""
    tasks = planned(args.sources, args.target)
    if len(tasks) > 1:
        return run_many(args, tasks, one_of_many)
    with bar("converting") as progress:
        done = _converted(args, tasks[0].source, tasks[0].target, progress)
    _say(tasks[0].source, done)
    print_json(args.json, _facts(done))
    return 0


def one_of_many(args: argparse.Namespace, source: str, target: str) -> tuple[Conversion, dict[str, Any]]:
    """Convert one file; also returns the facts of it."""
    done = _converted(args, source, target)
    return done, _facts(done)


def _facts(done: Conversion) -> dict[str, Any]:
    """What was written, as plain data."""
    return {
        "format": done.format,
        "networks": [
            {
                "family": network.family.name,
                "part": network.part.name,
                "kwargs": dict(network.kwargs),
                "spelling": network.spelling,
                "tensors": len(network.tensors),
                "notes": list(network.notes),
            }
            for network in done.networks
        ],
        "left_out": list(done.left_out),
        "not_tensors": list(done.ignored),
        "written": [
            {"file": str(path), "bytes": path.stat().st_size, "ledger": str(ledger)}
            for path, ledger in zip(done.outputs, done.ledgers, strict=True)
        ],
    }


def _say(source: str, done: Conversion) -> None:
    if READABLE.get(Path(source).suffix.lower()) != done.format:
        out.print(f"{source}: by its content a file of {NAMES[done.format]}")
    for network in done.networks:
        settings = ", ".join(f"{name}={value}" for name, value in network.kwargs.items())
        words = f"{len(network.tensors)} tensors, {'; '.join([f'{network.spelling} names', *network.notes])}"
        out.print(f"{network.family.name} {network.part.name} ({settings}): {words}")
    names = ", ".join(dict.fromkeys(name for network in done.networks for name in network.alternatives))
    if names:
        out.print(f"fits {names} as well, whose networks draw otherwise; the tensors and their names are the same")
    if done.left_out:
        used = [name for network in done.networks for name in network.file_names.values()]
        out.print(f"left out, in no network: {', '.join(in_short(done.left_out, used))}")
    if done.ignored:
        out.print(f"not tensors, left out: {', '.join(done.ignored)}")
    for path, ledger in zip(done.outputs, done.ledgers, strict=True):
        out.print(f"wrote {path} ({path.stat().st_size / 2**20:.1f} MiB), ledger {ledger}")
