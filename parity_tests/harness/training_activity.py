"""What a training run moved and what it did not: rates, pools, limits, phases, loss terms, branches of the settings.

What never moved cannot be told right from wrong, and the report says so.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from convert.recipes.step import StepForm
from parity_tests.harness.measurement import Rest, Resting
from parity_tests.harness.sides.base import Array
from parity_tests.harness.trainers import Trainer
from parity_tests.harness.training_setup import TrainingSetup


class Activity:
    """Watches the trainer of a run; it computes the same as before."""

    def __init__(self, trainer: Trainer, setup: TrainingSetup) -> None:
        self._trainer, self._setup = trainer, setup
        self._rates: dict[str, list[float]] = {}
        self._terms: dict[str, float] = {}
        self._settings: dict[str, set[str]] = {}
        self._handed_out: Counter[str] = Counter()
        self._raised, self._lowered = False, False
        self._limits = False
        step = trainer.step
        for name, pool in step.pools.items():
            pool.query = self._watched_pool(name, pool.query)
        if type(step).after_phase is not StepForm.after_phase:
            self._limits, step.after_phase = True, self._watched_limits(step.after_phase)
        if type(step).after_update is not StepForm.after_update:
            self._limits, step.after_update = True, self._watched_limits(step.after_update)

    def _watched_pool(self, name: str, query: Callable[[Array], Array]) -> Callable[[Array], Array]:
        def watched(images: Array) -> Array:
            """Hand on, and count older images among what comes out."""
            found = query(images)
            self._handed_out[name] += sum(not np.array_equal(*pair) for pair in zip(found, images, strict=True))
            return found

        return watched

    def _watched_limits(self, original: Callable[..., None]) -> Callable[..., None]:
        def watched(*args: Any) -> None:
            """Note whether weights were raised to a limit or lowered to one."""
            before = self._weights()
            original(*args)
            changes = [after - before[key] for key, after in self._weights().items()]
            self._raised |= any(bool((change > 0).any()) for change in changes)
            self._lowered |= any(bool((change < 0).any()) for change in changes)

        return watched

    def _weights(self) -> dict[tuple[str, str], Array]:
        return {
            (part, name): value for part in self._setup.parts for name, value in self._trainer.weights(part).items()
        }

    def after_step(self, terms: Mapping[str, float]) -> None:
        """Note the rates, loss terms and settings of a step that was just made."""
        for phase, rate in self._trainer.rates().items():
            self._rates.setdefault(phase, []).append(rate)
        for name, value in terms.items():
            self._terms[name] = max(self._terms.get(name, 0.0), abs(value))
        settings = self._trainer.step.settings
        for setting in fields(settings):
            value = vars(settings)[setting.name]
            if isinstance(value, bool | str) or value is None or (isinstance(value, int | float) and value in (0, 1)):
                self._settings.setdefault(setting.name, set()).add(str(value))

    def resting(self) -> Iterator[Resting]:
        """Yield what did not move in the steps so far."""
        for phase, rates in self._rates.items():
            if len(set(rates)) == 1:
                yield Resting(Rest.RATE, phase)
        for name in self._trainer.step.pools:
            if not self._handed_out[name]:
                yield Resting(Rest.POOL, name)
        for limit, reached in ((Rest.LOWER_LIMIT, self._raised), (Rest.UPPER_LIMIT, self._lowered)):
            if self._limits and not reached:
                yield Resting(limit)
        yield from (Resting(Rest.TERM, name) for name, largest in self._terms.items() if largest == 0)
        for name, values in self._settings.items():
            if len(values) == 1 and name != "seed":
                yield Resting(Rest.SETTING, name, next(iter(values)))
        yield from self._form()

    def _form(self) -> Iterator[Resting]:
        """What the setup itself leaves out."""
        first = self._setup.batches[0][0]
        if len(first) == 1:
            yield Resting(Rest.BATCH)
        if first.shape[2] == first.shape[3]:
            yield Resting(Rest.SQUARE)
        if len(self._setup.batches) == 1:
            yield Resting(Rest.LATER_STEPS)
        if self._setup.accumulated is None:
            yield Resting(Rest.ACCUMULATION)
        if self._setup.resumed is None:
            yield Resting(Rest.RESUMING)
        yield Resting(Rest.WORKERS)
