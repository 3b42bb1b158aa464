"""The CycleGAN networks of the MindSpore model zoo, which human2anime uses, in PyTorch.

Systems: mindspore-ai/models official/cv/CycleGAN and stnjumu/human2anime (Apache-2.0); paper: arXiv 1703.10593.
Names, layer order and padding are the model zoo's. They differ from junyanz's networks in function, not only in
names: all residual blocks are one block run several times, transposed convolutions keep the first 2H rows of their full
result where junyanz's keep rows 1 to 2H, and several convolutions have no bias.

`pad_mode` "CONSTANT" pads with zeros inside the convolution; "REFLECT" puts a reflection before it, which moves the
indices of what follows by one. `norm` is "instance" or "batch".
"""

import torch
from torch import Tensor, nn

from torch_ref.cyclegan_zoo_layers import (
    ConvNormReLU,
    ConvTransposeNormReLU,
    ResidualBlock,
    SharedBlocks,
    activation,
    zoo_norm,
)
from torch_ref.layers import require_size


class ResNet(nn.Module):
    """The model zoo's ResNet generator.

    Args:
        ngf: channels of the first layer.
        n_blocks: how often the one residual block runs (gl_num).
        slope: of the leaky ReLUs outside of the residual block; 0 for ReLU.
        norm, pad_mode: see the module.
        reference_exact: see ZooInstanceNorm2d.
    """

    def __init__(
        self,
        ngf: int = 64,
        n_blocks: int = 9,
        slope: float = 0.2,
        norm: str = "instance",
        pad_mode: str = "CONSTANT",
        reference_exact: bool = False,
    ) -> None:
        super().__init__()
        exact = reference_exact
        self.conv_in = ConvNormReLU(3, ngf, 7, 1, slope, norm, pad_mode, None, exact)
        self.down_1 = ConvNormReLU(ngf, ngf * 2, 3, 2, slope, norm, reference_exact=exact)
        self.down_2 = ConvNormReLU(ngf * 2, ngf * 4, 3, 2, slope, norm, reference_exact=exact)
        self.residuals = SharedBlocks(ResidualBlock(ngf * 4, (0.0, None), norm, pad_mode, exact), n_blocks)
        self.up_2 = ConvTransposeNormReLU(ngf * 4, ngf * 2, slope, norm, exact)
        self.up_1 = ConvTransposeNormReLU(ngf * 2, ngf, slope, norm, exact)
        if pad_mode == "REFLECT":
            self.conv_out: nn.Module = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(ngf, 3, 7, bias=False))
        else:
            self.conv_out = nn.Conv2d(ngf, 3, 7, padding=3, bias=False)
        self.tanh = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> the same; H and W multiples of 4 and at least 8.

        Raises:
            ValueError: for a size that the network cannot run.
        """
        require_size("model zoo ResNet", x, 4, 8)
        x = self.residuals(self.down_2(self.down_1(self.conv_in(x))))  # [N, 4C, H/4, W/4]
        return self.tanh(self.conv_out(self.up_1(self.up_2(x))))


class DepthResNet(nn.Module):
    """The model zoo's deeper ResNet generator, human2anime's default: 8 times smaller inside, 3 residual stages.

    Args:
        ngf: channels of the first layer.
        n_blocks: gl_num; the inner residual block runs n_blocks - 5 times.
        slope: of the leaky ReLUs outside of the residual blocks, whose slope is 0.2.
        norm, pad_mode: see the module.
        reference_exact: see ZooInstanceNorm2d.
    """

    def __init__(
        self,
        ngf: int = 64,
        n_blocks: int = 9,
        slope: float = 0.2,
        norm: str = "instance",
        pad_mode: str = "CONSTANT",
        reference_exact: bool = False,
    ) -> None:
        super().__init__()
        exact = reference_exact

        def down(dim_in: int, dim_out: int) -> ConvNormReLU:
            """Halve the sides."""
            return ConvNormReLU(dim_in, dim_out, 3, 2, slope, norm, reference_exact=exact)

        def up(dim_in: int, dim_out: int) -> ConvTransposeNormReLU:
            """Double the sides."""
            return ConvTransposeNormReLU(dim_in, dim_out, slope, norm, exact)

        def block(dim: int) -> ResidualBlock:
            """A residual block as this network has it."""
            return ResidualBlock(dim, (0.2, 0.2), norm, pad_mode, exact)

        wide = ConvNormReLU(ngf, ngf, 7, 1, slope, norm, pad_mode, None, exact)
        self.conv_in = nn.Sequential(nn.Conv2d(3, ngf, 3, padding=1), wide)
        self.down_1 = nn.Sequential(down(ngf, ngf * 2), block(ngf * 2))
        self.down_2 = nn.Sequential(down(ngf * 2, ngf * 3), block(ngf * 3))
        self.down_3 = down(ngf * 3, ngf * 4)
        self.residuals = SharedBlocks(block(ngf * 4), n_blocks - 5)
        self.up_3 = nn.Sequential(up(ngf * 4, ngf * 3), block(ngf * 3))
        self.up_2 = nn.Sequential(up(ngf * 3, ngf * 2), block(ngf * 2))
        self.up_1 = nn.Sequential(up(ngf * 2, ngf), block(ngf))
        self.conv_out = nn.Sequential(*_depth_output(ngf, pad_mode))

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> the same; H and W multiples of 8 and at least 16.

        Raises:
            ValueError: for a size that the network cannot run.
        """
        require_size("model zoo DepthResNet", x, 8, 16)
        x = self.down_3(self.down_2(self.down_1(self.conv_in(x))))  # [N, 4C, H/8, W/8]
        return self.conv_out(self.up_1(self.up_2(self.up_3(self.residuals(x)))))


def _depth_output(ngf: int, pad_mode: str) -> list[nn.Module]:
    if pad_mode == "REFLECT":
        return [nn.ReflectionPad2d(3), nn.Conv2d(ngf, 3, 7, bias=False), nn.Tanh()]
    return [nn.Conv2d(ngf, 3, 7, padding=3), nn.Tanh(), nn.Conv2d(3, 3, 3, padding=1), nn.Tanh()]


class UnetSkipConnectionBlock(nn.Module):
    """One level of the model zoo's U-Net; it joins its result and its input, the result first.

    Args:
        outer: channels of the level's input and of what it adds to it.
        inner: channels one level further down.
        submodule: the level below, None for the innermost.
        outermost: whether this is the level of the images.
        norm, reference_exact: see the module and ZooInstanceNorm2d.
        dropout: whether half of the values are dropped in train mode.
    """

    def __init__(
        self,
        outer: int,
        inner: int,
        submodule: nn.Module | None = None,
        outermost: bool = False,
        norm: str = "instance",
        dropout: bool = False,
        reference_exact: bool = False,
    ) -> None:
        super().__init__()
        self.outermost = outermost
        bias = norm == "instance"
        down = nn.Conv2d(outer, inner, 4, 2, 1, bias=bias)
        width = inner if submodule is None else inner * 2
        up = nn.ConvTranspose2d(width, outer, 4, 2, 1, bias=bias and not outermost)
        if submodule is None:
            layers = [nn.LeakyReLU(0.2), down, nn.ReLU(), up, zoo_norm(norm, outer, reference_exact)]
        elif outermost:
            layers = [down, submodule, nn.ReLU(), up, nn.Tanh()]
        else:
            layers = [nn.LeakyReLU(0.2), down, zoo_norm(norm, inner, reference_exact), submodule, nn.ReLU(), up]
            layers += [zoo_norm(norm, outer, reference_exact), *([nn.Dropout(0.5)] if dropout else [])]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """[N, outer, H, W] -> [N, 2 * outer, H, W]; the outermost keeps [N, outer, H, W]."""
        return self.model(x) if self.outermost else torch.cat((self.model(x), x), 1)


class UNet(nn.Module):
    """The model zoo's U-Net generator.

    Args:
        num_downs: levels (gl_num), at least 5.
        ngf: channels of the first level.
        norm: see the module.
        dropout: whether the levels with 8 * ngf channels drop half of their values in train mode.
        reference_exact: see ZooInstanceNorm2d.
    """

    def __init__(
        self,
        num_downs: int = 9,
        ngf: int = 64,
        norm: str = "instance",
        dropout: bool = False,
        reference_exact: bool = False,
    ) -> None:
        super().__init__()
        self.num_downs = num_downs
        exact = reference_exact
        block = UnetSkipConnectionBlock(ngf * 8, ngf * 8, None, False, norm, False, exact)
        for _ in range(num_downs - 5):
            block = UnetSkipConnectionBlock(ngf * 8, ngf * 8, block, False, norm, dropout, exact)
        for factor in (4, 2, 1):
            block = UnetSkipConnectionBlock(ngf * factor, ngf * factor * 2, block, False, norm, False, exact)
        self.model = UnetSkipConnectionBlock(3, ngf, block, True, norm, False, exact)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> the same; H and W multiples of 2 ** num_downs.

        Raises:
            ValueError: for a size that the network cannot run.
        """
        require_size("model zoo UNet", x, 2**self.num_downs, 2**self.num_downs)
        return self.model(x)


class Discriminator(nn.Module):
    """The model zoo's PatchGAN discriminator; its first and last convolutions have no bias.

    Args:
        ndf: channels of the first layer.
        n_layers: down-sampling convolutions.
        slope: of the leaky ReLUs.
        norm: see the module.
        reference_exact: see ZooInstanceNorm2d.
    """

    def __init__(
        self,
        ndf: int = 64,
        n_layers: int = 3,
        slope: float = 0.2,
        norm: str = "instance",
        reference_exact: bool = False,
    ) -> None:
        super().__init__()
        self.n_layers = n_layers
        layers: list[nn.Module] = [nn.Conv2d(3, ndf, 4, 2, 1, bias=False), activation(slope)]
        width = ndf
        for level in range(1, n_layers + 1):
            wider, stride = ndf * min(2**level, 8), 2 if level < n_layers else 1
            layers += [ConvNormReLU(width, wider, 4, stride, slope, norm, "CONSTANT", 1, reference_exact)]
            width = wider
        layers += [nn.Conv2d(width, 1, 4, 1, 1, bias=False)]
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> logits [N, 1, H / 2 ** n_layers - 2, W / 2 ** n_layers - 2], high for real; H and
        W at least 3 * 2 ** n_layers.

        Raises:
            ValueError: for a size that the network cannot run.
        """
        require_size("model zoo discriminator", x, 1, 3 * 2**self.n_layers)
        return self.features(x)
