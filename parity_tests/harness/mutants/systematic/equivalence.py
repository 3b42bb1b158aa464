"""Whether a mutant that no check saw computes anything else at all: a wide random search, both ports side by side.

What remains in float32 alone may be rounding: where a mutant takes another of two equal kernels. It is, where no tensor
of the whole search differs by more than a few times what the right port's own rounding moves it: on pictures a unit in
the last place away, by plain formulas in the place of fast kernels, training steps compiled.

Networks run with several weights, on pictures of several sizes and shapes, large, small, constant and flat ones, in
both modes, twice in a row, forward and backward; training steps under several settings, batches and ways of execution.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from convert.disk import atomic_path
from convert.family import Family
from convert.recipes.descent import Execution
from parity_tests.harness.compare import rms, ulp_neighbour
from parity_tests.harness.families import PLAIN, kernels_of, seeded_source
from parity_tests.harness.inputs import feature, image
from parity_tests.harness.mutants.systematic.checks import Check, narrow_maps
from parity_tests.harness.sides.base import Array, Side
from parity_tests.harness.sides.mindspore import MindSporeSide
from parity_tests.harness.trainers import MindSporeTrainer
from parity_tests.harness.training_processes import train_among
from parity_tests.harness.training_setup import PROCESSES, TrainingSetup, small_setup
from parity_tests.tolerances import ULP

SEEDS = 3
MOVED = "moved"  # in float32, on pictures moved by a unit in the last place, by plain formulas, training compiled
# the largest difference that counts as none, as a share of the tensor's size; of what moving does
ROUNDING = {"float32": 0.0, "float64": 1e-12, MOVED: 2 * ULP}
OF_MOVING = 4.0
Evidence = Iterator[tuple[str, Array]]


def evidence(checks: Sequence[Check], family: Family, dtype: str = "float32") -> Evidence:
    """Yield what the port that can be imported now computes in the search, each with a label.

    Args:
        checks: the search runs the networks and the training steps that these run.
        family: which they are of.
        dtype: "float32", MOVED or, of networks only, "float64".
    """
    for _, run in _pieces(checks, family, dtype):
        yield from run()


def remember(checks: Sequence[Check], family: Family, dtype: str, folder: Path) -> None:
    """Keep in a folder what `evidence` yields, but for what is there already: of the correct port."""
    for name, run in _pieces(checks, family, dtype):
        path = folder / f"{name}.npz"
        if not path.is_file():
            found = list(run())
            arrays = {str(number): array for number, (_, array) in enumerate(found)}
            with atomic_path(path, durable=False) as temporary, open(temporary, "wb") as file:
                np.savez(file, labels=np.array([label for label, _ in found]), **arrays)


def remembered(checks: Sequence[Check], family: Family, dtype: str, folder: Path) -> Evidence:
    """Yield what `remember` has kept."""
    for name, _ in _pieces(checks, family, dtype):
        with np.load(folder / f"{name}.npz") as kept:
            yield from ((str(label), kept[str(number)]) for number, label in enumerate(kept["labels"]))


def _pieces(checks: Sequence[Check], family: Family, dtype: str) -> Iterator[tuple[str, Callable[[], Evidence]]]:
    """Training first: after networks have run in a process, the last bit of a sum there is another."""
    kinds = {(check.part, check.form == PLAIN, str(check.kwargs)): check for check in checks}
    for check in sorted(kinds.values(), key=lambda check: bool(check.part)):
        for seed in range(1, SEEDS + 1):
            name = f"{dtype} {seed} {check.name}"
            if check.part:
                yield name, partial(_of_network, check, family, seed, dtype)
            elif dtype != "float64":
                yield name, partial(_of_training, family, seed, dtype)


def _of_network(check: Check, family: Family, seed: int, dtype: str) -> Evidence:
    from ms_models.build import build_mindspore

    part = next(part for part in family.parts if part.name == check.part)
    source = seeded_source(family, part, check.kwargs, seed)
    side = MindSporeSide(build_mindspore(part, check.kwargs, source.port), None, dtype.replace(MOVED, "float32"))
    with narrow_maps(), kernels_of(PLAIN if dtype == MOVED else check.form):
        for name, plain in _pictures(part.input_shape[1], part.smallest(check.kwargs), seed).items():
            picture = _moved(plain, dtype, seed)
            for training in (False, True):
                side.set_training(training)
                label = f"{check.part} {check.kwargs}, seed {seed}, {name}, {'train' if training else 'eval'}"
                for number, array in enumerate(_run(side, picture, seed)):
                    yield f"{label}, {number}", array


def _pictures(channels: int, side: int, seed: int) -> Mapping[str, Array]:
    plain = image(f"search{seed}", 2, side, side, channels)
    return {
        "plain": plain,
        "wide": image(f"search{seed}/wide", 1, side, 2 * side, channels),
        "twice as large": image(f"search{seed}/large", 1, 2 * side, 2 * side, channels),
        "times 20": plain * 20,
        "flat": (0.9 + 0.01 * plain).astype(np.float32),
        "constant": np.full_like(plain, 0.5),
        "grains": feature(f"search{seed}/grains", plain.shape),
    }


def _run(side: Side, picture: Array, seed: int) -> list[Array]:
    """Outputs, state, and gradients; that it cannot run is an answer, too, of which the state keeps nothing."""
    before = side.state()
    try:
        first = side.call("", [picture])
        second = side.call("", [picture[::-1].copy()])
        cotangents = [feature(f"search{seed}/{place}", output.shape) for place, output in enumerate(first)]
        gradients = side.gradients("", [picture], cotangents)
    except (RuntimeError, TypeError, ValueError):
        side.set_state(before)
        return [np.zeros(0)]
    return [*first, *second, *side.state().values(), *gradients.inputs, *gradients.parameters.values()]


def _moved(picture: Array, dtype: str, seed: int) -> Array:
    return ulp_neighbour(picture, seed) if dtype == MOVED else picture


def _of_training(family: Family, seed: int, dtype: str) -> Evidence:
    setup = _varied(small_setup(family, 3, seed), seed)
    for name, execution in {"plain": Execution(), "in pieces": Execution(accumulate=2, workers=PROCESSES)}.items():
        trainer = MindSporeTrainer(setup)
        trainer.execute(replace(execution, compiled=dtype == MOVED))
        trainer.step.step_number = setup.first_step + seed
        for step, batch in enumerate(setup.batches):
            first, second = (_moved(pictures, dtype, seed) for pictures in batch)
            with kernels_of(PLAIN if dtype == MOVED else ""):
                terms = train_among(trainer, np.concatenate([first, second]), np.concatenate([second, first]))
            found = [np.array(list(terms.values())), np.array(list(trainer.rates().values()))]
            found += [value for part in setup.parts for value in trainer.weights(part).values()]
            found += trainer.moments().values()
            for number, array in enumerate(found):
                yield f"training, seed {seed}, {name}, step {step}, {number}", array


def _varied(setup: TrainingSetup, seed: int) -> TrainingSetup:
    """The setup with every number among its settings a little different, so that none is 0 or 1."""
    generator = np.random.default_rng(seed)
    changes: dict[str, Any] = {}
    for setting in fields(setup.training.settings):
        if setting.type in ("float", float) and isinstance(setting.default, float):
            factor = generator.uniform(0.7, 0.99)
            changes[setting.name] = setting.default * factor
    return replace(setup, settings={**changes, **setup.settings})


@dataclass(frozen=True)
class Compared:
    """What a search has shown, up to the first difference."""

    difference: str  # where two ports differ by more than rounding, or ""
    tensors: int  # that were compared and hold numbers
    empty: int  # runs that neither could make
    rounded: int  # of the tensors, those that differ within rounding

    @property
    def proves_equal(self) -> bool:
        """Whether there were tensors, and none that differs by more than rounding."""
        return bool(self.tensors) and not self.difference


def compared(first: Evidence, second: Evidence, dtype: str, moved: Evidence | None = None) -> Compared:
    """Compare what two ports compute, up to the first tensor that differs by more than rounding in `dtype`.

    Args:
        first, second: of the right port and of another.
        dtype: see `evidence`; MOVED: what is compared was computed in float32 on pictures as they are.
        moved: for MOVED, of the right port on moved pictures.
    """
    tensors = empty = rounded = 0
    for one, other, neighbour in zip_longest(first, second, moved or ()):
        if one is None or other is None or one[0] != other[0]:
            return Compared("they do not return the same tensors", tensors, empty, rounded)
        (label, array), second_array = one, other[1]
        if found := _difference(label, array, second_array, ROUNDING[dtype], neighbour[1] if neighbour else array):
            return Compared(found, tensors, empty, rounded)
        tensors, empty = tensors + bool(array.size), empty + (not array.size)
        rounded += not np.array_equal(array, second_array, equal_nan=True)
    return Compared("", tensors, empty, rounded)


def _difference(label: str, one: Array, other: Array, share: float, neighbour: Array) -> str:
    if one.shape != other.shape:
        return f"shape at {label}"
    if np.array_equal(one, other, equal_nan=True):
        return ""
    error, size = rms(np.asarray(one, np.float64) - other), max(rms(one), 1e-30)
    granted = max(share * size, OF_MOVING * rms(np.asarray(one, np.float64) - neighbour))
    return "" if error <= granted else f"{error / size:.1e} of the tensor's size at {label}"
