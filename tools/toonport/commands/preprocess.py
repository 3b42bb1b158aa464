"""toonport preprocess: photos to aligned, cropped and cut-out portraits, for training."""

import argparse
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from convert.devices import CPU
from toonport.commands.options import Subparsers, add_command, add_option, number
from toonport.commands.photo_run import (
    add_portrait_options,
    folder_notes,
    jobs_for,
    portrait_options,
    require_folder,
    run_photos,
)
from toonport.commands.ray_run import add_ray_options, require_ray, run_on_ray
from toonport.photo.batch import Record, plan_tasks, sample

EPILOG = """examples:
  toonport preprocess photos/ --out dataset/trainA --size 256
  toonport preprocess photos/ --out dataset/testA --sample 100 --keep-background
  toonport preprocess 'shards/*.tar' --out portraits --tables --ray cluster:6379
Every portrait is a PNG with its photo's name. A second run goes on where the first ended: OUT/preprocess.jsonl
says what became of each photo. Exit codes: 0 every photo done; 2 some skipped (no face, not a picture), the
others are written."""
RECORD = "preprocess.jsonl"


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    parser = add_command(subparsers, "preprocess", run, "align, crop and cut out the faces of photos", EPILOG)
    parser.add_argument("photos", metavar="PHOTO", nargs="+", help="photos, or folders of photos")
    parser.add_argument("--out", metavar="FOLDER", required=True, help="where the portraits go")
    add_option(parser, "--size", help="side in pixels (default: the photo's own resolution)")
    parser.add_argument("--sample", type=number, metavar="N", help="only N photos, at equal intervals")
    parser.add_argument("--keep-background", action="store_true", help="align and crop only")
    add_portrait_options(parser)
    add_ray_options(parser)
    parser.set_defaults(device=CPU)


def run(args: argparse.Namespace) -> int:
    """Make the portraits; 0 when every photo was done, else 2."""
    from toonport.photo.preprocessor import Preprocessor

    options = portrait_options(args, args.keep_background)
    settings = {"portrait": asdict(options), "size": args.size}
    if args.ray:
        make = partial(Preprocessor, replace(options, threads=1), args.size)
        return run_on_ray(args, make, settings, RECORD, partial(sample, count=args.sample) if args.sample else list)
    require_ray(args)
    folder = require_folder(Path(args.out))
    tasks = plan_tasks(args.photos, folder)
    if args.sample:
        tasks = sample(tasks, args.sample)
    record = Record(folder / RECORD, settings)
    jobs = jobs_for(len(tasks), args.jobs)
    if jobs > 1:  # each process has its share of the cores
        options = replace(options, threads=1)
    notes = folder_notes(args.photos, folder)
    return run_photos(partial(Preprocessor, options, args.size), tasks, jobs, record, "preprocessing", notes, args.json)
