"""How subcommands are registered, and the options that several of them have."""

import argparse
from collections.abc import Callable
from typing import Any, TypeAlias

from convert.devices import CPU, DEVICES
from toonport.cluster import ADDRESS_HELP, HERE
from toonport.commands.parser import Parser
from toonport.commands.ui import STANDARD_OUTPUT, json_target
from toonport.draw.choices import BACKENDS

Subparsers: TypeAlias = "argparse._SubParsersAction[Parser]"


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
    "--backend": {"choices": BACKENDS, "help": "what runs the network (default: the weights' own framework)"},
    "--device": {"choices": DEVICES, "default": CPU, "help": f"device of the network (default: {CPU})"},
    "--size": {"type": number, "metavar": "N", "help": "side of the picture in pixels (default: as trained)"},
    "--runtime": {"metavar": "RUN", "default": None},
    "--seed": {"type": int, "default": 0, "help": "default: 0"},
}
JSON_HELP = "print the result as JSON, and no text; with a name that ends in .json, write it there instead"


def add_own_pair(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a user's own two networks."""
    group = parser.add_argument_group("your own networks (their code runs)")
    where = "FILE.py:NAME or package.module:NAME, a class or a function"
    group.add_argument("--torch", metavar="NET", help=f"the reference: {where}")
    group.add_argument("--mindspore", metavar="NET", help="the port, named in the same way")
    group.add_argument("--kwargs", metavar="JSON", help="what both are called with, e.g. '{\"width\": 8}'")
    group.add_argument("--map", metavar="TOML", help='layers called otherwise: [layers], "down.0" = "conv1"')


def add_command(
    subparsers: Subparsers,
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
    epilog: str = "",
    json_help: str = JSON_HELP,
) -> Parser:
    """Register a subcommand with what every command has; `run` returns its exit code, `json_help` is of --json."""
    parser = subparsers.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=epilog)
    parser.set_defaults(run=run, parser=parser)
    group = parser.add_argument_group("output")
    group.add_argument("--json", metavar="FILE", nargs="?", type=json_target, const=STANDARD_OUTPUT, help=json_help)
    add_output_options(group)
    return parser


def add_output_options(container: argparse._ActionsContainer, default: Any = argparse.SUPPRESS) -> None:
    """Add how much is shown; before or after the command's name, so that a command's own default says nothing."""
    add = container.add_argument
    add("-q", "--quiet", action="store_true", default=default, help="print errors only, and what --json asks for")
    add("-v", "--verbose", action="store_true", default=default, help="print each step of what takes long, and when")
    add("--log-file", metavar="FILE", default=default, help="add text, steps and errors to this file, with times")
    add("--debug", action="store_true", default=default, help="show the traceback of an error")


def add_spread_options(container: argparse._ActionsContainer, what: str) -> None:
    """Add in how many processes work is done, and where; `what` is done at a time."""
    container.add_argument("--jobs", type=number, default=1, metavar="N", help=f"{what} at a time (default: 1)")
    container.add_argument("--ray", metavar="ADDRESS", nargs="?", const=HERE, help=ADDRESS_HELP)


def add_option(container: argparse._ActionsContainer, name: str, **more: Any) -> None:
    """Add one of the SHARED options to a parser or a group of options; `more` goes over what is shared."""
    given = {**SHARED[name], **more}
    container.add_argument("family" if name == "FAMILY" else name, **given)
