"""Image filters of the White-box representations, differentiable.

Papers: Guided Image Filtering (ECCV 2010); Learning to Cartoonize Using White-box Cartoon Representations (CVPR 2020).
"""

from torch import Tensor
from torch.nn import functional as F


def box_mean(x: Tensor, radius: int) -> Tensor:
    """Mean over the square of side 2 radius + 1 around each pixel, of the part inside the picture.

    [N, C, H, W] -> [N, C, H, W].
    """
    return F.avg_pool2d(x, 2 * radius + 1, 1, radius, count_include_pad=False)


def guided_filter(guide: Tensor, x: Tensor, radius: int, eps: float) -> Tensor:
    """Smooth x along the edges of a guide: within each square, x is a linear function of the guide.

    Args:
        guide: [N, C or 1, H, W].
        x: [N, C, H, W].
        radius: half side of the squares, in pixels.
        eps: variance of the guide below which the result becomes flat.
    """
    guide_mean, x_mean = box_mean(guide, radius), box_mean(x, radius)
    covariance = box_mean(guide * x, radius) - guide_mean * x_mean
    variance = box_mean(guide * guide, radius) - guide_mean * guide_mean
    slope = covariance / (variance + eps)
    offset = x_mean - slope * guide_mean
    return box_mean(slope, radius) * guide + box_mean(offset, radius)


def colour_shift(x: Tensor, weights: tuple[Tensor, Tensor, Tensor], order: str) -> Tensor:
    """Texture representation: one channel, a weighted mean of the colours.

    Args:
        x: [N, 3, H, W].
        weights: of blue, green and red, each broadcastable to [N, 1, H, W].
        order: "rgb" or "bgr", the colours of x.

    Returns:
        [N, 1, H, W].
    """
    weight = dict(zip("bgr", weights, strict=True))
    first, second, third = (x[:, index : index + 1] * weight[colour] for index, colour in enumerate(order))
    return (first + second + third) / (weights[0] + weights[1] + weights[2])


def finish_whitebox(photo: Tensor, output: Tensor) -> Tensor:
    """The last step of White-box inference: both [N, 3, H, W] in [-1, 1] -> the same shape."""
    return guided_filter(photo, output, 1, 5e-3)


def finish_facial(photo: Tensor, output: Tensor) -> Tensor:
    """The last step of FacialCartoonization inference: both [N, 3, H, W] in [-1, 1] -> the same shape."""
    return guided_filter(photo, output, 1, 0.1)
