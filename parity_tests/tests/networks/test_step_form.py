"""The one form of a training step: weights and terms belong together, and NaN is seen before weights move."""

import numpy as np
import pytest

from convert.recipes.descent import Execution
from convert.registry import family_named
from parity_tests.harness.trainers import MindSporeTrainer, TorchTrainer
from parity_tests.harness.training_setup import small_setup

FAMILIES = ("ugatit", "cyclegan", "sagan_cyclegan", "dtn", "whitebox")


@pytest.mark.sampled(4)
@pytest.mark.parametrize("make", [TorchTrainer, MindSporeTrainer])
@pytest.mark.parametrize("family", FAMILIES)
def test_terms_and_weights_belong_together_and_nan_stops_before_weights_move(family, make):
    setup = small_setup(family_named(family), steps=1)
    trainer = make(setup)
    weights = trainer.step.weights
    start = {part: trainer.weights(part) for part in setup.parts}
    first = next(iter(trainer.step.phases))
    for changed, said in (
        (lambda phase: {**weights(phase), "G.other": 1.0}, "weight G.other has no loss term"),
        (lambda phase: dict(list(weights(phase).items())[1:]), "has no weight"),
    ):
        trainer.step.weights = changed
        with pytest.raises(ValueError, match=said):
            trainer.train(*setup.batches[0])
    trainer.step.weights = weights
    trainer.step.descent.use(Execution(watch=True))
    with pytest.raises(FloatingPointError, match=f"{first}\\."):
        trainer.train(*(np.full_like(pictures, np.nan) for pictures in setup.batches[0]))
    for part in setup.parts:
        trained = {name for _, owner, name, value, _ in trainer._states() if owner == part and value.requires_grad}
        assert trained
        moved = trainer.weights(part)
        assert all(np.array_equal(moved[name], start[part][name]) for name in trained)
