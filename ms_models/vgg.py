"""VGG19 up to conv4_4 in MindSpore; the twin of `torch_ref/vgg.py`."""

from mindspore import Tensor, nn, ops

from ms_models.layers import require_size

BGR_MEAN = (103.939, 116.779, 123.68)  # of ImageNet, on a scale of 0 to 255
BLOCKS = ((1, 2), (2, 2), (4, 4), (8, 4))  # channels as a multiple of the first layer's, convolutions


def same_conv(dim_in: int, dim_out: int) -> nn.Conv2d:
    """3x3 convolution with bias that keeps the size."""
    return nn.Conv2d(dim_in, dim_out, 3, pad_mode="pad", padding=1, has_bias=True)


class VGG19(nn.Cell):
    """Features of conv4_4, before its ReLU."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Cell] = []
        dim_in = 3
        for factor, convolutions in BLOCKS:
            for _ in range(convolutions):
                layers.append(nn.SequentialCell(same_conv(dim_in, width * factor), nn.ReLU()))
                dim_in = width * factor
            layers.append(nn.MaxPool2d(2, 2))
        last = same_conv(dim_in, dim_in)
        self.conv = nn.SequentialCell(*layers[:-2], last)  # conv4_4 has no ReLU, and no pooling follows

    def construct(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] RGB in [-1, 1] -> [N, 8 width, H / 8, W / 8]."""
        require_size("VGG19", x, 1, 8)
        blue, green, red = (x[:, index : index + 1] for index in (2, 1, 0))
        channels = zip((blue, green, red), BGR_MEAN, strict=True)
        return self.conv(ops.cat(tuple((value + 1) * 127.5 - mean for value, mean in channels), 1))
