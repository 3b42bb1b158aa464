"""VGG19 up to conv4_4, as the content and structure losses of White-box Cartoonization use it.

Paper: Very Deep Convolutional Networks (arXiv 1409.1556). System: ArthurinRUC/FacialCartoonization, which reads the
Caffe weights from vgg19_no_fc.npy.
"""

import torch
from torch import Tensor, nn

from torch_ref.layers import require_size

BGR_MEAN = (103.939, 116.779, 123.68)  # of ImageNet, on a scale of 0 to 255
BLOCKS = ((1, 2), (2, 2), (4, 4), (8, 4))  # channels as a multiple of the first layer's, convolutions


class VGG19(nn.Module):
    """Features of conv4_4, before its ReLU.

    Args:
        width: channels of the first layer; 64 in every released file.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        dim_in = 3
        for factor, convolutions in BLOCKS:
            for _ in range(convolutions):
                layers.append(nn.Sequential(nn.Conv2d(dim_in, width * factor, 3, padding=1), nn.ReLU()))
                dim_in = width * factor
            layers.append(nn.MaxPool2d(2, 2))
        last = nn.Conv2d(dim_in, dim_in, 3, padding=1)
        self.conv = nn.Sequential(*layers[:-2], last)  # conv4_4 has no ReLU, and no pooling follows

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] RGB in [-1, 1] -> [N, 8 width, H / 8, W / 8]. Raises ValueError: a side below 8."""
        require_size("VGG19", x, 1, 8)
        mean = x.new_tensor(BGR_MEAN).reshape(1, 3, 1, 1)
        return self.conv(torch.flip((x + 1) * 127.5, (1,)) - mean)
