"""What networks are run on: sizes, values, several runs in a row, gradients of one output at a time."""

import numpy as np
import pytest
from mindspore import nn, ops

from convert.family import resolve
from convert.registry import families
from ms_models.layers import tanh
from parity_tests.harness.compare import rms
from parity_tests.harness.cutting import cut_probes
from parity_tests.harness.measurement import Values
from parity_tests.harness.mutants.inputs import INPUT_BUGS
from parity_tests.harness.mutants.judging import judge_bug
from parity_tests.harness.pair import pair_networks
from parity_tests.harness.run import compare, part_inputs, probe_inputs, turned
from parity_tests.harness.values import fed, values_for
from parity_tests.tests.cases import OWN_INPUTS, own_pair, small_part

PARTS = [(family.name, part.name) for family in families() for part in family.parts]
FULL = {"input_nc": 3, "output_nc": 3, "ngf": 4, "n_blocks": 1, "img_size": 32, "light": False}


def _run(part, kwargs, *sizes):
    import torch

    network = resolve("torch_ref", part.class_name)(**kwargs).eval()
    with torch.no_grad():
        for height, width in sizes:
            network(torch.from_numpy(part_inputs(part, kwargs, 0, (height, width), batch=2)))


@pytest.mark.parametrize(("family", "name"), PARTS)
def test_sides_grow_apart_by_as_much_as_a_part_says(family, name):
    part, kwargs = small_part(family, name)
    side, step = part.smallest(kwargs), part.growth(kwargs)
    if step is None:
        with pytest.raises((ValueError, RuntimeError)):
            _run(part, kwargs, (side, side + 16))
    else:
        _run(part, kwargs, (side, side + step), (side + step, side))
    probe = probe_inputs(part, kwargs, 0)
    assert (probe.shape[2] < probe.shape[3]) == (step is not None)
    assert not np.array_equal(probe[0], probe[1])


@pytest.mark.parametrize("family", ["ugatit", "photo2cartoon"])
def test_full_generators_run_squares_of_one_size(family):
    part = small_part(family, "genA2B")[0]
    kwargs = {name: FULL[name] for name in part.kwargs}
    assert part.growth(kwargs) is None
    with pytest.raises(ValueError, match="exactly 32x32"):
        _run(part, kwargs, (32, 48))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("bug", INPUT_BUGS, ids=lambda bug: bug.name)
def test_bugs_that_plain_inputs_hide_are_caught_and_blamed(bug):
    outcome = judge_bug(bug)
    assert outcome.caught_by, bug.what
    assert outcome.right, f"blamed {outcome.blamed}"


@pytest.mark.quick
def test_values_reach_what_the_run_does_not():
    inputs = [np.random.default_rng(0).standard_normal((2, 3, 8, 6)).astype(np.float32)]
    made = {values: fed(values, inputs)[0] for values in values_for(inputs)}
    assert all(array.dtype == np.float32 and array.shape == inputs[0].shape for array in made.values())
    assert made[Values.LOW_SPREAD].std() == pytest.approx(3e-3, rel=1e-3)
    assert made[Values.LARGE].max() > 20
    small = [inputs[0] * np.float32(1e-3)], [np.zeros((2, 3), np.float32)]
    assert [rms(fed(Values.LARGE, numbers)[0]) for numbers in small] == pytest.approx([10, 0], rel=1e-5)
    assert (made[Values.OFFSET].mean(), made[Values.OFFSET].std()) == pytest.approx((0.9, 0.01), rel=1e-3)
    assert (made[Values.TIES][:, 0] == 0.5).all()
    assert 0.0 in made[Values.TIES]
    assert len(np.unique(made[Values.TIES])) < 20
    assert values_for([np.ones((2, 3), np.float32)]) == (Values.LARGE, Values.TIES)
    assert values_for(inputs, linear=True) == (Values.LOW_SPREAD, Values.LARGE)
    assert values_for([np.ones(3, np.float32)]) == values_for([]) == ()


class _Tanh(nn.Cell):
    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def construct(self, x):
        return tanh(ops.clamp(x, -self.limit, self.limit))


@pytest.mark.quick
def test_saturation_is_reached_however_small_the_numbers_of_the_run():
    import torch

    pictures = np.float32(0.01) * np.random.default_rng(0).standard_normal((2, 3, 8, 6)).astype(np.float32)
    for limit, blamed in ((3.0, [("0", Values.LARGE)]), (50.0, [])):
        found = compare(torch.nn.Sequential(torch.nn.Tanh()), nn.SequentialCell(_Tanh(limit)), pictures)
        assert [(one.measurement.layer, one.measurement.probe.values) for one in found.blamed[:1]] == blamed


@pytest.mark.quick
def test_probes_of_an_own_pair_are_two_different_pictures_that_are_not_square():
    pair = pair_networks(*own_pair())
    (wide,), (tall,) = cut_probes(pair, [OWN_INPUTS[:1]])
    assert wide.shape == (2, 3, 7, 9)
    assert tall.shape == (2, 3, 9, 7)
    assert not np.array_equal(wide[0], wide[1])
    vectors = [np.ones((2, 3), np.float32)]
    assert cut_probes(pair, vectors) == (vectors, vectors)
    assert turned([wide, vectors[0]])[0].shape == (2, 3, 9, 7)


@pytest.mark.quick
def test_runs_in_a_row_leave_weights_and_mode_as_they_were():
    module, cell = own_pair()
    before, modes = [value.asnumpy().copy() for value in cell.get_parameters()], (module.training, cell.training)
    found = compare(module, cell, OWN_INPUTS, ["accumulated"])
    probes = {one.measurement.probe for one in found.verdicts}
    assert {(probe.call, probe.training, probe.changed) for probe in probes} == {
        (None, False, False), (1, False, False), (2, False, False), (3, True, True), (4, False, True),
    }  # fmt: skip
    assert found.equal
    assert (module.training, cell.training) == modes
    assert all(np.array_equal(one, value.asnumpy()) for one, value in zip(before, cell.get_parameters(), strict=True))


def test_a_result_kept_from_the_run_before_is_seen():
    module, cell = own_pair()
    kept = {}
    plain = cell.head.construct
    cell.head.construct = lambda x: kept.setdefault(x.shape, plain(x))
    found = compare(module, cell, OWN_INPUTS, ["accumulated"])
    assert found.blamed[0].measurement.layer == "head"
    assert {one.measurement.probe.call for one in found.verdicts if not one.equal} >= {3, 4}


def two_headed(detached):
    """A pair whose second output is small and, if asked for, cut off from what both outputs come from."""
    import mindspore
    import torch
    from mindspore import nn as mnn
    from mindspore import ops
    from torch import nn

    torch.manual_seed(0)

    class Reference(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, padding=1)

        def forward(self, x):
            y = self.conv(x)
            return 1e6 * y, y.mean((2, 3))

    class Port(mnn.Cell):
        def __init__(self):
            super().__init__()
            self.conv = mnn.Conv2d(3, 8, 3, pad_mode="pad", padding=1, has_bias=True)

        def construct(self, x):
            y = self.conv(x)
            return 1e6 * y, (ops.stop_gradient(y) if detached else y).mean((2, 3))

    module, cell = Reference(), Port()
    state = module.state_dict()
    cell.conv.weight.set_data(mindspore.Tensor(state["conv.weight"].numpy()))
    cell.conv.bias.set_data(mindspore.Tensor(state["conv.bias"].numpy()))
    return module, cell


@pytest.mark.quick
def test_a_detached_output_is_seen_beside_a_far_larger_one():
    assert compare(*two_headed(False), OWN_INPUTS, ["gradients"]).equal
    first = compare(*two_headed(True), OWN_INPUTS, ["gradients"]).blamed[0].measurement
    assert (first.layer, first.quantity.of) == ("", 1)
