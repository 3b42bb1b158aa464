"""Spectral normalisation as a wrapper that moves on every forward pass; twin of `torch_ref/spectral_wrapper.py`.

Paper: Spectral Normalization (arXiv 1802.05957). System: lzw-all-in/anime_person_translation.
The weight of a transposed convolution is flattened as it lies ([in, out * k * k], not by output channel), and eval
mode does not rest u and v. `freeze` makes a network without the wrapper, for inference.
"""

import copy
import math

from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import HeUniform, Uniform, initializer

from ms_models.layers import random_unit

EPS = 1e-12


def unit(vector: Tensor) -> Tensor:
    """Return vector / (its Euclidean norm + 1e-12)."""
    return vector / (ops.sqrt((vector * vector).sum()) + EPS)


class SpectralConv2d(nn.Cell):
    """Convolution that is told which weight to use; owns the raw weight and its singular vectors.

    State: bias [dim_out], weight_u [dim_out], weight_v [dim_in * k * k], weight_matrices [dim_out, dim_in, k, k].
    """

    plain: type[nn.Cell] = nn.Conv2d  # what the layer is without spectral norm

    def __init__(self, dim_in: int, dim_out: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.stride, self.padding, self.kernel = stride, padding, kernel
        self.dim_in, self.dim_out = dim_in, dim_out
        rows, columns = (dim_out, dim_in) if self.plain is nn.Conv2d else (dim_in, dim_out)
        rest = columns * kernel * kernel
        self.bias = Parameter(initializer(Uniform(1 / math.sqrt(rest)), (dim_out,)))
        self.weight_u = Parameter(Tensor(random_unit(rows)), requires_grad=False)
        self.weight_v = Parameter(Tensor(random_unit(rest)), requires_grad=False)
        self.weight_matrices = Parameter(initializer(HeUniform(math.sqrt(5)), (rows, columns, kernel, kernel)))

    def construct(self, x: Tensor, weight: Tensor) -> Tensor:
        """x [N, dim_in, H, W], weight as weight_matrices -> [N, dim_out, H', W']."""
        return self.convolve(x, weight) + self.bias.reshape(1, -1, 1, 1)

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """The linear part of the layer, without bias; shapes as in `construct`."""
        return ops.conv2d(x, weight, None, self.stride, "pad", self.padding)


class SpectralConvTranspose2d(SpectralConv2d):
    """Transposed convolution that is told which weight to use; owns the raw weight and its singular vectors.

    State: bias [dim_out], weight_u [dim_in], weight_v [dim_out * k * k], weight_matrices [dim_in, dim_out, k, k].
    """

    plain = nn.Conv2dTranspose

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """The linear part of the layer, without bias; shapes as in `construct`."""
        height, width = (self.stride * (side - 1) + self.kernel - 2 * self.padding for side in x.shape[2:])
        transpose = ops.Conv2DTranspose(self.dim_in, self.kernel, pad_mode="pad", pad=self.padding, stride=self.stride)
        return transpose(x, weight, (x.shape[0], self.dim_out, height, width))


class SpectralNorm(nn.Cell):
    """Runs a layer with weight_matrices / sigma, after one power iteration.

    sigma = u . (W v), W being the weight flattened to [shape[0], rest]; the gradient flows through sigma with u and v
    constant.
    """

    def __init__(self, module: SpectralConv2d) -> None:
        super().__init__()
        self.module = module
        self.calls_ahead = 0

    def construct(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, dim_out, H', W']."""
        return self.module(x, self.normalized_weight())

    def normalized_weight(self) -> Tensor:
        """Return weight_matrices / sigma; moves u and v first."""
        weight = self.module.weight_matrices
        matrix = weight.reshape(weight.shape[0], -1)  # [shape[0], rest]
        fixed = ops.stop_gradient(matrix)
        u, v = iterate(fixed, self.module.weight_u)
        ops.assign(self.module.weight_u, u)
        ops.assign(self.module.weight_v, v)
        sigma = _bilinear(u, matrix, v)
        if self.calls_ahead:
            value = ops.stop_gradient(sigma)
            for _ in range(self.calls_ahead):
                u, v = iterate(fixed, u)
            late = _bilinear(u, matrix, v)
            sigma = late + (value - ops.stop_gradient(late))
        return weight / sigma

    def resting_weight(self) -> Tensor:
        """Return weight_matrices / sigma with u and v as they are."""
        weight = self.module.weight_matrices
        return weight / _bilinear(self.module.weight_u, weight.reshape(weight.shape[0], -1), self.module.weight_v)


def iterate(matrix: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Return the next singular vectors u [rows] and v [columns] of a matrix, one power iteration after u."""
    v = unit(ops.matmul(matrix.T, u))
    return unit(ops.matmul(matrix, v)), v


def _bilinear(u: Tensor, matrix: Tensor, v: Tensor) -> Tensor:
    return ops.matmul(ops.stop_gradient(u), ops.matmul(matrix, ops.stop_gradient(v)))


def looking_ahead(network: nn.Cell, calls: int) -> nn.Cell:
    """Return a network with the parameters of `network` whose `calls_ahead` are `calls`; 0 returns it as it is."""
    if not calls:
        return network
    view = copy.deepcopy(network, {id(value): value for value in network.get_parameters()})
    for _, layer in view.cells_and_names():
        if isinstance(layer, SpectralNorm):
            layer.calls_ahead = calls
    return view


def freeze(network: nn.Cell) -> nn.Cell:
    """Return a network whose output depends on its input alone: plain layers with the weight W / sigma.

    The weight is the one that the next forward pass would use, that is after one power iteration: files whose
    stored vectors never moved (saved under DataParallel) give what their network was trained with. A network
    without the wrapper is returned as it is; otherwise the copy shares nothing with `network`.
    """
    cells = dict(network.cells_and_names())
    if not any(isinstance(layer, SpectralNorm) for layer in cells.values()):
        return network
    frozen = copy.deepcopy(network)
    for layer in list(dict(frozen.cells_and_names()).values()):
        for name, child in layer.name_cells().items():
            if isinstance(child, SpectralNorm):
                plain = _plain(child)
                if isinstance(layer, nn.SequentialCell):
                    layer[int(name)] = plain
                else:
                    setattr(layer, name, plain)
    return frozen


def _plain(layer: SpectralNorm) -> nn.Cell:
    inner = layer.module
    weight = layer.normalized_weight()
    sizes = inner.dim_in, inner.dim_out, inner.kernel, inner.stride
    plain = inner.plain(*sizes, pad_mode="pad", padding=inner.padding, has_bias=True)
    plain.weight.set_data(weight)
    plain.bias.set_data(Tensor(inner.bias.asnumpy()))
    return plain.set_train(layer.training)
