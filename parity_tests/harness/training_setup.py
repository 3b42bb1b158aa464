"""What a training comparison starts from: narrow seeded networks, and settings that let nothing rest.

A bug hides where a schedule is constant, a pool never full, a weight 1 or two weights alike. So the rate falls within
the run, the pools fill in its first step, and every number among the settings has its own value.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

import numpy as np

from convert.family import Branch, Family, FrozenNetwork, Training
from convert.recipes.settings import Settings
from convert.registry import family_named, part_named
from parity_tests.harness.inputs import image, seeded_weights
from parity_tests.harness.sides.base import Array
from parity_tests.harness.trainers import Frozen, TrainingStart

PICTURES = 2  # in a batch
PROCESSES = 3  # of which the accumulated step is taken to be one, see `training_processes`
RESUMED_FROM = 3  # steps of a run from which on its last one is a resumed one
TENTHS = (9, 8, 7, 6, 5, 4, 3, 2)  # what a setting that equals 1 or another is multiplied by; limits stay below 1


@dataclass(frozen=True)
class TrainingSetup(TrainingStart):
    """Everything a training comparison starts from."""

    batches: Sequence[tuple[Array, Array]] = ()  # (images A, images B) of each step, [N, 3, H, W] in [-1, 1]
    first_step: int = 0  # number of the first step minus 1 (a resumed run starts later)
    # index of the step whose batch is worked through in pieces of one picture, by one process among several
    accumulated: int | None = None
    # index of the step before which the port is taken apart and put back as from a checkpoint
    resumed: int | None = None

    @property
    def resumed_settings(self) -> Mapping[str, Any]:
        """The settings from the resumed step on."""
        return {**self.settings, **self.training.resumed}

    @property
    def hooks(self) -> Mapping[str, Callable[..., Any]]:
        """See `TrainingStart.hooks`."""
        return {"landmarks": windows}


def frozen_network(frozen: FrozenNetwork, seed: int) -> Frozen:
    """Return a frozen network of a step, small and with seeded weights."""
    part = part_named(family_named(frozen.family), frozen.part)
    kwargs = {**part.kwargs, **frozen.narrow}
    return part, kwargs, seeded_weights(part, kwargs, f"train{seed}/{part.name}")


def windows(photos: Array) -> tuple[Array, Array, Array]:
    """Stand for the finder of landmarks: two of them, at a third and two thirds of the diagonal of every photo.

    Args:
        photos: [N, 3, H, W], sides from 24 up.

    Returns:
        pixels [N, 2, 25, 25], offsets [25, 2] and weights [N, 2] of `landmark_loss`.
    """
    count, _, height, width = photos.shape
    rows, columns = (axis.reshape(-1) for axis in np.mgrid[-2:3, -2:3])
    flat, steps = rows * width + columns, np.stack([columns, rows], 1)
    centres = np.array([height // 3 * width + width // 3, 2 * height // 3 * width + 2 * width // 3])
    pixels = centres[:, None, None] + flat[:, None] + flat  # [2, 25, 25]
    shares = np.array([0.01, 0.02])
    return np.stack([pixels] * count), steps.astype(np.float64), np.stack([shares] * count)


def small_setup(family: Family, steps: int = 2, seed: int = 0, branch: Branch | None = None) -> TrainingSetup:
    """Return a setup of so many batches, with seeded narrow networks and small pictures.

    The arithmetic of a step does not depend on the width, and narrow networks keep it to seconds. From two steps on,
    the batch of the last one is worked through in pieces; from three on, the port is resumed before it.
    """
    branch = branch or Branch({})
    training = family.training
    assert training is not None, f"{family.name} is not trained"
    kwargs: dict[str, dict[str, Any]] = {}
    weights = {}
    for name in training.parts:
        part = part_named(family, name)
        changes = {key: value for key, value in training.narrow.items() if key in part.kwargs}
        kwargs[name] = dict(branch.networks.get(name, {**part.kwargs, **changes}))
        weights[name] = seeded_weights(part, kwargs[name], f"train{seed}/{name}")
    settings = moving_settings(training, steps, branch.settings)
    return TrainingSetup(
        family,
        kwargs,
        weights,
        settings,
        frozen_network(training.frozen, seed) if training.frozen else None,
        [_batch(f"train{seed}", step, training.picture) for step in range(steps)],
        first_step=_before_the_fall(training.settings(**settings), steps),
        accumulated=steps - 1 if steps > 1 else None,
        resumed=steps - 1 if steps >= RESUMED_FROM else None,
    )


def _batch(tag: str, step: int, picture: tuple[int, int]) -> tuple[Array, Array]:
    return image(f"{tag}/A/{step}", PICTURES, *picture), image(f"{tag}/B/{step}", PICTURES, *picture)


def moving_settings(training: Training, steps: int, others: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """Return settings of a training under which schedules move, pools fill, and no two numbers are alike or 1.

    `others` are settings that stay as they are.
    """
    moving = {"total_steps": 2 * steps + 2, "steps_per_epoch": 2, "decay_epochs": steps + 1, "pool_size": PICTURES}
    known = {setting.name for setting in fields(training.settings)}
    chosen = {name: value for name, value in moving.items() if name in known} | dict(training.parity) | dict(others)
    return chosen | _distinct(training.settings(**chosen))


def _distinct(settings: Settings) -> dict[str, float]:
    """New values of the floating-point settings that are 1 or equal an earlier one; 0 is off and stays off."""
    taken, changed = {0.0, 1.0}, {}
    for setting in fields(settings):
        value = vars(settings)[setting.name]
        if isinstance(value, float) and value:
            own = value
            if value in taken:
                own = next(other for tenth in TENTHS if (other := value * tenth / 10) not in taken)
                changed[setting.name] = own
            taken.add(own)
    return changed


def _before_the_fall(settings: Settings, steps: int) -> int:
    """Steps to leave out so that the first one has the last full rate; a run of a single step is in the fall."""
    rates = [settings.rate("G", number) for number in range(1, _total(settings) + 1)]
    falls = (number for number in range(1, len(rates)) if rates[number] < rates[number - 1])
    first_falling = next(falls, 0)
    return first_falling if steps == 1 else max(0, first_falling - 1)


def _total(settings: Any) -> int:
    return int(settings.total_steps)
