"""The search for what a mutant changes that nothing saw: what counts as rounding, and what as no result."""

import parity_tests  # noqa: F401, I001  # prepares the environment before any framework is imported

import numpy as np
import pytest

from convert.registry import family_named
from parity_tests.harness.mutants.systematic import checks, equivalence, judging
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


def test_the_search_on_moved_pictures_moves_both_networks_and_training():
    family = family_named("cyclegan")
    part = next(part for part in family.parts if part.name == "D_A")
    for check in (
        checks.Check("cyclegan", "D_A", {**part.kwargs, "ndf": 4, "n_layers": 2}),
        checks.Check("dtn", "", {}),
    ):
        of = family_named(check.family)
        plain, moved = (next(equivalence.evidence([check], of, dtype))[1] for dtype in ("float32", equivalence.MOVED))
        assert 0 < np.abs(plain - moved).max() < 1e-4 * np.abs(plain).max()


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
