"""toonport cartoonize: photos to cartoons."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.channels import ORDERS
from convert.disk import sha256_of
from convert.errors import InputError
from toonport.commands.options import Subparsers, add_command, add_option
from toonport.commands.photo_run import (
    add_portrait_options,
    err,
    folder_notes,
    jobs_for,
    portrait_options,
    require_folder,
    run_photos,
)
from toonport.commands.ray_run import add_ray_options, require_ray, run_on_ray
from toonport.commands.ui import STANDARD_OUTPUT
from toonport.photo.batch import Record, Task, plan_tasks, require_kept
from toonport.photo.files import WRITABLE
from toonport.train.finished import generating

if TYPE_CHECKING:
    from toonport.draw.cartoonizer import CartoonSettings


EPILOG = """examples:
  toonport cartoonize me.jpg --weights photo2cartoon.ckpt --out cartoon.png
  toonport cartoonize photos/ --weights photo2cartoon_weights.onnx --out cartoons --sheet
  toonport cartoonize 'shards/*.tar' --weights photo2cartoon.ckpt --out cartoons --tables --ray cluster:6379
  cat me.jpg | toonport cartoonize - --weights photo2cartoon_weights.pt --out - > cartoon.png
Weights may come from either framework or be a published ONNX file; all backends draw the same picture.
Exit codes: 0 every photo done; 2 some skipped (no face, not a picture), the others are written."""
STANDARD = "-"
RECORD = "cartoonize.jsonl"


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    text = "draw cartoons of photos with MindSpore, ONNX Runtime, PyTorch or OpenVINO"
    parser = add_command(subparsers, "cartoonize", run, text, EPILOG)
    parser.add_argument("photos", metavar="PHOTO", nargs="+", help="photos, folders of photos, or - for standard input")
    add_option(
        parser,
        "--weights",
        required=True,
        help="checkpoint of any format, .onnx, or a run's folder (its selected checkpoint or its newest)",
    )
    parser.add_argument("--out", metavar="PATH", help="a file for one photo, else a folder; - for standard output")
    add_option(parser, "--family", help="family of the weights (default: by the tensors; ONNX: photo2cartoon)")
    for name in ("--part", "--backend", "--device", "--size"):
        add_option(parser, name)
    parser.add_argument(
        "--frame",
        choices=("portrait", "face", "whole"),
        help="portrait: face cut out on white; face: with its background; whole: the photo (default: as trained)",
    )
    text = "order of the colours (default: as the weights were made for)"
    parser.add_argument("--channels", choices=ORDERS, help=text)
    parser.add_argument("--sheet", action="store_true", help="also photo, crop, heat map and cartoon side by side")
    add_portrait_options(parser)
    add_ray_options(parser)


def run(args: argparse.Namespace) -> int:
    """Draw the cartoons; 0 when every photo was done, else 2."""
    from toonport.draw.cartoonizer import Cartoonizer, CartoonSettings

    source = generating(args.weights, args.family, args.size)
    settings = CartoonSettings(
        weights=source.weights,
        family=source.family,
        part=args.part,
        backend=args.backend,
        device=args.device,
        channels=args.channels,
        frame=args.frame,
        size=source.size,
        sheets=args.sheet,
        portrait=portrait_options(args),
    )
    if args.ray:
        make = partial(Cartoonizer, _alone(settings))
        return run_on_ray(args, make, _recorded(settings), RECORD)
    require_ray(args)
    target = args.out or (STANDARD if args.photos == [STANDARD] else None)
    if target is None:
        raise InputError("--out is needed: a file for one photo, a folder for several, or -")
    if target == STANDARD and args.json == STANDARD_OUTPUT:
        raise InputError("--out - and --json both want standard output; give one of them a file")
    if target == STANDARD:
        return _to_standard_output(args.photos, settings)
    tasks, record = _tasks(args.photos, Path(target), settings)
    jobs = jobs_for(len(tasks), args.jobs, args.device)
    if jobs > 1:  # each process has its share of the cores
        settings = _alone(settings)
    notes = folder_notes(args.photos, Path(target))
    return run_photos(partial(Cartoonizer, settings), tasks, jobs, record, "drawing", notes, args.json)


def _tasks(photos: list[str], target: Path, settings: CartoonSettings) -> tuple[list[Task], Record | None]:
    """Return what is to be drawn; a folder of results keeps a record, a single file does not."""
    several = len(photos) > 1 or Path(photos[0]).is_dir()
    if not target.is_dir() and (target.suffix.lower() in WRITABLE or (target.suffix and not several)):
        if several:
            raise InputError(f"{target}: --out must be a folder for several photos")
        content = sys.stdin.buffer.read() if photos == [STANDARD] else None
        tasks = [Task(photos[0], str(target), content)]
        require_kept(tasks)
        return tasks, None
    if STANDARD in photos:
        raise InputError("a photo from standard input needs --out with a file name, or -")
    tasks = plan_tasks(photos, require_folder(target))
    return tasks, Record(target / RECORD, _recorded(settings))


def _recorded(settings: CartoonSettings) -> dict[str, Any]:
    """What a cartoon depends on."""
    return {**asdict(settings), "weights": sha256_of(Path(settings.weights))}


def _alone(settings: CartoonSettings) -> CartoonSettings:
    """Settings of one process of several, each with its share of the cores."""
    return replace(settings, threads=1, portrait=replace(settings.portrait, threads=1))


def _to_standard_output(photos: list[str], settings: CartoonSettings) -> int:
    """Draw one photo and write the picture as PNG to standard output."""
    from toonport.draw.cartoonizer import Cartoonizer, portraits_of
    from toonport.photo.picture import encode
    from toonport.photo.portrait import warnings_of
    from toonport.photo.preprocessor import load_photo

    if len(photos) > 1 or Path(photos[0]).is_dir():
        raise InputError("standard output takes one photo; give --out a folder for several")
    if sys.stdout.isatty():
        raise InputError("a picture would be written to the terminal; use --out FILE or send it on with > or |")
    content = sys.stdin.buffer.read() if photos == [STANDARD] else None
    photo = load_photo(Task(photos[0], "", content), settings.portrait.as_reference)
    cartoonizer = Cartoonizer(settings)
    cartoons = cartoonizer.draw(photo)
    if len(cartoons) > 1:
        raise InputError(f"{len(cartoons)} faces; standard output takes one picture, leave out --all-faces")
    for text in (*cartoonizer.notes, *(f"{photos[0]}: {own}" for own in warnings_of(portraits_of(cartoons)))):
        err.print(text)
    shown = cartoons[0].sheet(photo) if settings.sheets else cartoons[0].picture
    sys.stdout.buffer.write(encode(shown))
    sys.stdout.buffer.flush()
    return 0
