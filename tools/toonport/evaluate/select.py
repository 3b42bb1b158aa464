"""The best checkpoint of a training run, by what its cartoons are worth instead of by its losses."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from convert.errors import InputError
from toonport.evaluate.metrics import Evaluation, Metric
from toonport.train.config import CONFIG_FILE, RunConfig, read_config
from toonport.train.state import Checkpoints, read_state

DECIDING = ("kid", "kernel-inception", "kernel-vgg19", "kernel-mobilefacenet", "face-id", "perceptual")


@dataclass(frozen=True)
class Candidate:
    """A checkpoint and its numbers; `problem` says why it has none."""

    step: int
    weights: Path
    evaluation: Evaluation | None
    problem: str = ""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Its numbers, none where there is a problem."""
        return self.evaluation.metrics if self.evaluation else ()


def open_run(folder: Path) -> tuple[RunConfig, Checkpoints]:
    """Open a run of `toonport train`: what it does, and its checkpoints.

    Raises InputError: no run, or no checkpoint in it.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise InputError(f"{folder}: no run of toonport train there (no {CONFIG_FILE})")
    config = RunConfig(**{**read_config(folder / CONFIG_FILE), "out": str(folder)})
    checkpoints = Checkpoints(folder, config.keep)
    if not checkpoints.steps():
        raise InputError(f"{folder}: the run has no checkpoint yet")
    return config, checkpoints


def evaluate_run(checkpoints: Checkpoints, evaluate: Callable[[int, Path], Evaluation]) -> list[Candidate]:
    """Evaluate every checkpoint; one that is damaged, or whose network fails, has a problem instead of numbers.

    Args:
        checkpoints: those of the run.
        evaluate: called with step and weights; raises InputError for weights that cannot be used.
    """
    found = []
    for step in checkpoints.steps():
        weights = checkpoints.weights(step)
        try:
            read_state(weights.parent)
            found.append(Candidate(step, weights, evaluate(step, weights)))
        except InputError as error:
            found.append(Candidate(step, weights, None, str(error)))
    return found


def decisive(found: Iterable[Candidate], by: str | None) -> str:
    """Return the short name of the metric that decides: the one asked for, else the first of DECIDING that is there.

    Raises InputError: it was not measured; lists those that were.
    """
    found = list(found)
    known = [metric.key for candidate in found for metric in candidate.metrics]
    if not any(candidate.evaluation for candidate in found):
        raise InputError(f"no checkpoint could be evaluated; the last: {found[-1].problem}")
    if by is None:
        by = next((key for key in DECIDING if key in known), None)
    if by is None or by not in known:
        listed = ", ".join(dict.fromkeys(known)) or "nothing"
        raise InputError(f"--by {by or 'NAME'}: was not measured; measured: {listed}")
    return by


def choose(found: Sequence[Candidate], by: str) -> Candidate:
    """Return the best candidate by a metric; of equal ones the earliest."""

    ranked = [(metric.value if metric.better == "lower" else -metric.value, candidate)
              for candidate in found for metric in candidate.metrics if metric.key == by]  # fmt: skip
    return min(ranked, key=lambda pair: pair[0])[1]
