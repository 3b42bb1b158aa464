"""Ports that train on numbers that are not finite."""

import pytest

from convert.recipes.descent import Execution
from convert.registry import family_named
from ms_models.descent import Descent
from parity_tests.harness.measurement import Kind
from parity_tests.harness.report.words import quantity_words
from parity_tests.harness.trainers import MindSporeTrainer, TorchTrainer
from parity_tests.harness.training import measure_training
from parity_tests.harness.training_refusals import measure_refusals
from parity_tests.harness.training_setup import small_setup

FAMILY = family_named("whitebox")
NAN, OVERFLOW = "a picture that holds NaN", "a gradient that overflows"


def _problems(trainer_class=MindSporeTrainer, watch=True):
    branch = next(each for each in FAMILY.training.branches if each.settings.get("pretrain"))
    setup = small_setup(FAMILY, 1, 0, branch)
    trainer = trainer_class(setup)
    trainer.execute(Execution(watch=watch))
    trainer.train(*setup.batches[0])
    found = list(measure_refusals(trainer, setup.batches[0], 5))
    assert [each.order for each in found] == [5, 6]
    return {each.quantity.name: each.problem for each in found}


@pytest.mark.parametrize("trainer_class", [MindSporeTrainer, TorchTrainer])
def test_both_sides_refuse_before_a_weight_moves(trainer_class):
    assert _problems(trainer_class) == {NAN: "", OVERFLOW: ""}


def test_a_port_that_does_not_look_is_told():
    assert set(_problems(watch=False).values()) == {"the port trains on it, where PyTorch refuses"}


def test_a_port_that_looks_too_late_is_told(monkeypatch):
    move = Descent._move

    def late(self, phase, gradients):
        self.optimizers[phase](gradients)
        move(self, phase, gradients)

    monkeypatch.setattr(Descent, "_move", late)
    assert "before it refuses" in _problems()[OVERFLOW]


def test_a_port_that_fails_otherwise_is_told(monkeypatch):
    def failing(optimizer, gradients):
        raise KeyError("names")

    monkeypatch.setattr("ms_models.descent._named", failing)
    assert _problems()[OVERFLOW] == "the port cannot refuse it: KeyError: 'names'"


@pytest.mark.parametrize("watch", [True, False])
def test_a_comparison_of_steps_ends_with_the_refusals_of_a_port_that_watches(watch):
    setup = small_setup(family_named("dtn"), 1)
    found = list(measure_training(setup, execution=Execution(watch=watch)))
    refusals = [each for each in found if each.quantity.kind is Kind.REFUSAL]
    assert [quantity_words(each.quantity) for each in refusals] == [f"refusal of {n}" for n in (NAN, OVERFLOW) if watch]
    assert not any(each.problem for each in found)
    assert found[-len(refusals) :] == refusals or not refusals
