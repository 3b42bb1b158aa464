"""Runs the mutation suite: is every planted bug caught, by which mode, and is the right layer blamed?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from convert.family import FrozenNetwork
from convert.plan import build_plan
from convert.registry import families, family_named, part_named
from parity_tests.harness.explain import likely_causes
from parity_tests.harness.inputs import formula_state
from parity_tests.harness.judge import Verdict, blamed, judge_all
from parity_tests.harness.measurement import Mode
from parity_tests.harness.mutants.cyclegan import CYCLEGAN_MUTATIONS, CYCLEGAN_TRAINING_MUTATIONS
from parity_tests.harness.mutants.published_rules import published_verdicts
from parity_tests.harness.mutants.sagan_cyclegan import (
    DTN_TRAINING_MUTATIONS,
    SAGAN_MUTATIONS,
    SAGAN_TRAINING_MUTATIONS,
)
from parity_tests.harness.mutants.ugatit import MUTATIONS, Mutation, Subject
from parity_tests.harness.mutants.ugatit_training import TRAINING_MUTATIONS, TrainingMutation
from parity_tests.harness.mutants.whitebox import WHITEBOX_MUTATIONS, WHITEBOX_TRAINING_MUTATIONS
from parity_tests.harness.pair import build_pair
from parity_tests.harness.report.words import place, quantity_words
from parity_tests.harness.run import compare_pair, part_inputs
from parity_tests.harness.sides.base import Array
from parity_tests.harness.sides.mindspore import MindSporeSide
from parity_tests.harness.training import TrainingSetup, frozen_network, measure_training, small_setup

__all__ = [
    "ALL_MUTATIONS",
    "LARGE",
    "Outcome",
    "compare_subject",
    "correct_subjects",
    "false_alarms",
    "outcome_of",
    "run_mutants",
    "small_kwargs",
]

NARROW = {
    "ngf": 8,
    "ndf": 8,
    "n_blocks": 2,
    "embedding_size": 32,
    "conv_dim": 8,
    "channel": 8,
    "num_blocks": 2,
    "width": 8,
}
LARGE: tuple[Subject, ...] = (("photo2cartoon", "genA2B"), ("mobilefacenet", "mobilefacenet"))
MODES = (Mode.ISOLATED, Mode.GRADIENTS, Mode.ACCUMULATED)
ALL_MUTATIONS: tuple[Mutation | TrainingMutation, ...] = (
    *MUTATIONS,
    *CYCLEGAN_MUTATIONS,
    *SAGAN_MUTATIONS,
    *WHITEBOX_MUTATIONS,
    *TRAINING_MUTATIONS,
    *CYCLEGAN_TRAINING_MUTATIONS,
    *SAGAN_TRAINING_MUTATIONS,
    *DTN_TRAINING_MUTATIONS,
    *WHITEBOX_TRAINING_MUTATIONS,
)


@dataclass(frozen=True)
class Outcome:
    """What the checker made of one planted bug.

    Attributes:
        name, what: the bug.
        subject: what was compared.
        caught_by: the modes with tensors out of budget.
        blamed: the layer (or training phase) blamed first, with its type.
        right: whether that is where the bug was planted.
        cause: the likeliest cause that the report gives.
        multiple: worst error in multiples of its budget.
        published: published rule -> whether it calls the buggy network equal; empty for training bugs.
    """

    name: str
    what: str
    subject: str
    caught_by: tuple[str, ...]
    blamed: str
    right: bool
    multiple: float
    cause: str = ""
    published: Mapping[str, bool] = field(default_factory=dict)


def small_kwargs(subject: Subject) -> tuple[Any, dict[str, Any]]:
    """Return the part of a subject and narrow constructor arguments for it."""
    part = part_named(family_named(subject[0]), subject[1])
    changes = {name: value for name, value in NARROW.items() if name in part.kwargs}
    return part, {**part.kwargs, **changes}


def compare_subject(
    subject: Subject,
    seed: int = 0,
    mutation: Mutation | None = None,
    modes: Sequence[str] = MODES,
    dtype: str = "float32",
) -> tuple[list[Verdict], dict[str, bool]]:
    """Compare one seeded narrow network, with a bug planted or without.

    Returns:
        The verdicts, and what the published rules say about the network's first output.
    """
    part, kwargs = small_kwargs(subject)
    kwargs = dict(mutation.kwargs) if mutation and mutation.kwargs else kwargs
    plan = build_plan(part, kwargs)
    state = formula_state(f"mutants{seed}/{part.name}", plan.shapes)
    port = plan.to_mindspore(state)
    pair = build_pair(part, kwargs, state, port, dtype)
    probe = part_inputs(part, kwargs, seed, part.smallest(kwargs), batch=2)
    planted = (mutation or Mutation("none", "", subject, ())).planted
    with planted(pair.port.network):
        pair = replace(pair, port=MindSporeSide(pair.port.network, _names(plan), dtype))
        comparison = compare_pair(part.name, pair, [probe], [probe], modes)
        outputs: list[Array] = []
        for side in (pair.truth, pair.reference, pair.port):
            with side.preserved():
                outputs.append(side.call("", [probe])[0])
    return list(comparison.verdicts), published_verdicts(*outputs)


def _names(plan: Any) -> dict[str, str]:
    return plan.names


def run_mutants(
    names: Iterable[str] = (), say: Callable[[str], None] = lambda text: None, seed: int = 0
) -> Iterator[Outcome]:
    """Plant every bug (or those named) and yield what the checker makes of it."""
    wanted = set(names)
    for mutation in ALL_MUTATIONS:
        if not wanted or mutation.name in wanted:
            say(mutation.name)
            yield _train(mutation, seed) if isinstance(mutation, TrainingMutation) else _network(mutation, seed)


def _network(mutation: Mutation, seed: int) -> Outcome:
    verdicts, published = compare_subject(mutation.subject, seed, mutation, _modes(mutation.subject))
    subject = " ".join(mutation.subject)
    return outcome_of(mutation.name, mutation.what, subject, mutation.blame, verdicts, published)


def _modes(subject: Subject) -> tuple[Mode, ...]:
    """Large networks are compared layer by layer only: their gradients take a minute each."""
    return (Mode.ISOLATED,) if subject in LARGE else MODES


def _train(mutation: TrainingMutation, seed: int) -> Outcome:
    setup = training_setup(seed, mutation.face, mutation.first_step, mutation.family, mutation.steps)
    setup = replace(setup, settings={**setup.settings, **dict(mutation.both)})
    with mutation.planted():
        verdicts = judge_all(measure_training(setup, mutation.make_step))
    return outcome_of(mutation.name, mutation.what, f"{mutation.family} training", mutation.blame, verdicts, {})


def training_setup(
    seed: int, face: bool = False, first_step: int = 1, family: str = "ugatit", steps: int = 1
) -> TrainingSetup:
    """Return one seeded training step of narrow networks, or several."""
    setup = small_setup(family_named(family), steps, seed)
    if face:
        frozen = FrozenNetwork("mobilefacenet", "mobilefacenet", {"embedding_size": 64})
        setup = replace(setup, frozen=frozen_network(frozen, seed))
    return replace(setup, first_step=first_step)


def outcome_of(
    name: str,
    what: str,
    subject: str,
    blame: tuple[str, ...],
    verdicts: Sequence[Verdict],
    published: Mapping[str, bool],
) -> Outcome:
    """Return what the checker made of a bug, from the verdicts of a comparison with the bug in it."""
    failing = [verdict for verdict in verdicts if not verdict.equal]
    if not failing:
        return Outcome(name, what, subject, (), "", False, 0.0, published=published)
    first = blamed(verdicts)[0].measurement
    where = place(first)
    modes = tuple(dict.fromkeys(verdict.measurement.mode for verdict in failing))
    right = any(fragment in where or fragment in quantity_words(first.quantity) for fragment in blame)
    worst = max(verdict.multiple for verdict in failing)
    cause = next(iter(likely_causes(verdicts)), "")
    return Outcome(name, what, subject, modes, where, right, worst, cause, published)


def correct_subjects() -> tuple[Subject, ...]:
    """Return one part of each kind of network of every family."""
    kinds: dict[tuple[Any, ...], Subject] = {}
    for family in families():
        for part in family.parts:
            kinds.setdefault((family.name, part.class_name, *part.kwargs.items()), (family.name, part.name))
    return tuple(kinds.values())


def false_alarms(
    seeds: int, say: Callable[[str], None] = lambda text: None, subjects: Sequence[Subject] | None = None
) -> Iterator[tuple[str, int]]:
    """Compare correct ports under many seeds; yield (comparison, tensors out of budget).

    Args:
        seeds: how many.
        say: called with what is being compared.
        subjects: networks; None: every kind of network and the training step of every family.
    """
    trained = [] if subjects else [family.name for family in families() if family.training]
    for seed in range(1, seeds + 1):
        for subject in subjects or correct_subjects():
            name = f"{' '.join(subject)}, seed {seed}"
            say(f"correct port: {name}")
            verdicts, _ = compare_subject(subject, seed, modes=_modes(subject))
            yield name, sum(not verdict.equal for verdict in verdicts)
        for family in trained:
            name = f"{family} training, seed {seed}"
            say(f"correct port: {name}")
            verdicts = judge_all(measure_training(training_setup(seed, family=family)))
            yield name, sum(not verdict.equal for verdict in verdicts)
