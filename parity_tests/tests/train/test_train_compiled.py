"""Steps that MindSpore runs as graphs: every number after every step, against float64 PyTorch, as the rate falls."""

from dataclasses import replace

import pytest

from convert.family import resolve
from convert.recipes.descent import Execution
from convert.registry import family_named
from parity_tests.harness.judge import judge_all
from parity_tests.harness.measurement import Rest
from parity_tests.harness.training import TrainingReference, measure_training
from parity_tests.harness.training_setup import small_setup

CASES = {
    "cyclegan": {},
    "dtn": {"reference_exact": True},
    "facialcartoonization": {},
    "sagan_cyclegan": {"gan_mode": "sn+gp", "identity": 0.05, "reference_exact": True},
    "whitebox": {},
}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", CASES)
def test_compiled_steps_equal_the_reference_while_the_rate_falls(name):
    family = family_named(name)
    setup = small_setup(family, steps=3)
    setup = replace(setup, settings={**setup.settings, **CASES[name]})
    reference = TrainingReference(setup)

    def compiled(networks, settings, frozen):
        step = resolve("ms_models", family.training.step)(networks, settings, frozen)
        step.descent.use(Execution(compiled=True, loss_scale=1024.0, watch=True))
        return step

    verdicts = judge_all(measure_training(setup, compiled, reference))
    assert Rest.RATE not in {resting.kind for resting in reference.resting()}
    assert [(one.measurement.layer, one.measurement.quantity) for one in verdicts if not one.equal] == []
