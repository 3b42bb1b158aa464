"""What `toonport compare FAMILY --mode all` looks at, in pieces: one network, or the training steps.

The networks are those of the command made narrow and run at the smallest side that they take; nothing else differs but
the size from which instance norms take their other way, which is as much smaller.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from convert.family import Family
from convert.registry import family_named
from parity_tests.harness import families, run, training_comparison
from parity_tests.harness.capture import Pair
from parity_tests.harness.families import PLAIN, other_forms, seeded_source
from parity_tests.harness.judge import Verdict, judge
from parity_tests.harness.measurement import Measurement, Mode
from parity_tests.harness.mutants.judging import NARROW
from parity_tests.harness.mutants.systematic.memory import Answers, RememberedReference, remembering
from parity_tests.harness.recorded import recorded
from parity_tests.harness.request import CompareOptions
from parity_tests.harness.training_comparison import compare_training, steps_of

NARROW_SMALL = 2**10  # see `kernels.SMALL`; the maps of narrow generators lie on both sides of it
NETWORK_MODES = (Mode.ISOLATED, Mode.GRADIENTS, Mode.ACCUMULATED)
Alarms = frozenset[tuple[Any, ...]]


@dataclass(frozen=True)
class Check:
    """One network of a family in every mode, or its training steps."""

    family: str
    part: str  # "" for the training steps
    kwargs: Mapping[str, Any] = field(hash=False)
    seed: int = 0  # of weights and pictures
    form: str = ""  # see `Source.form`

    @property
    def name(self) -> str:
        """What the report calls it."""
        return f"{self.part or 'training'} {self.form}".strip()


@dataclass
class Clean:
    """What a check does on the correct port."""

    lines: dict[str, dict[int, set[str]]] = field(default_factory=dict)  # file -> executed line -> phases
    types: dict[str, str] = field(default_factory=dict)  # layer -> its class, the port's where it has it
    answers: Answers = field(default_factory=dict)  # of the reference's trainers
    seconds: float = 0.0
    alarms: Alarms = frozenset()  # tensors out of budget on the correct port: no mutant is seen by these


class FirstDifference(Exception):  # noqa: N818  # not an error: it ends a comparison that has shown what it can
    """The first tensor out of its budget."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict)
        self.verdict = verdict


def checks_of(family: Family, seed: int = 0) -> Iterator[Check]:
    """Every check of a family: each kind of network, then the training steps."""
    kinds: dict[tuple[Any, ...], Check] = {}
    for part in family.parts:
        narrow = {name: value for name, value in NARROW.items() if name in part.kwargs}
        own: Mapping[str, Any] = {**part.kwargs, **narrow}
        plain = [(PLAIN, own)] if family.training else []
        for form, kwargs in (("", own), *other_forms(family, part), *plain):
            key = part.class_name, form == PLAIN, *sorted(kwargs.items(), key=str)
            kinds.setdefault(key, Check(family.name, part.name, kwargs, seed, form))
    yield from kinds.values()
    if family.training:
        yield Check(family.name, "", {}, seed)


def alarm_of(measurement: Measurement) -> tuple[Any, ...]:
    """What tells one tensor of a comparison from every other."""
    return measurement.mode, measurement.layer, measurement.quantity, measurement.probe


def run_check(
    check: Check, captures: Path, answers: Answers, known: Alarms | None = None, types: dict[str, str] | None = None
) -> list[Verdict]:
    """Compare, and return the verdicts.

    Args:
        check: what to compare.
        captures: folder that keeps what the reference computes.
        answers: of the reference's trainers; more are added.
        known: alarms on the correct port; the first tensor out of budget beside these ends the comparison. None:
            nothing does.
        types: gets the class of each of the port's layers.

    Raises:
        FirstDifference: that tensor.
    """
    family = family_named(check.family)
    with ExitStack() as stack:
        if known is not None:
            for module in (run, families, training_comparison):
                stack.enter_context(mock.patch.object(module, "judge", stopping(known)))
        if not check.part:
            stack.enter_context(remembering(answers))
            found = compare_training(family, CompareOptions(check.family, seed=check.seed))
            return [verdict for _, compared in found for verdict in compared(run.silent).verdicts]
        stack.enter_context(narrow_maps())
        record = partial(_reference_recorded, {} if types is None else types)
        stack.enter_context(mock.patch.object(families, "recorded", record))
        options = CompareOptions(check.family, check.part, modes=NETWORK_MODES, captures=captures, seed=check.seed)
        part = next(part for part in family.parts if part.name == check.part)
        options = replace(options, size=part.smallest(check.kwargs))
        return list(
            families.compare_source(seeded_source(family, part, check.kwargs, check.seed, check.form), options).verdicts
        )


def narrow_maps() -> AbstractContextManager[Any]:
    """Let instance norms of narrow networks take both ways that those of released ones take, by the size of a map."""
    from ms_models import kernels  # as it can be imported now

    return mock.patch.object(kernels, "SMALL", NARROW_SMALL)


def _reference_recorded(types: dict[str, str], pair: Pair, folder: Path, *_: bool) -> Pair:
    """Keep what the reference computes; what a mutant computes is of no use to another."""
    types.update(pair.port.layer_types())
    return replace(recorded(pair, folder), port=pair.port)


def learn_reference(check: Check, answers: Answers) -> None:
    """Run all that a comparison of training steps can ask PyTorch for, even where a mutant strays."""
    for steps in steps_of(family_named(check.family), CompareOptions(check.family).steps, check.seed):
        RememberedReference(steps.setup, answers).learn()


def stopping(known: Alarms) -> Callable[..., Verdict]:
    """Return what judges a measurement, and ends the comparison where it is out of budget and no known alarm."""

    def judged(measurement: Measurement, *budgets: Any) -> Verdict:
        """Judge a measurement."""
        verdict = judge(measurement, *budgets)
        if not verdict.equal and alarm_of(measurement) not in known:
            raise FirstDifference(verdict)
        return verdict

    return judged
