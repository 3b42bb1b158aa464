"""toonport match: which layer of a port is which of its reference, where the two call them otherwise."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from convert.errors import InputError
from toonport.commands.options import Subparsers, add_command, add_option, add_own_pair
from toonport.commands.ui import STANDARD_OUTPUT, print_json
from toonport.terminal import write

if TYPE_CHECKING:
    from parity_tests.harness.matching import Matching

EPILOG = """example:
  toonport match --torch mynet.py:Net --mindspore mynet_ms.py:Net --inputs 3x64x64 > map.toml
  toonport match --torch mynet.py:Net --mindspore mynet_ms.py:Net --inputs 3x64x64 --weights my.pt --ported my.ckpt
  toonport compare --torch mynet.py:Net --mindspore mynet_ms.py:Net --inputs 3x64x64 --map map.toml"""


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    text = "find which layer of your port is which of your reference, as a map for --map"
    parser = add_command(subparsers, "match", run, text, EPILOG)
    add_own_pair(parser)
    parser.add_argument("--inputs", metavar="IN", help="small ones: shapes such as 3x64x64, .npy, .npz or FILE.py:NAME")
    add_option(parser, "--weights", help="checkpoint of the reference, in its own names")
    parser.add_argument(
        "--ported", metavar="FILE", help="checkpoint of the port, in its own names: equal weights match"
    )
    parser.add_argument("--key", help="dictionary or prefix of --weights to take")
    add_option(parser, "--seed", help="of the weights and numbers that tell layers apart")


def run(args: argparse.Namespace) -> int:
    """Print the map as TOML."""
    if not (args.torch and args.mindspore and args.inputs):
        raise InputError("--torch, --mindspore and --inputs are needed together")
    from parity_tests.harness.matching import match_layers
    from parity_tests.harness.pair import as_inputs
    from toonport.own_pair import inputs_of, load_each, pair_from

    pair = pair_from(args.torch, args.mindspore, args.kwargs, args.map, args.seed)
    module, cell = pair.networks()
    load_each(module, cell, args.weights, args.ported, args.key)
    inputs = as_inputs(inputs_of(args.inputs, args.seed))
    found = match_layers(module.eval(), cell.set_train(False), inputs, pair.layers)
    print_json(args.json, _facts(found))
    if args.json != STANDARD_OUTPUT:
        _print_map(found)
    return 0


def _facts(found: Matching) -> dict[str, Any]:
    return {
        "layers": {match.torch: {"port": match.mindspore, "reason": match.reason} for match in found.matches},
        "differing": list(found.differing),
        "not_run_in_reference": list(found.torch),
        "in_port_only": list(found.mindspore),
    }


def _print_map(found: Matching) -> None:
    write("[layers]")
    for match in found.matches:
        write(f"{json.dumps(match.torch)} = {json.dumps(match.mindspore)}  # {match.reason}")
    for path in found.differing:
        where = f"{path} is fed" if path else "the network returns"
        write(f"# the port computes something else: {where} other numbers than in the reference")
    for path in found.torch:
        write(f"# not run in the reference: {path}")
    for path in found.mindspore:
        write(f"# in the port only: {path}")
