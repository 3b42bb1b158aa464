"""Comparisons of a family's training steps: a run of several, the first of it as graphs, and its other branches.

The arithmetic of a step does not depend on the width, and narrow seeded networks keep it to seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial

from convert.family import Family
from convert.recipes.descent import Execution
from parity_tests.harness.judge import Verdict, judge
from parity_tests.harness.measurement import Mode, Rest, Resting
from parity_tests.harness.places import Key, Places, find_step_places
from parity_tests.harness.replay.steps import StepReplay
from parity_tests.harness.report.words import probe_words
from parity_tests.harness.request import CompareOptions
from parity_tests.harness.run import SHOWN, Comparison, Say
from parity_tests.harness.trainers import MindSporeTrainer, TorchTrainer
from parity_tests.harness.training import TrainingReference, measure_training
from parity_tests.harness.training_causes import training_finding
from parity_tests.harness.training_noise import Results
from parity_tests.harness.training_setup import TrainingSetup, small_setup

GRAPHS = Execution(compiled=True, watch=True)  # as the training program runs them


@dataclass(frozen=True)
class Steps:
    """Steps that are compared."""

    name: str  # for reports
    setup: TrainingSetup
    branch: int | None = None  # its place among those of the family
    execution: Execution = field(default_factory=Execution)  # of the port

    @property
    def graphs(self) -> "Steps":
        """The steps of this run before the one that is worked through in pieces, as graphs."""
        whole = self.setup.accumulated
        setup = replace(self.setup, batches=self.setup.batches[:whole], accumulated=None, resumed=None)
        return replace(self, name=f"{self.name}, compiled", setup=setup, execution=GRAPHS)


def steps_of(family: Family, steps: int, seed: int) -> list[Steps]:
    """Return the run of a family that a comparison trains, then one step of each of its other branches."""
    training = family.training
    assert training is not None, f"{family.name} is not trained"
    run = Steps(f"{family.name} training", small_setup(family, steps, seed))
    branches = (
        Steps(f"{family.name} training, {branch.name}", small_setup(family, 1, seed, branch), number)
        for number, branch in enumerate(training.branches)
    )
    return [run, *branches]


def compare_training(family: Family, options: CompareOptions) -> list[tuple[str, Callable[[Say], Comparison]]]:
    """Name and comparison of each of a family's trainings; `CompareOptions.compiled`: all steps as graphs, too."""
    run, *branches = steps_of(family, options.steps, options.seed)
    graphs = replace(run, name=run.graphs.name, execution=GRAPHS) if options.compiled else run.graphs
    made = cache(partial(TrainingReference, run.setup))  # once where both are run in one process

    def moving(say: Say) -> Comparison:
        """The run, and what rested in it."""
        found = _Compared(run, made(), options, say).comparison()
        return replace(found, resting=_resting(made(), family))

    def compiled(say: Say) -> Comparison:
        """The graphs."""
        return _Compared(graphs, made(), options, say).comparison()

    def branching(steps: Steps, say: Say) -> Comparison:
        """Another branch."""
        return _Compared(steps, TrainingReference(steps.setup), options, say).comparison()

    others = [(steps.name, partial(branching, steps)) for steps in branches]
    return [(run.name, moving), (graphs.name, compiled), *others]


def _resting(reference: TrainingReference, family: Family) -> tuple[Resting, ...]:
    """What did not move in the run, without the settings that another branch moves."""
    branches = family.training.branches if family.training else ()
    moved = {(name, str(value)) for branch in branches for name, value in branch.settings.items()}
    names = {name for name, _ in moved}
    return tuple(
        one
        for one in reference.resting()
        if not (one.kind is Rest.SETTING and one.name in names and (one.name, one.value) not in moved)
    )


@dataclass(frozen=True)
class _Compared:
    """One comparison of steps."""

    steps: Steps
    reference: TrainingReference
    options: CompareOptions
    say: Say

    def comparison(self) -> Comparison:
        """Compare, look for the cause of what differs, and write the case of it where that is asked for."""
        name, setup = self.steps.name, self.steps.setup
        self.say(f"{name}: {len(setup.batches)} steps")
        verdicts, port = list[Verdict](), list[Results]()
        measured = measure_training(setup, None, self.reference, self.steps.execution, port.append)
        for done, measurement in enumerate(measured, 1):
            verdicts.append(judge(measurement))
            self.say(f"{name}: {probe_words(measurement.probe)}, {done} tensors")
        self.say(f"{name}: looking for the cause of what differs, if anything does")
        finding = training_finding(setup, self.reference, port, verdicts)
        found = Comparison(name, tuple(verdicts), (Mode.TRAINING,), self._facts(), finding=finding)
        return replace(found, places=_places(setup, found), case=self._case(verdicts))

    def _facts(self) -> dict[str, object]:
        setup = self.steps.setup
        return {
            "networks": "seeded, narrow",
            "steps": len(setup.batches),
            "seed": self.options.seed,
            "batch": list(setup.batches[0][0].shape),
            "settings": dict(setup.settings),
        }

    def _case(self, verdicts: list[Verdict]) -> str:
        options, steps = self.options, self.steps
        if options.replay is None:
            return ""
        compiled = steps.execution.compiled
        replay = StepReplay(options.replay, steps.setup, options.steps, options.seed, compiled, steps.branch)
        return replay.write(steps.name, self.reference, verdicts)


def _places(setup: TrainingSetup, comparison: Comparison) -> dict[Key, Places]:
    """Where the code of what is blamed is."""
    blamed = [verdict.measurement for verdict in comparison.blamed[:SHOWN]]
    return find_step_places(TorchTrainer(setup), MindSporeTrainer(setup), blamed) if blamed else {}
