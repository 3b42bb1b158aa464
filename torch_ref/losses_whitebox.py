"""Loss terms of White-box Cartoonization, each before weighting.

Papers: Learning to Cartoonize Using White-box Cartoon Representations (CVPR 2020); Landmark Assisted CycleGAN
(arXiv 1907.01424) for the idea of the landmark term, whose design is in docs/landmark_term.md.
"""

import torch
from torch import Tensor

from torch_ref.losses import l1

LUMINANCE = {"r": 0.299, "g": 0.587, "b": 0.114}


def total_variation(x: Tensor, distance: int = 1) -> Tensor:
    """Mean squared difference of pixels `distance` apart, down plus across, divided by C * H * W.

    [N, C, H, W] -> scalar.
    """
    down = x[:, :, distance:] - x[:, :, :-distance]
    across = x[:, :, :, distance:] - x[:, :, :, :-distance]
    channels, height, width = x.shape[1:]
    return ((down**2).mean() + (across**2).mean()) / (channels * height * width)


def feature_distance(first: Tensor, second: Tensor) -> Tensor:
    """Mean absolute difference of two feature maps [N, C, H, W], divided by C * H * W once more."""
    channels, height, width = first.shape[1:]
    return l1(first, second) / (channels * height * width)


def luminance(x: Tensor, order: str) -> Tensor:
    """Brightness of a picture, [N, 3, H, W] -> [N, H * W]; order "rgb" or "bgr"."""
    red, green, blue = (x[:, order.index(colour)] * LUMINANCE[colour] for colour in "rgb")
    return (red + green + blue).flatten(1)


def patches_at(brightness: Tensor, pixels: Tensor) -> Tensor:
    """Cut patches out of pictures and bring each to mean 0 and length 1.

    Args:
        brightness: [N, H * W].
        pixels: [N, K, M, P] whole numbers: for each of K landmarks and M places, the P pixels of the patch.

    Returns:
        [N, K, M, P].
    """
    patches = brightness.gather(1, pixels.flatten(1)).reshape(pixels.shape)
    patches = patches - patches.mean(3, keepdim=True)
    return patches / torch.sqrt((patches * patches).sum(3, keepdim=True) + 1e-6)


def landmark_positions(
    template: Tensor, brightness: Tensor, pixels: Tensor, offsets: Tensor, sharpness: float
) -> Tensor:
    """Where a picture looks most like each template: a soft-argmax over the correlations at M places.

    Args:
        template: [N, K, 1, P], see `patches_at`.
        brightness: [N, H * W], of the picture that is searched.
        pixels: [N, K, M, P], see `patches_at`.
        offsets: [M, 2], how far each place is from the landmark, in pixels.
        sharpness: factor of the correlations before the softmax.

    Returns:
        [N, K, 2] in pixels from the landmark.
    """
    correlation = (template * patches_at(brightness, pixels)).sum(3)  # [N, K, M] in [-1, 1]
    heat = torch.softmax(sharpness * correlation, 2)  # [N, K, M]
    return (heat[..., None] * offsets).sum(2)  # [N, K, 2]


def landmark_loss(
    photo: Tensor, output: Tensor, pixels: Tensor, offsets: Tensor, weights: Tensor, sharpness: float
) -> Tensor:
    """How far the landmarks of the photo have moved in the output, squared, in units of the eye distance.

    The photo's own patches are looked for in the photo and in the output; equal pictures give exactly 0.

    Args:
        photo, output: brightness [N, H * W], see `luminance`.
        pixels: [N, K, M, P], see `patches_at`; the middle of the M places is the landmark itself.
        offsets, sharpness: see `landmark_positions`.
        weights: [N, K], share of each landmark in the mean divided by the squared eye distance in pixels; 0 for a
            landmark that was not found.

    Returns:
        Scalar; 0 when no landmark was found.
    """
    middle = pixels.shape[2] // 2
    template = patches_at(photo, pixels[:, :, middle : middle + 1])  # [N, K, 1, P]
    before = landmark_positions(template, photo, pixels, offsets, sharpness)
    after = landmark_positions(template, output, pixels, offsets, sharpness)
    return (((after - before) ** 2).sum(2) * weights).sum()
