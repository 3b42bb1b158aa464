"""Runs the mutation suite: every planted bug, and correct ports and exports that must raise no alarm."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from typing import Any

from convert.errors import InputError
from convert.registry import families
from parity_tests.harness.judge import Outcome as Ending
from parity_tests.harness.judge import outcome
from parity_tests.harness.mutants import (
    cyclegan,
    dtn,
    onnx,
    photo2cartoon,
    sagan_cyclegan,
    ugatit,
    ugatit_training,
    whitebox,
)
from parity_tests.harness.mutants.bugs import Bug, Subject
from parity_tests.harness.mutants.judging import (
    LARGE,
    Outcome,
    WithPublished,
    compare_branch,
    compare_step,
    compare_subject,
    judge_bug,
    judge_export,
    outcome_of,
)
from parity_tests.harness.onnx.runtimes import ONNX_RUNTIME, Runtime

# Every bug of the suite. A new family adds a line for its networks and one for its training step.
BUGS: tuple[Bug, ...] = (
    *ugatit.NETWORK_BUGS,
    *photo2cartoon.NETWORK_BUGS,
    *cyclegan.NETWORK_BUGS,
    *sagan_cyclegan.NETWORK_BUGS,
    *whitebox.NETWORK_BUGS,
    *ugatit_training.TRAINING_BUGS,
    *cyclegan.TRAINING_BUGS,
    *sagan_cyclegan.TRAINING_BUGS,
    *dtn.TRAINING_BUGS,
    *whitebox.TRAINING_BUGS,
    *onnx.ONNX_BUGS,
)

Check = tuple[str, Callable[[], WithPublished]]  # what is compared, and how


def bugs_named(names: Iterable[str]) -> tuple[Bug, ...]:
    """Return the bugs of these names, in the order of the suite; all where none is named.

    Raises InputError: no bug has one of the names; lists close ones.
    """
    wanted, known = set(names), [bug.name for bug in BUGS]
    for name in sorted(wanted - set(known)):
        close = ", ".join(_close(name, known))
        raise InputError(
            f"no planted bug is called {name!r}; {close and f'close: {close}; '}toonport mutants --list shows all"
        )
    return tuple(bug for bug in BUGS if not wanted or bug.name in wanted)


def _close(name: str, known: Sequence[str], most: int = 6) -> list[str]:
    """Names that share the beginning of a word with the one asked for, else names spelled like it."""
    starts = {word[:3] for word in name.split("-") if len(word) >= 3}
    sharing = [other for other in known if starts & {word[:3] for word in other.split("-")}]
    return sharing[:most] or get_close_matches(name, known, most, 0.5)


def units(bugs: Sequence[Bug], seeds: int, runtime: Runtime) -> list[tuple[Callable[[Any], Any], Any]]:
    """Return what judges each bug, then each of `correct_checks`: functions, and what they are called with."""
    correct = ((judge_correct, (seeds, place, runtime)) for place, _ in enumerate(correct_checks(seeds, runtime)))
    return [*((judge_named, (bug.name, runtime)) for bug in bugs), *correct]


def judge_named(unit: tuple[str, Runtime]) -> Outcome:
    """Plant a bug by name and return what the checker makes of it; ONNX files are run by the runtime.

    A bug that ends the checker in an error of its own is missed, and the others are judged all the same.
    """
    (bug,) = bugs_named(unit[:1])
    try:
        return judge_bug(bug, runtime=unit[1])
    except InputError:
        raise
    except Exception as error:  # whatever is wrong with the checker
        return replace(outcome_of(bug, (), {}), cause=_failure(error))


def _failure(error: Exception) -> str:
    return f"internal error: {type(error).__name__}: {error}"


def correct_checks(seeds: int, runtime: Runtime = ONNX_RUNTIME) -> list[Check]:
    """Return the comparisons of correct ports and exports under so many seeds; in another runtime exports alone."""
    ports = correct_ports(seeds) if runtime == ONNX_RUNTIME else ()
    return [*ports, *correct_exports(seeds, runtime=runtime)]


def judge_correct(unit: tuple[int, int, Runtime]) -> tuple[str, int]:
    """Make one of `correct_checks`, by (seeds, place, runtime): its name, and how many tensors are out of budget."""
    seeds, place, runtime = unit
    (found,) = false_alarms([correct_checks(seeds, runtime)[place]])
    return found


def correct_subjects() -> tuple[Subject, ...]:
    """Return one part of each kind of network of every family."""
    kinds: dict[tuple[Any, ...], Subject] = {}
    for family in families():
        for part in family.parts:
            kinds.setdefault((family.name, part.class_name, *part.kwargs.items()), (family.name, part.name))
    return tuple(kinds.values())


def correct_ports(seeds: int, subjects: Sequence[Subject] | None = None) -> Iterator[Check]:
    """Yield comparisons of correct ports; None: every kind of network and the training step of every family."""
    trained = [] if subjects else [(family.name, family.training) for family in families() if family.training]
    for seed in range(1, seeds + 1):
        for subject in subjects or correct_subjects():
            yield f"{' '.join(subject)}, seed {seed}", partial(compare_subject, subject, seed)
        for family, training in trained:
            yield f"{family} training, seed {seed}", partial(compare_step, family, seed)
            for number, branch in enumerate(training.branches):
                yield f"{family} training, {branch.name}, seed {seed}", partial(compare_branch, family, number, seed)


def correct_exports(
    seeds: int, subjects: Sequence[Subject] | None = None, runtime: Runtime = ONNX_RUNTIME
) -> Iterator[Check]:
    """Yield judgements of correct exports in a runtime; None: every kind of network.

    The large ones come under the first seed only: their files take most of a minute, and other weights do not change
    the graph.
    """
    small = tuple(subject for subject in correct_subjects() if subject not in LARGE)
    for seed in range(1, seeds + 1):
        for subject in subjects or (correct_subjects() if seed == 1 else small):
            yield f"{' '.join(subject)} ONNX, seed {seed}", partial(judge_export, subject, seed, runtime=runtime)


def false_alarms(checks: Iterable[Check]) -> Iterator[tuple[str, int]]:
    """Run checks of what is correct; yield (what was compared, tensors out of budget).

    An error of the check counts as one tensor, and so does a check that cannot tell.
    """
    for name, check in checks:
        try:
            verdicts, _ = check()
            found = name, sum(not verdict.equal for verdict in verdicts)
            if outcome(verdicts) is Ending.CANNOT_TELL:
                found = f"{name}: {Ending.CANNOT_TELL}", 1
        except InputError:
            raise
        except Exception as error:  # whatever is wrong with the checker
            found = f"{name}: {_failure(error)}", 1
        yield found
