"""Loss terms of the reference with one operation changed, see `arithmetic`: bugs of an objective."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from parity_tests.harness.arithmetic import Trace, arithmetic
from parity_tests.harness.rewrites import Cause, rewriting
from parity_tests.harness.trainers import TorchTrainer


class ObjectiveTrials:
    """Tries every candidate when the objective of a phase is asked for next.

    Args:
        phase: whose objective.
        wrong, right: loss terms. What is changed matters to all of the former and to none of the latter.

    Attributes:
        made: each candidate, and the loss terms that it makes.
    """

    def __init__(self, phase: str, wrong: Collection[str], right: Collection[str]) -> None:
        self._phase, self._wrong, self._right = phase, wrong, right
        self.made: list[tuple[Cause, Mapping[str, float]]] = []
        self._begun = False

    def plant(self, trainer: TorchTrainer) -> None:
        """Stand between a trainer's step and its objective."""
        objective = trainer.step.objective
        networks = [each for each in (*trainer.networks.values(), trainer.step.frozen) if each is not None]

        def watched(phase: str) -> Callable[..., Any]:
            """The objective of a phase."""
            function = objective(phase)
            return partial(self._tried, networks, function) if phase == self._phase else function

        trainer.step.objective = watched

    def moved(self, right: Mapping[str, float]) -> int:
        """How many candidates make other loss terms than these."""
        return sum(any(terms[name] != value for name, value in right.items()) for _, terms in self.made)

    def _tried(self, networks: Collection[Any], function: Callable[..., Any], *inputs: Any) -> Any:
        if not self._begun:
            self._begun, trace = True, Trace(marked=True)
            with _unmoved(networks), trace.watching(0, networks):
                terms, _ = function(*inputs)
            chosen = -1
            for name in self._wrong:
                chosen &= trace.marks(terms[name])
            for name in self._right:
                chosen &= ~trace.marks(terms[name])
            own = [one for one in trace.written if one.bit & chosen]
            for cause, rewrite in arithmetic(own, trace.affordable):
                try:
                    with _unmoved(networks), rewriting(rewrite()):
                        terms, _ = function(*inputs)
                    self.made.append((cause, {name: float(terms[name].detach()) for name in self._wrong}))
                except Exception:  # what is changed may raise anything
                    continue
        return function(*inputs)


@contextmanager
def _unmoved(networks: Collection[Any]) -> Iterator[None]:
    """Put every state back that runs move."""
    kept = [(value, value.detach().clone()) for network in networks for value in network.buffers()]
    try:
        yield
    finally:
        for value, before in kept:
            value.data.copy_(before)
