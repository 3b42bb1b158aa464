"""The training loop: steps, logs, sheets, checkpoints, and a clean end whatever ends it."""

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from convert.errors import InputError
from toonport.photo.picture import write_picture
from toonport.train.config import CONFIG_FILE, RunConfig, read_config, resumed_config, write_config
from toonport.train.data import Batches
from toonport.train.engine import Engine
from toonport.train.logs import RunLog, plot_losses
from toonport.train.memory import require_room
from toonport.train.parallel import ALONE, Workers
from toonport.train.progress import Show
from toonport.train.sheets import make_sheets
from toonport.train.start import Start, starting_point
from toonport.train.state import Best, Checkpoints, newest_weights, restore_run, run_lock

Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """How a run ended: last step, newest checkpoint, the signal that stopped it, pictures left out, planned length."""

    step: int
    checkpoint: Path | None
    stopped_by: str = ""
    unreadable: tuple[Path, ...] = ()
    best: Best | None = None
    steps: int = 0


@dataclass
class Run:
    """Everything a run works with; made by `prepare`."""

    config: RunConfig
    engine: Engine
    batches: Batches
    checkpoints: Checkpoints
    best: Best
    workers: Workers
    planned: int  # steps that the run had before it was made longer

    @property
    def step(self) -> int:
        """Steps done so far."""
        return int(self.engine.step.step_number)


def prepare(given: Mapping[str, Any], resume: bool = False, workers: Workers = ALONE) -> Run:
    """Build a run from scratch, or from its newest checkpoint.

    Args:
        given: fields of `RunConfig` as the user gave them.
        resume: continue the run in `given["out"]`.
        workers: this process among those that train together; only the first writes checkpoints and logs.

    Raises InputError: bad configuration, pictures, weights or checkpoint; a run is there already, or none to
    resume.
    """
    out = Path(given["out"])
    checkpoints = Checkpoints(out)
    step = _reached(checkpoints, resume)
    saved = None if step is None else RunConfig(**read_config(out / CONFIG_FILE))
    if saved is None or step is None:
        config = RunConfig(**given).checked()
        source = replace(config, init=newest_weights(config.init))
    else:
        config = resumed_config(saved, given).checked()
        source = replace(config, init=str(checkpoints.weights(step)), width=None, network={})
    checkpoints.keep = config.keep
    batches = Batches(config, workers.rank)
    start = starting_point(source, [len(folder) for folder in batches.folders])
    require_room(start)
    engine = Engine(config, start)
    if step is not None:
        best = restore_run(engine.trainer, checkpoints.path(step))
        checkpoints.restore_own(engine.trainer, workers.rank)
    else:
        best = Best()
        engine.trainer.restore(start.kept.moments, start.kept.counts)
    if workers.rank == 0:
        if saved is None or config.steps > saved.steps:
            write_config(replace(saved, steps=config.steps) if saved else config, out / CONFIG_FILE)
        checkpoints.sweep()
        checkpoints.forget_after(step or 0)
    return Run(config, engine, batches, checkpoints, best, workers, saved.steps if saved else config.steps)


def train(
    given: Mapping[str, Any], show: Show, resume: bool = False, workers: Workers = ALONE, say: Say = lambda text: None
) -> Outcome:
    """Train until the configured step, a signal or an error; see `prepare` for the arguments.

    Args:
        given, resume, workers: see `prepare`.
        show: called after every step with (step, loss terms, seconds).
        say: called before the first step with each thing worth knowing about the start.

    Raises InputError: also when a number is not finite, the disk is full, or no picture can be read.
    """
    first = workers.rank == 0
    with run_lock(Path(given["out"])) if first else nullcontext():
        run = prepare(given, resume, workers)
        for text in starting_notes(run) if first else ():
            say(text)
        log = RunLog(Path(run.config.out), run.step + 1, run.config.tensorboard) if first else None
        try:
            with _stop_signals() as stopped:
                return _loop(run, log, show, stopped)
        finally:
            run.batches.close()
            if log:
                log.close()


def _reached(checkpoints: Checkpoints, resume: bool) -> int | None:
    """The step from which a run goes on, None for a new one."""
    step = checkpoints.latest()
    if resume and step is None:
        raise InputError(f"{checkpoints.out}: has no checkpoint to resume from")
    if step is not None and not resume:
        raise InputError(
            f"{checkpoints.out}: holds a run that reached step {step}; --resume continues it, with more --steps also "
            "beyond its end, or choose another --out"
        )
    return step


def starting_notes(run: Run) -> list[str]:
    """What a user should know about a run that begins: files left out, fresh weights, missing loss terms."""
    config, start, training = run.config, run.engine.start, run.engine.training
    notes = [folder.left_out for folder in run.batches.folders if folder.left_out]
    if run.step == 0:
        notes += _given_notes(config, start, training.parts)
    if config.steps > run.planned:
        notes.append(
            f"{config.steps} steps in place of {run.planned}: learning rates go on as in a run of {config.steps} steps"
        )
    settings = run.engine.step.settings
    lost = [phase for phase in training.phases if settings.weights(phase, True) != settings.weights(phase, False)]
    if training.frozen and not start.frozen and lost:
        notes.append(f"no --frozen FILE: trained without {training.frozen.family}, its loss terms are left out")
    return notes


def _given_notes(config: RunConfig, start: Start, parts: Iterable[str]) -> Iterator[str]:
    """What the file of --init gives to a new run."""
    if config.init and start.fresh:
        given = ", ".join(part for part in parts if part not in start.fresh)
        yield f"{config.init} gives {given}; fresh weights from seed {config.seed}: {', '.join(start.fresh)}"
    if start.kept.counts:
        phases = ", ".join(f"{phase} after {count} steps" for phase, count in start.kept.counts.items())
        yield f"{config.init} gives Adam's moments, too: {phases}"


def _loop(run: Run, log: RunLog | None, show: Show, stopped: list[str]) -> Outcome:
    config, unsaved = run.config, []
    while run.step < config.last_step and not run.workers.any(bool(stopped)):
        started = time.perf_counter()
        terms = _one_step(run)
        seconds = time.perf_counter() - started
        show(run.step, terms, seconds)
        unsaved.append(terms.get(config.best_by, float("inf")))
        if log:
            _record(run, log, terms, seconds)
        if _due(run.step, config.save_every):
            _save(run, unsaved)
            unsaved = []
    if unsaved:
        _save(run, unsaved)
    newest = run.checkpoints.latest()
    by = stopped[0] if stopped else "a signal to another process" if run.step < config.last_step else ""
    path = run.checkpoints.path(newest) if newest is not None else None
    return Outcome(run.step, path, by, tuple(run.batches.unreadable), run.best, config.steps)


def _record(run: Run, log: RunLog, terms: Mapping[str, float], seconds: float) -> None:
    """Log a step and draw its sheets, where they are due or the step is the last."""
    last = run.step == run.config.last_step
    if last or _due(run.step, run.config.log_every):
        log.numbers(run.step, terms, run.engine.trainer.rates(), seconds)
    if last or _due(run.step, run.config.sheet_every):
        for name, sheet in make_sheets(run.engine, run.batches).items():
            write_picture(Path(run.config.out) / "sheets" / f"{name}_{run.step:07d}.png", sheet)
            log.picture(run.step, name, sheet)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _one_step(run: Run) -> dict[str, float]:
    real_a, real_b = run.batches(run.step + 1)
    try:
        return run.engine.train(real_a, real_b)
    except FloatingPointError as error:
        newest = run.checkpoints.latest()
        kept = f"checkpoint {run.checkpoints.path(newest)} is good" if newest else "nothing was saved yet"
        raise InputError(
            f"step {run.step}: training stopped: {error}; {run.engine.bad_layer(real_a)}; {kept}; a lower learning "
            "rate or another seed may help"
        ) from error


def _save(run: Run, values: list[float]) -> None:
    """Write a checkpoint, after the other processes have written what they alone have."""
    if run.workers.rank:
        run.checkpoints.save_own(run.engine.trainer, run.workers.rank)
    run.workers.any(False)
    if run.workers.rank:
        return
    mean = sum(values) / len(values) if values else float("inf")
    if mean < run.best.value:
        run.best = Best(run.step, mean)
    run.checkpoints.save(run.engine.trainer, run.best)
    out = Path(run.config.out)
    plot_losses([out], out / "losses.png")


@contextmanager
def _stop_signals() -> Iterator[list[str]]:
    """Note SIGTERM, Ctrl-C and a closed terminal instead of dying in the middle of a step; the second one dies.

    What is ignored, as nohup has a closed terminal ignored, stays so.
    """
    stopped: list[str] = []
    before: dict[int, Any] = {}

    def note(number: int, _: FrameType | None) -> None:
        """Remember the signal, and let the next one do what it did before."""
        stopped.append(signal.Signals(number).name)
        for known, handler in before.items():
            signal.signal(known, handler)

    for number in {"SIGINT", "SIGTERM", "SIGHUP"} & set(signal.Signals.__members__):
        if signal.getsignal(signal.Signals[number]) is not signal.SIG_IGN:
            before[signal.Signals[number]] = signal.signal(signal.Signals[number], note)
    try:
        yield stopped
    finally:
        for known, handler in before.items():
            signal.signal(known, handler)
