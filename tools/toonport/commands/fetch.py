"""toonport fetch: bring a published weight file, checked."""

import argparse
from pathlib import Path

from convert.disk import sha256_of
from convert.errors import InputError
from toonport.commands.options import Subparsers, add_command
from toonport.commands.ui import bar, out, print_table
from toonport.fetch import RECORD, fetch, load_manifest, weights_folder


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    parser = add_command(subparsers, "fetch", run, "download published weights, or say how to get them")
    parser.add_argument("name", nargs="?", help="entry of the manifest; without it, list them")
    parser.add_argument("--dir", metavar="FOLDER", help="where to store it (default: the weights folder)")
    parser.add_argument("--manifest", metavar="FILE", help="another manifest")


def run(args: argparse.Namespace) -> int:
    """List the releases, or fetch one."""
    releases = load_manifest(Path(args.manifest) if args.manifest else None)
    folder = Path(args.dir) if args.dir else weights_folder()
    if not args.name:
        rows = [
            [release.name, release.family, release.part, release.how,
             "here" if (folder / release.file).is_file() else "-", release.licence, release.source]
            for release in releases.values()
        ]  # fmt: skip
        print_table(["name", "family", "part", "how", "present", "licence", "source"], rows)
        return 0
    if args.name not in releases:
        raise InputError(f"unknown name '{args.name}'; known: {', '.join(releases)}")
    release = releases[args.name]
    with bar("fetching") as progress:
        path = fetch(release, folder, progress, lambda: out.print("another process is fetching it; waiting"))
    kind = f"holds {release.family} {release.part} by its content"
    checked = "matches the manifest" if release.is_known else f"not verifiable, nobody published its hash: {kind}"
    if not release.is_known:
        checked += f"; its hash is on record, and another one will be refused ({path.with_name(RECORD)})"
    out.print(f"{path}: sha256 {sha256_of(path)} ({checked}); licence {release.licence}")
    return 0
