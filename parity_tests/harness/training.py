"""Training parity: the same steps in float64 PyTorch, float32 PyTorch and MindSpore, compared after each.

Every step starts from the weights and moments that float64 PyTorch made of the steps before, rounded to float32, so
that rounding cannot pile up from step to step; whatever else a step leaves behind (pools, counts, schedules, stale
copies) each side keeps itself. Networks are narrow and seeded (`training_setup`); what rounding makes of a step is
measured in `training_noise`, what the run moved in `training_activity`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from convert.recipes.descent import Execution
from parity_tests.harness.compare import ulp_neighbour
from parity_tests.harness.judge import Kinks, Move, judge
from parity_tests.harness.legs import legs_in_use
from parity_tests.harness.measurement import Kind, Measurement, Mode, Probe, Quantity, Resting
from parity_tests.harness.sides.base import Array
from parity_tests.harness.sides.inexact import biases_summed_in_turn, tf32_products
from parity_tests.harness.trainers import MOMENTS, MakeStep, MindSporeTrainer, Moments, TorchTrainer, Trainer
from parity_tests.harness.training_activity import Activity
from parity_tests.harness.training_noise import STAGES, Control, Key, Results, TrainingNoise
from parity_tests.harness.training_processes import train_among
from parity_tests.harness.training_refusals import measure_refusals
from parity_tests.harness.training_setup import PICTURES, PROCESSES, TrainingSetup

_Weights = Mapping[str, Mapping[str, Array]]  # by part and PyTorch name
PLAIN = Execution()
LOSS_SCALE = 8.0  # a power of 2
HOPELESS = 100  # multiple of a budget that more controls do not widen enough
# A gradient shows before the update that is made of it; all weights of a phase then come worst first.
RANKS = (Kind.LOSS, Kind.RATE, Kind.GRADIENT, Kind.MEAN, Kind.ROOT_MEAN_SQUARE, Kind.CHANGE)


def measure_training(
    setup: TrainingSetup,
    make_port: MakeStep | None = None,
    reference: "TrainingReference | None" = None,
    execution: Execution = PLAIN,
    note: Callable[[Results], None] = lambda results: None,
) -> Iterator[Measurement]:
    """Yield loss terms, learning rates, changes of weights and state, and Adam moments after every step.

    Of a port that watches for numbers that are not finite, whether it refuses them comes last.

    Args:
        setup: networks, settings and batches.
        make_port: (networks, settings, frozen network) -> MindSpore step; default: the family's own.
        reference: what PyTorch makes of the setup, where that is known already.
        execution: how the port computes gradients.
        note: told what the port made of each step.
    """
    reference = reference or TrainingReference(setup)

    def port() -> FamilyRun:
        """A run of the port from the start."""
        trainer: Trainer = MindSporeTrainer(setup, make_port)
        if execution != PLAIN:
            trainer.execute(execution)
        return FamilyRun(trainer, setup)

    run, order = port(), 0
    for measured in measure_steps(reference, run, port, len(setup.batches), list(setup.training.phases), note):
        yield measured
        order = measured.order + 1
    if execution.watch:
        yield from measure_refusals(run.trainer, setup.batches[-1], order)


def measure_steps(
    reference: "StepsReference",
    port: "Run",
    again: Callable[[], "Run"],
    steps: int,
    phases: Sequence[str],
    note: Callable[[Results], None] = lambda results: None,
) -> Iterator[Measurement]:
    """Yield every tensor of every step, phase by phase, in the order of computation.

    Args:
        reference: what PyTorch makes of the steps.
        port: makes them in MindSpore.
        again: makes another such run, from the start.
        steps: how many.
        phases: in the order in which a step runs them.
        note: told what the port made of each step.
    """
    stages = [_Measured(reference, controls) for controls in STAGES]
    moved = _MovedPort(again, reference)
    order = 0
    for index in range(steps):
        found, last = port.step(index, reference.state(index)), None
        note(found)
        for rank, key in sorted(_ranked(phases, reference.truth(index)), key=lambda ranked: ranked[0]):
            order, last = order + (rank != last), rank
            head = Measurement(Mode.TRAINING, Probe(step=port.number), key[0], "", key[1], order)
            measured, stage = _within_or_last(stages, index, head, found.get(key))
            yield moved.judged_again(index, measured, partial(stage.measure, index, head))


def _within_or_last(
    stages: "Sequence[_Measured]", index: int, head: Measurement, port: Array | None
) -> "tuple[Measurement, _Measured]":
    """The first measurement that is within its budget, or hopelessly beyond; else the last one, with all controls.

    There is always hope before a control was moved far enough to cross a kink, and for a weight's change, of which more
    controls may leave any element out.
    """
    for stage in stages:
        measured = stage.measure(index, head, port)
        multiple, hoping = judge(measured).multiple, stage in stages[:2] or measured.quantity.kind is Kind.CHANGE
        if multiple <= 1 or (multiple >= HOPELESS and not hoping):
            break
    return measured, stage


def _ranked(phases: Sequence[str], results: Results) -> Iterator[tuple[tuple[int, int, int], Key]]:
    """Every tensor of a step with its place in the order of computation; loss terms have each their own."""
    for position, (layer, quantity) in enumerate(results):
        own = position if quantity.kind is Kind.LOSS else 0
        yield (phases.index(quantity.phase), RANKS.index(quantity.kind), own), (layer, quantity)


@dataclass(frozen=True)
class State:
    """Weights of each part and moments at the start of a step, in float32."""

    weights: _Weights
    moments: Moments

    @classmethod
    def of(cls, weights: _Weights, moments: Moments) -> "State":
        """These weights and moments, rounded."""
        rounded = {part: {name: _rounded(value) for name, value in own.items()} for part, own in weights.items()}
        return cls(rounded, {key: _rounded(value) for key, value in moments.items()})

    def moved(self, seed: int, units: int) -> "State":
        """The same with weights that are moved by units in the last place."""
        weights = {
            part: {name: ulp_neighbour(value, seed, units=units) for name, value in values.items()}
            for part, values in self.weights.items()
        }
        return replace(self, weights=weights)


def _rounded(value: Array) -> Array:
    return value.astype(np.float32) if value.dtype == np.float64 else value


class Run(ABC):
    """One side of a training comparison: what each step makes of loss terms, rates, weights and moments."""

    @property
    @abstractmethod
    def number(self) -> int:
        """Number of the last step, from 1."""

    @abstractmethod
    def state(self) -> State:
        """Where it stands."""

    @abstractmethod
    def step(self, index: int, state: State) -> Results:
        """Train one batch from a state and return everything that is compared."""


class StepsReference:
    """What PyTorch makes of steps in float64, and in float32 from moved weights; run as far as it is asked for."""

    def __init__(self, truth: Run, control: Callable[[], Run]) -> None:
        self._truth, self._truths = truth, list[Results]()
        self._states: list[State] = []
        self._begin, self._controls = control, dict[Control, tuple[Run, list[Results]]]()

    def truth(self, index: int) -> Results:
        """Results of a step in float64."""
        while len(self._truths) <= index:
            self._states.append(self._truth.state())
            self._truths.append(self._truth.step(len(self._truths), self._states[-1]))
        return self._truths[index]

    def state(self, index: int) -> State:
        """Where every side starts a step."""
        self.truth(index)
        return self._states[index]

    def control(self, control: Control, index: int) -> Results:
        """Results of a step in float32, from weights that are moved by (seed, units in the last place)."""
        if control not in self._controls:
            self._controls[control] = self._begin(), []
        run, results = self._controls[control]
        while len(results) <= index:
            with tf32_products(control[0] + 1), biases_summed_in_turn(control[0]):
                results.append(run.step(len(results), self.state(len(results)).moved(*control)))
        return results[index]


class TrainingReference(StepsReference):
    """What PyTorch makes of a family's steps."""

    def __init__(self, setup: TrainingSetup) -> None:
        truth = FamilyRun(TorchTrainer(setup, "float64"), setup, watched=True)
        super().__init__(truth, lambda: FamilyRun(TorchTrainer(setup, device=legs_in_use().reference), setup))
        self._activity = truth.activity

    def resting(self) -> tuple[Resting, ...]:
        """What did not move in the steps so far."""
        return tuple(self._activity.resting()) if self._activity else ()


class _Measured:
    """Tensors measured against a number of controls, which run only when one is asked for."""

    def __init__(self, reference: StepsReference, controls: Sequence[Control]) -> None:
        self._reference, self._controls = reference, controls
        self._noise, self._known = TrainingNoise(controls), 0

    def measure(self, index: int, head: Measurement, port: Array | None) -> Measurement:
        """Measure a tensor of a step; the noise remembers the steps before."""
        while self._known <= index:
            runs = [self._reference.control(control, self._known) for control in self._controls]
            self._noise.next_step(self._reference.truth(self._known), runs)
            self._known += 1
        return self._noise.measure(head, port)


class _MovedPort:
    """The port's steps again, from weights that are moved by units in the last place."""

    def __init__(self, again: Callable[[], Run], reference: StepsReference) -> None:
        self._again, self._reference, self._kinks = again, reference, Kinks()
        self._results: dict[tuple[Move, int], Results] = {}  # by how weights are moved, and index of the step

    def judged_again(
        self, index: int, measured: Measurement, measure_other: Callable[[Array | None], Measurement]
    ) -> Measurement:
        """See `Kinks.judged_again`.

        Args:
            index: of the step.
            measured: on the run that was not moved.
            measure_other: measures what another run made of the same tensor.
        """
        key = measured.layer, measured.quantity
        return self._kinks.judged_again(measured, lambda move: measure_other(self._run(move, index).get(key)))

    def _run(self, move: Move, index: int) -> Results:
        if (move, index) not in self._results:
            port = self._again()
            for step in range(index):
                port.step(step, self._reference.state(step))
            self._results[move, index] = port.step(index, self._reference.state(index).moved(*move))
        return self._results[move, index]


class FamilyRun(Run):
    """One side of a comparison of a family's training; `watched`: whether to note what the run moves.

    The port is taken apart and put back before the resumed step. The reference goes on as it is, so that whatever a
    checkpoint lacks shows.
    """

    def __init__(self, trainer: Trainer, setup: TrainingSetup, watched: bool = False) -> None:
        self.trainer, self._setup, self._training = trainer, setup, setup.training
        trainer.step.step_number = setup.first_step
        self.activity = Activity(trainer, setup) if watched else None

    @property
    def number(self) -> int:
        """See `Run.number`."""
        return int(self.trainer.step.step_number)

    def state(self) -> State:
        """See `Run.state`."""
        return State.of({part: self.trainer.weights(part) for part in self.trainer.networks}, self.trainer.moments())

    def step(self, index: int, state: State) -> Results:
        """See `Run.step`."""
        self.trainer.put_back(state.weights)
        if state.moments:
            self.trainer.restore({**self.trainer.moments(), **state.moments}, self.trainer.counts())
        start = {part: self.trainer.weights(part) for part in self._training.parts}
        if index == self._setup.resumed:
            self._resume()
        if index == self._setup.accumulated:
            changes = {"accumulate": PICTURES, "workers": PROCESSES, **self._careful()}
            self.trainer.execute(replace(self.trainer.step.descent.execution, **changes))
        terms = self._terms(*self._setup.batches[index])
        if self.activity:
            self.activity.after_step(terms)
        return dict(self._results(start, terms))

    def _terms(self, first: Array, second: Array) -> dict[str, float]:
        """Train, also with what is not finite, which is judged like everything else."""
        try:
            return train_among(self.trainer, first, second)
        except FloatingPointError:
            self.trainer.execute(replace(self.trainer.step.descent.execution, watch=False))
            return train_among(self.trainer, first, second)

    def _careful(self) -> Mapping[str, Any]:
        """Loss scale and look for NaN of the port's accumulated step: exact, so the reference does without."""
        return {} if isinstance(self.trainer, TorchTrainer) else {"loss_scale": LOSS_SCALE, "watch": True}

    def _resume(self) -> None:
        settings = self._setup.resumed_settings
        if isinstance(self.trainer, TorchTrainer):
            self.trainer.step.use(self._training.settings(**settings))
        else:
            self.trainer = self.trainer.resumed(settings)

    def _results(
        self, start: Mapping[str, Mapping[str, Array]], terms: dict[str, float]
    ) -> Iterator[tuple[Key, Array]]:
        for phase in self._training.phases:
            judges = self.trainer.step.settings.judges(phase)
            for name in (*self.trainer.step.weights(phase), f"{phase}.total"):
                if name in terms:
                    quantity = Quantity(Kind.LOSS, name, phase=phase)
                    yield (judges.get(name, ""), quantity), np.array(terms[name])
        for phase, rate in self.trainer.rates().items():
            yield ("", Quantity(Kind.RATE, phase=phase)), np.array(rate)
        moments = self.trainer.moments()
        for part in self._training.parts:
            phase = self._training.phase_of(part)
            for name, value in self.trainer.weights(part).items():
                layer, _, leaf = f"{part}.{name}".rpartition(".")
                change = np.asarray(value, np.float64) - start[part][name]
                yield (layer, Quantity(Kind.CHANGE, leaf, phase=phase)), change
                mean, square = (moments.get((kind, part, name)) for kind in MOMENTS)
                if mean is not None and square is not None:
                    yield (layer, Quantity(Kind.MEAN, leaf, phase=phase)), mean
                    yield (layer, Quantity(Kind.ROOT_MEAN_SQUARE, leaf, phase=phase)), np.sqrt(square)
