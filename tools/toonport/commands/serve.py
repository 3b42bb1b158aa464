"""toonport serve: a page on this machine that turns dropped photos into cartoons."""

import argparse
import shutil
import signal
import socket
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from convert.disk import folder_locked
from convert.errors import InputError
from toonport.commands.options import Subparsers, add_command, add_option, number
from toonport.commands.ui import out, print_json
from toonport.fetch import weights_folder

PREFIX = "toonport_serve_"  # of the temporary folder with the visitors' photos
NEW_SECONDS = 300


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    parser = add_command(subparsers, "serve", run, "a local web page: photo in, cartoon out")
    text = "files or folders to choose from (default: weights folder)"
    add_option(parser, "--weights", metavar="PATH", nargs="+", default=[], help=text)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    text = "another name of this machine under which the page may be asked for, such as a proxy's; may be repeated"
    parser.add_argument("--allow-host", metavar="NAME", action="append", default=[], help=text)
    parser.add_argument("--port", type=number, help="port (default: the first free one from 7860 on)")
    add_option(parser, "--device")
    parser.add_argument("--max-megabytes", type=number, default=20, help="largest file that is accepted (default: 20)")
    parser.add_argument("--max-megapixels", type=number, default=40, help="largest picture (default: 40)")


def clean_leftovers(place: Path) -> None:
    """Remove what servers that were killed left of their visitors' photos; that of one that runs is locked.

    One without a lock may be about to be locked, and is left alone while it is new.
    """
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(InputError, OSError):
            is_old = time.time() - folder.stat().st_mtime > NEW_SECONDS
            if folder.is_dir() and not folder.is_symlink() and (is_old or (folder / ".lock").is_file()):
                with folder_locked(folder):
                    shutil.rmtree(folder)


def require_address(host: str) -> None:
    """Raise OSError where a name or address, of IPv6 in brackets or not, is none of this machine's."""
    family, kind, _, _, address = socket.getaddrinfo(host.strip("[]") or None, 0, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        probe.bind(address)


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted or terminated; the uploaded photos are removed then."""
    from toonport.serve.page import launch
    from toonport.serve.studio import Limits, Studio, find_weights

    weights = find_weights(args.weights, weights_folder())
    limits = Limits(args.max_megabytes * 2**20, args.max_megapixels * 1_000_000)
    studio = Studio(weights, limits, args.device)
    for ending in {"SIGTERM", "SIGHUP"} & set(signal.Signals.__members__):
        if signal.getsignal(signal.Signals[ending]) is not signal.SIG_IGN:  # as nohup has a closed terminal ignored
            signal.signal(signal.Signals[ending], signal.default_int_handler)  # ends like Ctrl-C
    start = partial(launch, names=args.allow_host) if args.allow_host else launch
    clean_leftovers(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder, folder_locked(Path(folder)):
        try:
            require_address(args.host)
            page = start(studio, folder, args.host, args.port)
        except (OSError, OverflowError, UnicodeError) as error:
            raise InputError(f"cannot listen on {args.host}:{args.port or 7860}: {error}") from error
        try:
            out.print(f"{page.local_url} serves {len(weights)} weights files; Ctrl-C ends it")
            print_json(args.json, {"url": page.local_url, "weights": [str(path) for path in weights]})
            page.block_thread()
        finally:
            page.close(verbose=False)  # before the folder goes: a request under way would write into it
    return 0
