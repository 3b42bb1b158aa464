"""The gradient penalty of WGAN-GP.

Paper: WGAN-GP (arXiv 1704.00028).
"""

import torch
from torch import Tensor, nn

NORM_SHIFT = 1e-16


def gradient_penalty(discriminator: nn.Module, points: Tensor, weight: float = 10.0) -> Tensor:
    """Return weight * mean((|gradient of the summed logits at a point + 1e-16| - 1) ** 2), to be differentiated.

    Args:
        discriminator: pictures -> logits of any shape.
        points: [N, 3, H, W] where the gradient is taken.
        weight: factor of the penalty.
    """
    points = points.detach().requires_grad_()
    logits = discriminator(points)
    (gradient,) = torch.autograd.grad(logits.sum(), points, create_graph=True)
    norms = (gradient.flatten(1) + NORM_SHIFT).norm(dim=1)  # [N]
    return weight * ((norms - 1) ** 2).mean()
