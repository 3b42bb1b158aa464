"""What the comparison makes of mutants of ONNX files and of weights."""

import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from convert.family import Family
from convert.registry import family_named, part_named
from parity_tests.harness import families
from parity_tests.harness.families import seeded_source
from parity_tests.harness.forked import Failure, run_forked
from parity_tests.harness.inputs import image
from parity_tests.harness.judge import Verdict, blamed
from parity_tests.harness.mutants.bugs import OnnxBug, Subject
from parity_tests.harness.mutants.judging import LARGE, NARROW, judge_export
from parity_tests.harness.mutants.systematic.graph import GraphMutant, array_mutations, graph_mutants
from parity_tests.harness.mutants.systematic.judging import Result
from parity_tests.harness.onnx.layers import layer_values
from parity_tests.harness.onnx.session import run_onnx
from parity_tests.harness.report.words import place, quantity_words
from parity_tests.harness.request import CompareOptions
from parity_tests.harness.sides.base import inside

SEARCHED = 12  # random pictures on which a silent file is run beside the right one
# runs a file once, to see which signal ends the process, if any does; what it raises is seen later
ALONE = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
sides = [side if isinstance(side, int) else 64 for side in session.get_inputs()[0].shape]
session.run(None, {session.get_inputs()[0].name: numpy.zeros(sides, numpy.float32)})
"""
Say = Callable[[str], None]


@dataclass(frozen=True)
class GraphTask:
    """Over which families mutants are drawn, and how they are run."""

    families: tuple[str, ...]
    seed: int
    jobs: int
    timeout: float  # seconds of one network's mutants

    def subjects(self) -> list[Subject]:
        """One network of each kind, without the largest: their files take most of a minute."""
        kinds: dict[Any, Subject] = {}
        for name in self.families:
            for part in family_named(name).parts:
                kinds.setdefault((part.class_name, *sorted(part.kwargs.items(), key=str)), (name, part.name))
        return [subject for subject in kinds.values() if subject not in LARGE]

    def share(self, count: int) -> dict[Subject, int]:
        """How many mutants each network gets, as even as can be, the rest by the seed."""
        subjects = self.subjects()
        order = random.Random(self.seed).sample(subjects, len(subjects))
        each, more = divmod(count, len(subjects)) if subjects else (0, 0)
        return {subject: each + (place < more) for place, subject in enumerate(order)}


def graph_results(task: GraphTask, count: int, say: Say) -> Iterator[Result]:
    """Yield the results of mutants of exported files; each network's in one process."""
    shares = {subject: number for subject, number in task.share(count).items() if number}
    tasks = [(subject, partial(_graph_results, subject, number, task.seed)) for subject, number in shares.items()]
    for subject, found in run_forked(tasks, task.jobs, task.timeout * 4):
        say(f"{' '.join(subject)}: mutants of its ONNX file")
        if isinstance(found, Failure):
            raise RuntimeError(f"{' '.join(subject)}: mutants of its ONNX file: {found.reason}")
        yield from found


def _graph_results(subject: Subject, count: int, seed: int) -> list[Result]:
    models: list[Any] = []
    judge_export(subject, 0, _bug(subject, "none", lambda model: models.append(_copy(model))))
    model = models[0]
    every = list(graph_mutants(model))
    drawn = random.Random(seed).sample(every, min(count, len(every)))
    return [_graph_result(subject, model, mutant) for mutant in drawn]


def _bug(subject: Subject, name: str, edit: Callable[[Any], None]) -> OnnxBug:
    return _AnyEdit(name, name, subject, (), edit)


class _AnyEdit(OnnxBug):
    def plant(self, model: Any) -> None:
        """Edit a model; an edit that changes nothing is no error here."""
        self.edit(model)


def _copy(model: Any) -> Any:
    return type(model).FromString(model.SerializeToString())


def _graph_result(subject: Subject, model: Any, mutant: GraphMutant) -> Result:
    head = partial(Result, f"{' '.join(subject)} ONNX {mutant.name}", subject[0], mutant.kind, mutant.what)
    if ended := _ended_by(model, mutant):
        return head(verdict="refused", reason=f"{ended} in ONNX Runtime")
    try:
        verdicts, _ = judge_export(subject, 0, _bug(subject, mutant.name, mutant.plant))
    except Exception as error:  # ONNX, its checker and ONNX Runtime each raise their own
        return head(verdict="refused", reason=type(error).__name__)
    failing = [verdict for verdict in verdicts if not verdict.equal]
    if any("cannot run" in verdict.measurement.problem for verdict in failing):
        return head(verdict="refused", reason=failing[0].measurement.problem)
    if failing:
        return _caught(head, verdicts, partial(_right_in_graph, model, mutant, verdicts))
    return _searched(head, subject, model, mutant)


def _ended_by(model: Any, mutant: GraphMutant) -> str:
    """The signal that ends a process which runs a mutant, such as that of a division by 0; "" where none does."""
    wrong = _copy(model)
    mutant.plant(wrong)
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        Path(file.name).write_bytes(wrong.SerializeToString())
        code = subprocess.run([sys.executable, "-c", ALONE, file.name], capture_output=True, check=False).returncode
    return signal.Signals(-code).name if code < 0 else ""


def _caught(head: Callable[..., Result], verdicts: Sequence[Verdict], is_right: Callable[[Verdict], bool]) -> Result:
    first = blamed(verdicts)[0]
    where = f"{place(first.measurement)}, {quantity_words(first.measurement.quantity)}"
    worst = max(verdict.multiple for verdict in verdicts if not verdict.equal)
    return head(
        verdict="caught", mode=first.measurement.mode.value, blamed=where, right=is_right(first), multiple=worst
    )


def _right_in_graph(model: Any, mutant: GraphMutant, verdicts: Sequence[Verdict], first: Verdict) -> bool:
    """Whether the blamed layer is, or holds, the first judged one whose value depends on the edited node."""
    order = {verdict.measurement.layer: verdict.measurement.order for verdict in reversed(verdicts)}
    after = _after(model, mutant.node)
    later = [layer for layer, names in layer_values(model, order).items() if layer in order and set(names) & after]
    nearest = min(later, key=order.__getitem__, default="")
    blamed_layer = first.measurement.layer
    return blamed_layer == nearest or not blamed_layer or nearest.startswith(f"{blamed_layer}.")


def _after(model: Any, node: str) -> set[str]:
    """Every value that depends on a node's output, itself too."""
    found = {node}
    for each in model.graph.node:
        if found & set(each.input):
            found |= set(each.output)
    return found


def _searched(head: Callable[..., Result], subject: Subject, model: Any, mutant: GraphMutant) -> Result:
    """Run a silent file beside the right one on random pictures."""
    wrong = _copy(model)
    mutant.plant(wrong)
    shape = [each.dim_value for each in model.graph.input[0].type.tensor_type.shape.dim]
    worst = 0.0
    for number in range(SEARCHED):
        picture = image(f"search{number}", *(side or 2 for side in (shape[0], *shape[2:], shape[1])))
        picture = (picture * (1.0, 20.0, 0.01)[number % 3]).astype(np.float32)
        outputs = (run_onnx(each.SerializeToString(), picture) for each in (model, wrong))
        for one, other in zip(*(found.values() for found in outputs), strict=True):
            same = one.shape == other.shape
            size = float(np.abs(one).max(initial=0.0)) or 1.0
            worst = max(worst, float(np.abs(one - other).max(initial=0.0)) / size if same else np.inf)
    if worst == 0.0:
        return head(verdict="equivalent", reason=f"bit-equal on {SEARCHED} random pictures of three sizes of values")
    return head(verdict="missed", reason=f"nothing saw it, though outputs change by {worst:.1e} of their size")


def weight_results(task: GraphTask, count: int, say: Say) -> Iterator[Result]:
    """Yield the results of mutants of weights, judged as `compare --ported` judges another file."""
    shares = {subject: number for subject, number in task.share(count).items() if number}
    tasks = [(subject, partial(_weight_results, subject, number, task.seed)) for subject, number in shares.items()]
    for subject, found in run_forked(tasks, task.jobs, task.timeout):
        say(f"{' '.join(subject)}: mutants of its weights")
        if isinstance(found, Failure):
            raise RuntimeError(f"{' '.join(subject)}: mutants of its weights: {found.reason}")
        yield from found


def _weight_results(subject: Subject, count: int, seed: int) -> list[Result]:
    family = family_named(subject[0])
    part = part_named(family, subject[1])
    kwargs = {**part.kwargs, **{name: value for name, value in NARROW.items() if name in part.kwargs}}
    source = seeded_source(family, part, kwargs, 0)
    every = list(_weight_mutants(source.port))
    drawn = random.Random(seed).sample(every, min(count, len(every)))
    return [_weight_result(family, subject, kwargs, *each) for each in drawn]


def _weight_mutants(weights: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Kind, what, and the whole changed state, of every mutation of a network's weights."""
    names = list(weights)
    for place_, name in enumerate(names):
        for kind, changed in array_mutations(np.asarray(weights[name]), place_):
            yield kind, f"{name}: {kind}", {name: changed}
        equals = [other for other in names[place_ + 1 :] if weights[other].shape == weights[name].shape]
        for other in equals[:1]:
            if not np.array_equal(weights[other], weights[name]):
                yield "exchanged", f"{name} and {other} exchanged", {name: weights[other], other: weights[name]}


def _weight_result(
    family: Family, subject: Subject, kwargs: Any, kind: str, what: str, changes: dict[str, Any]
) -> Result:
    part = part_named(family, subject[1])
    source = seeded_source(family, part, kwargs, 0)
    port = {**source.port, **changes}
    wrong = type(source)(family, part, kwargs, source.reference, port, {})
    head = partial(Result, f"{' '.join(subject)} weights {what}", subject[0], kind, what)
    with tempfile.TemporaryDirectory() as folder:
        options = CompareOptions(family.name, part.name, modes=("weights",), captures=Path(folder))
        verdicts = families.compare_source(wrong, options).verdicts
    if all(verdict.equal for verdict in verdicts):
        return head(verdict="missed", reason="the weights' bits are not compared there")
    layers = {name.rpartition(".")[0] for name in changes}

    def is_right(first: Verdict) -> bool:
        """Whether the blamed tensor is one of a changed layer, also where PyTorch keeps it in a parametrization."""
        return any(first.measurement.layer == layer or inside(first.measurement.layer, layer) for layer in layers)

    return _caught(head, verdicts, is_right)
