"""Networks at many sizes, both execution modes, spectral norm, gradients and refusals."""

import copy

import numpy as np
import pytest

from convert.plan import build_plan
from ms_models.build import build_mindspore
from parity_tests.harness.compare import measure, ulp_neighbour
from parity_tests.harness.inputs import image
from parity_tests.harness.judge import judge
from parity_tests.harness.measurement import Kind, Measurement, Mode, Probe, Quantity
from parity_tests.harness.sides.base import LayerError
from parity_tests.harness.sides.mindspore import MindSporeSide
from parity_tests.harness.sides.torch import TorchSide
from parity_tests.tests.cases import seeded_state, small_part
from torch_ref.build import build_torch

SIZES = [
    ("photo2cartoon", "genA2B", {}, (1, 32, 32)),
    ("photo2cartoon", "genA2B", {}, (2, 48, 80)),
    ("photo2cartoon", "genA2B", {"light": False, "img_size": 32}, (2, 32, 32)),
    ("photo2cartoon", "genA2B", {"light": False, "img_size": 48}, (1, 48, 48)),
    ("photo2cartoon", "disLA", {}, (2, 24, 56)),
    ("photo2cartoon", "disGA", {}, (1, 96, 128)),
    ("photo2cartoon", "disLA", {"n_layers": 4}, (3, 33, 47)),
    ("ugatit", "genA2B", {}, (2, 20, 36)),
    ("ugatit", "genA2B", {"light": False, "img_size": 24}, (2, 24, 24)),
    ("mobilefacenet", "mobilefacenet", {}, (3, 112, 112)),
    ("cyclegan", "G_A", {}, (2, 20, 36)),
    ("cyclegan", "G_A", {}, (1, 17, 22)),
    ("cyclegan", "D_A", {}, (2, 24, 57)),
]


def _sides(family, part_name, changes):
    part, kwargs = small_part(family, part_name)
    kwargs = {**kwargs, **changes}
    plan = build_plan(part, kwargs)
    from parity_tests.harness.inputs import formula_state

    state = formula_state(f"sizes/{part_name}", plan.shapes)
    module = build_torch(part, kwargs, state)
    cell = build_mindspore(part, kwargs, plan.to_mindspore(state))
    names = {row.mindspore: row.torch for row in plan.rows}
    return TorchSide(copy.deepcopy(module), "float64"), TorchSide(module), MindSporeSide(cell, names)


def _judged(truth, references, port):
    head = Measurement(Mode.ACCUMULATED, Probe(), "", "", Quantity(Kind.OUTPUT), 0)
    return judge(measure(head, truth, references, port))


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("family", "part", "changes", "shape"), SIZES)
@pytest.mark.parametrize("training", [False, True])
def test_both_sides_agree_at_many_sizes(family, part, changes, shape, training):
    truth, reference, port = _sides(family, part, changes)
    inputs = image("sizes", *shape)
    results = []
    for side, seeds in ((truth, [0]), (reference, [0, 1]), (port, [0])):
        side.set_training(training)
        for seed in seeds:
            with side.preserved():
                results.append(side.call("", [ulp_neighbour(inputs, seed)]))
    for wanted, first, second, found in zip(*results, strict=True):
        assert _judged(wanted, [first, second], found).equal


@pytest.mark.quick
@pytest.mark.parametrize(
    ("family", "part", "changes", "shape", "allowed"),
    [
        ("photo2cartoon", "genA2B", {}, (1, 16, 16), "at least 32 and multiples of 16"),
        ("photo2cartoon", "genA2B", {}, (1, 40, 64), "at least 32 and multiples of 16"),
        ("photo2cartoon", "genA2B", {"light": False, "img_size": 32}, (1, 64, 64), "exactly 32x32"),
        ("photo2cartoon", "disGA", {}, (1, 64, 64), "at least 96"),
        ("photo2cartoon", "disLA", {}, (1, 24, 23), "at least 24"),
        ("ugatit", "genA2B", {}, (1, 18, 20), "at least 8 and multiples of 4"),
        ("mobilefacenet", "mobilefacenet", {}, (1, 128, 128), "exactly 112x112"),
        ("cyclegan", "G_A", {}, (1, 4, 32), "at least 8"),
        ("cyclegan", "D_A", {}, (1, 23, 32), "at least 24"),
    ],
)
def test_sizes_that_cannot_run_are_refused_alike_with_the_allowed_ones(family, part, changes, shape, allowed):
    _, reference, port = _sides(family, part, changes)
    inputs = image("sizes", *shape)
    messages = []
    for side in (reference, port):
        with pytest.raises(LayerError, match=allowed) as error:
            side.call("", [inputs])
        messages.append(str(error.value).splitlines()[0])
    assert messages[0] == messages[1]


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("family", "part", "shape"),
    [
        ("photo2cartoon", "genA2B", (1, 32, 32)),
        ("photo2cartoon", "disLA", (2, 24, 24)),
        ("ugatit", "genA2B", (1, 16, 16)),
        ("mobilefacenet", "mobilefacenet", (1, 112, 112)),
        ("cyclegan", "G_A", (2, 16, 20)),
        ("cyclegan", "D_A", (2, 24, 24)),
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_graph_mode_equals_pynative(family, part, shape, training):
    import mindspore

    truth, reference, port = _sides(family, part, {})
    if family == "mobilefacenet" and training:
        shape = (2, *shape[1:])
    for side in (truth, reference, port):
        side.set_training(training)
    inputs = image("graph", *shape)
    cell = port.network

    def run(pixels):
        return cell(pixels)

    compiled = mindspore.jit(run)
    with port.preserved():
        eager, eager_state = port.call("", [inputs]), port.state()
    with port.preserved():
        graph = compiled(mindspore.Tensor(inputs))
        graph_state = port.state()
    with truth.preserved():
        wanted = truth.call("", [inputs])
    with reference.preserved():
        noise = reference.call("", [inputs])
    graph = graph if isinstance(graph, tuple) else (graph,)
    for one, first, found in zip(wanted, noise, graph, strict=True):
        assert _judged(one, [first, np.asarray(first)], found.asnumpy()).equal
    assert len(eager) == len(graph)
    for name, value in eager_state.items():
        assert np.allclose(value, graph_state[name], rtol=0, atol=1e-6), name


@pytest.mark.quick
def test_spectral_norm_moves_in_train_mode_and_rests_in_eval():
    _, reference, port = _sides("photo2cartoon", "disLA", {})
    inputs = image("spectral", 1, 32, 32)
    for side in (reference, port):
        side.set_training(False)
        start = side.state()
        side.call("", [inputs])
        assert all(np.array_equal(value, start[name]) for name, value in side.state().items())
        side.set_training(True)
        side.call("", [inputs])
        moved = {name for name, value in side.state().items() if not np.array_equal(value, start[name])}
        assert {name for name in start if name.endswith("weight_v")} <= moved
    for name, value in reference.state().items():
        assert np.abs(value - port.state()[name]).max() < 1e-6, name


def test_dead_weights_get_no_gradient_signal():
    _, reference, port = _sides("photo2cartoon", "genA2B", {})
    inputs = [image("dead", 1, 32, 32)]
    cotangents = [np.ones_like(one) for one in reference.call("", inputs)]
    found = port.gradients("", inputs, cotangents).parameters
    dead = [name for name in found if ".ConvBlock4." in name]
    assert len(dead) == 56
    assert all(not found[name].any() for name in dead)
    assert sum(not value.any() for value in found.values()) == 56


def test_initial_weights_follow_the_reference():
    part, kwargs = small_part("photo2cartoon", "genA2B")
    from convert.family import resolve

    module = resolve("torch_ref", part.class_name)(**kwargs)
    cell = resolve("ms_models", part.class_name)(**kwargs)
    found = {name: value.asnumpy() for name, value in cell.parameters_and_names()}
    for name, value in module.state_dict().items():
        leaf = name.rsplit(".", 1)[-1]
        if leaf in {"rho", "w_gamma", "w_beta", "gamma", "beta"}:
            assert np.array_equal(found[name], value.numpy()), name
        elif value.numel() > 500:
            assert 0.8 < found[name].std() / float(value.std()) < 1.25, name
            assert np.abs(found[name]).max() <= 1.02 * float(value.abs().max()) + 0.02, name


def test_seeded_state_is_the_same_on_every_run():
    first, second = seeded_state("photo2cartoon", "disLA"), seeded_state("photo2cartoon", "disLA")
    assert all(np.array_equal(value, second[name]) for name, value in first.items())
