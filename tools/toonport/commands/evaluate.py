"""toonport evaluate: how good cartoons are, in numbers, and which checkpoint of a run draws the best."""

import argparse

from convert.errors import InputError
from toonport.cluster import ADDRESS_HELP, HERE
from toonport.commands.options import Subparsers, add_command, add_option, number

EPILOG = """examples:
  toonport evaluate --photos data/testA --real data/testB --weights photo2cartoon.ckpt --face-weights mobilefacenet.pth
  toonport evaluate --photos data/testA --real data/testB --fake cartoons --json numbers.json
  toonport evaluate --select runs/photo2cartoon --kid ugatit
Photos are the network's inputs (aligned crops, drawn whole), --real are cartoons of the kind that was to be learned.
FID and KID need the published Inception weights (toonport fetch inception); in other features the same arithmetic is
called Fréchet distance and kernel distance, with the features' name. Face-ID similarity and the perceptual distance
compare each cartoon with its photo; ready-made cartoons are paired with photos by file name. A DIR of pictures may also
be a pattern such as 'cartoons/**/*.png', a Parquet table, a .tar archive of WebDataset, or a folder of these.
--select looks at every checkpoint that the run has kept (train with a large --keep) and writes the file `selected`
beside `best`, which training goes on to write by its losses; a selected checkpoint is kept when the run is resumed."""


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    text = "KID, FID, Face-ID similarity and perceptual distance; the best checkpoint of a run"
    json_help = "print every number, with definitions, counts and hashes; with a name in .json, write it there"
    parser = add_command(subparsers, "evaluate", run, text, EPILOG, json_help)
    add = parser.add_argument
    add("--real", metavar="DIR", help="real cartoons (with --select: default testB of the run's data)")
    add("--photos", metavar="DIR", help="photos (with --select: default testA of the run's data)")
    add("--column", metavar="NAME", help="which column of Parquet tables holds the pictures (default: the only one)")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--fake", metavar="DIR", help="ready-made cartoons, named like their photos")
    add_option(source, "--weights", help="generator that draws cartoons of --photos, or a run's folder")
    source.add_argument("--select", metavar="RUN", help="folder of a training run: find its best checkpoint")
    add("--by", metavar="NAME", help="with --select, the number that decides, e.g. fid, face-id (default: KID)")
    add("--kid", choices=("standard", "ugatit"), default="standard",
        help="100 random subsets of up to 1000 pictures; or blocks of 10 as U-GAT-IT's evaluation")  # fmt: skip
    add("--inception-weights", metavar="FILE", help="default: as fetched")
    add("--face-weights", metavar="FILE", help="MobileFaceNet (default: as fetched)")
    add("--vgg-weights", metavar="FILE", help="VGG19 (default: as fetched)")
    for name in ("--family", "--part", "--backend", "--device", "--size"):
        add_option(parser, name)
    add("--html", metavar="FILE", help="write the numbers, how they are computed and their limits as one offline page")
    group = parser.add_argument_group("on Ray")
    group.add_argument("--ray", metavar="ADDRESS", nargs="?", const=HERE, help=ADDRESS_HELP)
    group.add_argument("--out", metavar="DIR", help="keeps what was made of each batch; a second run goes on from it")
    group.add_argument("--jobs", type=number, metavar="N", help="actors (default: as many as there are processors)")
    add_option(parser, "--seed", help="of the kernel distance's subsets or blocks (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print; 0 when there are numbers."""
    if args.seed < 0:
        raise InputError(f"--seed {args.seed}: must not be negative")
    if args.by and not args.select:
        raise InputError("--by goes with --select RUN")
    if not args.select and not args.real:
        raise InputError("--real DIR is needed: the real cartoons to compare with")
    if bool(args.ray) != bool(args.out) or (args.jobs and not args.ray):
        raise InputError("--ray and --out DIR go together; --jobs N goes with them")
    from toonport.commands.evaluate_run import evaluate_cartoons, select_checkpoint
    from torch_ref.environment import computing

    with computing(args.device):
        return select_checkpoint(args) if args.select else evaluate_cartoons(args)
