"""The command `toonport`: one file per subcommand, one place for errors; `exit_codes.py` says how it ends."""

import argparse
import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

from convert.errors import InputError
from toonport import __version__
from toonport.commands.options import add_output_options
from toonport.commands.parser import Parser, with_json_plain
from toonport.commands.ui import STANDARD_OUTPUT, shown
from toonport.exit_codes import ExitCode, exit_codes_text
from toonport.terminal import discard_output, flush_output, open_closed_streams, plain

COMMANDS = (
    "convert",
    "inspect",
    "compare",
    "match",
    "port",
    "train",
    "evaluate",
    "mutants",
    "export",
    "preprocess",
    "cartoonize",
    "serve",
    "bench",
    "fetch",
    "list",
    "doctor",
    "demo",
    "completion",
)
FLAGS = ("-q", "--quiet", "-v", "--verbose", "--debug")  # that may stand before the command
_log = logging.getLogger("toonport.ended")


def build_parser(words: Sequence[str] = ()) -> Parser:
    """Return the parser; imports no framework.

    Args:
        words: a command line; the parser has its command alone, where that is clear and does not look at the others.
    """
    parser = Parser(
        prog="toonport",
        description="Carry photo-to-cartoon GANs between PyTorch and MindSpore, and prove that nothing was lost.",
        epilog=exit_codes_text(),
    )
    parser.add_argument("--version", action="version", version=f"toonport {__version__}")
    add_output_options(parser, None)
    parser.set_defaults(root=parser)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    named = next((word for word in words if word not in FLAGS), "")
    alone = named in COMMANDS and named != "completion"
    for name in [named] if alone else COMMANDS:
        import_module(f"toonport.commands.{name}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    words = sys.argv[1:] if argv is None else argv
    args, unknown = build_parser(words).parse_known_args(with_json_plain(words))
    if unknown:
        parser = args.root if args.root.unknown_options() else args.parser
        parser.error(f"more than it takes: {' '.join(unknown)}")
    os.environ.setdefault("GLOG_v", "3" if args.debug else "4")  # MindSpore's log of errors, which it raises as well
    try:
        with shown(args.quiet or args.json == STANDARD_OUTPUT, args.verbose, args.log_file):
            return _run(args, words)
    except InputError as error:
        return _failed(args, f"toonport {args.command}: {error}", ExitCode.BAD_INPUT)


def _run(args: argparse.Namespace, words: Sequence[str]) -> int:
    _log.info("toonport %s: %s", __version__, " ".join(words))
    try:
        code = int(args.run(args))
        flush_output()
        return code
    except InputError as error:
        return _failed(args, f"toonport {args.command}: {error}", ExitCode.BAD_INPUT)
    except ModuleNotFoundError as error:
        text = f"the package '{error.name}' is missing; toonport doctor says what to install"
        return _failed(args, f"toonport {args.command}: {text}", ExitCode.BAD_INPUT)
    except BrokenPipeError:
        discard_output()
        return ExitCode.DONE
    except OSError as error:  # a disk that is full, a folder that may not be written: never this program's own
        try:
            flush_output()
        except OSError:
            discard_output()
        where = error.filename or "standard output or a file"
        return _failed(args, f"toonport {args.command}: {where}: {error.strerror or error}", ExitCode.BAD_INPUT)
    except MemoryError as error:
        text = f"not enough memory ({error or 'none is free'})"
        return _failed(args, f"toonport {args.command}: {text}", ExitCode.BAD_INPUT)
    except KeyboardInterrupt:
        return _failed(args, "interrupted", ExitCode.STOPPED)
    except Exception as error:
        text = next(iter(str(error).strip().splitlines()), "no message")
        what = f"internal error: {type(error).__name__}: {text} (toonport --debug {args.command} shows more)"
        return _failed(args, f"toonport {args.command}: {what}", ExitCode.INTERNAL_ERROR)


def _failed(args: argparse.Namespace, message: str, code: ExitCode) -> int:
    """Say on one line what went wrong; --debug and --log-file get the traceback."""
    _log.error("%s (exit code %d)", message, code, exc_info=True)
    if args.debug:
        traceback.print_exc()
    print(plain(" ".join(message.split("\n"))), file=sys.stderr)
    return code
