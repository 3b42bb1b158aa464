"""Runs the mutation suite of the ONNX leg, and the leg itself on correct exports."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from convert.plan import build_plan
from parity_tests.harness.inputs import formula_state
from parity_tests.harness.judge import Verdict, judge_all
from parity_tests.harness.mutants.onnx import ONNX_MUTATIONS, OnnxMutation
from parity_tests.harness.mutants.published_rules import published_verdicts
from parity_tests.harness.mutants.run import LARGE, Outcome, correct_subjects, outcome_of, small_kwargs
from parity_tests.harness.mutants.ugatit import Subject
from parity_tests.harness.onnx.leg import measure_onnx, open_onnx
from parity_tests.harness.onnx.session import run_onnx
from parity_tests.harness.onnx.write import write_onnx
from parity_tests.harness.outputs import WHOLE, References, run_references
from parity_tests.harness.run import part_inputs
from parity_tests.harness.sides.base import Array
from torch_ref.build import build_torch, for_inference

__all__ = ["judge_export", "onnx_false_alarms", "run_onnx_mutants"]


@dataclass(frozen=True)
class _Exported:
    """A narrow network, written as ONNX, and what its layers do."""

    content: bytes
    inputs: Array
    references: References


@lru_cache(maxsize=8)
def _exported(subject: Subject, seed: int) -> _Exported:
    part, kwargs = small_kwargs(subject)
    shapes = build_plan(part, kwargs).shapes
    network = for_inference(build_torch(part, kwargs, formula_state(f"mutants{seed}/{part.name}", shapes)))
    inputs = part_inputs(part, kwargs, seed, part.smallest(kwargs), batch=2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        write_onnx(network, inputs, part.outputs, path)
        content = path.read_bytes()
    return _Exported(content, inputs, run_references(network, inputs, layers=True))


def judge_export(
    subject: Subject, seed: int = 0, mutation: OnnxMutation | None = None
) -> tuple[list[Verdict], dict[str, bool]]:
    """Judge the export of one seeded narrow network, with a bug planted or without.

    Returns:
        The verdicts, and what the published rules say about the network's first output.
    """
    import onnx

    exported = _exported(subject, seed)
    model = onnx.load_from_string(exported.content)
    if mutation:
        mutation.plant(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        onnx.save(model, str(path))
        verdicts = judge_all(measure_onnx(open_onnx(path), exported.inputs, exported.references))
        found = next(iter(run_onnx(path, exported.inputs).values()))
    truth, reference = (calls[WHOLE].outputs[0] for calls in (exported.references.truth, exported.references.runs[0]))
    return verdicts, published_verdicts(truth, reference, found)


def run_onnx_mutants(
    names: Iterable[str] = (), say: Callable[[str], None] = lambda text: None, seed: int = 0
) -> Iterator[Outcome]:
    """Plant every bug of ONNX files (or those named) and yield what the checker makes of it."""
    wanted = set(names)
    for mutation in ONNX_MUTATIONS:
        if not wanted or mutation.name in wanted:
            say(mutation.name)
            verdicts, published = judge_export(mutation.subject, seed, mutation)
            subject = f"{' '.join(mutation.subject)}, ONNX"
            yield outcome_of(mutation.name, mutation.what, subject, mutation.blame, verdicts, published)


def onnx_false_alarms(
    seeds: int,
    say: Callable[[str], None] = lambda text: None,
    subjects: Sequence[Subject] | None = None,
) -> Iterator[tuple[str, int]]:
    """Judge correct exports under many seeds; yield (comparison, tensors out of budget).

    Args:
        seeds: how many.
        say: called with what is being judged.
        subjects: networks; None: every kind of network of every family, the large ones under the first seed only:
            their files take most of a minute, and other weights do not change the graph.
    """
    small = tuple(subject for subject in correct_subjects() if subject not in LARGE)
    for seed in range(1, seeds + 1):
        for subject in subjects or (correct_subjects() if seed == 1 else small):
            name = f"{' '.join(subject)} ONNX, seed {seed}"
            say(f"correct export: {name}")
            verdicts, _ = judge_export(subject, seed)
            yield name, sum(not verdict.equal for verdict in verdicts)
