"""What `toonport evaluate` does once its options are known to fit together; loads PyTorch."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torchmetrics.image  # noqa: F401  # missing: said before anything is drawn

from convert.devices import GPU
from convert.errors import InputError
from toonport.commands.photo_run import require_folder
from toonport.commands.ui import STANDARD_OUTPUT, bar, is_stream, out, print_json, print_table
from toonport.draw.cartoonizer import CartoonSettings
from toonport.evaluate.evaluator import Evaluator
from toonport.evaluate.metrics import Evaluation, open_networks
from toonport.evaluate.pictures import require_pairs
from toonport.evaluate.report import (
    candidate_rows,
    definition_lines,
    evaluation_rows,
    facts,
    note_lines,
    write_evaluation_page,
    write_report,
)
from toonport.evaluate.select import Candidate, choose, decisive, evaluate_run, open_run
from toonport.evaluate.spread import Spread
from toonport.photo.folder import PictureFolder, open_pictures
from toonport.train.finished import drawing_side, generating
from toonport.train.state import run_lock


def evaluate_cartoons(args: argparse.Namespace) -> int:
    """Evaluate a folder of cartoons, or those that a generator draws; 0 when there are numbers."""
    source = generating(args.weights, args.family, args.size) if args.weights else None
    if source and not args.photos:
        raise InputError("--photos DIR is needed: the photos that the cartoons are drawn of")
    fake, photos = (open_pictures(Path(it), column=args.column) if it else None for it in (args.fake, args.photos))
    if fake and photos:
        require_pairs(photos, fake)
    evaluator = _evaluator(args, open_pictures(Path(args.real), column=args.column), photos)
    with bar("evaluating") as evaluator.tell:
        if fake:
            evaluation = evaluator.of_folder(fake)
        elif source:
            evaluation = evaluator.of_generator(_settings(args, source.weights, source.family, source.size))
    notes = note_lines(evaluation, list(filter(None, (evaluator.real, photos, fake))))
    if not evaluation.metrics:
        raise InputError(f"nothing could be computed: {'; '.join(notes)}")
    print_table(["number", "value", "", "pictures"], evaluation_rows(evaluation))
    _print(notes, definition_lines(evaluation, evaluator))
    _save(args, facts(evaluator, fake, [Candidate(0, Path(source.weights if source else ""), evaluation)], None))
    return 0


def select_checkpoint(args: argparse.Namespace) -> int:
    """Evaluate every checkpoint of a run and let the run's folder name the best; 0 when there is one."""
    config, checkpoints = open_run(Path(args.select))
    places = args.photos or Path(config.data) / "testA", args.real or Path(config.data) / "testB"
    photos = open_pictures(Path(places[0]), "; give --photos DIR", args.column)
    real = open_pictures(Path(places[1]), "; give --real DIR", args.column)
    size, family = args.size or drawing_side(config), args.family or config.family
    with run_lock(Path(args.select)):
        evaluator = _evaluator(args, real, photos)

        def numbers(step: int, weights: Path) -> Evaluation:
            """Evaluate what one checkpoint draws."""
            return evaluator.of_generator(_settings(args, str(weights), family, size), f"step {step}")

        with bar("evaluating") as evaluator.tell:
            found = evaluate_run(checkpoints, numbers)
        by = decisive(found, args.by)
        best = choose(found, by)
        pointer = checkpoints.select(best.step)
    headings, rows = candidate_rows(found, best, by)
    print_table(headings, rows, tuple(range(1, len(headings))))
    evaluation = next(candidate.evaluation for candidate in found if candidate.evaluation)
    _print(note_lines(evaluation, [real, photos]), definition_lines(evaluation, evaluator, with_keys=True))
    out.print(f"best by {by}: step {best.step}; {pointer} names it; weights {best.weights}")
    _save(args, {**facts(evaluator, None, found, by), "selected": best.step})
    return 0


def _evaluator(args: argparse.Namespace, real: PictureFolder, photos: PictureFolder | None) -> Evaluator:
    opener = partial(open_networks, args.inception_weights, args.face_weights, args.vgg_weights, args.device)
    networks = opener()
    spread = None
    if args.ray:
        spread = Spread(opener, networks, args.ray, args.jobs, args.device == GPU, require_folder(Path(args.out)))
    return Evaluator(networks, real, photos, args.kid, args.seed, spread)


def _settings(args: argparse.Namespace, weights: str, family: str | None, size: int | None) -> CartoonSettings:
    """Draw whole photos, which are crops already, as in training."""
    threads = 1 if args.ray else None
    return CartoonSettings(
        weights, family, args.part, args.backend, args.device, frame="whole", size=size, threads=threads
    )


def _print(notes: Sequence[str], definitions: Sequence[str]) -> None:
    for text in notes:
        out.print(text)
    out.print("definitions", style="bold")
    for text in definitions:
        out.print(f"  {text}")


def _save(args: argparse.Namespace, content: dict[str, Any]) -> None:
    if args.html:
        write_evaluation_page(content, Path(args.html))
    if args.json == STANDARD_OUTPUT or (args.json and is_stream(args.json)):
        print_json(args.json, content)
    elif args.json:
        write_report(content, Path(args.json))
