"""What the checker makes of one planted bug, or of the correct port or export that it would be planted in."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import onnx

from convert.family import Part
from convert.plan import Plan, build_plan
from convert.registry import family_named, part_named
from ms_models.build import build_mindspore
from parity_tests.harness.experiments import Finding
from parity_tests.harness.inputs import formula_state
from parity_tests.harness.judge import Verdict, blamed, judge_all
from parity_tests.harness.measurement import Mode
from parity_tests.harness.mutants.bugs import Bug, NetworkBug, OnnxBug, Subject, TrainingBug, patched
from parity_tests.harness.mutants.published_rules import published_verdicts
from parity_tests.harness.onnx.leg import FileRun, Judged, judge_file, small_runs
from parity_tests.harness.onnx.runtimes import ONNX_RUNTIME, Runtime, open_onnx
from parity_tests.harness.onnx.write import write_onnx
from parity_tests.harness.outputs import WHOLE
from parity_tests.harness.pair import pair_networks
from parity_tests.harness.report.words import causes, place, quantity_words
from parity_tests.harness.request import CompareOptions
from parity_tests.harness.run import Comparison, compare_pair, probe_inputs
from parity_tests.harness.sides.base import Array
from parity_tests.harness.training import TrainingReference, measure_training
from parity_tests.harness.training_causes import training_finding
from parity_tests.harness.training_noise import Results
from parity_tests.harness.training_setup import TrainingSetup, small_setup
from torch_ref.build import build_torch, for_inference

NARROW = {
    "ngf": 8,
    "ndf": 8,
    "n_blocks": 2,
    "embedding_size": 32,
    "conv_dim": 8,
    "channel": 8,
    "num_blocks": 2,
    "width": 8,
}
LARGE: tuple[Subject, ...] = (("photo2cartoon", "genA2B"), ("mobilefacenet", "mobilefacenet"))
MODES = (Mode.ISOLATED, Mode.GRADIENTS, Mode.ACCUMULATED)
WithPublished = tuple[
    list[Verdict], dict[str, bool]
]  # verdicts; what the published rules say about a first output, if any


@dataclass(frozen=True)
class Outcome:
    """What the checker made of one planted bug."""

    # name, what: the bug
    name: str
    what: str
    subject: str  # what was compared
    caught_by: tuple[str, ...]  # the modes with tensors out of budget
    blamed: str  # the layer (or training phase) blamed first, with its type
    right: bool  # whether that is where the bug was planted
    multiple: float  # worst error in multiples of its budget
    cause: str = ""  # the likeliest cause that the report gives
    # published rule -> whether it calls the buggy network equal; empty for training bugs
    published: Mapping[str, bool] = field(default_factory=dict)


def judge_bug(bug: Bug, training_causes: bool = True, runtime: Runtime = ONNX_RUNTIME) -> Outcome:
    """Plant a bug and return what the checker makes of it; `runtime` runs ONNX files.

    The causes of those in training are looked for if asked; the steps are made again for every candidate.
    """
    if isinstance(bug, NetworkBug):
        comparison, published = _compared(bug.subject, 0, bug)
        return outcome_of(bug, comparison.verdicts, published, comparison.finding)
    if isinstance(bug, OnnxBug):
        judged, published = _judged_export(bug.subject, 0, bug, runtime)
        return outcome_of(bug, judged.verdicts, published, judged.finding)
    assert isinstance(bug, TrainingBug)
    found = _compared_step(bug.subject[0], 0, bug, training_causes)
    return outcome_of(bug, found[0], {}, found[1])


def outcome_of(
    bug: Bug, verdicts: Sequence[Verdict], published: Mapping[str, bool], finding: Finding | None = None
) -> Outcome:
    """Return what the checker made of a bug, from the verdicts of a comparison with the bug in it."""
    failing = [verdict for verdict in verdicts if not verdict.equal]
    if not failing:
        return Outcome(bug.name, bug.what, bug.place, (), "", False, 0.0, published=published)
    first = blamed(verdicts)[0].measurement
    where = place(first)
    modes = tuple(dict.fromkeys(verdict.measurement.mode for verdict in failing))
    right = any(fragment in where or fragment in quantity_words(first.quantity) for fragment in bug.blame)
    worst = max(verdict.multiple for verdict in failing)
    cause = next(iter(causes(verdicts, finding)), "")
    return Outcome(bug.name, bug.what, bug.place, modes, where, right, worst, cause, published)


def _seeded(
    subject: Subject, seed: int, kwargs: Mapping[str, Any] | None = None
) -> tuple[Part, Mapping[str, Any], Plan, dict[str, Array], Array]:
    """Return the part of a subject, narrow constructor arguments, their plan, seeded weights, and a small picture."""
    part = part_named(family_named(subject[0]), subject[1])
    narrow = {name: value for name, value in NARROW.items() if name in part.kwargs}
    kwargs = kwargs or {**part.kwargs, **narrow}
    plan = build_plan(part, kwargs)
    state = formula_state(f"mutants{seed}/{part.name}", plan.shapes)
    return part, kwargs, plan, state, probe_inputs(part, kwargs, seed)


def compare_subject(
    subject: Subject,
    seed: int = 0,
    bug: NetworkBug | None = None,
    modes: Sequence[Mode] | None = None,
    dtype: str = "float32",
) -> WithPublished:
    """Compare one seeded narrow network, with a bug planted or without.

    Args:
        subject: family and part.
        seed: of weights and picture.
        bug: what is planted, or None.
        modes: None: all; large networks layer by layer only, because their gradients take a minute each.
        dtype: precision that is compared.
    """
    comparison, published = _compared(subject, seed, bug, modes, dtype)
    return list(comparison.verdicts), published


def _compared(
    subject: Subject, seed: int, bug: NetworkBug | None, modes: Sequence[Mode] | None = None, dtype: str = "float32"
) -> tuple[Comparison, dict[str, bool]]:
    part, kwargs, plan, state, probe = _seeded(subject, seed, bug.kwargs if bug else None)
    module, cell = build_torch(part, kwargs, state), build_mindspore(part, kwargs, plan.to_mindspore(state))
    with patched(bug.patch if bug else None):
        if bug and bug.change:
            bug.change(cell)
        pair = pair_networks(module, cell, dtype=dtype)
        modes = modes or (MODES[:1] if subject in LARGE else MODES)
        comparison = compare_pair(part.name, pair, [probe], [probe], modes)
        outputs: list[Array] = []
        for side in (pair.truth, pair.reference, pair.port):
            with side.preserved():
                outputs.append(side.call("", [probe])[0])
    return comparison, published_verdicts(*outputs)


def compare_step(family: str, seed: int = 0, bug: TrainingBug | None = None) -> WithPublished:
    """Compare a family's training as `toonport compare` does, with a bug planted or without."""
    return _compared_step(family, seed, bug, causes=False)[0], {}


def compare_branch(family: str, number: int, seed: int = 0) -> WithPublished:
    """Compare one step of another branch of a family's training, by its place among them."""
    known = family_named(family)
    assert known.training is not None, f"{family} is not trained"
    return judge_all(measure_training(small_setup(known, 1, seed, known.training.branches[number]))), {}


def _compared_step(
    family: str, seed: int, bug: TrainingBug | None, causes: bool
) -> tuple[list[Verdict], Finding | None]:
    setup, reference = _training(family, seed)
    port: list[Results] = []
    with patched(bug.patch if bug else None):
        verdicts = judge_all(measure_training(setup, bug.make_step if bug else None, reference, note=port.append))
    return verdicts, training_finding(setup, reference, port, verdicts) if causes else None


@lru_cache(maxsize=1)
def _training(family: str, seed: int) -> tuple[TrainingSetup, TrainingReference]:
    """The setup of a training comparison, and what PyTorch makes of it, which is the same whatever bug is planted."""
    setup = small_setup(family_named(family), CompareOptions(family).steps, seed)
    return setup, TrainingReference(setup)


@lru_cache(maxsize=8)
def _exported(subject: Subject, seed: int) -> tuple[bytes, list[FileRun]]:
    """A narrow network written as ONNX, and what it is run on, as `toonport compare` does."""
    part, kwargs, _, state, inputs = _seeded(subject, seed)
    network = for_inference(build_torch(part, kwargs, state))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        write_onnx(network, inputs, part.outputs, path)
        return path.read_bytes(), small_runs(network, inputs)


def judge_export(
    subject: Subject, seed: int = 0, bug: OnnxBug | None = None, runtime: Runtime = ONNX_RUNTIME
) -> WithPublished:
    """Judge the ONNX export of one seeded narrow network in a runtime, with a bug planted or without."""
    judged, published = _judged_export(subject, seed, bug, runtime, causes=False)
    return list(judged.verdicts), published


def _judged_export(
    subject: Subject, seed: int, bug: OnnxBug | None, runtime: Runtime, causes: bool = True
) -> tuple[Judged, dict[str, bool]]:
    content, runs = _exported(subject, seed)
    model, part = onnx.load_from_string(content), part_named(family_named(subject[0]), subject[1])
    if bug:
        bug.plant(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        onnx.save(model, str(path))
        file = open_onnx(path)
        judged = judge_file(file, runs, part.outputs, causes, runtime)
        found = next(iter(runtime.run(path, {file.input: runs[0].inputs}).values()))
    references = runs[0].references
    truth, reference = (calls[WHOLE].outputs[0] for calls in (references.truth, references.runs[0]))
    return judged, published_verdicts(truth, reference, found)
