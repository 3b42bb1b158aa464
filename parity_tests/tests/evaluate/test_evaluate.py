"""The arithmetic behind `toonport evaluate` against float64 numpy: distances and the Inception network."""

import numpy as np
import pytest
import torch

from convert.errors import InputError
from parity_tests.harness.inputs import feature, image
from parity_tests.tests.cases import save_torch, seeded_state
from parity_tests.tolerances import FLOAT64_RELATIVE, FRECHET_RELATIVE
from toonport.evaluate.distances import frechet, kernel, kernel_definition
from toonport.evaluate.inception import Inception, average_pool, block_a, block_e, load_inception, maximum_pool


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    """Seeded weights in the published file's layout, which has no batch counters."""
    torch.manual_seed(0)
    state = {name: value for name, value in Inception().state_dict().items() if "num_batches" not in name}
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    torch.save(state, path)
    return path


# --- distances ---------------------------------------------------------------------------------------------------


def _root(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(np.sqrt(np.maximum(values, 0))) @ vectors.T


def _frechet_float64(first, second):
    one, two = np.cov(first.T), np.cov(second.T)
    half = _root(one)
    cross = np.trace(_root(half @ two @ half))
    return ((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(one) + np.trace(two) - 2 * cross


@pytest.mark.quick
@pytest.mark.parametrize(("real", "fake", "numbers"), [(60, 50, 12), (25, 15, 128), (15, 25, 30)])
def test_the_frechet_distance_is_that_of_float64_also_below_full_rank(real, fake, numbers):
    first = feature("first", (real, numbers)).astype(np.float64)
    second = feature("second", (fake, numbers), 0.6, 0.2).astype(np.float64)
    assert frechet(first, second) == pytest.approx(_frechet_float64(first, second), rel=FRECHET_RELATIVE)
    assert frechet(first, first[::-1]) == pytest.approx(0, abs=FRECHET_RELATIVE)


def _discrepancy_float64(first, second):
    """Squared maximum mean discrepancy by its definition: every pair of different vectors, one by one."""

    def similar(x, y):
        return (sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3

    def within(vectors):
        values = [similar(x, y) for i, x in enumerate(vectors) for j, y in enumerate(vectors) if i != j]
        return sum(values) / len(values)

    return within(first) + within(second) - 2 * np.mean([similar(x, y) for x in first for y in second])


def test_the_kernel_distance_of_whole_sets_is_that_of_float64():
    first, second = feature("first", (9, 6), 2.0), feature("second", (9, 6), 1.5, 0.3)
    truth = _discrepancy_float64(first.astype(np.float64), second.astype(np.float64))
    standard, blocks = kernel(first, second, "standard", 0), kernel(first, second, "ugatit", 0)
    assert standard.value == pytest.approx(truth, rel=FLOAT64_RELATIVE)
    assert (standard.parts, standard.size) == (100, 9)
    assert standard.spread == pytest.approx(0, abs=FLOAT64_RELATIVE)
    assert blocks.value == pytest.approx(truth, rel=FLOAT64_RELATIVE)
    assert (blocks.parts, blocks.spread) == (1, None)


def test_blocks_are_of_ten_and_sets_may_differ_in_size():
    first, second = feature("first", (25, 6), 2.0), feature("second", (14, 6), 1.5, 0.3)
    found = kernel(first, second, "ugatit", 3)
    random = np.random.default_rng(3)
    one, two = (random.permutation(each.astype(np.float64)) for each in (first, second))
    cuts = ((slice(0, 9), slice(0, 5)), (slice(9, 17), slice(5, 10)), (slice(17, 25), slice(10, 14)))
    values = [_discrepancy_float64(one[a], two[b]) for a, b in cuts]
    assert found.value == pytest.approx(np.mean(values), rel=FLOAT64_RELATIVE)
    assert found.spread == pytest.approx(np.std(values, ddof=1) / np.sqrt(3), rel=FLOAT64_RELATIVE)
    assert kernel(first, second, "ugatit", 4).value != found.value
    assert "3 blocks of at most 10" in kernel_definition(found, "ugatit")


def test_the_subsets_follow_from_the_seed_and_leave_the_global_generator_alone():
    first, second = feature("first", (40, 6), 2.0), feature("second", (12, 6), 1.5, 0.3)
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    found = kernel(first, second, "standard", 7)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert kernel(first, second, "standard", 7) == found
    assert kernel(first, second, "standard", 8).value != found.value
    assert found.spread > 0


@pytest.mark.parametrize("protocol", ["standard", "ugatit"])
def test_the_kernel_distance_is_unbiased(protocol):
    """Sets of one distribution are 0 apart on average, which a sum over all pairs, own ones too, would not be."""
    values, biased = [], []
    for index in range(300):
        random = np.random.default_rng(index)
        first, second = random.standard_normal((2, 8, 5))
        values.append(kernel(first, second, protocol, 0).value if index < 60 or protocol == "ugatit" else np.nan)
        gram = [(one @ two.T / 5 + 1) ** 3 for one, two in ((first, first), (second, second), (first, second))]
        biased.append(gram[0].mean() + gram[1].mean() - 2 * gram[2].mean())
    values = np.array(values)[~np.isnan(values)]
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean()) < 4 * error
    assert np.mean(biased) > 20 * error


# --- Inception ---------------------------------------------------------------------------------------------------


def test_inception_has_the_published_layout():
    network = Inception()
    state = network.state_dict()
    # Keras counts 23,851,784 for its Inception v3: kernels, three numbers for each of 17,216 channels, 1000 classes.
    channels = 17_216
    kernels = 23_851_784 - 3 * channels - (2048 * 1000 + 1000)
    parameters = sum(value.numel() for value in network.parameters())
    assert parameters == kernels + 2 * channels + (2048 * 1008 + 1008) == 23_850_960
    assert sum(value.numel() for name, value in state.items() if name.endswith("running_var")) == channels
    convolutions = [name for name in state if name.endswith("conv.weight")]
    assert len(convolutions) == 94
    assert len(state) == 94 * 6 + 2
    for name, shape in {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_6a.branch3x3dbl_3.conv.weight": (96, 96, 3, 3),
        "Mixed_6b.branch7x7_2.conv.weight": (128, 128, 1, 7),
        "Mixed_6e.branch7x7dbl_4.conv.weight": (192, 192, 7, 1),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "Mixed_7c.branch_pool.conv.weight": (192, 2048, 1, 1),
        "Mixed_7c.branch_pool.bn.running_mean": (192,),
        "fc.weight": (1008, 2048),
    }.items():
        assert tuple(state[name].shape) == shape
    assert all(layer.eps == 1e-3 for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d))


SIZES_OF_THE_PAPER = {
    "Conv2d_1a_3x3": (32, 149, 149),
    "Conv2d_4a_3x3": (192, 71, 71),
    "Mixed_5b": (256, 35, 35),
    "Mixed_5c": (288, 35, 35),
    "Mixed_5d": (288, 35, 35),
    **{f"Mixed_6{name}": (768, 17, 17) for name in "abcde"},
    "Mixed_7a": (1280, 8, 8),
    "Mixed_7b": (2048, 8, 8),
    "Mixed_7c": (2048, 8, 8),
}


def test_inception_runs_at_the_sizes_of_the_paper(inception_file):
    network, shapes = load_inception(inception_file), {}
    assert not network.training
    for name, layer in network.named_children():
        layer.register_forward_hook(lambda _layer, _in, out, name=name: shapes.update({name: tuple(out.shape[1:])}))
    pictures = torch.from_numpy(image("inception", 1, 40, 60)) / 2 + 0.5
    with torch.no_grad():
        found = network(pictures)
    assert tuple(found.shape) == (1, 2048)
    assert {name: shapes[name] for name in SIZES_OF_THE_PAPER} == SIZES_OF_THE_PAPER
    assert "fc" not in shapes


def _convolved(x, unit):
    """A convolution unit in numpy: shifted pictures times the kernel's columns, norm, ReLU; stride 1."""
    weight, norm = unit.conv.weight.detach().numpy(), unit.bn
    (top, left), (rows, columns) = unit.conv.padding, weight.shape[2:]
    padded = np.pad(x, ((0, 0), (top, top), (left, left)))
    height, width = padded.shape[1] - rows + 1, padded.shape[2] - columns + 1
    total = sum(
        np.einsum("oc,chw->ohw", weight[:, :, y, z], padded[:, y : y + height, z : z + width])
        for y in range(rows)
        for z in range(columns)
    )
    mean, variance, scale, shift = (
        value.detach().numpy()[:, None, None] for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return np.maximum((total - mean) / np.sqrt(variance + 1e-3) * scale + shift, 0)


def _pooled(x, reduce):
    """`reduce` of the neighbours inside the picture."""
    _, height, width = x.shape
    found = np.empty_like(x)
    for row in range(height):
        for column in range(width):
            near = x[:, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            found[:, row, column] = reduce(near, axis=(1, 2))
    return found


def _moved_norms(block):
    """Give every norm numbers of its own, so that none can be left out unseen."""
    for index, layer in enumerate(block.modules()):
        if isinstance(layer, torch.nn.BatchNorm2d):
            for name, scale, at in (("weight", 0.3, 1.0), ("bias", 0.3, 0.1), ("running_mean", 0.2, 0.0),
                                    ("running_var", 0.4, 1.0)):  # fmt: skip
                values = feature(f"{index}{name}", (layer.num_features,), scale, at)
                getattr(layer, name).data.copy_(torch.from_numpy(values))
    return block.eval().double()


def test_the_first_mixed_block_equals_numpy_and_averages_no_padding():
    torch.manual_seed(0)
    block = _moved_norms(block_a(6, 5))
    x = feature("block a", (6, 5, 4)).astype(np.float64)
    expected = np.concatenate([
        _convolved(x, block.branch1x1),
        _convolved(_convolved(x, block.branch5x5_1), block.branch5x5_2),
        _convolved(_convolved(_convolved(x, block.branch3x3dbl_1), block.branch3x3dbl_2), block.branch3x3dbl_3),
        _convolved(_pooled(x, np.mean), block.branch_pool),
    ])  # fmt: skip
    with torch.no_grad():
        found = block(torch.from_numpy(x)[None])[0].numpy()
    assert np.abs(found - expected).max() < FLOAT64_RELATIVE * np.abs(expected).max()
    assert torch.equal(average_pool(torch.ones(1, 1, 3, 3)), torch.ones(1, 1, 3, 3))


@pytest.mark.parametrize(("pool", "reduce"), [(average_pool, np.mean), (maximum_pool, np.max)])
def test_the_last_mixed_block_pools_the_maximum(pool, reduce):
    torch.manual_seed(0)
    block = _moved_norms(block_e(6, pool))
    x = feature("block e", (6, 3, 4)).astype(np.float64)
    three = _convolved(x, block.branch3x3_1)
    twice = _convolved(_convolved(x, block.branch3x3dbl_1), block.branch3x3dbl_2)
    expected = np.concatenate([
        _convolved(x, block.branch1x1),
        _convolved(three, block.branch3x3_2a),
        _convolved(three, block.branch3x3_2b),
        _convolved(twice, block.branch3x3dbl_3a),
        _convolved(twice, block.branch3x3dbl_3b),
        _convolved(_pooled(x, reduce), block.branch_pool),
    ])  # fmt: skip
    with torch.no_grad():
        found = block(torch.from_numpy(x)[None])[0].numpy()
    assert np.abs(found - expected).max() < FLOAT64_RELATIVE * np.abs(expected).max()
    assert Inception().Mixed_7c.branches[-1][0] is maximum_pool
    assert Inception().Mixed_7b.branches[-1][0] is average_pool


@pytest.mark.quick
def test_another_file_is_refused_by_name(tmp_path):
    face_file = save_torch(tmp_path / "face.pth", seeded_state("mobilefacenet", "mobilefacenet"))
    with pytest.raises(InputError, match=r"not the Inception network of FID: lacks Conv2d_1a_3x3\.conv\.weight"):
        load_inception(face_file)
    state = dict(Inception().state_dict())
    state["fc.bias"], state["AuxLogits.fc.bias"] = torch.zeros(1000), torch.zeros(1000)
    torch.save(state, tmp_path / "torchvision.pth")
    with pytest.raises(InputError, match=r"has AuxLogits\.fc\.bias too, fc\.bias is \[1000\], not \[1008\]"):
        load_inception(tmp_path / "torchvision.pth")
