"""Runs the mutation suite of the ONNX leg, and the leg itself on correct exports.

The program that writes ONNX files lies above this package, so it is handed in.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from convert.plan import build_plan
from parity_tests.harness.capture import Key
from parity_tests.harness.inputs import formula_state
from parity_tests.harness.judge import Verdict, judge
from parity_tests.harness.mutants.onnx import ONNX_MUTATIONS, OnnxMutation
from parity_tests.harness.mutants.published_rules import published_verdicts
from parity_tests.harness.mutants.run import LARGE, Outcome, correct_subjects, outcome_of, small_kwargs
from parity_tests.harness.mutants.ugatit import Subject
from parity_tests.harness.onnx.leg import measure_file, open_onnx, run_onnx, traces
from parity_tests.harness.run import part_inputs
from parity_tests.harness.sides.base import Array, LayerCall
from parity_tests.harness.sides.torch import TorchSide
from torch_ref.build import build_torch, for_inference

__all__ = ["Writer", "judge_export", "onnx_false_alarms", "run_onnx_mutants"]

Writer = Callable[[Any, Array, Sequence[str], Path], None]  # PyTorch network, pictures, names of outputs, target


@dataclass(frozen=True)
class _Exported:
    """A narrow network, written as ONNX, and what its layers do."""

    content: bytes
    inputs: Array
    truths: Mapping[Key, LayerCall]
    references: Sequence[Mapping[Key, LayerCall]]
    types: Mapping[str, str]


@lru_cache(maxsize=8)
def _exported(write: Writer, subject: Subject, seed: int) -> _Exported:
    part, kwargs = small_kwargs(subject)
    shapes = build_plan(part, kwargs).shapes
    network = for_inference(build_torch(part, kwargs, formula_state(f"mutants{seed}/{part.name}", shapes)))
    inputs = part_inputs(part, kwargs, seed, part.smallest(kwargs), batch=2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        write(network, inputs, part.outputs, path)
        content = path.read_bytes()
    return _Exported(content, inputs, *traces(network, inputs), TorchSide(network).layer_types())


def judge_export(
    write: Writer, subject: Subject, seed: int = 0, mutation: OnnxMutation | None = None
) -> tuple[list[Verdict], dict[str, bool]]:
    """Judge the export of one seeded narrow network, with a bug planted or without.

    Returns:
        The verdicts, and what the published rules say about the network's first output.
    """
    import onnx

    exported = _exported(write, subject, seed)
    model = onnx.load_from_string(exported.content)
    if mutation:
        mutation.plant(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        onnx.save(model, str(path))
        measured = measure_file(open_onnx(path), exported.inputs, exported.truths, exported.references, exported.types)
        verdicts = [judge(one) for one in measured]
        found = next(iter(run_onnx(path, exported.inputs).values()))
    truth, reference = (calls["", 0].outputs[0] for calls in (exported.truths, exported.references[0]))
    return verdicts, published_verdicts(truth, reference, found)


def run_onnx_mutants(
    write: Writer, names: Iterable[str] = (), say: Callable[[str], None] = lambda text: None, seed: int = 0
) -> Iterator[Outcome]:
    """Plant every bug of ONNX files (or those named) and yield what the checker makes of it."""
    wanted = set(names)
    for mutation in ONNX_MUTATIONS:
        if not wanted or mutation.name in wanted:
            say(mutation.name)
            verdicts, published = judge_export(write, mutation.subject, seed, mutation)
            subject = f"{' '.join(mutation.subject)}, ONNX"
            yield outcome_of(mutation.name, mutation.what, subject, mutation.blame, verdicts, published)


def onnx_false_alarms(
    write: Writer,
    seeds: int,
    say: Callable[[str], None] = lambda text: None,
    subjects: Sequence[Subject] | None = None,
) -> Iterator[tuple[str, int]]:
    """Judge correct exports under many seeds; yield (comparison, tensors out of budget).

    Args:
        write: makes ONNX files.
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
            verdicts, _ = judge_export(write, subject, seed)
            yield name, sum(not verdict.equal for verdict in verdicts)
