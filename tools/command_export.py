"""toonport export: a network as a verified ONNX file."""

from __future__ import annotations

import argparse
from pathlib import Path

from convert.apply import load_networks, torch_arrays
from convert.errors import InputError
from convert.registry import family_named
from toonport.ui import out, spinner

__all__ = ["add_parser"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("export", help="export a network to ONNX, verified in ONNX Runtime")
    parser.add_argument("family", metavar="FAMILY", help="see toonport list")
    parser.add_argument("--weights", metavar="FILE", required=True, help="checkpoint, .pt or .ckpt or .safetensors")
    parser.add_argument("--part", help="network to export (default: the family's first)")
    parser.add_argument("--size", type=int, help="side of the picture (default: as released)")
    parser.add_argument("--out", metavar="FILE", required=True, help="target .onnx file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export, verify, and say what was seen."""
    from parity_tests.harness.pair import build_torch, for_inference
    from parity_tests.harness.run import part_inputs
    from toonport.onnx_export import export_onnx

    target = Path(args.out)
    if target.suffix != ".onnx":
        raise InputError(f"{target}: the target must end in .onnx")
    family = family_named(args.family)
    network = load_networks(args.weights, family.name, args.part or family.parts[0].name)[0]
    module = for_inference(build_torch(network.part, network.kwargs, torch_arrays(network)))
    inputs = part_inputs(network.part, network.kwargs, 0, args.size)
    with spinner(f"exporting {family.name} {network.part.name}"):
        export = export_onnx(module, inputs, network.part.outputs, target)
    for verdict in export.verdicts:
        one = verdict.measurement
        out.print(
            f"{one.tensor}: max|Δ| {one.difference:.1e} against float32 PyTorch, error against float64 "
            f"{one.error:.1e} (PyTorch {one.noise:.1e}, budget {verdict.budget:.1e})"
        )
    out.print(f"wrote {target} ({target.stat().st_size / 2**20:.1f} MiB, {export.nodes} nodes)")
    return 0
