"""How far a cartoon is from its photo in the features of VGG19.

After the idea of The Unreasonable Effectiveness of Deep Features (arXiv 1801.03924). LPIPS itself weighs each channel
with numbers learned from people's judgement, for other networks; without them this is another measure, so it has
another name.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from toonport.evaluate.features import Features, batch_of
from toonport.photo.picture import Picture

NAME = "perceptual distance (VGG19 features, unweighted)"
DEFINITION = (
    "ReLU outputs of conv1_2, conv2_2, conv3_4 and conv4_4 of VGG19 at 256x256, brought to unit length at each "
    "position; squared difference summed over channels, mean over positions, then over the four layers; not LPIPS"
)
EPSILON = 1e-10


def layer_outputs(network: nn.Module, batch: Tensor) -> list[Tensor]:
    """Return the last ReLU output of each of VGG19's blocks: [N, C, H, W] each, from large to small.

    Args:
        network: `torch_ref.vgg.VGG19`.
        batch: [N, 3, H, W] RGB in [-1, 1].
    """
    layers: Any = network.conv
    ends = [layers[index - 1] for index, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    found: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _layer, _inputs, output: found.append(torch.relu(output)))
        for layer in (*ends, layers[-1])
    ]
    try:
        network(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def perceptual_distances(features: Features, photos: Sequence[Picture], cartoons: Sequence[Picture]) -> list[float]:
    """Return the distance of each photo from its cartoon, 0 for equal pictures and at most 2.

    Args:
        features: VGG19, see `toonport.evaluate.features.open_vgg`.
        photos, cartoons: RGB uint8 [H, W, 3], of any sizes.
    """
    device = next(features.network.parameters()).device
    with torch.no_grad():
        both = layer_outputs(features.network, torch.cat([batch_of(photos), batch_of(cartoons)]).to(device))
    layers = []
    for output in both:
        unit = output / (output.norm(dim=1, keepdim=True) + EPSILON)
        first, second = unit.chunk(2)
        layers.append(((first - second) ** 2).sum(1).mean((1, 2)))  # [N]
    return [float(value) for value in torch.stack(layers).mean(0)]
