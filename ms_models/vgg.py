"""VGG19 up to conv4_4 in MindSpore; the twin of `torch_ref/vgg.py`."""

from mindspore import Tensor, nn, ops

from ms_models.compact import conv2d, sequence
from ms_models.layers import require_size

BGR_MEAN = (103.939, 116.779, 123.68)  # of ImageNet, on a scale of 0 to 255
BLOCKS = ((1, 2), (2, 2), (4, 4), (8, 4))  # channels as a multiple of the first layer's, convolutions


class VGG19(nn.Cell):
    """Features of conv4_4, before its ReLU."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Cell] = []
        dim_in = 3
        for factor, convolutions in BLOCKS:
            for _ in range(convolutions):
                layers.append(sequence(conv2d(dim_in, width * factor, 3, padding=1), nn.ReLU()))
                dim_in = width * factor
            layers.append(nn.MaxPool2d(2, 2))
        last = conv2d(dim_in, dim_in, 3, padding=1)
        self.conv = sequence(*layers[:-2], last)  # conv4_4 has no ReLU, and no pooling follows

    def construct(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] RGB in [-1, 1] -> [N, 8 width, H / 8, W / 8]."""
        require_size("VGG19", x, 1, 8)
        channels = [(x[:, 2 - index : 3 - index] + 1) * 127.5 - mean for index, mean in enumerate(BGR_MEAN)]
        return self.conv(ops.cat(channels, 1))
