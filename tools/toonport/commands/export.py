"""toonport export: a network as a verified ONNX or MINDIR file."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from convert.errors import InputError
from convert.registry import family_named
from parity_tests.harness.judge import Verdict
from parity_tests.harness.onnx.write import NotReproducedError
from parity_tests.harness.report.words import tensor_at
from toonport.commands.options import Subparsers, add_command, add_option
from toonport.commands.ui import out, print_json, spinner
from toonport.exit_codes import ExitCode
from toonport.exporters.complete import PICTURES
from toonport.exporters.exporter import Exported, ExportOptions, default_target, export_network
from toonport.photo.files import left_out, picture_files
from toonport.terminal import plain
from toonport.train.finished import generating

EPILOG = """examples:
  toonport export photo2cartoon --weights photo2cartoon_weights.pt                    photo2cartoon_genA2B.onnx
  toonport export photo2cartoon --weights photo2cartoon.ckpt --outputs all --dynamic  any size, with the heat map
  toonport export ugatit --weights ugatit.pt --part genB2A --fp16 --out photo.onnx    half the size
  toonport export photo2cartoon --weights p2c.pt --int8 --calibration photos/         error measured and printed
  toonport export photo2cartoon --weights p2c.pt --to mindir
  toonport export whitebox --weights wb.pth --complete --dynamic    bytes of a picture in and out, filter inside
A file is kept only if it computes what the network computes in float64; otherwise the exit code is 1."""


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    parser = add_command(subparsers, "export", run, "export a network to ONNX or MINDIR, verified", EPILOG)
    add_option(parser, "FAMILY")
    add_option(parser, "--weights", required=True)
    parser.add_argument("--to", choices=("onnx", "mindir"), help="format (default: by --out, else onnx)")
    parser.add_argument("--out", metavar="FILE", help="target (default: FAMILY_PART.onnx in the current folder)")
    add_option(parser, "--part", help="network to export (default: the family's first, or those that draw together)")
    parser.add_argument("--outputs", choices=("first", "all"), default="first", help="'output' alone, or all of them")
    size = parser.add_mutually_exclusive_group()
    add_option(size, "--size", type=int, help="side of the picture (default: as released)")
    size.add_argument("--dynamic", action="store_true", help="leave height and width free")
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument("--fp16", action="store_true", help="float16 weights and arithmetic, float32 in and out")
    precision.add_argument("--int8", action="store_true", help="int8 weights, uint8 activations; prints the error")
    text = "all inside, RGB picture in, drawn one out; bytes: uint8 [N, H, W, 3], unit: float32 [N, 3, H, W] in [0, 1]"
    parser.add_argument("--complete", choices=PICTURES, nargs="?", const="bytes", help=f"{text} (default: bytes)")
    parser.add_argument("--calibration", metavar="PATH", nargs="+", default=[], help="pictures or folders for --int8")


def run(args: argparse.Namespace) -> int:
    """Export, verify, and say what was seen."""
    family_named(args.family)
    target = Path(args.out) if args.out else None
    source = generating(args.weights, args.family, args.size)
    options = ExportOptions(
        family=args.family,
        weights=source.weights,
        to=args.to or ("mindir" if target and target.suffix == ".mindir" else "onnx"),
        part=args.part,
        side=source.size,
        dynamic=args.dynamic,
        outputs=args.outputs,
        precision="float16" if args.fp16 else "int8" if args.int8 else "float32",
        complete=args.complete,
        calibration=tuple(given_pictures(args.calibration)),
    )
    target = target or default_target(options)
    try:
        with spinner(f"exporting {args.family}"):
            done = export_network(options, target)
    except NotReproducedError as error:
        print(plain(f"toonport export: {error}"), file=sys.stderr)
        return ExitCode.DIFFERENT
    _say(options, done)
    print_json(args.json, _facts(options, done))
    return 0


def _facts(options: ExportOptions, done: Exported) -> dict[str, Any]:
    """What was written, as plain data."""
    return {
        "written": str(done.path),
        "bytes": done.path.stat().st_size,
        "family": options.family,
        "parts": [network.part.name for network in done.networks],
        "outputs": [
            {
                "tensor": tensor_at(verdict.measurement),
                "difference": float(verdict.measurement.difference),
                "error": float(verdict.measurement.error),
                "torch_error": float(verdict.measurement.noise),
                "budget": float(verdict.budget),
            }
            for verdict in done.verdicts
        ],
        "facts": list(done.facts),
        "int8_error": asdict(done.quantization) if done.quantization else None,
    }


def given_pictures(names: list[str]) -> list[Path]:
    """Return the pictures named, and those in the folders named, in order; says which files are left out.

    Raises InputError: there are none.
    """
    paths = [Path(name) for name in names]
    found = [file for path in paths for file in (picture_files(path) if path.is_dir() else [path])]
    if names and not found:
        raise InputError(f"--calibration {' '.join(names)}: no pictures there")
    for note in filter(None, (left_out(path) for path in paths if path.is_dir())):
        out.print(note)
    return found


def _say(options: ExportOptions, done: Exported) -> None:
    for verdict in done.verdicts:
        out.print(_line(verdict))
    if error := done.quantization:
        unit = f" {error.unit}" if error.unit else ""
        out.print(
            f"int8 against float64 on {error.pictures} pictures: PSNR {error.psnr:.1f} dB, largest difference "
            f"{error.largest:.3g}{unit}, mean {error.mean:.3g}{unit}; measured, not judged"
        )
    parts = " + ".join(network.part.name for network in done.networks)
    facts = "; ".join((f"{done.path.stat().st_size / 2**20:.1f} MiB", *done.facts))
    out.print(f"wrote {done.path} ({options.family} {parts}; {facts})")


def _line(verdict: Verdict) -> str:
    found = verdict.measurement
    return (
        f"{tensor_at(found)}: max|Δ| {found.difference:.1e} against PyTorch, error against float64 "
        f"{found.error:.1e} (PyTorch {found.noise:.1e}, budget {verdict.budget:.1e})"
    )
