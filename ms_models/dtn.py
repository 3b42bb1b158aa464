"""DTN: unsupervised cross-domain generation with one encoder and one decoder; the twin of `torch_ref/dtn.py`."""

from mindspore import Tensor, nn

from ms_models.compact import sequence
from ms_models.layers import initialize, require_size
from ms_models.sagan_cyclegan import SA_SIDE, add_decoder, decode, encoder_layers


class Encoder(nn.Cell):
    """Picture of either domain to a code that should not depend on the domain."""

    def __init__(self, z_dim: int = 100, conv_dim: int = 64) -> None:
        super().__init__()
        self.down_sample = sequence(*encoder_layers(z_dim, conv_dim))
        initialize(self)

    def construct(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1], sides at least 64 and multiples of 16 -> [N, z_dim, H / 16 - 3, W / 16 - 3] >= 0."""
        require_size("DTN encoder", x, 16, SA_SIDE)
        return self.down_sample(x)


class Decoder(nn.Cell):
    """Code to a picture of the target domain."""

    def __init__(self, z_dim: int = 100, conv_dim: int = 64) -> None:
        super().__init__()
        add_decoder(self, z_dim, conv_dim)
        initialize(self)

    def construct(self, code: Tensor) -> Tensor:
        """[N, z_dim, h, w] -> [N, 3, 16 (h + 3), 16 (w + 3)] in [-1, 1]."""
        return decode(self, code)
