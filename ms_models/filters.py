"""Image filters of the White-box representations in MindSpore; the twin of `torch_ref/filters.py`."""

from mindspore import Tensor, ops


def box_mean(x: Tensor, radius: int) -> Tensor:
    """Mean over the square of side 2 radius + 1 around each pixel, of the part inside the picture.

    [N, C, H, W] -> [N, C, H, W].
    """
    return ops.avg_pool2d(x, 2 * radius + 1, 1, radius, count_include_pad=False)


def guided_filter(guide: Tensor, x: Tensor, radius: int, eps: float) -> Tensor:
    """Smooth x along the edges of a guide: within each square, x is a linear function of the guide."""
    guide_mean, x_mean = box_mean(guide, radius), box_mean(x, radius)
    covariance = box_mean(guide * x, radius) - guide_mean * x_mean
    variance = box_mean(guide * guide, radius) - guide_mean * guide_mean
    slope = covariance / (variance + eps)
    offset = x_mean - slope * guide_mean
    return box_mean(slope, radius) * guide + box_mean(offset, radius)


def colour_shift(x: Tensor, weights: tuple[Tensor, Tensor, Tensor], order: str) -> Tensor:
    """Texture representation: one channel, a weighted mean of the colours."""
    blue, green, red = weights
    first, third = (red, blue) if order == "rgb" else (blue, red)
    return (x[:, :1] * first + x[:, 1:2] * green + x[:, 2:] * third) / (blue + green + red)


def finish_whitebox(photo: Tensor, output: Tensor) -> Tensor:
    """The last step of White-box inference: both [N, 3, H, W] in [-1, 1] -> the same shape."""
    return guided_filter(photo, output, 1, 5e-3)


def finish_facial(photo: Tensor, output: Tensor) -> Tensor:
    """The last step of FacialCartoonization inference: both [N, 3, H, W] in [-1, 1] -> the same shape."""
    return guided_filter(photo, output, 1, 0.1)
