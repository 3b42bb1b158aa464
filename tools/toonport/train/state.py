"""Checkpoints of a run: complete or absent, at any moment, whatever kills the process.

A checkpoint is a folder `checkpoints/step_0001000` with the weights (`weights.ckpt` or `weights.pt`, which every other
command reads), Adam's moments (`optimizer.safetensors`) and everything else (`state.json`). It is written under
another name, flushed to disk and renamed; then the file `latest`, which names it, is replaced in one piece. `best`
names the one with the lowest loss; `selected` the one that `toonport evaluate --select` found, which training then
keeps.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convert.disk import atomic_path, folder_locked, sha256_of, sync_folder
from convert.errors import InputError, guarded
from convert.formats import open_checkpoint, write_checkpoint
from convert.tensors import Array, TensorSpec
from parity_tests.harness.trainers import Trainer

SCHEMA = "toonport-training/1"
MOMENTS_FILE, STATE_FILE = "optimizer.safetensors", "state.json"
SELECTED = "selected"
RUN_LOCK = ".lock"  # see `convert.disk.folder_locked`


@dataclass
class Best:
    """The best checkpoint so far: its step and the mean loss that decided."""

    step: int = 0
    value: float = float("inf")


class Checkpoints:
    """The checkpoints under a run's folder.

    Args:
        out: the run's folder.
        keep: how many of the newest to keep, beside the best and the selected.
    """

    def __init__(self, out: Path, keep: int = 3) -> None:
        self.out, self.keep, self.folder = out, keep, out / "checkpoints"

    def path(self, step: int) -> Path:
        """Folder of the checkpoint after a step."""
        return self.folder / f"step_{step:07d}"

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, in order."""
        return sorted(int(file.parent.name[5:]) for file in self.folder.glob(f"step_*/{STATE_FILE}"))

    def weights(self, step: int) -> Path:
        """The weights of the checkpoint after a step, in whichever framework's form.

        Raises InputError: they are gone.
        """
        for name in ("weights.ckpt", "weights.pt"):
            if (self.path(step) / name).is_file():
                return self.path(step) / name
        raise InputError(f"{self.path(step)}: has no weights; name another step in 'latest'")

    def latest(self) -> int | None:
        """Step of the newest checkpoint, None when there is none.

        Raises InputError: the pointer names a checkpoint that is gone.
        """
        pointer = self.out / "latest"
        if not pointer.is_file():
            return None
        name = pointer.read_text().strip()
        if not (self.folder / name / STATE_FILE).is_file():
            raise InputError(f"{pointer}: names {name}, which is not there; write a name from {self.folder} into it")
        return int(name.removeprefix("step_"))

    def select(self, step: int) -> Path:
        """Point `selected` to a checkpoint, which is kept from then on; returns the pointer."""
        self._point(SELECTED, self.path(step).name)
        return self.out / SELECTED

    def selected(self) -> int | None:
        """Step that `selected` names, None when there is none or its checkpoint is gone."""
        pointer = self.out / SELECTED
        name = pointer.read_text().strip() if pointer.is_file() else ""
        return next((step for step in self.steps() if self.path(step).name == name), None)

    def save(self, trainer: Trainer, best: Best) -> Path:
        """Write a checkpoint of the trainer's present state, point `latest` to it and drop the old ones.

        Raises InputError: it cannot be written (disk full); all earlier checkpoints are untouched.
        """
        target = self.path(trainer.step.step_number)
        if not (target / STATE_FILE).is_file():  # on the way out the last step may have been saved already
            try:
                self._write(trainer, best, target)
            except OSError as error:
                raise InputError(f"{target}: cannot be written: {error.strerror or error}") from error
        self._point("latest", target.name)
        if best.step == trainer.step.step_number:
            self._point("best", target.name)
        self.clean(best.step)
        return target

    def _write(self, trainer: Trainer, best: Best, target: Path) -> None:
        temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            step_facts, step_tensors = trainer.step.state()
            files = [_write_weights(trainer, temporary), temporary / MOMENTS_FILE]
            tensors = {".".join(key): value for key, value in trainer.moments().items()} | step_tensors
            specs = {name: TensorSpec(tuple(value.shape), value.dtype.name) for name, value in tensors.items()}
            write_checkpoint(files[1], tensors.items(), specs)
            content = {
                "schema": SCHEMA,
                "family": trainer.start.family.name,
                "framework": trainer.framework,
                "step": trainer.step.step_number,
                "updates": trainer.counts(),
                **step_facts,
                "best": {"step": best.step, "value": best.value if best.step else None},
                "sha256": {file.name: sha256_of(file) for file in files},
            }
            with atomic_path(temporary / STATE_FILE) as path:
                path.write_text(json.dumps(content, indent=1) + "\n")
            sync_folder(temporary)
            os.replace(temporary, target)
            sync_folder(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def save_own(self, trainer: Trainer, rank: int) -> None:
        """Write what a process that trains beside the first has for itself, such as its pool of fakes."""
        facts, tensors = trainer.step.state()
        if not tensors:
            return
        path = self._own(trainer.step.step_number, rank)
        specs = {name: TensorSpec(tuple(value.shape), value.dtype.name) for name, value in tensors.items()}
        write_checkpoint(path, tensors.items(), specs)
        with atomic_path(path.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps(facts))
        for file in path.parent.glob(f"step_*.{rank}.*"):
            if int(file.name[5:12]) not in (*self.steps(), trainer.step.step_number):
                file.unlink()

    def restore_own(self, trainer: Trainer, rank: int) -> None:
        """Put back what `save_own` wrote. Raises InputError: it is not there, or damaged."""
        path = self._own(trainer.step.step_number, rank)
        if rank == 0 or not trainer.step.state()[1]:
            return
        with guarded(path.with_suffix(".json"), "not what a process of a training saved"):
            facts = json.loads(path.with_suffix(".json").read_text())
        trainer.step.restore(facts, {name: entry.read() for name, entry in open_checkpoint(path).tensors.items()})

    def _own(self, step: int, rank: int) -> Path:
        return self.out / "workers" / f"{self.path(step).name}.{rank}.safetensors"

    def _point(self, name: str, text: str) -> None:
        with atomic_path(self.out / name) as path:
            path.write_text(text + "\n")

    def forget_after(self, step: int) -> None:
        """Remove the checkpoints of later steps, which a run resumed at `step` makes anew."""
        if (self.selected() or 0) > step:
            (self.out / SELECTED).unlink()
        for later in self.steps():
            if later > step:
                shutil.rmtree(_set_aside(self.path(later)), ignore_errors=True)

    def sweep(self) -> None:
        """Remove from the run's folder what killed processes left; only the process that holds its lock may."""
        for leftover in (*self.out.glob(".*.partial"), *self.out.glob(".*.lock")):
            if leftover.is_file() and leftover.name != RUN_LOCK:
                leftover.unlink(missing_ok=True)

    def clean(self, best_step: int) -> None:
        """Remove leftovers of killed processes and all but the newest `keep` checkpoints, the best and the selected."""
        kept = (best_step, self.latest(), self.selected())
        for leftover in (*self.folder.glob(".*.partial"), *self.folder.glob(".*.removed")):
            shutil.rmtree(leftover, ignore_errors=True)
        for step in self.steps()[: -self.keep]:
            if step not in kept:
                shutil.rmtree(_set_aside(self.path(step)), ignore_errors=True)


def _set_aside(folder: Path) -> Path:
    """Rename a checkpoint so that no half-removed one keeps its name."""
    aside = folder.with_name(f".{folder.name}.removed")
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(folder, aside)
    return aside


def _write_weights(trainer: Trainer, folder: Path) -> Path:
    """Write all networks in the one-file form of the framework: .ckpt with its names, .pt with PyTorch's."""
    mindspore = trainer.framework == "mindspore"
    tensors: dict[str, Array] = {}
    for part in trainer.start.parts:
        names = {row.torch: row.mindspore if mindspore else row.torch for row in trainer.start.plan(part).rows}
        for name, value in trainer.weights(part).items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise InputError(f"{part}.{name} is not finite, so nothing is saved; the checkpoints before are good")
            tensors[f"{part}.{names[name]}"] = value
    path = folder / ("weights.ckpt" if mindspore else "weights.pt")
    write_checkpoint(path, tensors.items(), {}, tuple(trainer.start.parts))
    return path


def restore_run(trainer: Trainer, folder: Path) -> Best:
    """Put the state of a checkpoint into a trainer whose weights were built from it.

    Raises InputError: the checkpoint is damaged or of another family.
    """
    state = read_state(folder)
    if state["family"] != trainer.start.family.name:
        raise InputError(f"{folder}: is a run of {state['family']}, not {trainer.start.family.name}")
    tensors = {name: entry.read() for name, entry in open_checkpoint(folder / MOMENTS_FILE).tensors.items()}
    named = ((name.split(".", 2), value) for name, value in tensors.items() if not name.startswith("pool."))
    trainer.restore({(kind, part, name): value for (kind, part, name), value in named}, state["updates"])
    trainer.step.step_number = state["step"]
    trainer.step.restore(state, tensors)
    best = state["best"]
    return Best(best["step"], best["value"]) if best["step"] else Best()


def read_state(folder: Path) -> dict[str, Any]:
    """Read and verify `state.json` of a checkpoint.

    Raises InputError: not a training state, or a file beside it was changed or damaged.
    """
    with guarded(folder / STATE_FILE, "not a training state"):
        state: dict[str, Any] = json.loads((folder / STATE_FILE).read_text())
        hashes = dict(state["sha256"])
        _ = [state[name] for name in ("family", "step", "updates", "best")], state["best"]["step"]
    if state.get("schema") != SCHEMA:
        raise InputError(f"{folder / STATE_FILE}: is {state.get('schema')}, this version reads {SCHEMA}")
    for name, wanted in hashes.items():
        if not (folder / name).is_file() or sha256_of(folder / name) != wanted:
            raise InputError(f"{folder / name}: damaged or changed since it was saved; name another step in 'latest'")
    return state


def newest_weights(init: str | None) -> str | None:
    """The weights to start from: of a run's folder those of its newest checkpoint; a file stands for itself.

    Raises InputError: a folder without a checkpoint.
    """
    if init is None or not Path(init).is_dir():
        return init
    run = Checkpoints(Path(init))
    step = run.latest()
    if step is None:
        raise InputError(f"{init}: is a folder without a checkpoint; --init takes a file, or the folder of a run")
    return str(run.weights(step))


@contextmanager
def run_lock(out: Path) -> Iterator[None]:
    """Keep two processes from training in one folder, see `convert.disk.folder_locked`; one made in vain goes again."""
    is_new = not out.exists()
    try:
        with folder_locked(out):
            yield
    finally:
        if is_new:
            with suppress(OSError):  # something is in it
                out.rmdir()
