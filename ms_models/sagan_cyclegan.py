"""SAGAN-CycleGAN: unpaired translation of 64x64 pictures with self-attention and spectral norm.

The twin of `torch_ref/sagan_cyclegan.py`.
"""

from typing import Any

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from ms_models.compact import conv2d, sequence
from ms_models.cyclegan import NLayerDiscriminator
from ms_models.kernels import LeakyReLU
from ms_models.layers import InstanceNorm2d, Tanh, conv_transpose2d, initialize, require_size
from ms_models.spectral_wrapper import SpectralConv2d, SpectralConvTranspose2d, SpectralNorm
from ms_models.unet import SkipUnet

GAN_MODES = ("sn", "sn+gp", "wgangp", "wgan", "vanilla", "lsgan")
SA_SIDE = 64


class Self_Attention(nn.Cell):
    """Self-attention over all pixels, added to its input with a learned gain that starts at 0.

    score[i, j] = f[:, i] . g[:, j] without scaling, softmax over j, out[c, i] = sum_j h[c, j] * attention[i, j].
    State: gamma [1], conv_f and conv_g [C / 8, C, 1, 1], conv_h [C, C, 1, 1] and their biases.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_f = conv2d(channels, channels // 8, 1)
        self.conv_g = conv2d(channels, channels // 8, 1)
        self.conv_h = conv2d(channels, channels, 1)
        self.gamma = Parameter(ops.zeros((1,), ms.float32))
        self.softmax = nn.Softmax(axis=-1)

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        f, g, h = pixels(self.conv_f(x)), pixels(self.conv_g(x)), pixels(self.conv_h(x))  # [N, C or C / 8, P]
        attention = self.softmax(ops.bmm(f.swapaxes(1, 2), g))  # [N, P, P]
        out = ops.bmm(h, attention.swapaxes(1, 2)).reshape(x.shape)
        return self.gamma * out + x


def pixels(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, C, P]."""
    return x.reshape(x.shape[0], x.shape[1], -1)


def encoder_layers(z_dim: int, conv_dim: int) -> list[nn.Cell]:
    """Layers from a picture [N, 3, H, W] to a code [N, z_dim, H / 16 - 3, W / 16 - 3], all values >= 0."""
    layers: list[nn.Cell] = []
    dims = (3, conv_dim, conv_dim * 2, conv_dim * 4, conv_dim * 8)
    for dim_in, dim_out in zip(dims, dims[1:], strict=False):
        layers += [conv2d(dim_in, dim_out, 4, 2, 1), InstanceNorm2d(dim_out), nn.ReLU()]
    return [*layers, conv2d(conv_dim * 8, z_dim, 4), nn.ReLU()]


def add_decoder(network: nn.Cell, z_dim: int, conv_dim: int) -> None:
    """Give a network the layers from a code to a picture: l1 to l4, last, up_attn1, up_attn2."""
    network.l4 = _up(conv_dim * 2, conv_dim, 2, 1)
    network.l1 = _up(z_dim, conv_dim * 8, 1, 0)
    network.l2 = _up(conv_dim * 8, conv_dim * 4, 2, 1)
    network.l3 = _up(conv_dim * 4, conv_dim * 2, 2, 1)
    network.last = sequence(conv_transpose2d(conv_dim, 3, 4, 2, 1), Tanh())
    network.up_attn1 = Self_Attention(conv_dim * 2)
    network.up_attn2 = Self_Attention(conv_dim)


def _up(dim_in: int, dim_out: int, stride: int, padding: int) -> nn.SequentialCell:
    layer = SpectralConvTranspose2d(dim_in, dim_out, 4, stride, padding)
    return sequence(SpectralNorm(layer), InstanceNorm2d(dim_out), nn.ReLU())


def decode(network: Any, code: Tensor) -> Tensor:
    """Run the layers of `add_decoder`: code [N, z_dim, h, w] -> picture [N, 3, 16 (h + 3), 16 (w + 3)] in [-1, 1]."""
    x = network.l3(network.l2(network.l1(code)))  # [N, 2 conv_dim, 4 (h + 3), 4 (w + 3)]
    x = network.l4(network.up_attn1(x))
    return network.last(network.up_attn2(x))


class Generator_SA(nn.Cell):
    """Encoder to a code of one pixel and decoder back, with self-attention at a quarter and half of the side."""

    def __init__(self, z_dim: int = 100, conv_dim: int = 64) -> None:
        super().__init__()
        self.up_sample = sequence(*encoder_layers(z_dim, conv_dim))
        add_decoder(self, z_dim, conv_dim)
        initialize(self)

    def construct(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1], sides at least 64 and multiples of 16 -> the same shape and range."""
        require_size("SAGAN generator", x, 16, SA_SIDE)
        return decode(self, self.up_sample(x))


class Discriminator_SA(nn.Cell):
    """Spectrally normalised discriminator with self-attention at an eighth and a sixteenth of the side."""

    def __init__(self, conv_dim: int = 64) -> None:
        super().__init__()
        self.l4 = _down(conv_dim * 4, conv_dim * 8)
        self.l1 = _down(3, conv_dim)
        self.l2 = _down(conv_dim, conv_dim * 2)
        self.l3 = _down(conv_dim * 2, conv_dim * 4)
        self.last = sequence(conv2d(conv_dim * 8, 1, 4))
        self.attn1 = Self_Attention(conv_dim * 4)
        self.attn2 = Self_Attention(conv_dim * 8)
        initialize(self)

    def construct(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1], sides at least 64 -> logits [N] for 64x64, else [N, h, w], one per region."""
        require_size("SAGAN discriminator", x, 1, SA_SIDE)
        for layer in self.chain():
            x = layer(x)
        return x.reshape(-1) if x.shape[2:] == (1, 1) else x[:, 0]

    def chain(self) -> list[nn.Cell]:
        """The layers in the order in which they run."""
        return [self.l1, self.l2, self.l3, self.attn1, self.l4, self.attn2, self.last]


def _down(dim_in: int, dim_out: int) -> nn.SequentialCell:
    return sequence(SpectralNorm(SpectralConv2d(dim_in, dim_out, 4, 2, 1)), LeakyReLU(0.1))


class UnetGenerator(SkipUnet):
    """U-Net generator: convolutions without bias, instance norm, skips by concatenation.

    Paper: pix2pix (arXiv 1611.07004).
    """

    def __init__(self, num_downs: int = 7, ngf: int = 64) -> None:
        super().__init__("U-Net generator", num_downs, ngf, InstanceNorm2d, bias=False)
        initialize(self)


class Discriminator(NLayerDiscriminator):
    """PatchGAN discriminator with instance norm; only the first and last convolution have a bias.

    Paper: pix2pix (arXiv 1611.07004).
    """

    title = "patch discriminator"

    def __init__(self, ndf: int = 64, n_layers: int = 3) -> None:
        super().__init__(3, ndf, n_layers, bias=False)
        initialize(self)

    def chain(self) -> list[nn.Cell]:
        """The layers in the order in which they run."""
        return [self.model]


class GANLoss(nn.Cell):
    """The adversarial loss of every mode.

    State: real_label and fake_label, scalars, the targets of the modes vanilla and lsgan.
    """

    def __init__(self, gan_mode: str = "sn") -> None:
        super().__init__()
        if gan_mode not in GAN_MODES:
            raise ValueError(f"unknown gan_mode '{gan_mode}'; modes: {', '.join(GAN_MODES)}")
        self.gan_mode = gan_mode
        self.real_label = Parameter(Tensor(1.0, ms.float32), requires_grad=False)
        self.fake_label = Parameter(Tensor(0.0, ms.float32), requires_grad=False)

    def construct(self, logits: Tensor, real: bool = True, for_generator: bool = False) -> Tensor:
        """Logits of any shape -> scalar: how far they are from "real" (or from "fake").

        `for_generator` matters in mode "sn" alone: the hinge is for the discriminator.
        """
        sign = -1.0 if real else 1.0
        if self.gan_mode == "sn" and not for_generator:
            return ops.relu(1 + sign * logits).mean()
        target = self.real_label if real else self.fake_label
        if self.gan_mode == "lsgan":
            return ((logits - target) ** 2).mean()
        if self.gan_mode == "vanilla":  # neither overflows nor loses digits
            return (ops.relu(logits) - logits * target + ops.log1p(ops.exp(-ops.abs(logits)))).mean()
        return sign * logits.mean()


def build_generator(architecture: str = "sa", **kwargs: int) -> nn.Cell:
    """Return a generator: "sa" is Generator_SA, "unet" UnetGenerator; the rest goes to the class."""
    return {"sa": Generator_SA, "unet": UnetGenerator}[architecture](**kwargs)


def build_discriminator(architecture: str = "sa", **kwargs: int) -> nn.Cell:
    """Return a discriminator: "sa" is Discriminator_SA, "patch" Discriminator; the rest goes to the class."""
    return {"sa": Discriminator_SA, "patch": Discriminator}[architecture](**kwargs)
