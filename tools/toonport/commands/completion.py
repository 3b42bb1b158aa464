"""toonport completion: a script that completes commands, options, families and files in a shell."""

import argparse
from collections.abc import Iterator

from convert.errors import InputError
from convert.registry import families
from toonport.commands.options import Subparsers, add_command
from toonport.commands.ui import STANDARD_OUTPUT, print_json

EPILOG = """examples:
  toonport completion bash > ~/.local/share/bash-completion/completions/toonport
  toonport completion zsh > ~/.zfunc/_toonport        with fpath+=~/.zfunc before compinit in ~/.zshrc"""
SHELLS = ("bash", "zsh", "tcsh")
FILES = {"FILE", "IMG", "IN", "PATH", "PHOTO", "SRC", "DST", "A", "B", "B.json", "TOML", "NET", "[NAME=]FILE"}
FOLDERS = {"DIR", "FOLDER", "RUN", "[NAME=]FOLDER"}
FAMILIES = {"bash": "_toonport_families", "zsh": "_toonport_families"}


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    text = "print a script that completes commands, options, families and files"
    parser = add_command(subparsers, "completion", run, text, EPILOG)
    parser.add_argument("shell", metavar="SHELL", help=f"one of {', '.join(SHELLS)}")


def run(args: argparse.Namespace) -> int:
    """Print the script. Raises InputError: a shell that is not known."""
    import shtab

    if args.shell not in SHELLS:
        raise InputError(f"{args.shell}: no script for this shell; known: {', '.join(SHELLS)}")
    root = args.root
    for action in _actions(root):
        _complete(action, shtab.FILE, shtab.DIRECTORY)
    names = " ".join(family.name for family in families())
    preamble = {
        "bash": f'_toonport_families() {{ compgen -W \'{names}\' -- "$1"; compgen -f -- "$1"; }}',
        "zsh": f"_toonport_families() {{ compadd {names}; _files; }}",
    }
    script = shtab.complete(root, args.shell, preamble=preamble.get(args.shell, ""))
    print_json(args.json, {"shell": args.shell, "script": script})
    if args.json != STANDARD_OUTPUT:
        print(script)
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield what a parser and its commands take."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
        else:
            yield action


def _complete(action: argparse.Action, file: object, folder: object) -> None:
    """Say to shtab, in the attribute that it reads, what completes the value of an action."""
    if action.dest == "family":
        action.complete = FAMILIES  # type: ignore[attr-defined]
    elif action.metavar in FILES:
        action.complete = file  # type: ignore[attr-defined]
    elif action.metavar in FOLDERS:
        action.complete = folder  # type: ignore[attr-defined]
