"""What PyTorch makes of a training setup, remembered, so that a mutant need not train the reference again."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from parity_tests.harness import training_comparison
from parity_tests.harness.measurement import Resting
from parity_tests.harness.training import TrainingReference
from parity_tests.harness.training_noise import CONTROLS, Control, Results
from parity_tests.harness.training_setup import TrainingSetup

Answers = dict[Any, Any]  # setup -> which run and step -> its results


class RememberedReference(TrainingReference):
    """A reference that asks `answers` first, and adds to them what it had to run."""

    def __init__(self, setup: TrainingSetup, answers: Answers) -> None:
        self._answers = answers.setdefault(f"{setup.kwargs} {setup.settings}", {})
        self._setup = setup
        super().__init__(setup)

    def truth(self, index: int) -> Results:
        """See `TrainingReference.truth`."""
        return self._known(index, lambda: super(RememberedReference, self).truth(index))

    def state(self, index: int) -> Any:
        """See `TrainingReference.state`."""
        return self._known(("state", index), lambda: super(RememberedReference, self).state(index))

    def control(self, control: Control, index: int) -> Results:
        """See `TrainingReference.control`."""
        return self._known((control, index), lambda: super(RememberedReference, self).control(control, index))

    def resting(self) -> tuple[Resting, ...]:
        """See `TrainingReference.resting`."""
        return self._known("resting", super().resting)

    def learn(self) -> None:
        """Run everything that a comparison can ask for."""
        for index in range(len(self._setup.batches)):
            self.truth(index)
            self.state(index)
            for control in CONTROLS:
                self.control(control, index)
        self.resting()

    def _known(self, key: Any, run: Callable[[], Any]) -> Any:
        if key not in self._answers:
            self._answers[key] = run()
        return self._answers[key]


def remembering(answers: Answers) -> AbstractContextManager[Any]:
    """Let comparisons of training steps ask `answers` for what PyTorch makes of them."""
    return mock.patch.object(
        training_comparison, "TrainingReference", lambda setup: RememberedReference(setup, answers)
    )
