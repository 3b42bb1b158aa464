"""DTN: unsupervised cross-domain generation with one encoder and one decoder.

Paper: Domain Transfer Network (arXiv 1611.02200). System: lzw-all-in/anime_person_translation, whose encoder and
decoder are the two halves of its Generator_SA and whose discriminator is its Discriminator_SA.
"""

from torch import Tensor, nn

from torch_ref.layers import initialize, require_size
from torch_ref.sagan_cyclegan import SA_SIDE, add_decoder, decode, encoder_layers


class Encoder(nn.Module):
    """Picture of either domain to a code that should not depend on the domain.

    Args:
        z_dim: channels of the code.
        conv_dim: channels of the first layer.
    """

    def __init__(self, z_dim: int = 100, conv_dim: int = 64) -> None:
        super().__init__()
        self.down_sample = nn.Sequential(*encoder_layers(z_dim, conv_dim))
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1], sides at least 64 and multiples of 16 -> [N, z_dim, H / 16 - 3, W / 16 - 3] >= 0.

        Raises ValueError: for a size that the network cannot run.
        """
        require_size("DTN encoder", x, 16, SA_SIDE)
        return self.down_sample(x)


class Decoder(nn.Module):
    """Code to a picture of the target domain.

    Args:
        z_dim: channels of the code.
        conv_dim: channels of the layer before the last; at least 8.
    """

    def __init__(self, z_dim: int = 100, conv_dim: int = 64) -> None:
        super().__init__()
        add_decoder(self, z_dim, conv_dim)
        initialize(self)

    def forward(self, code: Tensor) -> Tensor:
        """[N, z_dim, h, w] -> [N, 3, 16 (h + 3), 16 (w + 3)] in [-1, 1]."""
        return decode(self, code)
