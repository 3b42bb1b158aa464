"""Spectral normalisation as a wrapper whose vectors move on every forward pass, in eval mode too.

Paper: Spectral Normalization (arXiv 1802.05957). System: lzw-all-in/anime_person_translation.
It differs from torch.nn.utils.spectral_norm: the weight of a transposed convolution is flattened as it lies
([in, out * k * k], not by output channel), u and v are parameters, and eval mode does not rest them. `freeze`
makes a copy without the wrapper, for inference and export.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-12


def unit(vector: Tensor) -> Tensor:
    """Return vector / (its Euclidean norm + 1e-12)."""
    return vector / (vector.norm() + EPS)


class SpectralConv2d(nn.Module):
    """Convolution that is told which weight to use; owns the raw weight and its singular vectors.

    State: bias [dim_out], weight_u [dim_out], weight_v [dim_in * k * k], weight_matrices [dim_out, dim_in, k, k].
    """

    plain: type[nn.Conv2d] | type[nn.ConvTranspose2d] = nn.Conv2d  # what the layer is without spectral norm

    def __init__(self, dim_in: int, dim_out: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        layer = self.plain(dim_in, dim_out, kernel)
        self.bias = layer.bias
        self.weight_u = nn.Parameter(unit(torch.randn(len(layer.weight))), requires_grad=False)
        self.weight_v = nn.Parameter(unit(torch.randn(layer.weight[0].numel())), requires_grad=False)
        self.weight_matrices = layer.weight

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """x [N, dim_in, H, W], weight as weight_matrices -> [N, dim_out, H', W']."""
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class SpectralConvTranspose2d(SpectralConv2d):
    """Transposed convolution that is told which weight to use; owns the raw weight and its singular vectors.

    State: bias [dim_out], weight_u [dim_in], weight_v [dim_out * k * k], weight_matrices [dim_in, dim_out, k, k].
    """

    plain = nn.ConvTranspose2d

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """x [N, dim_in, H, W], weight as weight_matrices -> [N, dim_out, H', W']."""
        return F.conv_transpose2d(x, weight, self.bias, self.stride, self.padding)


class SpectralNorm(nn.Module):
    """Runs a layer with weight_matrices / sigma, after one power iteration.

    sigma = u . (W v), W being the weight flattened to [shape[0], rest]; the gradient flows through sigma with u and
    v constant.

    Attributes:
        module: the layer.
        calls_ahead: power iterations after which u and v are taken for the gradient of sigma (not its value). The
            source swaps the vectors under the graph, so there a forward pass is differentiated with the vectors
            that the last pass before backward left; 0 differentiates it as it was computed.
    """

    def __init__(self, module: SpectralConv2d) -> None:
        super().__init__()
        self.module = module
        self.calls_ahead = 0

    def forward(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, dim_out, H', W']."""
        return self.module(x, self.normalized_weight())

    def normalized_weight(self) -> Tensor:
        """Return weight_matrices / sigma; moves u and v first."""
        weight = self.module.weight_matrices
        matrix = weight.flatten(1)  # [shape[0], rest]
        fixed = matrix.detach()
        u, v = iterate(fixed, self.module.weight_u)
        with torch.no_grad():
            self.module.weight_u.copy_(u)
            self.module.weight_v.copy_(v)
        sigma = torch.dot(u, matrix @ v)
        if self.calls_ahead:
            value = sigma.detach()
            for _ in range(self.calls_ahead):
                u, v = iterate(fixed, u)
            late = torch.dot(u, matrix @ v)
            sigma = late + (value - late.detach())
        return weight / sigma


def iterate(matrix: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Return the next singular vectors u [rows] and v [columns] of a matrix, one power iteration after u."""
    v = unit(matrix.T @ u)
    return unit(matrix @ v), v


def look_ahead(network: nn.Module, calls: int) -> None:
    """Set `calls_ahead` of every spectrally normalised layer of a network."""
    for layer in network.modules():
        if isinstance(layer, SpectralNorm):
            layer.calls_ahead = calls


def freeze(network: nn.Module) -> nn.Module:
    """Return a network whose output depends on its input alone: plain layers with the weight W / sigma.

    The weight is the one that the next forward pass would use, that is after one power iteration: files whose
    stored vectors never moved (saved under DataParallel) give what their network was trained with. A network
    without the wrapper is returned as it is; otherwise the copy shares nothing with `network`.
    """
    if not any(isinstance(layer, SpectralNorm) for layer in network.modules()):
        return network
    frozen = copy.deepcopy(network)
    for layer in list(frozen.modules()):
        for name, child in layer.named_children():
            if isinstance(child, SpectralNorm):
                layer.add_module(name, _plain(child))
    return frozen


def _plain(layer: SpectralNorm) -> nn.Module:
    inner = layer.module
    weight = layer.normalized_weight().detach()
    transposed = isinstance(inner, SpectralConvTranspose2d)
    dim_in, dim_out = weight.shape[:2] if transposed else weight.shape[1::-1]
    plain = inner.plain(dim_in, dim_out, int(weight.shape[2]), inner.stride, inner.padding, dtype=weight.dtype)
    plain.weight = nn.Parameter(weight)
    plain.bias = inner.bias
    return plain.train(layer.training)
