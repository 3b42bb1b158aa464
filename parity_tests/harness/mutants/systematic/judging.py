"""What the comparison of a family makes of one mutant of the source."""

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from convert.family import Family
from convert.registry import family_named
from parity_tests.harness.families import PLAIN
from parity_tests.harness.forked import Failure, run_forked
from parity_tests.harness.judge import Verdict
from parity_tests.harness.measurement import Kind
from parity_tests.harness.mutants.systematic.checks import (
    Check,
    Clean,
    FirstDifference,
    alarm_of,
    checks_of,
    learn_reference,
    run_check,
)
from parity_tests.harness.mutants.systematic.planting import imported_anew, planted, traced
from parity_tests.harness.mutants.systematic.scope import Place, Program, place_of
from parity_tests.harness.mutants.systematic.source import SourceMutant
from parity_tests.harness.report.words import place, quantity_words

CANNOT = "the port cannot "
LONGEST_CLEAN = 1500.0


@dataclass(frozen=True)
class Result:
    """What became of a mutant."""

    name: str
    family: str
    kind: str  # of the operator
    what: str  # the change
    verdict: str  # "caught", "refused", "equivalent", "elsewhere" (see elsewhere.py) or "missed"
    mode: str = ""  # that caught it
    blamed: str = ""  # layer or loss term, and the tensor
    right: bool = False  # whether that is where the mutant is
    multiple: float = 0.0  # the error in multiples of its budget
    reason: str = ""  # why it was refused, is equivalent or was missed
    line: str = ""  # the source line


@dataclass
class Prepared:
    """A family ready to judge mutants: what each check runs, and what the reference says."""

    family: Family
    program: Program
    captures: Path
    checks: Mapping[Check, Clean] = field(default_factory=dict)

    def covering(self, mutant: SourceMutant) -> list[Check]:
        """The checks that run a line of the mutant's statement, the quickest first.

        Those of plain formulas follow the others, which look at blocks alone, too, and blame what wraps a layer.
        """
        first, last = mutant.lines
        hit = [
            check
            for check, clean in self.checks.items()
            if any(line in clean.lines.get(mutant.file, {}) for line in range(first, last + 1))
        ]
        return sorted(hit, key=lambda check: (not check.part, check.form == PLAIN, self.checks[check].seconds))

    def compiling(self, mutant: SourceMutant) -> list[Check]:
        """The training steps, where they mention the mutant's definition: what is compiled runs no line."""
        at, training = self.program.at(mutant.file, mutant.line), self.family.training
        if at is None or training is None or at.place not in self.program.reached([place_of(training.step)]):
            return []
        return [check for check in self.checks if not check.part]

    def in_networks_alone(self, mutant: SourceMutant) -> bool:
        """Whether networks make use of the mutant's definition, and the training step only by way of them."""
        at, training = self.program.at(mutant.file, mutant.line), self.family.training
        networks = self.program.reached(place_of(part.class_name) for part in self.family.parts)
        of_step = self.program.reached([place_of(training.step)] if training else []) - networks
        return at is not None and at.place in networks - self.program.reached(of_step, into_classes=False)

    def phases(self, mutant: SourceMutant) -> set[str]:
        """The phases of the training step that run a line of the mutant's statement."""
        first, last = mutant.lines
        found: set[str] = set()
        for clean in self.checks.values():
            for line in range(first, last + 1):
                found |= clean.lines.get(mutant.file, {}).get(line, set())
        return found - {""}


def prepare(family_name: str, program: Program, jobs: int, seed: int = 0) -> Prepared:
    """Run every check of a family on the correct port, in processes of their own."""
    family = family_named(family_name)
    captures = Path(tempfile.mkdtemp(prefix="toonport-mutants-"))
    tasks = [(check, partial(_clean, check, captures)) for check in checks_of(family, seed)]
    found = dict(run_forked(tasks, jobs, LONGEST_CLEAN))
    for check, clean in found.items():
        if isinstance(clean, Failure):
            raise RuntimeError(f"{family_name} {check.name}: {clean.reason}")
    return Prepared(family, program, captures, found)


def discard(prepared: Prepared) -> None:
    """Remove what was kept on disk."""
    shutil.rmtree(prepared.captures, ignore_errors=True)


def _clean(check: Check, captures: Path) -> Clean:
    clean, before = Clean(), time.monotonic()
    if not check.part:
        learn_reference(check, clean.answers)
    with imported_anew(), traced(clean.lines):
        verdicts = run_check(check, captures, clean.answers, types=clean.types)
    clean.types = {each.measurement.layer: each.measurement.layer_type for each in verdicts} | clean.types
    clean.seconds = time.monotonic() - before
    clean.alarms = frozenset(alarm_of(each.measurement) for each in verdicts if not each.equal)
    return clean


@dataclass(frozen=True)
class Difference:
    """Where a mutant was seen first."""

    check: Check
    verdict: Verdict


def first_difference(prepared: Prepared, mutant: SourceMutant) -> Difference | None:
    """Plant a mutant and run the checks that reach it, or that may compile it, until one sees it."""
    with planted(mutant.file, mutant.planted(prepared.program.sources[mutant.file])):
        for check in prepared.covering(mutant) or prepared.compiling(mutant):
            try:
                clean = prepared.checks[check]
                run_check(check, prepared.captures, dict(clean.answers), clean.alarms)
            except FirstDifference as difference:
                return Difference(check, difference.verdict)
    return None


def result_of(prepared: Prepared, mutant: SourceMutant, found: Difference | Failure | None) -> Result:
    """Turn what was seen of a mutant into its result; one that nothing saw is missed until it is shown equivalent."""
    line = prepared.program.sources[mutant.file].splitlines()[mutant.line - 1].strip()
    head = partial(Result, mutant.name, prepared.family.name, mutant.kind, mutant.what, line=line)
    if isinstance(found, Failure):
        return head(verdict="refused", reason=found.reason)
    if found is None:
        reached = bool(prepared.covering(mutant))
        return head(verdict="missed", reason="no check saw it" if reached else "not reached by the comparison")
    measurement = found.verdict.measurement
    if measurement.problem.startswith(CANNOT):
        return head(verdict="refused", reason=measurement.problem)
    blamed = f"{found.check.part} {place(measurement)}, {quantity_words(measurement.quantity)}".strip()
    right = is_right(prepared, mutant, found)
    return head(
        verdict="caught", mode=measurement.mode.value, blamed=blamed, right=right, multiple=found.verdict.multiple
    )


def is_right(prepared: Prepared, mutant: SourceMutant, found: Difference) -> bool:
    """Whether the blamed place is computed by the definition that the mutant is in, or holds it.

    In a network: the innermost class of the port around the blamed layer must make use of that definition itself, not
    by way of layers inside it; for what is done once when networks are built, the class around that may too.
    In training: the phase must run the mutant's line, and a blamed layer's network must make use of the definition,
    unless it belongs to the step.
    """
    definition = prepared.program.at(mutant.file, mutant.line)
    if definition is None:
        return False
    if found.check.part:
        return definition.place in _made_by(prepared, mutant, found)
    return _right_in_training(prepared, mutant, found, definition.place)


def _made_by(prepared: Prepared, mutant: SourceMutant, found: Difference) -> set[Place]:
    types, program = prepared.checks[found.check].types, prepared.program
    of_family = program.of_family(prepared.family)
    around = _around(types, found.verdict.measurement.layer)
    own = [each for path in around for each in program.classes_named(types.get(path, "")) if each in of_family]
    if not own or mutant.function == "__init__" or not program.definitions[own[0]].is_class:
        own.append(place_of(next(part for part in prepared.family.parts if part.name == found.check.part).class_name))
    near = own[: 2 if mutant.function in ("__init__", mutant.owner) else 1]
    return program.reached(near, into_classes=False)


def _around(types: Mapping[str, str], blamed: str) -> Iterator[str]:
    """A blamed layer and those around it, the innermost first; what wraps it alone counts as the layer itself."""
    held = Counter(layer.rpartition(".")[0] for layer in types if layer)
    path, wraps = blamed, True
    yield path
    while path:
        path = path.rpartition(".")[0]
        wraps = wraps and held[path] == 1
        if not wraps:
            yield path


def _right_in_training(prepared: Prepared, mutant: SourceMutant, found: Difference, place_: Place) -> bool:
    training, quantity = prepared.family.training, found.verdict.measurement.quantity
    assert training is not None
    phases = prepared.phases(mutant)
    if phases and quantity.phase not in phases:
        return False
    part = found.verdict.measurement.layer.partition(".")[0]
    parts = {each.name: place_of(each.class_name) for each in prepared.family.parts}
    step = prepared.program.reached([place_of(training.step)])
    if quantity.kind in (Kind.LOSS, Kind.RATE) or part not in parts:
        return True
    networks = prepared.program.reached(parts.values())
    return place_ in prepared.program.reached([parts[part]]) or (place_ in step and place_ not in networks)


def by_kind(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Group results by the operator's kind."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.kind, []).append(result)
    return found
