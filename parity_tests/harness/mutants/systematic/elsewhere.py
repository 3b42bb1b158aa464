"""Mutants in code that families share, in lines that one family never runs and another does."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from convert.registry import families, family_named
from ms_models.build import build_mindspore
from parity_tests.harness.families import PRELOAD, kernels_of, seeded_source
from parity_tests.harness.forked import Say, run_elsewhere
from parity_tests.harness.inputs import feature, image
from parity_tests.harness.mutants.systematic.checks import checks_of
from parity_tests.harness.mutants.systematic.planting import imported_anew, traced
from parity_tests.harness.mutants.systematic.scope import Program
from parity_tests.harness.mutants.systematic.source import SourceMutant
from parity_tests.harness.run import silent
from parity_tests.harness.sides.base import Array
from parity_tests.harness.sides.mindspore import MindSporeSide
from parity_tests.harness.trainers import MindSporeTrainer
from parity_tests.harness.training_comparison import steps_of

Lines = dict[str, dict[int, set[str]]]  # file -> executed line -> phases


def who_runs(family: str, program: Program, mutants: Iterable[SourceMutant]) -> dict[SourceMutant, str]:
    """Return, for mutants whose statement the comparison of a family does not run, which other family runs it.

    A family is run only where its networks or its step mention the definition that a mutant lies in.
    """
    left, found = list(mutants), {}
    for other in families():
        if other.name == family:
            continue
        reached = program.of_family(other)
        shared = [each for each in left if (at := program.at(each.file, each.line)) and at.place in reached]
        if not shared:
            continue
        (lines,) = run_elsewhere([partial(lines_run, other.name)], 1, PRELOAD, silent)
        for mutant in shared:
            first, last = mutant.lines
            if any(line in lines.get(mutant.file, {}) for line in range(first, last + 1)):
                found[mutant] = other.name
                left.remove(mutant)
    return found


def lines_run(family_name: str, _: Say) -> Lines:
    """Run a family's networks both ways and a training step of each branch; return which lines of the port ran."""
    family, lines = family_named(family_name), Lines()
    with imported_anew(), traced(lines):
        for check in checks_of(family):
            if not check.part:
                for steps in steps_of(family, 1, check.seed):
                    MindSporeTrainer(steps.setup).train(*steps.setup.batches[0])
                continue
            part = next(part for part in family.parts if part.name == check.part)
            source = seeded_source(family, part, check.kwargs, 0, check.form)
            side = MindSporeSide(build_mindspore(part, check.kwargs, source.port))
            picture = image("elsewhere", 2, *(part.smallest(check.kwargs),) * 2, part.input_shape[1])
            with kernels_of(check.form):
                for training in (False, True):
                    side.set_training(training)
                    outputs = side.call("", [picture])
                side.gradients("", [picture], list(_cotangents(outputs)))
    return lines


def _cotangents(outputs: Sequence[Array]) -> Iterator[Array]:
    for place, output in enumerate(outputs):
        yield feature(f"elsewhere/{place}", output.shape)
