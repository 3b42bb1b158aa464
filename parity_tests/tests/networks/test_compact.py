"""Layers without branches compute what MindSpore's own do, and hold the same parameters."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from ms_models import compact
from parity_tests.harness.inputs import image

PAIRS = {
    "convolution": (lambda: compact.conv2d(3, 4, 3, 2, 1, bias=False), lambda: nn.Conv2d(3, 4, 3, 2, "pad", 1)),
    "convolution with bias": (
        lambda: compact.conv2d(3, 4, 3, 2, 1),
        lambda: nn.Conv2d(3, 4, 3, 2, "pad", 1, has_bias=True),
    ),
    "reflection": (lambda: compact.ReflectionPad2d(2), lambda: nn.ReflectionPad2d(2)),
    "linear": (lambda: compact.dense(6, 4, bias=False), lambda: nn.Dense(6, 4, has_bias=False)),
    "linear with bias": (lambda: compact.dense(6, 4), lambda: nn.Dense(6, 4)),
}


def _inputs(name):
    return ms.Tensor(image("compact", 2, 6, 8) if "linear" not in name else image("compact", 2, 6, 1)[:, 0, :, 0])


def _both(name):
    own, usual = (make() for make in PAIRS[name])
    for mine, theirs in zip(own.get_parameters(), usual.get_parameters(), strict=True):
        mine.set_data(theirs)
    return own, usual


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", PAIRS)
def test_layer_is_mindspores_own(name, compiled):
    own, usual = _both(name)
    assert [each.name for each in own.get_parameters()] == [each.name for each in usual.get_parameters()]
    made = [(ms.jit(layer) if compiled else layer)(_inputs(name)).asnumpy() for layer in (own, usual)]
    assert np.array_equal(*made)


@pytest.mark.parametrize("length", range(1, 9))
def test_sequence_runs_all_its_layers_in_order(length):
    convolutions = [compact.conv2d(3, 3, 1) for _ in range(length)]
    own, x = compact.sequence(*convolutions), _inputs("")
    wanted = x
    for layer in convolutions:
        wanted = layer(wanted)
    assert np.array_equal(own(x).asnumpy(), wanted.asnumpy())
    assert isinstance(own, nn.SequentialCell)
    assert [name for name, _ in own.name_cells().items()] == [str(place) for place in range(length)]


def test_a_layer_put_into_a_sequence_is_the_one_that_runs():
    own, x = compact.sequence(nn.ReLU(), nn.ReLU(), nn.ReLU()), _inputs("")
    own[1] = nn.Tanh()
    assert np.array_equal(own(x).asnumpy(), nn.Tanh()(nn.ReLU()(x)).asnumpy())
