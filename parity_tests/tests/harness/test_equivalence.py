"""The search for what a mutant changes that nothing saw: what counts as rounding, and what as no result."""

import parity_tests  # noqa: F401, I001  # prepares the environment before any framework is imported

from itertools import islice

import numpy as np
import pytest

from convert.registry import family_named
from parity_tests.harness.mutants.systematic import checks, equivalence, judging, run
from parity_tests.harness.mutants.systematic.planting import ROOT
from parity_tests.harness.mutants.systematic.scope import read_program
from parity_tests.harness.mutants.systematic.source import source_mutants

KERNELS = "ms_models/kernels.py"


@pytest.mark.parametrize(("step", "neighbour", "equal"), [(3e-6, 1e-6, True), (5e-6, 1e-6, False), (2e-7, 0, True)])
def test_a_search_grants_a_few_times_what_moving_the_pictures_does(step, neighbour, equal):
    right, other, moved = ([("a", np.ones(2) + moving)] for moving in (0, step, neighbour))
    assert (not equivalence.compared(right, other, equivalence.MOVED, moved).difference) == equal


@pytest.mark.parametrize(
    ("file", "alone"), [(KERNELS, True), ("ms_models/descent.py", False), ("ms_models/losses.py", False)]
)
def test_what_training_uses_by_way_of_networks_alone_is_known(file, alone):
    program, family = read_program(ROOT), family_named("ugatit")
    prepared = judging.Prepared(family, program, ROOT)
    reached = program.of_family(family)
    found = [
        prepared.in_networks_alone(mutant)
        for mutant in source_mutants(file, program.sources[file])
        if (at := program.at(file, mutant.line)) and at.place in reached
    ]
    assert found
    assert set(found) == {alone}


def test_a_run_that_ends_in_a_refusal_leaves_nothing_in_the_state():
    class Refusing:
        def state(self):
            return {"count": self.count}

        def set_state(self, state):
            self.count = state["count"]

        def call(self, layer, inputs):
            self.count = 5
            raise ValueError

    side = Refusing()
    side.count = 2
    assert [found.size for found in equivalence._run(side, np.ones((1, 3, 4, 4), np.float32), 0)] == [0]
    assert side.count == 2


def first_of_a_network_and_of_a_step(dtype):
    """Yield what the search finds first of a generator, then of a training step."""
    part = next(part for part in family_named("ugatit").parts if part.name == "genA2B")
    network = checks.Check("ugatit", part.name, {**part.kwargs, "ngf": 4, "n_blocks": 1})
    for check in (network, checks.Check("dtn", "", {})):
        found = equivalence.evidence([check], family_named(check.family), dtype)
        yield [array for _, array in islice(found, 40)]


def test_the_search_on_moved_pictures_moves_both_networks_and_training():
    pairs = zip(*map(first_of_a_network_and_of_a_step, ("float32", equivalence.MOVED)), strict=True)
    for (plain, *_), (moved, *_) in pairs:
        assert 0 < np.abs(plain - moved).max() < 1e-4 * np.abs(plain).max()


def test_the_search_on_moved_pictures_computes_in_another_way(monkeypatch):
    monkeypatch.setattr(equivalence, "_moved", lambda picture, dtype, seed: picture)
    for plain, other in zip(*map(first_of_a_network_and_of_a_step, ("float32", equivalence.MOVED)), strict=True):
        assert any(not np.array_equal(one, two) for one, two in zip(plain, other, strict=True))


@pytest.mark.parametrize(
    ("other", "dtype", "difference"),
    [
        ([("a", np.ones(2)), ("b", np.zeros(0))], "float32", ""),
        ([("a", np.ones(2) + 1e-9), ("b", np.zeros(0))], "float32", "1.0e-09 of the tensor's size at a"),
        ([("a", np.ones(2) + 1e-14), ("b", np.zeros(0))], "float64", ""),
        ([("a", np.ones(2)), ("b", np.zeros(1))], "float32", "shape at b"),
        ([("a", np.ones(2))], "float32", "they do not return the same tensors"),
        ([("a", np.ones(2)), ("c", np.zeros(0))], "float32", "they do not return the same tensors"),
    ],
)
def test_a_search_ends_at_the_first_difference(other, dtype, difference):
    found = equivalence.compared([("a", np.ones(2)), ("b", np.zeros(0))], other, dtype)
    assert found.difference == difference
    assert difference or (found.tensors, found.empty) == (1, 1)
    assert found.rounded == (dtype == "float64")


@pytest.mark.parametrize(("rounded", "verdict"), [(0, "missed"), (3, "equivalent")])
def test_float64_proves_nothing_of_what_it_does_not_show(monkeypatch, rounded, verdict):
    seen = {
        "float32": equivalence.Compared("1e-3 of the tensor's size at a", 5, 0, 0),
        "float64": equivalence.Compared("", 5, 0, rounded),
        equivalence.MOVED: equivalence.Compared("1e-3 of the tensor's size at a", 5, 0, 0),
    }
    monkeypatch.setattr(run, "_compared_in", lambda dtype, *rest: seen[dtype])
    program, family = read_program(ROOT), family_named("ugatit")
    prepared = judging.Prepared(family, program, ROOT)
    mutant = next(each for each in source_mutants(KERNELS, program.sources[KERNELS]) if each.function)
    assert run.search(prepared, mutant)[0] == verdict
