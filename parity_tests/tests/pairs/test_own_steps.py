"""A user's own training step: the right port is equal, and each planted bug is blamed on its phase."""

import numpy as np
import pytest
from mindspore import ops

from convert.errors import InputError
from parity_tests.harness.measurement import Kind
from parity_tests.harness.own_step_runs import TrainingStep
from parity_tests.harness.own_steps import compare_steps
from parity_tests.tests.pairs.gan_steps import NAMES, batches, ms_step, torch_step


def _compare(port, steps=3):
    return compare_steps(torch_step, port, batches(steps), NAMES)


def test_a_right_step_is_equal():
    numpys = np.random.get_state()[1].copy()
    result = _compare(ms_step())
    assert result.blamed == []
    assert {verdict.measurement.quantity.kind for verdict in result.verdicts} == {
        Kind.LOSS,
        Kind.RATE,
        Kind.GRADIENT,
        Kind.CHANGE,
    }
    changed = {(it.measurement.layer, it.measurement.quantity.name) for it in result.verdicts}
    assert {("G.1", "running_var"), ("G.0", "weight"), ("D.2", "bias")} <= changed
    assert not [verdict for verdict in result.verdicts if verdict.blind and verdict.measurement.layer != "G.0"]
    assert (np.random.get_state()[1] == numpys).all()


@pytest.mark.parametrize(
    ("bug", "phase", "kind", "step"),
    [
        ({"late": True}, "G", Kind.RATE, 2),
        ({"attached": True}, "G", Kind.GRADIENT, 1),
        ({"beta": 0.9}, "D", Kind.CHANGE, 2),
        ({"pull_weight": 1.0}, "G", Kind.GRADIENT, 1),
        ({"reduce": ops.sum}, "D", Kind.LOSS, 1),
    ],
    ids=["learning rate late", "missing detach", "wrong beta", "loss weight", "wrong reduction"],
)
def test_a_bug_is_blamed_on_its_phase(bug, phase, kind, step):
    first = _compare(ms_step(**bug), steps=step).blamed[0].measurement
    assert (first.quantity.phase, first.quantity.kind, first.probe.step) == (phase, kind, step)


def _made(**changes):
    """A builder of the reference with other fields."""
    return lambda: TrainingStep(**{**vars(torch_step()), **changes})


def _idle(noise, real):
    return {"D": {"real": 0.0, "fake": 0.0}, "G": {"fooled": 0.0, "pull": 0.0}}


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        (torch_step(), "a function without arguments"),
        (dict, "returns a TrainingStep, not a dict"),
        (lambda: 1 / 0, "cannot be built: ZeroDivisionError"),
        (_made(networks={}), "networks of the reference: none; of the port: G, D"),
        (_made(optimizers={"D": None, "G": None}), "are of torch.optim, not a NoneType"),
        (_made(train=_idle), "optimiser D, G was not called with gradients in step 1"),
        (_made(train=lambda *_: 1.0), "returns losses by name, not a float"),
        (_made(train=lambda *_: {"loss": 1.0}), "phases among D, G"),
        (_made(train=lambda *_: [][0]), "the reference's step fails in step 1: IndexError"),
    ],
)
def test_mistakes_are_told_in_one_line(reference, words):
    with pytest.raises(InputError, match=words):
        compare_steps(reference, ms_step(), batches(1), NAMES)


def test_losses_of_other_names_are_different():
    def renamed():
        step = ms_step()()
        train = step.train
        return TrainingStep(
            step.networks,
            step.optimizers,
            lambda *batch: {**(found := train(*batch)), "D": {"reals": found["D"]["real"]}},
        )

    with pytest.raises(InputError, match=r"losses of the reference: D.fake, D.real; of the port: D.reals"):
        _compare(renamed, steps=1)
