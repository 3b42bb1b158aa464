"""Causes of a difference in training, found by experiment: a setting, a loss term, the optimiser, or the update.

The reference makes the steps again in float64 with one candidate bug, up to the step in which the port differs first.
A candidate is the cause when the port is within its budgets of that. What an update does with the moments is computed
from the port's own, to within rounding.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from itertools import chain, combinations
from typing import Any

import numpy as np

from parity_tests.harness.compare import rms
from parity_tests.harness.experiments import WITHIN, Finding
from parity_tests.harness.judge import Verdict, blamed
from parity_tests.harness.measurement import Kind, Measurement
from parity_tests.harness.rewrites import Cause, Change
from parity_tests.harness.sides.base import Array
from parity_tests.harness.trainers import MOMENTS, TorchTrainer
from parity_tests.harness.training import FamilyRun, TrainingReference
from parity_tests.harness.training_arithmetic import ObjectiveTrials
from parity_tests.harness.training_moments import (
    Mixture,
    Update,
    decayed,
    distance,
    factor_between,
    moments_of,
    part_and_name,
    updates,
    weight_of,
)
from parity_tests.harness.training_noise import Key, Results
from parity_tests.harness.training_plants import Plant, grouped, in_pieces, scaled, using, with_beta, without
from parity_tests.harness.training_setup import TrainingSetup

ROUNDING = 4.0  # times what float32 makes of the same tensors, which a candidate may leave
FACTORS = (0.0, 0.1, 0.5, 2.0, 10.0)  # of a setting
BETAS = {0: (0.0, 0.5, 0.9, 0.99), 1: (0.0, 0.9, 0.99, 0.999)}
DECAYS = (0.0, 1e-5, 1e-4, 1e-3, 1e-2)
LARGEST_DENOMINATOR, NEAR_SIMPLE = 16, 1e-3  # a factor is taken for the simple one that is as near as this share of it
RARELY = 0.05  # chance at most with which any factor is within rounding of a simple one
PIECES = {  # how the gradients of a batch's two pieces may be added up
    "the first one alone": (1.0, 0.0),
    "the last one alone": (0.0, 1.0),
    "the last one taken away": (1.0, -1.0),
}
MOMENT_KINDS = {Kind.MEAN: "mean", Kind.ROOT_MEAN_SQUARE: "mean square"}  # as in MOMENTS
NEIGHBOURS = (-2, -1, 1, 2)  # steps whose rate may have been taken
MADE_OF = {  # what shows the cause of a difference in a kind of tensor
    Kind.LOSS: {Kind.LOSS},
    Kind.MEAN: {Kind.MEAN, Kind.ROOT_MEAN_SQUARE},
    Kind.ROOT_MEAN_SQUARE: {Kind.MEAN, Kind.ROOT_MEAN_SQUARE},
}


def training_finding(
    setup: TrainingSetup, reference: TrainingReference, port: Sequence[Results], verdicts: Sequence[Verdict]
) -> Finding | None:
    """What experiments show on the tensor of training steps that is blamed first; `port`: what each step made."""
    first = next((verdict.measurement for verdict in blamed(verdicts)), None)
    if first is None or first.probe.step is None:
        return None
    return find_training_cause(setup, reference, port[first.probe.step - setup.first_step - 1], verdicts, first)


def find_training_cause(
    setup: TrainingSetup, reference: TrainingReference, port: Results, verdicts: Sequence[Verdict], first: Measurement
) -> Finding | None:
    """Look for the bug behind the first difference in training; None where no experiment can be made.

    Args:
        setup: what both sides start from.
        reference: what PyTorch makes of it.
        port: what the port made of the step in which it differs first.
        verdicts: on every tensor of the steps.
        first: the tensor that is blamed.
    """
    if first.probe.step is None or first.problem:
        return None
    own = [verdict for verdict in verdicts if verdict.measurement.probe.step == first.probe.step]
    budgets = {(verdict.measurement.layer, verdict.measurement.quantity): verdict.budget for verdict in own}
    case = _Case(setup, reference, port, budgets, first.probe.step - setup.first_step - 1, first.quantity.phase)
    if first.quantity.kind is Kind.RATE:
        return case.rate()
    if first.quantity.kind is Kind.LOSS and first.quantity.name == f"{first.quantity.phase}.total":
        return case.total((first.layer, first.quantity))
    if first.quantity.kind is Kind.CHANGE:
        return case.update()
    return case.planted(MADE_OF[first.quantity.kind]) if first.quantity.kind in MADE_OF else None


@dataclass(frozen=True)
class _Case:
    """The step in which a port differs first."""

    setup: TrainingSetup
    reference: TrainingReference
    port: Results
    budgets: Mapping[Key, float]
    index: int  # of the step, from 0
    phase: str

    def rate(self) -> Finding:
        """Whose step's rate the port took."""
        settings = self.setup.training.settings(**self.setup.settings)
        number = self.setup.first_step + self.index + 1
        key = next(key for key in self._truth({Kind.RATE}))
        wanted, found = (float(values[key]) for values in (self.reference.truth(self.index), self.port))
        for other in NEIGHBOURS:
            if number + other > 0 and np.isclose(found, settings.rate(self.phase, number + other), rtol=1e-6):
                late = f"{abs(other)} step{'s' if abs(other) > 1 else ''} {'late' if other < 0 else 'early'}"
                return Finding(Cause(Change.RATE, late, self.phase))
        return Finding(Cause(Change.RATE, f"× {found / wanted:.4g}" if wanted else f"{found:.4g}", self.phase))

    def total(self, key: Key) -> Finding:
        """How the port adds up the loss terms, which are right."""
        terms = {key[1].name: float(value) for key, value in self._truth({Kind.LOSS}).items()}
        found, wanted = float(self.port[key]), terms.pop(key[1].name)
        weights = self.setup.training.settings(**self.setup.settings).weights(self.phase, self.setup.frozen is not None)
        weights = {name: weight for name, weight in weights.items() if name in terms}
        fitting = [cause for cause, value in _totals(terms, weights, wanted) if abs(found - value) <= self.budgets[key]]
        return Finding(fitting[0] if len(fitting) == 1 else None, () if len(fitting) == 1 else (Change.LOSS_WEIGHT,))

    def planted(self, kinds: set[Kind]) -> Finding:
        """Plant every candidate in the reference."""
        truth = self._truth(kinds)
        likely = chain(self._plants(truth, kinds), self._scales(truth, kinds))
        return _found(likely, self._rewritten(truth) if kinds == {Kind.LOSS} else self._moments(truth))

    def update(self) -> Finding:
        """What was done with the moments, which are right, to make the change of the weights."""
        right, control = self._adam(), self.reference.control((0, 1), self.index)
        moments, own = (
            {key: moments_of(run, key) for key in self._truth({Kind.CHANGE})} for run in (self.port, control)
        )
        known = {key: found for key, found in moments.items() if found is not None}
        wanted = {key: right.change(*found) for key, found in known.items()}
        rounding = distance(control, {key: right.change(*found) for key, found in own.items() if found is not None})
        error = distance(self.port, wanted)
        enough = max(WITHIN * min(error, 1.0), ROUNDING * rounding)
        if error <= 10 * rounding:
            return Finding(None, (Change.UPDATE, Change.DECAY))
        return _found(self._updates(right, known, wanted), self._scaled_update(wanted), enough=enough)

    def _adam(self) -> Update:
        """The right update of the step."""
        trainer = self._trained(lambda _: None)[0]
        optimizer = trainer.step.optimizers[self.phase].param_groups[0]
        first, second = optimizer["betas"]
        return Update(optimizer["lr"], first, second, optimizer["eps"], trainer.counts()[self.phase])

    def _updates(
        self, right: Update, known: Mapping[Key, tuple[Array, Array]], wanted: Mapping[Key, Array]
    ) -> Iterator[tuple[Cause, float]]:
        """Other updates, and what each leaves of the error."""
        for candidate, change in updates(right):
            yield candidate, distance(self.port, {key: change(*found) for key, found in known.items()})
        state = self.reference.state(self.index)
        decay = decayed(self.port, wanted, {key: weight_of(state, key) for key in known}, right.rate)
        if decay is not None:
            yield Cause(Change.DECAY, f"{decay[0]:.3g} of the weight itself", self.phase), decay[1]

    def _scaled_update(self, wanted: Mapping[Key, Array]) -> Iterator[tuple[Cause, float]]:
        factor = factor_between(self.port, wanted)
        left = distance(self.port, {key: factor * value for key, value in wanted.items()})
        yield Cause(Change.UPDATE, f"× {factor:.4g}", self.phase), left

    def _truth(self, kinds: set[Kind]) -> dict[Key, Array]:
        """The reference's tensors of these kinds and the phase."""
        every = self.reference.truth(self.index)
        return {key: value for key, value in every.items() if key[1].kind in kinds and key[1].phase == self.phase}

    def _plants(self, truth: Mapping[Key, Array], kinds: set[Kind]) -> Iterator[tuple[Cause, float]]:
        """Bugs of the list, and what each leaves of the error."""
        for candidate, plant in self._candidates(kinds):
            try:
                results = self._run(plant)
            except (ArithmeticError, RuntimeError, TypeError, ValueError):
                results = {}  # a step that does not run with this candidate
            known = truth.keys() <= results.keys()
            yield candidate, self._beyond({key: results[key] for key in truth}) if known else float("inf")

    def _scales(self, truth: Mapping[Key, Array], kinds: set[Kind]) -> Iterator[tuple[Cause, float]]:
        """Factors as causes, and what each leaves of the error; rounding grows with what is scaled."""
        factor = self._factor(truth)
        if kinds == {Kind.LOSS}:
            made = {key: factor * value for key, value in truth.items()}
            yield from self._scaled_terms(truth)
        else:
            results = self._run(scaled(self.phase, factor))
            made = {key: results[key] for key in truth}
        yield Cause(Change.SCALE, f"× {factor:.3g}", self.phase), self._beyond(made) / max(1.0, abs(factor))

    def _scaled_terms(self, truth: Mapping[Key, Array]) -> Iterator[tuple[Cause, float]]:
        """The simple factor by which some loss terms are off, as of a sum in place of a mean: n, 1 / n, or p / q."""
        own = {key: value for key, value in truth.items() if key[1].name != f"{self.phase}.total" and key in self.port}
        wrong = {key: float(value) for key, value in own.items() if self._beyond({key: value}) > 1}
        if not wrong or not all(wrong.values()):
            return
        first = next(iter(wrong))
        factor = float(self.port[first]) / wrong[first]
        rounding = max(self.budgets[key] / abs(value) for key, value in wrong.items())
        for simple, alike in _simple_factors(factor):
            if alike * rounding <= RARELY:
                left = self._beyond({key: np.array(simple * value) for key, value in wrong.items()})
                names = ", ".join(key[1].name for key in wrong)
                yield Cause(Change.TERM, f"× {simple:.6g}", names), left / max(1.0, abs(simple))

    def _rewritten(self, truth: Mapping[Key, Array]) -> Iterator[tuple[Cause, float]]:
        """Operations of the objective changed, and what each change leaves of the error."""
        own = {key: value for key, value in truth.items() if key[1].name != f"{self.phase}.total"}
        wrong = {key[1].name: key for key, value in own.items() if self._beyond({key: value}) > 1}
        if not wrong or self.index == self.setup.accumulated:
            return
        trials = ObjectiveTrials(self.phase, wrong, {key[1].name for key in own} - set(wrong))
        trainer = TorchTrainer(self.setup, "float64")
        run = FamilyRun(trainer, self.setup)
        for index in range(self.index):
            run.step(index, self.reference.state(index))
        trials.plant(trainer)
        run.step(self.index, self.reference.state(self.index))
        error = self._beyond({key: own[key] for key in wrong.values()})
        moved = trials.moved({name: float(own[key]) for name, key in wrong.items()})
        alike = moved / error  # candidates that are as near as rounding to any number there by chance
        for cause, terms in trials.made:
            left = self._beyond({key: np.array(terms[name]) for name, key in wrong.items()})
            yield cause, left if alike <= RARELY else float("inf")

    def _factor(self, truth: Mapping[Key, Array]) -> float:
        """The factor between loss terms of the port and the right ones, or between the gradients behind the means."""
        means = {key: value for key, value in truth.items() if key[1].kind is Kind.MEAN}
        kept = TorchTrainer(self.setup, "float64").step.optimizers[self.phase].param_groups[0]["betas"][0]
        before = self.reference.state(self.index).moments
        old = {key: kept * before.get((MOMENTS[0], *part_and_name(key)), np.zeros(())) for key in means}
        same = [key for key in means if key in self.port and self.port[key].shape == means[key].shape]
        found = {key: self.port[key] - old[key] for key in same}
        factor = factor_between(found or self.port, {key: means[key] - old[key] for key in means} or truth)
        if not np.isfinite(factor):
            return factor
        simple = float(Fraction(factor).limit_denominator(LARGEST_DENOMINATOR))
        return simple if abs(simple - factor) <= NEAR_SIMPLE * abs(factor) else factor

    def _moments(self, truth: Mapping[Key, Array]) -> Iterator[tuple[Cause, float]]:
        """What else a moment is made of than its shares of the old one and the gradient, and the error that leaves."""
        betas = TorchTrainer(self.setup, "float64").step.optimizers[self.phase].param_groups[0]["betas"]
        before, made, words = self.reference.state(self.index).moments, dict[Key, Array](), list[str]()
        for place, (kind, name) in enumerate(zip(MOMENT_KINDS, MOMENTS, strict=True)):
            own = {key: value for key, value in truth.items() if key[1].kind is kind}
            old = {key: before.get((name, *part_and_name(key)), np.zeros_like(value)) for key, value in own.items()}
            mixed = Mixture.of(self.port, own, old, betas[place], place + 1)
            right = self._beyond(own) <= 1
            made |= own if right else mixed.made
            words += [] if right else [f"{MOMENT_KINDS[kind]} {mixed}"]
        yield Cause(Change.MOMENTS, "; ".join(words), self.phase), self._beyond(made)

    def _beyond(self, wanted: Mapping[Key, Array]) -> float:
        """The port's largest distance from these tensors, in multiples of their budgets."""
        found = []
        for key, value in wanted.items():
            own, budget = self.port.get(key), self.budgets.get(key)
            if own is None or own.shape != value.shape or not budget:
                return float("inf")
            found.append(rms(own - value) / budget)
        return max(found, default=float("inf"))

    def _trained(self, plant: Plant) -> tuple[TorchTrainer, Results]:
        trainer = TorchTrainer(self.setup, "float64")
        run = FamilyRun(trainer, self.setup)
        plant(trainer)
        for index in range(self.index + 1):
            results = run.step(index, self.reference.state(index))
        return trainer, results

    def _run(self, plant: Plant) -> Results:
        return self._trained(plant)[1]

    def _candidates(self, kinds: set[Kind]) -> Iterator[tuple[Cause, Plant]]:
        settings = self.setup.training.settings(**self.setup.settings)
        for setting in fields(settings):
            value = vars(settings)[setting.name]
            for other in _others(value):
                cause = Cause(Change.SETTING, f"{other:g} in place of {value:g}", setting.name)
                yield cause, using(setting.name, other)
        if kinds == {Kind.LOSS}:
            return
        for term in settings.weights(self.phase, self.setup.frozen is not None):
            yield Cause(Change.DETACHED, "loss term", term), without(self.phase, term)
        for place, values in BETAS.items():
            for beta in values:
                yield Cause(Change.BETA, f"{place + 1}: {beta:g}", self.phase), with_beta(self.phase, place, beta)
        for decay in DECAYS:
            yield Cause(Change.DECAY, f"{decay:g}", self.phase), grouped(self.phase, "weight_decay", decay)
        for what, weights in PIECES.items() if self.index == self.setup.accumulated else ():
            yield Cause(Change.PIECES, what, self.phase), in_pieces(self.phase, weights)


def _found(*stages: Iterable[tuple[Cause, float]], enough: float = 1.0) -> Finding:
    """The cause that leaves least of the error, where that is little enough, of the first stage that has one."""
    tried = list[Change]()
    for candidates in stages:
        best, cause = float("inf"), None
        for candidate, left in candidates:
            tried.append(candidate.change)
            if left < best:
                best, cause = left, candidate
        if best <= enough:
            return Finding(cause)
    return Finding(None, tuple(dict.fromkeys(tried)))


def _totals(terms: Mapping[str, float], weights: Mapping[str, float], total: float) -> Iterator[tuple[Cause, float]]:
    """Sums of loss terms with wrong weights."""
    for factor in FACTORS:
        yield Cause(Change.LOSS_WEIGHT, f"of all terms × {factor:g}"), factor * total
        for name, weight in weights.items():
            yield Cause(Change.LOSS_WEIGHT, f"× {factor:g}", name), total + (factor - 1) * weight * terms[name]
    for first, second in combinations(weights, 2):
        moved = (weights[second] - weights[first]) * (terms[first] - terms[second])
        if moved:
            yield Cause(Change.LOSS_WEIGHT, "exchanged", f"{first}, {second}"), total + moved
    for name, weight in weights.items():
        if weight != 1:
            yield Cause(Change.LOSS_WEIGHT, "1", name), total + (1 - weight) * terms[name]


def _simple_factors(factor: float) -> Iterator[tuple[float, float]]:
    """The simple numbers next to a factor, each with how many such numbers lie within a factor of e of it."""
    if not np.isfinite(factor) or not factor:
        return
    whole = max(1, round(max(abs(factor), 1 / abs(factor))))
    yield float(np.copysign(whole if abs(factor) >= 1 else 1 / whole, factor)), float(whole)
    share = float(Fraction(factor).limit_denominator(LARGEST_DENOMINATOR))
    if 1 / LARGEST_DENOMINATOR <= abs(share) <= LARGEST_DENOMINATOR:
        yield share, float(LARGEST_DENOMINATOR**2)


def _others(value: Any) -> Iterator[float]:
    """Other values of a setting."""
    if isinstance(value, bool):
        yield float(not value)
    elif isinstance(value, float) and value:
        yield from (value * factor for factor in FACTORS)
