"""Steps that MindSpore runs as graphs: every number after every step, against float64 PyTorch, as the rate falls."""

from dataclasses import replace

import pytest

from convert.family import resolve
from convert.recipes.descent import Execution
from convert.registry import family_named
from parity_tests.harness.judge import judge_all
from parity_tests.harness.training import measure_training, small_setup

EPOCHS = {"steps_per_epoch": 1, "constant_epochs": 0, "decay_epochs": 8}
CASES = {
    "cyclegan": {"steps_per_epoch": 1},
    "dtn": {**EPOCHS, "reference_exact": True},
    "facialcartoonization": {"decay": True},
    "sagan_cyclegan": {**EPOCHS, "gan_mode": "sn+gp", "identity": 0.05, "reference_exact": True},
    "whitebox": {"decay": True},
}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", CASES)
def test_compiled_steps_equal_the_reference_while_the_rate_falls(name):
    family = family_named(name)
    setup = small_setup(family, steps=3)
    setup = replace(setup, first_step=4, settings={**setup.settings, **CASES[name]})

    def compiled(networks, settings, frozen):
        step = resolve("ms_models", family.training.step)(networks, settings, frozen)
        step.descent.use(Execution(compiled=True, loss_scale=1024.0, watch=True))
        return step

    verdicts = judge_all(measure_training(setup, compiled))
    rates = {float(setup.training.settings(**setup.settings).rate("G", step)) for step in (5, 6, 7)}
    assert len(rates) == 3
    assert [(one.measurement.layer, one.measurement.quantity) for one in verdicts if not one.equal] == []
