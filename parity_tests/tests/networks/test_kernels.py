"""The fast formulas: their kinks are PyTorch's, and so are their values and gradients, as graphs and otherwise."""

import numpy as np
import pytest
import torch

from parity_tests.tolerances import GOLDEN_FLOAT32, ULP

SMALL, LARGE = (2, 6, 20, 28), (1, 3, 512, 400)
KINK = np.array([-2, -0.0, 0, 3, np.nan, np.inf, -np.inf], np.float32)


def _mindspore(function, inputs, cotangent, compiled):
    """Return the output and the gradients by every input; a graph's second run is the one that counts."""
    from mindspore import Tensor, jit, ops

    tensors, seed = [Tensor(array) for array in inputs], Tensor(cotangent)

    def forward(*tensors):
        return function(*tensors)

    def backward(*tensors):
        return ops.GradOperation(get_all=True, sens_param=True)(forward)(*tensors)

    run, gradients = (jit(forward), jit(backward)) if compiled else (forward, backward)
    if compiled:
        gradients(*tensors, seed)
    return run(*tensors).asnumpy(), [each.asnumpy() for each in gradients(*tensors, seed)]


def _torch(function, inputs, cotangent, dtype=torch.float64):
    tensors = [torch.from_numpy(array).to(dtype).requires_grad_() for array in inputs]
    output = function(*tensors)
    gradients = torch.autograd.grad(output, tensors, torch.from_numpy(cotangent).to(dtype))
    return output.detach().numpy(), [each.numpy() for each in gradients]


@pytest.mark.parametrize("compiled", [False, True])
def test_leaky_relu_has_pytorchs_gradient_at_zero_infinity_and_nan(compiled):
    from ms_models.kernels import LeakyReLU

    cotangent = np.array([1, 2, 3, 4, 5, 6, 7], np.float32)
    found = _mindspore(LeakyReLU(0.2), [KINK], cotangent, compiled)
    wanted = _torch(torch.nn.LeakyReLU(0.2), [KINK], cotangent, torch.float32)
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[1][0], wanted[1][0])


def _mixed(x, rho, gamma, beta):
    by_instance = (x - x.mean((2, 3), True)) / torch.sqrt(x.var((2, 3), keepdim=True) + 1e-5)
    by_layer = (x - x.mean((1, 2, 3), True)) / torch.sqrt(x.var((1, 2, 3), keepdim=True) + 1e-5)
    return (rho * by_instance + (1 - rho) * by_layer) * gamma[:, :, None, None] + beta[:, :, None, None]


@pytest.mark.parametrize("shape", [SMALL, LARGE])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    "name", ["instance_norm", "scaled_instance_norm", "mix_instance_and_layer", "upsample_nearest"]
)
def test_values_and_gradients_equal_float64(name, compiled, shape):
    from ms_models import kernels

    batch, channels = shape[:2]
    rng = np.random.default_rng(0)
    x = 2 * rng.standard_normal(shape) + 1
    vectors = [rng.uniform(0.1, 1, (1, channels, 1, 1)), *(rng.standard_normal((batch, channels)) for _ in range(2))]

    def mixed(x, rho, gamma, beta):
        return kernels.mix_instance_and_layer(x, rho, gamma, beta, 1e-5)

    def normalized(x, *scale_and_shift):
        return kernels.instance_norm(x, 1e-5, *scale_and_shift)

    def doubled(x):
        return kernels.upsample_nearest(x, 2)

    def normal(x, *scale_and_shift):
        return torch.nn.functional.instance_norm(x, None, None, *scale_and_shift)

    port, reference, inputs = {
        "instance_norm": (normalized, normal, [x]),
        "scaled_instance_norm": (normalized, normal, [x, *rng.standard_normal((2, channels))]),
        "mix_instance_and_layer": (mixed, _mixed, [x, *vectors]),
        "upsample_nearest": (doubled, torch.nn.Upsample(scale_factor=2), [x]),
    }[name]
    inputs = [array.astype(np.float32) for array in inputs]
    cotangent = rng.standard_normal(reference(torch.from_numpy(inputs[0]), *map(torch.from_numpy, inputs[1:])).shape)
    cotangent = cotangent.astype(np.float32)
    output, gradients = _mindspore(port, inputs, cotangent, compiled)
    wanted, exact = _torch(reference, inputs, cotangent)
    noisy, noises = _torch(reference, inputs, cotangent, torch.float32)
    for found, right, noise in zip([output, *gradients], [wanted, *exact], [noisy, *noises], strict=True):
        scale = np.abs(right).max()
        budget = GOLDEN_FLOAT32.factor * np.abs(noise - right).max() + GOLDEN_FLOAT32.floor * ULP * scale
        assert np.abs(found - right).max() <= budget


def test_a_compiled_norm_that_met_nan_is_right_afterwards():
    from mindspore import Tensor, jit

    from ms_models.kernels import instance_norm

    @jit
    def run(x):
        return instance_norm(x, 1e-5)

    x = np.random.default_rng(0).standard_normal(LARGE).astype(np.float32)
    before = run(Tensor(x)).asnumpy()
    assert np.isnan(run(Tensor(np.full_like(x, np.nan))).asnumpy()).all()
    np.testing.assert_array_equal(run(Tensor(x)).asnumpy(), before)


def test_infinity_and_nan_stay_in_their_pixels_when_a_picture_grows():
    from mindspore import Tensor

    from ms_models.kernels import upsample_nearest

    x = np.zeros((1, 2, 3, 4), np.float32)
    x[0, 0, 1, 1], x[0, 0, 2, 2], x[0, 1, 0, 0] = np.nan, np.inf, -np.inf
    found = upsample_nearest(Tensor(x), 2).asnumpy()
    np.testing.assert_array_equal(found, x.repeat(2, 2).repeat(2, 3))


def test_a_cell_with_a_gradient_of_its_own_is_seen_in_a_run():
    from mindspore import nn

    from ms_models.kernels import LeakyReLU
    from parity_tests.harness.sides.mindspore import MindSporeSide

    side, seen = MindSporeSide(nn.SequentialCell(LeakyReLU(0.2), nn.ReLU())), list[str]()
    side.trace([np.ones((1, 2), np.float32)], lambda call: seen.append(call.layer))
    assert seen == ["0", "1", ""]
