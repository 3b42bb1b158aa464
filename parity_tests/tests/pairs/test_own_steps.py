"""A user's own training step: the right port is equal, and each planted bug is blamed on its phase."""

from dataclasses import replace

import mindspore
import numpy as np
import pytest
import torch
from mindspore import nn, ops
from mindspore.experimental import optim

from convert.errors import InputError
from parity_tests.harness import own_step_sides
from parity_tests.harness.measurement import Kind, Rest
from parity_tests.harness.own_step_runs import TrainingStep
from parity_tests.harness.own_steps import compare_steps
from parity_tests.harness.rewrites import Cause, Change
from parity_tests.tests.pairs import small_steps
from parity_tests.tests.pairs.gan_steps import NAMES, batches, ms_step, torch_step
from torch_ref import environment


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


def test_the_reference_runs_where_it_is_asked_for_and_the_truth_on_the_cpu(monkeypatch):
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="gpu"):
            compare_steps(torch_step, ms_step(), batches(1), NAMES, reference_device="gpu")
    asked = []
    monkeypatch.setattr(environment, "place_of", lambda device: "cpu")
    monkeypatch.setattr(own_step_sides, "place_of", lambda device: asked.append(device) or "cpu")
    result = compare_steps(torch_step, ms_step(), batches(1), NAMES, reference_device="gpu")
    assert result.blamed == []
    assert result.facts["devices"].startswith("port on cpu, reference on gpu, truth on cpu")
    assert asked[:2] == ["cpu", "cpu"]
    assert set(asked[2:]) == {"gpu"}


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
        (_made(train=_idle), "optimiser D, G was not called in any step"),
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


def _small(reference, port, steps=3, **options):
    return compare_steps(reference, port, small_steps.batches(steps), **options)


RIGHT = {"lr": 1e-3, "weight_decay": 0.0}


def test_accumulated_gradients_are_compared_and_a_step_too_many_is_found():
    reference = small_steps.torch_step(every=2)
    assert _small(reference, small_steps.ms_step(every=2, **RIGHT), 4).equal
    first = _small(reference, small_steps.ms_step(every=1, **RIGHT), 4).blamed[0].measurement
    assert (first.quantity.kind, first.probe.step) == (Kind.CHANGE, 1)


def test_dropout_is_at_rest_in_steps():
    reference = small_steps.torch_step(rate=0.4)
    assert _small(reference, small_steps.ms_step(rate=0.4, **RIGHT), 2).equal


def test_a_step_is_compared_as_graphs():
    seen = []

    def port():
        step = small_steps.ms_step(**RIGHT)()
        return replace(step, train=lambda x, y: (seen.append(mindspore.get_context("mode")), step.train(x, y))[1])

    before = mindspore.get_context("mode")
    assert _small(small_steps.torch_step(), port, 2, compiled=True).equal
    assert seen == [mindspore.GRAPH_MODE] * 2
    assert mindspore.get_context("mode") == before


def test_a_resumed_step_goes_on_where_it_was_and_what_a_checkpoint_lacks_is_found():
    def all_of(optimizer):
        return [value.name for value in optimizer.get_parameters()]

    def no_moments(optimizer):
        return []

    reference = small_steps.torch_step()
    right = _small(reference, small_steps.ms_step(saved=all_of, **RIGHT))
    assert right.equal
    assert Rest.RESUMING not in {it.kind for it in right.resting}
    first = _small(reference, small_steps.ms_step(saved=no_moments, **RIGHT)).blamed[0].measurement
    assert (first.quantity.kind, first.probe.step) == (Kind.CHANGE, 3)
    assert Rest.RESUMING in {it.kind for it in _small(reference, small_steps.ms_step(**RIGHT)).resting}


# optimisers of PyTorch, and those of MindSpore that compute the same
SHARED = [
    (torch.optim.SGD, {"lr": 0.01}, (nn.SGD, optim.SGD), {}),
    (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}, (nn.SGD, nn.Momentum, optim.SGD), {}),
    (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "nesterov": True}, (nn.SGD, optim.SGD), {}),
    (torch.optim.Adam, {"lr": 1e-3, "amsgrad": True}, (optim.AdamW,), {"weight_decay": 0.0}),
    (torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 0.1}, (optim.AdamW,), {}),
    (torch.optim.NAdam, {"lr": 2e-3}, (optim.NAdam,), {}),
    (torch.optim.RAdam, {"lr": 1e-3}, (optim.RAdam,), {}),
    (torch.optim.RMSprop, {"lr": 0.01, "momentum": 0.9, "centered": True}, (optim.RMSprop,), {}),
    (torch.optim.Adagrad, {"lr": 0.01}, (optim.Adagrad,), {}),
    (torch.optim.Adadelta, {"lr": 1.0}, (nn.Adadelta, optim.Adadelta), {"rho": 0.9}),
    (torch.optim.Adamax, {"lr": 2e-3}, (nn.AdaMax, optim.Adamax), {}),
    (torch.optim.Rprop, {"lr": 0.01}, (nn.Rprop, optim.Rprop), {}),
    (torch.optim.ASGD, {"lr": 0.01}, (nn.ASGD, optim.ASGD), {}),
]


def _ported(kind, settings):
    """A builder of a port whose optimiser names its rate as MindSpore's layers do."""
    rate = {"learning_rate": settings["lr"]} if kind.__module__.startswith("mindspore.nn") else {"lr": settings["lr"]}
    return small_steps.ms_step(kind, **rate, **{name: value for name, value in settings.items() if name != "lr"})


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("optimizer", "settings", "kind", "more"),
    [(optimizer, settings, kind, more) for optimizer, settings, kinds, more in SHARED for kind in kinds],
)
def test_an_optimiser_that_both_frameworks_have_is_silent(optimizer, settings, kind, more):
    assert _small(small_steps.torch_step(optimizer, **settings), _ported(kind, {**settings, **more})).equal


RMS = {"lr": 0.01, "alpha": 0.9}


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("optimizer", "settings", "kind", "ported", "cause"),
    [
        (torch.optim.RMSprop, RMS, nn.RMSProp, {"lr": 0.01, "decay": 0.9}, "mean square begins at 1"),
        (torch.optim.Adagrad, {"lr": 0.01}, nn.Adagrad, {"lr": 0.01}, "sum of squares begins at 0.1"),
        (
            torch.optim.Adam,
            {"lr": 1e-3, "eps": 1e-3},
            optim.Adam,
            {"lr": 1e-3, "eps": 1e-3},
            "eps before the bias correction",
        ),
        (
            torch.optim.Adam,
            {"lr": 1e-3, "weight_decay": 0.1},
            optim.AdamW,
            {"lr": 1e-3, "weight_decay": 0.1},
            "weight decay apart from the gradient",
        ),
        (
            torch.optim.AdamW,
            {"lr": 1e-3},
            nn.AdamWeightDecay,
            {"lr": 1e-3, "weight_decay": 0.01, "eps": 1e-8},
            "without bias correction",
        ),
        (
            torch.optim.SGD,
            {"lr": 0.01, "momentum": 0.9, "nesterov": True},
            nn.Momentum,
            {"lr": 0.01, "momentum": 0.9, "use_nesterov": True},
            "nesterov False",
        ),
        (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9}, nn.SGD, {"lr": 0.01}, "momentum 0 for 0.9"),
        (
            torch.optim.Adagrad,
            {"lr": 0.01, "initial_accumulator_value": 0.1, "eps": 1e-2},
            nn.Adagrad,
            {"lr": 0.01},
            "eps 1e-10 for 0.01",
        ),
    ],
    ids=lambda it: it if isinstance(it, str) else getattr(it, "__name__", ""),
)
def test_what_an_optimiser_does_otherwise_is_named(optimizer, settings, kind, ported, cause):
    found = _small(small_steps.torch_step(optimizer, **settings), _ported(kind, ported))
    assert found.blamed[0].measurement.quantity.kind is Kind.CHANGE
    assert found.finding.cause == Cause(Change.OPTIMISER, cause, "main")
