"""SAGAN-CycleGAN: unpaired translation of 64x64 pictures with self-attention and spectral norm.

Papers: CycleGAN (arXiv 1703.10593), SAGAN (arXiv 1805.08318), Spectral Normalization (arXiv 1802.05957).
System: lzw-all-in/anime_person_translation. Domain A is anime, B are persons: netG_A turns A into B, netG_B
turns B into A, netD_A judges A, netD_B judges B.

Shape letters: N batch, C channels, H height, W width, P = H * W pixels.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torch_ref.cyclegan import NLayerDiscriminator
from torch_ref.layers import initialize, require_size
from torch_ref.spectral_wrapper import SpectralConv2d, SpectralConvTranspose2d, SpectralNorm
from torch_ref.unet import SkipUnet

GAN_MODES = ("sn", "sn+gp", "wgangp", "wgan", "vanilla", "lsgan")
SA_SIDE = 64


class Self_Attention(nn.Module):
    """Self-attention over all pixels, added to its input with a learned gain that starts at 0.

    score[i, j] = f[:, i] . g[:, j] without scaling, softmax over j, out[c, i] = sum_j h[c, j] * attention[i, j].
    State: gamma [1], conv_f and conv_g [C / 8, C, 1, 1], conv_h [C, C, 1, 1] and their biases.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_f = nn.Conv2d(channels, channels // 8, 1)
        self.conv_g = nn.Conv2d(channels, channels // 8, 1)
        self.conv_h = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        f, g, h = (conv(x).flatten(2) for conv in (self.conv_f, self.conv_g, self.conv_h))  # [N, C or C / 8, P]
        attention = self.softmax(torch.bmm(f.transpose(1, 2), g))  # [N, P, P]
        out = torch.bmm(h, attention.transpose(1, 2)).view(x.shape)
        return self.gamma * out + x


def encoder_layers(z_dim: int, conv_dim: int) -> list[nn.Module]:
    """Layers from a picture [N, 3, H, W] to a code [N, z_dim, H / 16 - 3, W / 16 - 3], all values >= 0."""
    layers: list[nn.Module] = []
    dims = (3, conv_dim, conv_dim * 2, conv_dim * 4, conv_dim * 8)
    for dim_in, dim_out in zip(dims, dims[1:], strict=False):
        layers += [nn.Conv2d(dim_in, dim_out, 4, 2, 1), nn.InstanceNorm2d(dim_out), nn.ReLU()]
    return [*layers, nn.Conv2d(conv_dim * 8, z_dim, 4), nn.ReLU()]


def add_decoder(network: nn.Module, z_dim: int, conv_dim: int) -> None:
    """Give a network the layers from a code to a picture: l1 to l4, last, up_attn1, up_attn2."""
    network.l4 = _up(conv_dim * 2, conv_dim, 2, 1)
    network.l1 = _up(z_dim, conv_dim * 8, 1, 0)
    network.l2 = _up(conv_dim * 8, conv_dim * 4, 2, 1)
    network.l3 = _up(conv_dim * 4, conv_dim * 2, 2, 1)
    network.last = nn.Sequential(nn.ConvTranspose2d(conv_dim, 3, 4, 2, 1), nn.Tanh())
    network.up_attn1 = Self_Attention(conv_dim * 2)
    network.up_attn2 = Self_Attention(conv_dim)


def _up(dim_in: int, dim_out: int, stride: int, padding: int) -> nn.Sequential:
    conv = SpectralConvTranspose2d(dim_in, dim_out, 4, stride, padding)
    return nn.Sequential(SpectralNorm(conv), nn.InstanceNorm2d(dim_out), nn.ReLU())


def decode(network: Any, code: Tensor) -> Tensor:
    """Run the layers of `add_decoder`: code [N, z_dim, h, w] -> picture [N, 3, 16 (h + 3), 16 (w + 3)] in [-1, 1]."""
    x = network.l3(network.l2(network.l1(code)))  # [N, 2 conv_dim, 4 (h + 3), 4 (w + 3)]
    x = network.l4(network.up_attn1(x))
    return network.last(network.up_attn2(x))


class Generator_SA(nn.Module):
    """Encoder to a code of one pixel and decoder back, with self-attention at a quarter and half of the side.

    Args:
        z_dim: channels of the code.
        conv_dim: channels of the first layer; at least 8. The source allows 64 only.
    """

    def __init__(self, z_dim: int = 100, conv_dim: int = 64) -> None:
        super().__init__()
        self.up_sample = nn.Sequential(*encoder_layers(z_dim, conv_dim))
        add_decoder(self, z_dim, conv_dim)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1], sides at least 64 and multiples of 16 -> the same shape and range.

        Raises ValueError: for a size that the network cannot run.
        """
        require_size("SAGAN generator", x, 16, SA_SIDE)
        return decode(self, self.up_sample(x))


class Discriminator_SA(nn.Module):
    """Spectrally normalised discriminator with self-attention at an eighth and a sixteenth of the side.

    Args:
        conv_dim: channels of the first layer; at least 2. The source allows 64 only.
    """

    def __init__(self, conv_dim: int = 64) -> None:
        super().__init__()
        self.l4 = _down(conv_dim * 4, conv_dim * 8)
        self.l1 = _down(3, conv_dim)
        self.l2 = _down(conv_dim, conv_dim * 2)
        self.l3 = _down(conv_dim * 2, conv_dim * 4)
        self.last = nn.Sequential(nn.Conv2d(conv_dim * 8, 1, 4))
        self.attn1 = Self_Attention(conv_dim * 4)
        self.attn2 = Self_Attention(conv_dim * 8)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1], sides at least 64 -> logits [N] for 64x64, else [N, h, w], one per region.

        Raises ValueError: for a size that the network cannot run.
        """
        require_size("SAGAN discriminator", x, 1, SA_SIDE)
        for layer in self.chain():
            x = layer(x)
        return x.flatten() if x.shape[2:] == (1, 1) else x[:, 0]

    def chain(self) -> list[nn.Module]:
        """The layers in the order in which they run."""
        return [self.l1, self.l2, self.l3, self.attn1, self.l4, self.attn2, self.last]


def _down(dim_in: int, dim_out: int) -> nn.Sequential:
    return nn.Sequential(SpectralNorm(SpectralConv2d(dim_in, dim_out, 4, 2, 1)), nn.LeakyReLU(0.1))


class UnetGenerator(SkipUnet):
    """U-Net generator: convolutions without bias, instance norm, skips by concatenation.

    Paper: pix2pix (arXiv 1611.07004).

    Args:
        num_downs: times that the side is halved.
        ngf: channels of the first layer.
    """

    def __init__(self, num_downs: int = 7, ngf: int = 64) -> None:
        super().__init__("U-Net generator", num_downs, ngf, nn.InstanceNorm2d, bias=False)
        initialize(self)


class Discriminator(NLayerDiscriminator):
    """PatchGAN discriminator with instance norm; only the first and last convolution have a bias.

    Paper: pix2pix (arXiv 1611.07004).

    Args:
        ndf: channels of the first layer.
        n_layers: layers that halve the side; 3 sees patches of 70x70.
    """

    title = "patch discriminator"

    def __init__(self, ndf: int = 64, n_layers: int = 3) -> None:
        super().__init__(3, ndf, n_layers, bias=False)
        initialize(self)

    def chain(self) -> list[nn.Module]:
        """The layers in the order in which they run."""
        return [self.model]


class GANLoss(nn.Module):
    """The adversarial loss of every mode.

    State: real_label and fake_label, scalars, the targets of the modes vanilla and lsgan.

    Args:
        gan_mode: "sn" hinge (arXiv 1705.02894); "sn+gp", "wgangp" (arXiv 1704.00028) and "wgan" (arXiv 1701.07875)
            the mean logit; "vanilla" cross-entropy (arXiv 1406.2661); "lsgan" squares (arXiv 1611.04076).

    Raises ValueError: an unknown mode.
    """

    def __init__(self, gan_mode: str = "sn") -> None:
        super().__init__()
        if gan_mode not in GAN_MODES:
            raise ValueError(f"unknown gan_mode '{gan_mode}'; modes: {', '.join(GAN_MODES)}")
        self.gan_mode = gan_mode
        self.real_label = nn.Buffer(torch.tensor(1.0))
        self.fake_label = nn.Buffer(torch.tensor(0.0))

    def forward(self, logits: Tensor, real: bool = True, for_generator: bool = False) -> Tensor:
        """Logits of any shape -> scalar: how far they are from "real" (or from "fake").

        `for_generator` matters in mode "sn" alone: the hinge is for the discriminator.
        """
        sign = -1.0 if real else 1.0
        if self.gan_mode == "sn" and not for_generator:
            return F.relu(1 + sign * logits).mean()
        if self.gan_mode in {"vanilla", "lsgan"}:
            target = (self.real_label if real else self.fake_label).expand_as(logits)
            loss = F.binary_cross_entropy_with_logits if self.gan_mode == "vanilla" else F.mse_loss
            return loss(logits, target)
        return sign * logits.mean()


def build_generator(architecture: str = "sa", **kwargs: int) -> nn.Module:
    """Return a generator: "sa" is Generator_SA, "unet" UnetGenerator; the rest goes to the class."""
    return {"sa": Generator_SA, "unet": UnetGenerator}[architecture](**kwargs)


def build_discriminator(architecture: str = "sa", **kwargs: int) -> nn.Module:
    """Return a discriminator: "sa" is Discriminator_SA, "patch" Discriminator; the rest goes to the class."""
    return {"sa": Discriminator_SA, "patch": Discriminator}[architecture](**kwargs)
