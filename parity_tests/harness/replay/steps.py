"""The training step in which a port differs first, as a folder: the states it starts from, and a script to run it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity_tests.harness.judge import Verdict, blamed
from parity_tests.harness.measurement import Quantity
from parity_tests.harness.replay.folder import Unwritable, checked, packed, put, rendered, said
from parity_tests.harness.report.words import quantity_words
from parity_tests.harness.sides.base import Array
from parity_tests.harness.training import TrainingReference
from parity_tests.harness.training_setup import TrainingSetup

TRAINERS = {"torch": ("Torch", "PyTorch"), "mindspore": ("MindSpore", "MindSpore")}


@dataclass(frozen=True)
class StepReplay:
    """Which training steps are compared, and where a case of them is written."""

    folder: Path
    setup: TrainingSetup
    steps: int
    seed: int
    compiled: bool  # whether the port's steps run as graphs
    branch: int | None = None  # place of the step's branch among those of the family

    def write(self, name: str, reference: TrainingReference, verdicts: Sequence[Verdict]) -> str:
        """Write the first step that differs, and return in words where, or why there is no case; "" where none does.

        Tensors of which rounding decides some elements are passed over.
        """
        failing = [verdict for verdict in blamed(verdicts) if verdict.measurement.probe.step is not None]
        whole = [verdict for verdict in failing if not verdict.measurement.undecided]
        if not failing:
            return ""
        if not whole or whole[0].measurement.problem:
            return "no case to replay: rounding decides elements of all that differs"
        verdict, target = whole[0], self.folder / name.replace(" ", "_").replace(",", "")
        try:
            files = self.files(name, reference, verdict)
            checked(files, verdict.multiple)
        except Unwritable as why:
            return f"no case to replay: {why}"
        put(files, target)
        found = verdict.measurement
        return said(f"step {found.probe.step}, {found.layer or found.quantity.phase}", verdict, files, target)

    def files(self, name: str, reference: TrainingReference, verdict: Verdict) -> dict[str, bytes]:
        """Return name -> content of the case of one tensor.

        Steps start from the states that float64 PyTorch made of those before, or, where these are too large, from where
        the side itself is.
        """
        found = verdict.measurement
        index = (found.probe.step or 0) - self.setup.first_step - 1
        numbers: dict[str, Array] = {"expected": reference.truth(index)[found.layer, found.quantity]}
        try:
            case, stated = packed(numbers | _states(reference, index), "its states"), True
        except Unwritable:
            case, stated = packed(numbers, "its values"), False
        facts: dict[str, Any] = {
            "what": f"{quantity_words(found.quantity)} {found.layer}".strip(),
            "name": name,
            "family": self.setup.family.name,
            "steps": self.steps if self.branch is None else 1,
            "branch": self.branch,
            "seed": self.seed,
            "index": index,
            "stated": stated,
            "layer": found.layer,
            "quantity": _source(found.quantity),
            "budget": verdict.budget,
        }
        files = {"case.npz": case}
        for framework, (trainer, title) in TRAINERS.items():
            own = {"framework": trainer, "title": title, "compiled": self.compiled and framework == "mindspore"}
            files[f"run_{framework}.py"] = rendered("run_step.py.j2", facts | own)
        return files


def _states(reference: TrainingReference, last: int) -> dict[str, Array]:
    """Weights and moments at the start of every step but the first."""
    found: dict[str, Array] = {}
    for step in range(1, last + 1):
        state = reference.state(step)
        for part, weights in state.weights.items():
            found |= {f"{step}|weights|{part}|{key}": value for key, value in weights.items()}
        found |= {f"{step}|{'|'.join(key)}": value for key, value in state.moments.items()}
    return found


def _source(quantity: Quantity) -> str:
    """A quantity as Python."""
    rest = (quantity.name, quantity.index, quantity.call, quantity.of, quantity.phase)
    return f"Quantity(Kind.{quantity.kind.name}, {', '.join(map(repr, rest))})"
