"""Distances between two sets of vectors, in float64.

Papers: GANs Trained by a Two Time-Scale Update Rule (arXiv 1706.08500) for the Fréchet distance; Demystifying MMD GANs
(arXiv 1801.01401) for the kernel distance; B-tests (arXiv 1307.1954) for its estimate in blocks. Arithmetic:
torchmetrics, but for the blocks, which U-GAT-IT's published evaluation uses and no library offers.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch

from convert.tensors import Array

SUBSETS, SUBSET_SIZE = 100, 1000
BLOCK = 10
SMALLEST = 2  # vectors in a set; a block of the "ugatit" protocol needs as many


@dataclass(frozen=True)
class Kernel:
    """A kernel distance."""

    value: float  # mean over the parts of the sets, not multiplied
    # standard deviation over the subsets, or standard error over the blocks; None for a single block
    spread: float | None
    parts: int  # number of subsets or blocks
    size: int  # vectors of each set in a subset, or the most in a block


class _Given(torch.nn.Module):
    """Lets torchmetrics take vectors where it expects pictures."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.num_features = dimension

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """[N, D] -> the same."""
        return vectors


def _float64(vectors: Array) -> torch.Tensor:
    return torch.from_numpy(np.array(vectors, np.float64, order="C"))


def frechet(real: Array, fake: Array) -> float:
    """Return the squared Fréchet distance of the normal distributions with the sets' means and covariances.

    Where there are fewer vectors than numbers in each, they are first written in an orthonormal basis of what they
    span, which changes no distance and saves minutes.

    Args:
        real, fake: [N, D] and [M, D], at least two each.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    first, second = _float64(real), _float64(fake)
    if len(first) + len(second) < first.shape[1]:
        basis = torch.linalg.qr(torch.cat([first, second]).T).Q  # [D, N + M]
        first, second = first @ basis, second @ basis
    metric = FrechetInceptionDistance(feature=_Given(first.shape[1]))
    metric.update(first, real=True)
    metric.update(second, real=False)
    return max(0.0, float(metric.compute()))  # rounding leaves equal sets a little below zero


def kernel(real: Array, fake: Array, protocol: str, seed: int) -> Kernel:
    """Return the kernel distance: the squared maximum mean discrepancy, unbiased, with kernel (x·y / D + 1)^3.

    Args:
        real, fake: [N, D] and [M, D], at least two each.
        protocol: "standard", random subsets; "ugatit", blocks of at most ten.
        seed: of the subsets, or of the order in which the blocks are cut.
    """
    return _subsets(real, fake, seed) if protocol == "standard" else _blocks(real, fake, seed)


def _subsets(real: Array, fake: Array, seed: int) -> Kernel:
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(SUBSET_SIZE, len(real), len(fake))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all extracted features")
        torch.manual_seed(seed)
        metric = KernelInceptionDistance(feature=_Given(real.shape[1]), subsets=SUBSETS, subset_size=size)
        metric.update(_float64(real), real=True)
        metric.update(_float64(fake), real=False)
        mean, deviation = metric.compute()
    return Kernel(float(mean), float(deviation), SUBSETS, size)


def _blocks(real: Array, fake: Array, seed: int) -> Kernel:
    """Cut both sets, in random order, into as many blocks as the larger needs, and average over the blocks."""
    count = -(-max(len(real), len(fake)) // BLOCK)
    random = np.random.default_rng(seed)
    parts = [np.array_split(random.permutation(np.asarray(vectors, np.float64)), count) for vectors in (real, fake)]
    values = np.array([_discrepancy(first, second) for first, second in zip(*parts, strict=True)])
    spread = float(values.std(ddof=1) / np.sqrt(count)) if count > 1 else None
    return Kernel(float(values.mean()), spread, count, BLOCK)


def _discrepancy(first: Array, second: Array) -> float:
    """Unbiased squared maximum mean discrepancy of two sets that may differ in size."""
    own = []
    for vectors in (first, second):
        similar = _similar(vectors, vectors)
        own.append((similar.sum() - np.trace(similar)) / (len(vectors) * (len(vectors) - 1)))
    return float(own[0] + own[1] - 2 * _similar(first, second).mean())


def _similar(first: Array, second: Array) -> Array:
    return np.asarray((first @ second.T / first.shape[1] + 1) ** 3)


def kernel_definition(found: Kernel, protocol: str) -> str:
    """Say in words what a kernel distance is, with the numbers it was made with."""
    what = "squared MMD, unbiased, polynomial kernel (gamma x·y + coef)^degree, degree 3, gamma 1/d, coef 1; "
    how = (
        f"mean ± standard deviation over {found.parts} random subsets of {found.size} pictures of each set"
        if protocol == "standard"
        else f"mean ± standard error over {found.parts} blocks of at most {found.size} pictures, both sets in random "
        "order, as in U-GAT-IT's published evaluation"
    )
    return f"{what}{how}; ×100; generated against real cartoons only, photos have no part in it"
