"""Loss terms that families share, each a mean, before weighting.

Paper: least-squares GAN (arXiv 1611.04076).
"""

from torch import Tensor
from torch.nn import functional as F


def least_squares(logit: Tensor, target: float) -> Tensor:
    """Mean squared distance of the logits from `target` (1 real, 0 fake), any shape -> scalar."""
    return ((logit - target) ** 2).mean()


def l1(first: Tensor, second: Tensor) -> Tensor:
    """Mean absolute difference of two tensors of one shape."""
    return (first - second).abs().mean()


def cross_entropy(logit: Tensor, target: float) -> Tensor:
    """Mean binary cross-entropy of logits of any shape with a constant target."""
    return F.binary_cross_entropy_with_logits(logit, logit.new_full(logit.shape, target))
