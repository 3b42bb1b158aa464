"""toonport evaluate: how good cartoons are, in numbers, and which checkpoint of a run draws the best."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from convert.errors import InputError
from toonport.commands.photo_options import number
from toonport.commands.ui import bar, out, print_table

if TYPE_CHECKING:
    from toonport.evaluate.evaluator import Evaluator
    from toonport.evaluate.pictures import PictureSet
    from toonport.evaluate.select import Candidate, RunToSelect
    from toonport.train.finished import Generating

__all__ = ["add_parser"]

EPILOG = """examples:
  toonport evaluate --photos data/testA --real data/testB --weights photo2cartoon.ckpt --face-weights mobilefacenet.pth
  toonport evaluate --photos data/testA --real data/testB --fake cartoons --json numbers.json
  toonport evaluate --select runs/photo2cartoon --kid ugatit
Photos are the network's inputs (aligned crops, drawn whole), --real are cartoons of the kind that was to be learned.
FID and KID need the published Inception weights (toonport fetch inception); in other features the same arithmetic is
called Fréchet distance and kernel distance, with the features' name. Face-ID similarity and the perceptual distance
compare each cartoon with its photo; ready-made cartoons are paired with photos by file name.
--select looks at every checkpoint that the run has kept (train with a large --keep) and writes the file `selected`
beside `best`, which training goes on to write by its losses; a selected checkpoint is kept when the run is resumed."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "evaluate",
        help="KID, FID, Face-ID similarity and perceptual distance; the best checkpoint of a run",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--real", metavar="DIR", help="real cartoons (with --select: default testB of the run's data)")
    add("--photos", metavar="DIR", help="photos (with --select: default testA of the run's data)")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--fake", metavar="DIR", help="ready-made cartoons, named like their photos")
    source.add_argument(
        "--weights", metavar="FILE", help="generator that draws cartoons of --photos, or a run's folder"
    )
    source.add_argument("--select", metavar="RUN", help="folder of a training run: find its best checkpoint")
    add("--by", metavar="NAME", help="with --select, the number that decides, e.g. fid, face-id (default: KID)")
    add("--kid", choices=("standard", "ugatit"), default="standard",
        help="100 random subsets of up to 1000 pictures; or blocks of 10 as U-GAT-IT's evaluation")  # fmt: skip
    add("--inception-weights", metavar="FILE", help="default: as fetched")
    add("--face-weights", metavar="FILE", help="MobileFaceNet (default: as fetched)")
    add("--vgg-weights", metavar="FILE", help="VGG19 (default: as fetched)")
    add("--family", help="family of the generator (default: by its tensors)")
    add("--part", help="network of the weights (default: the one that draws cartoons)")
    add("--backend", choices=("mindspore", "onnxruntime", "torch"), help="default: the weights' own")
    add("--device", choices=("cpu", "gpu", "ascend"), default="cpu", help="device of the generator")
    add("--size", type=number, help="side of the pictures that are drawn (default: as trained)")
    add("--seed", type=int, default=0, help="of the kernel distance's subsets or blocks (default: 0)")
    add("--json", metavar="FILE", help="write every number, with definitions, counts and hashes")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print; 0 when there are numbers."""
    from toonport.evaluate.pictures import PictureSet, require_pairs
    from toonport.train.finished import Generating, generating

    if args.seed < 0:
        raise InputError(f"--seed {args.seed}: must not be negative")
    if args.by and not args.select:
        raise InputError("--by goes with --select RUN")
    if args.select:
        return _select(args)
    if not args.real:
        raise InputError("--real DIR is needed: the real cartoons to compare with")
    given = Generating(args.fake) if args.fake else generating(args.weights, args.family, args.size)
    if args.weights and not args.photos:
        raise InputError("--photos DIR is needed: the photos that the cartoons are drawn of")
    fake = PictureSet(Path(args.fake)) if args.fake else None
    photos = PictureSet(Path(args.photos)) if args.photos else None
    if fake and photos:
        require_pairs(photos, fake)
    return _one(args, PictureSet(Path(args.real)), photos, fake, given)


def _evaluator(args: argparse.Namespace, real: PictureSet, photos: PictureSet | None) -> Evaluator:
    import torchmetrics.image  # noqa: F401  # missing: said before anything is drawn

    from toonport.evaluate.evaluator import Evaluator
    from toonport.evaluate.metrics import open_networks

    given = (args.inception_weights, args.face_weights, args.vgg_weights)
    networks = open_networks(*given, device="cuda" if _has_cuda(args.device) else "cpu")
    return Evaluator(networks, real, photos, args.kid, args.seed, lambda done, total, what: None)


def _has_cuda(device: str) -> bool:
    import torch

    return device == "gpu" and torch.cuda.is_available()


def _one(
    args: argparse.Namespace, real: PictureSet, photos: PictureSet | None, fake: PictureSet | None, source: Generating
) -> int:
    from toonport.evaluate.evaluator import generator_settings
    from toonport.evaluate.report import definition_lines, evaluation_rows, facts, note_lines, write_report
    from toonport.evaluate.select import Candidate

    with bar("evaluating") as progress:
        evaluator = _evaluator(args, real, photos)
        evaluator.tell = progress
        if fake:
            evaluation = evaluator.of_folder(fake)
        else:
            chosen = (source.family, args.part, args.backend, args.device, source.size)
            evaluation = evaluator.of_generator(generator_settings(Path(source.weights), *chosen))
    notes = note_lines(evaluation, [one for one in (real, photos, fake) if one])
    if not evaluation.metrics:
        raise InputError(f"nothing could be computed: {'; '.join(notes)}")
    print_table(["number", "value", "", "pictures"], evaluation_rows(evaluation))
    _print(notes, definition_lines(evaluation, evaluator))
    if args.json:
        candidate = Candidate(0, Path(source.weights), evaluation)
        write_report(facts(evaluator, fake, [candidate], None), Path(args.json))
    return 0


def _print(notes: list[str], definitions: list[str]) -> None:
    for text in notes:
        out.print(text, markup=False)
    out.print("definitions", style="bold")
    for text in definitions:
        out.print(f"  {text}", markup=False)


def _select(args: argparse.Namespace) -> int:
    from toonport.evaluate.pictures import PictureSet
    from toonport.evaluate.report import candidate_rows, definition_lines, facts, note_lines, write_report
    from toonport.evaluate.select import choose, decisive, open_run
    from toonport.train.state import run_lock

    run = open_run(Path(args.select))
    folders = [Path(given or Path(run.config.data) / test)
               for given, test in ((args.photos, "testA"), (args.real, "testB"))]  # fmt: skip
    for folder, option in zip(folders, ("--photos", "--real"), strict=True):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; give {option} DIR")
    photos, real = (PictureSet(folder) for folder in folders)
    with run_lock(Path(args.select)):
        evaluator = _evaluator(args, real, photos)
        found = _candidates(args, run, evaluator)
        by = decisive(found, args.by)
        best = choose(found, by)
        pointer = run.checkpoints.select(best.step)
    headings, rows = candidate_rows(found, best, by)
    print_table(headings, rows, tuple(range(1, len(headings))))
    evaluation = next(one.evaluation for one in found if one.evaluation)
    _print(note_lines(evaluation, [real, photos]), definition_lines(evaluation, evaluator, with_keys=True))
    out.print(f"best by {by}: step {best.step}; {pointer} names it; weights {best.weights}", markup=False)
    if args.json:
        write_report({**facts(evaluator, None, found, by), "selected": best.step}, Path(args.json))
    return 0


def _candidates(args: argparse.Namespace, run: RunToSelect, evaluator: Evaluator) -> list[Candidate]:
    from toonport.evaluate.evaluator import generator_settings
    from toonport.evaluate.select import evaluate_run
    from toonport.train.finished import drawing_side

    size, family = args.size or drawing_side(run.config), args.family or run.config.family
    with bar("evaluating") as progress:
        evaluator.tell = progress
        return evaluate_run(
            run,
            lambda step, weights: evaluator.of_generator(
                generator_settings(weights, family, args.part, args.backend, args.device, size), f"step {step}"
            ),
        )
