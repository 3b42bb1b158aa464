"""toonport fetch: bring a published weight file, checked."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from convert.disk import sha256_of
from convert.errors import InputError
from convert.suggest import did_you_mean
from toonport.commands.options import Subparsers, add_command
from toonport.commands.ui import bar, out, print_json, print_table
from toonport.fetch import RECORD, Release, fetch, is_on_record, load_manifest, seen_in, weights_folder
from toonport.sources import fetch_any, place, recognise


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    parser = add_command(subparsers, "fetch", run, "download published weights, or say how to get them")
    parser.add_argument("name", nargs="?", help="entry of the manifest; without it, list them")
    parser.add_argument("--dir", metavar="FOLDER", help="where to store it (default: the weights folder)")
    parser.add_argument(
        "--from", dest="source", metavar="FILE", help="take this file instead; without a name, say what it is"
    )
    parser.add_argument("--manifest", metavar="FILE", help="another manifest")


def _row(release: Release, folder: Path) -> list[str]:
    present = "here" if (folder / release.file).is_file() else "-"
    return [release.name, release.family, release.part, release.how, present, release.seen or "-", release.licence,
            release.source]  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """List the releases, or fetch one."""
    releases = load_manifest(Path(args.manifest) if args.manifest else None)
    folder = Path(args.dir) if args.dir else weights_folder()
    if args.source and not args.name:
        args.name = _recognised(args.source, releases)
    if not args.name:
        known = [asdict(release) | {"present": (folder / release.file).is_file()} for release in releases.values()]
        rows = [_row(release, folder) for release in releases.values()]
        print_table(["name", "family", "part", "how", "present", "last worked", "licence", "source"], rows)
        print_json(args.json, {"folder": str(folder), "releases": known})
        return 0
    if args.name not in releases:
        close = did_you_mean(args.name, releases)
        raise InputError(f"unknown name '{args.name}'{close}; known: {', '.join(releases)}")
    release = releases[args.name]
    if args.source:
        place(Path(args.source), release, folder)
        path = fetch(release, folder)  # its hash goes on record
    else:
        with bar("fetching") as progress:
            path = fetch_any(release, folder, progress, lambda: out.print("another process is fetching it; waiting"))
    checked = "matches the manifest" if release.is_known else _unpublished(release, path)
    out.print(f"{path}: sha256 {sha256_of(path)} ({checked}); licence {release.licence}")
    print_json(
        args.json, {"name": release.name, "file": str(path), "sha256": sha256_of(path), "checked": release.is_known}
    )
    return 0


def _unpublished(release: Release, path: Path) -> str:
    """What is known of a file whose hash nobody published."""
    record = path.with_name(RECORD)
    kept = f"its hash is on record, and another one will be refused ({record})"
    if not is_on_record(path):
        kept = f"its hash is not on record, because {record} may not be written"
    return f"not verifiable, nobody published its hash: {seen_in(release)}; {kept}"


def _recognised(source: str, releases: Mapping[str, Release]) -> str:
    """Return the one release that a file may be. Raises InputError: it may be none, or several."""
    known, what = recognise(Path(source), tuple(releases.values()))
    if len(known) != 1:
        names = ", ".join(release.name for release in known)
        raise InputError(f"{source}: {what}; {f'it may be {names}: name one' if names else 'none of the known files'}")
    out.print(f"{source}: {what}")
    return known[0].name
