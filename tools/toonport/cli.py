"""The command `toonport`: one file per subcommand, one place for errors and exit codes.

Exit codes: 0 done (or equal), 1 different, 2 bad input or usage, 3 internal error, 130 interrupted.
"""

import argparse
import io
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

from convert.errors import InputError
from toonport import __version__
from toonport.terminal import discard_output, flush_output, plain

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
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with every subcommand; imports no framework."""
    parser = argparse.ArgumentParser(
        prog="toonport",
        description="Carry photo-to-cartoon GANs between PyTorch and MindSpore, and prove that nothing was lost.",
        epilog="Exit codes: 0 done or equal, 1 different, 2 bad input or usage, 3 internal error.",
    )
    parser.add_argument("--version", action="version", version=f"toonport {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        import_module(f"toonport.commands.{name}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    os.environ.setdefault("GLOG_v", "3")  # MindSpore's own log: errors only
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    args = build_parser().parse_args(argv)
    try:
        code = int(args.run(args))
        flush_output()
        return code
    except InputError as error:
        return _failed(args.debug, f"toonport {args.command}: {error}", 2)
    except ModuleNotFoundError as error:
        text = f"the package '{error.name}' is missing; toonport doctor says what to install"
        return _failed(args.debug, f"toonport {args.command}: {text}", 2)
    except BrokenPipeError:
        discard_output()
        return 0
    except OSError as error:  # a disk that is full, a folder that may not be written: never this program's own
        try:
            flush_output()
        except OSError:
            discard_output()
        where = error.filename or "standard output or a file"
        return _failed(args.debug, f"toonport {args.command}: {where}: {error.strerror or error}", 2)
    except MemoryError as error:
        return _failed(args.debug, f"toonport {args.command}: not enough memory ({error or 'none is free'})", 2)
    except KeyboardInterrupt:
        return _failed(args.debug, "interrupted", 130)
    except Exception as error:
        text = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
        what = f"internal error: {type(error).__name__}: {text} (toonport --debug {args.command} shows more)"
        return _failed(args.debug, f"toonport {args.command}: {what}", 3)


def _failed(debug: bool, message: str, code: int) -> int:
    if debug:
        traceback.print_exc()
    print(plain(" ".join(message.split("\n"))), file=sys.stderr)
    return code
