"""What a training comparison starts from lets nothing rest: rates fall, no two numbers are alike, pools swap."""

from dataclasses import fields, replace

import numpy as np
import pytest

from convert.registry import families, family_named
from parity_tests.harness.families import PLAIN, _pieces, compare_family, not_asked_for
from parity_tests.harness.judge import judge_all
from parity_tests.harness.measurement import Kind, Rest, Resting
from parity_tests.harness.report.words import resting_words
from parity_tests.harness.request import CompareOptions
from parity_tests.harness.training import TrainingReference, measure_training
from parity_tests.harness.training_comparison import steps_of
from parity_tests.harness.training_setup import moving_settings, small_setup

TRAINED = [family for family in families() if family.training]
STEPS = CompareOptions("").steps
BRANCHES = [(family.name, number) for family in TRAINED for number in range(len(family.training.branches))]
OFF = {"landmark"}  # but in a branch


@pytest.mark.quick
@pytest.mark.parametrize("family", TRAINED, ids=lambda family: family.name)
def test_no_two_numbers_of_a_training_comparison_are_alike_and_none_is_1(family):
    settings = family.training.settings(**moving_settings(family.training, STEPS))
    found = {it.name: vars(settings)[it.name] for it in fields(settings) if isinstance(vars(settings)[it.name], float)}
    assert {name for name, value in found.items() if value == 0} <= OFF
    numbers = [value for value in found.values() if value]
    assert 1 not in numbers
    assert len(set(numbers)) == len(numbers), found


@pytest.mark.quick
@pytest.mark.parametrize("family", TRAINED, ids=lambda family: family.name)
def test_the_rate_falls_within_the_run_and_pictures_differ(family):
    setup = small_setup(family, STEPS)
    settings = family.training.settings(**setup.settings)
    for phase in family.training.phases:
        before, *rates = (settings.rate(phase, setup.first_step + step) for step in range(STEPS + 1))
        assert rates[0] == before or setup.first_step == 0
        assert 0 < rates[-1] <= rates[1] < rates[0]
    for first, second in setup.batches:
        assert first.shape == second.shape
        assert first.shape[2] != first.shape[3]
        assert not np.array_equal(first[0], first[1])
    short = small_setup(family, 1)
    settings = family.training.settings(**short.settings)
    assert settings.rate("G", short.first_step + 1) < settings.rate("G", short.first_step)
    assert (short.accumulated, short.resumed) == (None, None)


def test_every_part_of_a_step_moves_and_the_port_stays_within_its_budgets():
    setup = small_setup(family_named("cyclegan"), STEPS)
    reference = TrainingReference(setup)
    verdicts = judge_all(measure_training(setup, None, reference))
    assert [(one.measurement.layer, one.measurement.quantity) for one in verdicts if not one.equal] == []
    blind = [(one.measurement.layer, one.measurement.quantity) for one in verdicts if one.blind]
    assert all("bias" in quantity.name for _, quantity in blind), blind
    losses = [one.measurement for one in verdicts if one.measurement.quantity.kind is Kind.LOSS]
    assert {one.layer for one in losses if one.quantity.name.startswith("D.A.")} == {"D_A"}
    assert {resting.kind for resting in reference.resting()} == {Rest.SETTING, Rest.WORKERS}


def test_what_rests_is_named():
    setup = small_setup(family_named("cyclegan"), 1)
    reference = TrainingReference(setup)
    reference.truth(0)
    resting = set(reference.resting())
    words = {resting_words(it) for it in resting}
    assert {Resting(Rest.RATE, "G"), Resting(Rest.POOL, "A"), Resting(Rest.LATER_STEPS)} <= resting
    assert {"learning rate of phase G: constant in this run", "setting decay: junyanz throughout"} <= words


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("family", "number"), BRANCHES)
def test_a_branch_of_a_step_is_equal_and_each_of_its_settings_is_another(family, number):
    known = family_named(family)
    branch = known.training.branches[number]
    usual, other = small_setup(known, 1).settings, small_setup(known, 1, 0, branch)
    defaults = vars(known.training.settings())
    assert all(
        usual.get(name, defaults[name]) != value for name, value in branch.settings.items() if name != "gan_mode"
    )
    assert {**other.settings, **branch.settings} == other.settings
    verdicts = judge_all(measure_training(other))
    assert [(one.measurement.layer, one.measurement.quantity) for one in verdicts if not one.equal] == []


def test_a_comparison_of_training_steps_has_graphs_and_branches():
    run, *branches = steps_of(family_named("dtn"), STEPS, 0)
    assert [branch.name for branch in branches] == [
        "dtn training, gan_mode vanilla, reference_exact True",
        "dtn training, gan_mode lsgan",
    ]
    graphs = run.graphs
    assert (graphs.execution.compiled, len(graphs.setup.batches), graphs.setup.resumed) == (True, STEPS - 1, None)


@pytest.mark.parametrize("name", ["whitebox", "facialcartoonization"])
def test_the_landmark_term_is_compared_by_default(name, monkeypatch):
    from ms_models.steps import whitebox

    branch = steps_of(family_named(name), 1, 0)[1].setup
    assert judge_losses(branch) == []
    right = whitebox.landmark_loss
    monkeypatch.setattr(whitebox, "landmark_loss", lambda *given: right(*given[:-1], 0.9 * given[-1]))
    assert judge_losses(branch)[0] == "G.landmark"


def judge_losses(setup):
    """The terms that are out of budget."""
    verdicts = judge_all(measure_training(setup))
    return [one.measurement.quantity.name for one in verdicts if not one.equal]


@pytest.mark.parametrize(("name", "count"), [("cyclegan", 19), ("sagan_cyclegan", 5), ("ugatit", 4)])
def test_every_setting_of_other_architectures_is_compared_once_in_each_value(name, count):
    options = CompareOptions(name, modes=("weights",))
    found = compare_family(options)
    assert all(each.equal for each in found)
    assert len({each.name for each in found}) == len(found) == count
    built = [each.facts["kwargs"] for each in found]
    for part in family_named(name).parts:
        for kwargs in part.variants:
            fixed = {key: value for key, value in kwargs.items() if key not in family_named(name).training.narrow}
            alike = [own for own in built if own.get("architecture") == kwargs.get("architecture")]
            assert all(any(own.get(key) == value for own in alike) for key, value in fixed.items())
    assert "other architectures as graphs: not asked for" in not_asked_for(options)
    quick = CompareOptions(name, quick=True, modes=("weights",))
    assert len(compare_family(quick)) < count
    assert "other architectures: not asked for" in not_asked_for(quick)
    assert not any("architectures" in reason for reason in not_asked_for(CompareOptions(name, modes=("train",))))


def test_formulas_of_other_devices_are_among_what_is_compared():
    words = "the port's formulas for other devices: not asked for"
    every = CompareOptions("ugatit")
    assert {f"ugatit {part}, {PLAIN}" for part in ("genA2B", "disGA")} <= {each.name for each in _pieces(every)}
    assert words not in not_asked_for(every)
    for changes in ({"quick": True}, {"size": (64, 64)}, {"part": "genA2B"}):
        left_out = replace(every, **changes)
        assert not any(PLAIN in each.name for each in _pieces(left_out))
        assert words in not_asked_for(left_out)
