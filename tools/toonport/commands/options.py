"""How subcommands are registered, and the options that several of them have."""

import argparse
from collections.abc import Callable
from typing import Any, TypeAlias

from toonport.draw.generators import BACKENDS, DEVICES

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def number(text: str) -> int:
    """Return a whole number from 1 on, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


SHARED: dict[str, dict[str, Any]] = {
    "FAMILY": {"metavar": "FAMILY", "help": "see toonport list"},
    "--family": {"help": "family of the weights (default: by the tensors)"},
    "--part": {"help": "one network, e.g. genA2B (default: the one that draws)"},
    "--weights": {"metavar": "FILE", "help": "checkpoint of any format, or the folder of a training run"},
    "--backend": {"choices": BACKENDS, "help": "default: the weights' own"},
    "--device": {"choices": DEVICES, "default": "cpu", "help": "device of the network (default: cpu)"},
    "--size": {"type": number, "metavar": "N", "help": "side of the picture in pixels (default: as trained)"},
    "--seed": {"type": int, "default": 0, "help": "default: 0"},
    "--json": {"metavar": "FILE", "help": "write everything as JSON"},
}


def add_own_pair(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a user's own two networks."""
    group = parser.add_argument_group("your own networks (their code runs)")
    where = "FILE.py:NAME or package.module:NAME, a class or a function"
    group.add_argument("--torch", metavar="NET", help=f"the reference: {where}")
    group.add_argument("--mindspore", metavar="NET", help="the port, named in the same way")
    group.add_argument("--kwargs", metavar="JSON", help="what both are called with, e.g. '{\"width\": 8}'")
    group.add_argument("--map", metavar="TOML", help='layers called otherwise: [layers], "down.0" = "conv1"')


def add_command(
    subparsers: Subparsers, name: str, run: Callable[[argparse.Namespace], int], text: str, epilog: str = ""
) -> argparse.ArgumentParser:
    """Register a subcommand: `run` returns its exit code, `text` is its line in the list, `epilog` ends its help."""
    parser = subparsers.add_parser(name, help=text, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(run=run)
    return parser


def add_option(container: argparse._ActionsContainer, name: str, **more: Any) -> None:
    """Add one of the SHARED options to a parser or a group of options; `more` goes over what is shared."""
    given = {**SHARED[name], **more}
    container.add_argument("family" if name == "FAMILY" else name, **given)
