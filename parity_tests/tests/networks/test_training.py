"""Training steps: the reference against recorded numbers, the port against the reference."""

import json
from dataclasses import replace

import mindspore
import numpy as np
import pytest
import torch

from convert.plan import build_plan
from convert.recipes.descent import Execution
from convert.recipes.ugatit import UgatitSettings
from convert.registry import family_named
from parity_tests.harness.inputs import formula_state, image
from parity_tests.harness.judge import Outcome, judge, judge_all, outcome
from parity_tests.harness.measurement import Kind, Measurement, Mode, Probe, Quantity
from parity_tests.harness.sides.inexact import biases_summed_in_turn
from parity_tests.harness.training import Run, State, StepsReference, measure_steps, measure_training
from parity_tests.harness.training_noise import TrainingNoise
from parity_tests.harness.training_setup import small_setup
from parity_tests.tolerances import FLOAT64_TRAINING_RELATIVE, LOSS_SCALE_FLOOR
from torch_ref.build import build_torch

RECORDED = {"photo2cartoon": "train_p2c_ngf8_96_b1", "ugatit": "train_ugatit_ngf8_96_b1"}


def _recorded_network(part, name, case):
    """A network of the recorded run in float64; it has the run's width and size where it takes them."""
    width, size = case["effective_cfg"]["ch"], case["img_size"]
    changes = {"ngf": width, "ndf": width, "img_size": size}
    kwargs = {**part.kwargs, **{key: changes[key] for key in changes if key in part.kwargs}}
    state = formula_state(f"{case['tag']}/{name}", build_plan(part, kwargs).shapes)
    return build_torch(part, kwargs, state).double()


def _check_step(record, losses, networks):
    """Losses and the norms of all networks are the recorded ones, as near as float64 is after so many steps."""
    relative = FLOAT64_TRAINING_RELATIVE[record["step"] - 1]
    assert set(losses) == set(record["loss"])
    for name, value in record["loss"].items():
        assert abs(losses[name] - value) <= relative * max(abs(value), LOSS_SCALE_FLOOR), (record["step"], name)
    for part, numbers in record["nets"].items():
        total = np.sqrt(sum(float((value.double() ** 2).sum()) for value in networks[part].state_dict().values()))
        assert abs(total - numbers["l2"]) <= relative * numbers["l2"], (record["step"], part)


@pytest.mark.shared
@pytest.mark.parametrize("family_name", RECORDED)
def test_reference_steps_equal_the_original_in_float64(family_name, shared):
    import torch

    from torch_ref.steps.ugatit import UgatitStep

    case = json.loads((shared / "golden" / "ugatit" / f"{RECORDED[family_name]}.json").read_text())
    tag, config = case["tag"], case["effective_cfg"]
    networks = {part.name: _recorded_network(part, part.name, case) for part in family_named(family_name).parts}
    face = None
    if family_name == "photo2cartoon":
        face = _recorded_network(family_named("mobilefacenet").parts[0], "mbf", case)
    step = UgatitStep(networks, UgatitSettings(cycle=config["cycle_weight"], total_steps=config["iteration"]), face)
    for record in case["f64"]["steps"]:
        batch = [image(f"{tag}/real_{side}/{record['step']}", 1, 96, 96) for side in "AB"]
        losses = step(*(torch.from_numpy(one).double() for one in batch))
        assert step.optimizers["G"].param_groups[0]["lr"] == pytest.approx(record["lr_G"])
        _check_step(record, losses, networks)


def test_port_steps_equal_the_reference_over_three_steps():
    verdicts = judge_all(measure_training(small_setup(family_named("ugatit"), steps=3)))
    assert len(verdicts) > 1000
    assert [(one.measurement.layer, one.measurement.quantity) for one in verdicts if not one.equal] == []
    assert sum(one.blind for one in verdicts) <= len(verdicts) // 100


def test_a_port_that_trains_to_nan_is_judged_where_the_run_looks_for_nan():
    from ms_models.steps.dtn import DtnStep

    class Broken(DtnStep):
        """Makes the square root of a negative number in one loss term."""

        def generator_objective(self, *images):
            terms, made = super().generator_objective(*images)
            return {**terms, "G.rec": (-terms["G.rec"]).sqrt()}, made

    setup = small_setup(family_named("dtn"), steps=1)
    verdicts = judge_all(measure_training(setup, Broken, execution=Execution(watch=True)))
    different = [one.measurement.quantity for one in verdicts if not one.equal]
    assert Quantity(Kind.LOSS, "G.rec", phase="G") in different
    assert Quantity(Kind.LOSS, "G.fake", phase="G") not in different


@pytest.mark.parametrize(
    ("family", "seed", "steps"),
    [
        ("photo2cartoon", 14, 1),
        ("facialcartoonization", 14, 3),
        *((name, seed, 1) for name in ("cyclegan", "dtn") for seed in (3, 7, 12)),
    ],
)
def test_no_alarm_where_a_kink_or_a_vanishing_gradient_lies_within_rounding(family, seed, steps):
    verdicts = judge_all(measure_training(small_setup(family_named(family), steps, seed)))
    assert [(one.measurement.layer, one.measurement.quantity) for one in verdicts if not one.equal] == []


def _head(kind):
    return Measurement(Mode.TRAINING, Probe(step=1), "conv", "", Quantity(kind, "bias", phase="G"), 0)


def test_elements_whose_direction_rounding_decides_are_left_out_of_that_step_only():
    change, mean = (("conv", Quantity(kind, "bias", phase="G")) for kind in (Kind.CHANGE, Kind.MEAN))
    head = _head(Kind.CHANGE)
    step = np.array([1.0, 1.0, -1.0, 0.0])
    first = {change: step, mean: np.array([1.0, 1e-8, -1.0, 0.0])}
    runs = [{change: step, mean: first[mean] + error} for error in (np.zeros(4), np.array([1e-7, 1e-8, 0.1, 0.0]))]
    noise = TrainingNoise(((0, 1), (1, 4)))
    noise.next_step(first, runs)
    found = noise.measure(head, np.array([1.0, -1.0, -1.0, 0.0]))
    assert (found.error, found.undecided) == (0.0, 0.25)
    later = {change: step, mean: np.ones(4)}  # starts from the reference's weights, so no chance is left in it
    noise.next_step(later, [later, later])
    found = noise.measure(head, np.array([1.0, -1.0, -1.0, 0.0]))
    assert (found.error, found.undecided) == (1.0, 0.0)


def test_noise_is_counted_per_unit_unless_it_is_all_there_is():
    head = _head(Kind.MEAN)
    key = ("conv", head.quantity)
    wanted = {key: np.ones(4), ("conv", replace(head.quantity, name="weight")): np.full(4, 8.0)}
    for error, noise, scale, undecided in ((0.1, 0.025, 1.0, 0.0), (2.0, 2.0, 8.0, 1.0)):
        runs = [wanted, {key: np.ones(4) + error}]
        training_noise = TrainingNoise(((0, 1), (1, -4)))
        training_noise.next_step(wanted, runs)
        found = training_noise.measure(head, np.ones(4))
        assert (found.noise, found.scale, found.undecided) == (pytest.approx(noise), scale, undecided)


@pytest.mark.parametrize("shape", [(2, 3, 32, 40), (1, 1, 16, 24), (4, 8, 64, 64), (3, 1, 7, 1)])
def test_bias_gradients_of_noise_runs_are_added_up_as_in_mindspore(shape):
    flowing = np.random.default_rng(0).standard_normal(shape).astype(np.float32)

    def weighed(bias):
        return (mindspore.ops.bias_add(mindspore.Tensor(np.zeros(shape, np.float32)), bias) * given).sum()

    given, bias = mindspore.Tensor(flowing), mindspore.Tensor(np.zeros(shape[1], np.float32))
    wanted = mindspore.grad(weighed)(bias).asnumpy()
    convolution = torch.nn.Conv2d(2, shape[1], 1)
    with biases_summed_in_turn(0):
        convolution(torch.ones(shape[0], 2, *shape[2:])).backward(torch.from_numpy(flowing))
    np.testing.assert_array_equal(convolution.bias.grad.numpy(), wanted)


def test_a_tensor_that_rounding_decides_is_called_blind():
    found = replace(_head(Kind.CHANGE), count=4, scale=1.0)
    assert not judge(found).blind
    assert judge(replace(found, undecided=0.75)).blind
    assert not judge(replace(found, error=1.0, undecided=0.75)).equal


def test_a_weight_that_only_rounding_moves_does_not_keep_a_run_from_being_equal():
    change, mean = (("conv", Quantity(kind, "bias", phase="G")) for kind in (Kind.CHANGE, Kind.MEAN))
    other = ("conv", replace(mean[1], name="weight"))
    for size, idle, ends in ((1e-12, True, Outcome.EQUAL), (1e-7, False, Outcome.CANNOT_TELL)):
        wanted = {change: np.ones(4), mean: np.full(4, size), other: np.ones(4)}
        noise = TrainingNoise(((0, 1),))
        noise.next_step(wanted, [{**wanted, mean: np.full(4, 2e-7)}])
        found = noise.measure(_head(Kind.CHANGE), -np.ones(4))
        assert (found.undecided, found.idle) == (1.0, idle)
        assert outcome([judge(found)]) is ends


class _Kinked(Run):
    """One step of a network of one weight; its gradient is larger by a share where the weight is not above a kink."""

    number = 1

    def __init__(self, kink, jump):
        self._kink, self._jump = kink, jump

    def state(self):
        return State({"net": {"w": np.full(3, 0.5, np.float32)}}, {})

    def step(self, index, state):
        jump = self._jump * (state.weights["net"]["w"][0] <= self._kink)
        return {("net", Quantity(Kind.GRADIENT, "w", phase="G")): np.full(3, 2.0 * (1 + jump))}


@pytest.mark.parametrize(
    ("kink", "jump", "equal"),
    [(0.5, 0.02, True), (0.5 + 1.5e-7, 0.02, True), (0.6, 0.02, False), (0.5, 0.5, False)],
    ids=["rounding crosses it", "more rounding crosses it", "a bug", "too large a jump"],
)
def test_a_port_on_the_other_side_of_a_kink_is_equal_and_a_bug_is_not(kink, jump, equal):
    def far():
        return _Kinked(0.0, 0.0)

    made = []

    def port():
        made.append(_Kinked(kink, jump))
        return made[-1]

    (found,) = measure_steps(StepsReference(far(), far), port(), port, 1, ["G"])
    assert judge(found).equal == equal
    assert len(made) > 1 or jump == 0.5


def test_the_learning_rate_ends_at_zero_and_never_below():
    settings = UgatitSettings(total_steps=10, lr=1.0)
    rates = [settings.rate("G", step) for step in range(1, 13)]
    assert rates[:5] == [1.0] * 5
    assert rates[5:10] == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0])
    assert rates[10:] == [0.0, 0.0]
    assert UgatitSettings(total_steps=10, lr=1.0, decay=False).rate("D", 9) == 1.0


@pytest.mark.parametrize("compiled", [False, True])
def test_adam_equals_torch_also_for_tiny_gradients_and_gamma_names(compiled):
    import mindspore
    import torch

    from ms_models.optim import Adam

    rng = np.random.default_rng(0)
    start = rng.standard_normal(50).astype(np.float32)
    theirs = torch.nn.Parameter(torch.from_numpy(start.copy()))
    ours = mindspore.Parameter(mindspore.Tensor(start), name="gamma")
    reference = torch.optim.Adam([theirs], 1e-3, (0.5, 0.999), weight_decay=1e-4)
    optimizer = Adam([ours], 1e-3)
    optimizer.compiled = compiled
    for scale in (1.0, 1e-6, 1e-8, 1e-8, 1.0):
        gradient = (rng.standard_normal(50) * scale).astype(np.float32)
        theirs.grad = torch.from_numpy(gradient)
        reference.step()
        optimizer([mindspore.Tensor(gradient)])
    state = reference.state[theirs]
    assert np.abs(ours.asnumpy() - theirs.detach().numpy()).max() < 1e-6
    assert np.abs(optimizer.exp_avg_sq[0].asnumpy() / state["exp_avg_sq"].numpy() - 1).max() < 1e-6
