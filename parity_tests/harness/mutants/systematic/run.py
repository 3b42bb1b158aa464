"""Runs systematic mutants: which there are, a sample of them by seed, and what became of each."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from convert.family import Family
from parity_tests.harness.forked import Failure, run_forked
from parity_tests.harness.mutants.systematic.checks import Check
from parity_tests.harness.mutants.systematic.elsewhere import who_runs
from parity_tests.harness.mutants.systematic.equivalence import (
    MOVED,
    Compared,
    compared,
    evidence,
    remember,
    remembered,
)
from parity_tests.harness.mutants.systematic.files import GraphTask, graph_results, weight_results
from parity_tests.harness.mutants.systematic.judging import (
    Prepared,
    Result,
    discard,
    first_difference,
    prepare,
    result_of,
)
from parity_tests.harness.mutants.systematic.planting import ROOT, planted
from parity_tests.harness.mutants.systematic.scope import Program, read_program
from parity_tests.harness.mutants.systematic.source import SourceMutant, source_mutants

LONGEST = 600.0  # seconds that one mutant, or one search for its equivalence, may take
# how it is searched for what a mutant changes; what it means that nothing differs
EQUAL_IN = {
    "float32": "bit-equal in",
    "float64": "inside float64 rounding in",
    MOVED: "inside float32 rounding, as plain formulas on pictures a unit in the last place away show it, in",
}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is run."""

    families: Sequence[Family]
    sample: int  # source mutants, over all families
    graph: int  # mutants of ONNX files, over all families
    weights: int  # mutants of weights, over all families
    seed: int = 0
    jobs: int = 1


def family_mutants(family: Family, program: Program) -> list[SourceMutant]:
    """Every mutation of what a family's networks and its training step are made of, in a stable order."""
    reached = program.of_family(family)
    found = []
    for file in sorted({file for file, _ in reached}):
        for mutant in source_mutants(file, program.sources[file]):
            definition = program.at(file, mutant.line)
            if definition and definition.place in reached:
                found.append(mutant)
    return found


def sampled(plan: Plan, program: Program) -> dict[str, list[SourceMutant]]:
    """Draw the sample from all (family, mutant) pairs, every pair as likely as another; by family."""
    pairs = [(family.name, mutant) for family in plan.families for mutant in family_mutants(family, program)]
    drawn = random.Random(plan.seed).sample(pairs, min(plan.sample, len(pairs)))
    return {family.name: [mutant for name, mutant in drawn if name == family.name] for family in plan.families}


def run_systematic(plan: Plan, say: Say = lambda text: None) -> Iterator[Result]:
    """Yield the result of every sampled mutant: source, graph, then weights."""
    program = read_program(ROOT)
    say("mutants: reading the port")
    for family, mutants in sampled(plan, program).items():
        yield from source_results(family, program, mutants, plan, say)
    tasks = GraphTask(tuple(family.name for family in plan.families), plan.seed, plan.jobs, LONGEST)
    yield from graph_results(tasks, plan.graph, say)
    yield from weight_results(tasks, plan.weights, say)


def source_results(
    family: str, program: Program, mutants: Sequence[SourceMutant], plan: Plan, say: Say
) -> Iterator[Result]:
    """Yield the results of a family's source mutants."""
    if not mutants:
        return
    say(f"{family}: preparing")
    with _prepared(family, program, plan) as prepared:
        for check, clean in prepared.checks.items():
            if clean.alarms:
                say(f"{family} {check.name}: {len(clean.alarms)} tensors of the correct port are out of budget")
        judged = [mutant for mutant in mutants if prepared.covering(mutant) or prepared.compiling(mutant)]
        tasks = [(mutant, partial(first_difference, prepared, mutant)) for mutant in judged]
        silent = [mutant for mutant in mutants if mutant not in judged]
        for done, (mutant, found) in enumerate(run_forked(tasks, plan.jobs, _longest(prepared)), 1):
            say(f"{family}: {done} of {len(tasks)} source mutants")
            if found is None:
                silent.append(mutant)
            else:
                yield result_of(prepared, mutant, found)
        covered = [mutant for mutant in silent if prepared.covering(mutant)]
        yield from _unreached(prepared, [mutant for mutant in silent if mutant not in covered])
        yield from _searched(prepared, covered, plan, say)


def _longest(prepared: Prepared) -> float:
    """Seconds that a mutant may take: three times what the right port does, at most LONGEST; some never end."""
    return min(LONGEST, 60 + 3 * sum(clean.seconds for clean in prepared.checks.values()))


@contextmanager
def _prepared(family: str, program: Program, plan: Plan) -> Iterator[Prepared]:
    prepared = prepare(family, program, plan.jobs)
    try:
        yield prepared
    finally:
        discard(prepared)


def _unreached(prepared: Prepared, mutants: Sequence[SourceMutant]) -> Iterator[Result]:
    others = who_runs(prepared.family.name, prepared.program, mutants)
    for mutant in mutants:
        result = result_of(prepared, mutant, None)
        if mutant in others:
            reason = f"{prepared.family.name} does not run it, {others[mutant]} does"
            result = replace(result, verdict="elsewhere", reason=reason)
        yield result


def _searched(prepared: Prepared, silent: Sequence[SourceMutant], plan: Plan, say: Say) -> Iterator[Result]:
    """Search whether mutants that no check saw do anything at all."""
    tasks = [(mutant, partial(search, prepared, mutant)) for mutant in silent]
    for done, (mutant, found) in enumerate(run_forked(tasks, plan.jobs, 2 * LONGEST), 1):
        say(f"{prepared.family.name}: searched {done} of {len(tasks)} that nothing saw")
        result = result_of(prepared, mutant, None)
        if isinstance(found, Failure):
            yield replace(result, reason=f"{result.reason}; the search failed: {found.reason}")
        else:
            verdict, reason = found
            yield replace(result, verdict=verdict, reason=reason)


def search(prepared: Prepared, mutant: SourceMutant) -> tuple[str, str]:
    """Return the verdict on a mutant that no check saw, and its reason.

    In float64 networks alone can be run. That is enough where training has no other use for what was changed, and
    where float64 shows the change at all: some kernels serve float32 alone.
    """
    checks = prepared.covering(mutant)
    found, of_networks = "", all(check.part for check in checks) or prepared.in_networks_alone(mutant)
    for dtype, words in EQUAL_IN.items():
        try:
            result = _compared_in(dtype, checks, prepared, mutant)
        except Exception as error:  # a mutant can raise anything, and MindSpore lacks kernels for float64
            found = found or f"; the search ended with {type(error).__name__}"
            continue
        if result.proves_equal and (dtype != "float64" or (of_networks and result.rounded and not result.empty)):
            return "equivalent", f"{words} {result.tensors} tensors of a wide random search"
        found = f", though it changes {result.difference or 'what the search cannot run'}"
    return "missed", f"no check saw it{found}"


def _compared_in(dtype: str, checks: Sequence[Check], prepared: Prepared, mutant: SourceMutant) -> Compared:
    """Compare the mutant with the right port, which is run where it was not yet."""
    plain = dtype.replace(MOVED, "float32")
    source, family, folder = prepared.program.sources[mutant.file], prepared.family, prepared.captures
    with planted(mutant.file, source):
        remember(checks, family, dtype, folder)
    moved = remembered(checks, family, MOVED, folder) if dtype == MOVED else None
    with planted(mutant.file, mutant.planted(source)):
        return compared(remembered(checks, family, plain, folder), evidence(checks, family, plain), dtype, moved)
