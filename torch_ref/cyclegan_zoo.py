"""The CycleGAN networks of the MindSpore model zoo, which human2anime uses, in PyTorch.

Systems: mindspore-ai/models official/cv/CycleGAN and stnjumu/human2anime (Apache-2.0); paper: arXiv 1703.10593.
Names, layer order and padding are the model zoo's. They differ from junyanz's networks in function, not only in
names: all residual blocks are one block run several times, transposed convolutions keep the first 2H rows of their full
result where junyanz's keep rows 1 to 2H, and several convolutions have no bias.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from convert.families.cyclegan_zoo import ZooStyle
from torch_ref.cyclegan_zoo_layers import (
    ConvNormReLU,
    ConvTransposeNormReLU,
    ResidualBlock,
    SharedBlocks,
    activation,
    zoo_norm,
)
from torch_ref.layers import require_size
from torch_ref.unet import SkipUnet


class ResNet(nn.Module):
    """The model zoo's ResNet generator.

    Args:
        ngf: channels of the first layer.
        n_blocks: how often the one residual block runs (gl_num).
        style: of the layers outside of the residual block, as in ZooStyle.
    """

    def __init__(self, ngf: int = 64, n_blocks: int = 9, **style: Any) -> None:
        super().__init__()
        zoo = ZooStyle(**style)
        unpadded = replace(zoo, pad_mode="CONSTANT")
        self.conv_in = ConvNormReLU(3, ngf, 7, 1, zoo)
        self.down_1 = ConvNormReLU(ngf, ngf * 2, 3, 2, unpadded)
        self.down_2 = ConvNormReLU(ngf * 2, ngf * 4, 3, 2, unpadded)
        self.residuals = SharedBlocks(ResidualBlock(ngf * 4, (0.0, None), zoo), n_blocks)
        self.up_2 = ConvTransposeNormReLU(ngf * 4, ngf * 2, zoo)
        self.up_1 = ConvTransposeNormReLU(ngf * 2, ngf, zoo)
        if zoo.reflects:
            self.conv_out: nn.Module = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(ngf, 3, 7, bias=False))
        else:
            self.conv_out = nn.Conv2d(ngf, 3, 7, padding=3, bias=False)
        self.tanh = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> the same; H and W multiples of 4 and at least 8.

        Raises ValueError: for a size that the network cannot run.
        """
        require_size("model zoo ResNet", x, 4, 8)
        x = self.residuals(self.down_2(self.down_1(self.conv_in(x))))  # [N, 4C, H/4, W/4]
        return self.tanh(self.conv_out(self.up_1(self.up_2(x))))


class DepthResNet(nn.Module):
    """The model zoo's deeper ResNet generator, human2anime's default: 8 times smaller inside, 3 residual stages.

    Args:
        ngf: channels of the first layer.
        n_blocks: gl_num; the inner residual block runs n_blocks - 5 times.
        style: of the layers, as in ZooStyle; the slope is 0.2 in the residual blocks.
    """

    def __init__(self, ngf: int = 64, n_blocks: int = 9, **style: Any) -> None:
        super().__init__()
        zoo = ZooStyle(**style)
        unpadded = replace(zoo, pad_mode="CONSTANT")
        down, up = partial(ConvNormReLU, kernel=3, stride=2, zoo=unpadded), partial(ConvTransposeNormReLU, zoo=zoo)
        block = partial(ResidualBlock, slopes=(0.2, 0.2), zoo=zoo)
        wide = ConvNormReLU(ngf, ngf, 7, 1, zoo)
        self.conv_in = nn.Sequential(nn.Conv2d(3, ngf, 3, padding=1), wide)
        self.down_1 = nn.Sequential(down(ngf, ngf * 2), block(ngf * 2))
        self.down_2 = nn.Sequential(down(ngf * 2, ngf * 3), block(ngf * 3))
        self.down_3 = down(ngf * 3, ngf * 4)
        self.residuals = SharedBlocks(block(ngf * 4), n_blocks - 5)
        self.up_3 = nn.Sequential(up(ngf * 4, ngf * 3), block(ngf * 3))
        self.up_2 = nn.Sequential(up(ngf * 3, ngf * 2), block(ngf * 2))
        self.up_1 = nn.Sequential(up(ngf * 2, ngf), block(ngf))
        self.conv_out = nn.Sequential(*_depth_output(ngf, zoo.reflects))

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> the same; H and W multiples of 8 and at least 16.

        Raises ValueError: for a size that the network cannot run.
        """
        require_size("model zoo DepthResNet", x, 8, 16)
        x = self.down_3(self.down_2(self.down_1(self.conv_in(x))))  # [N, 4C, H/8, W/8]
        return self.conv_out(self.up_1(self.up_2(self.up_3(self.residuals(x)))))


def _depth_output(ngf: int, reflects: bool) -> list[nn.Module]:
    if reflects:
        return [nn.ReflectionPad2d(3), nn.Conv2d(ngf, 3, 7, bias=False), nn.Tanh()]
    return [nn.Conv2d(ngf, 3, 7, padding=3), nn.Tanh(), nn.Conv2d(3, 3, 3, padding=1), nn.Tanh()]


class UNet(SkipUnet):
    """The model zoo's U-Net generator.

    Args:
        num_downs: levels (gl_num), at least 5.
        ngf: channels of the first level.
        dropout: whether the levels with 8 * ngf channels drop half of their values in train mode.
        style: of the norms, as in ZooStyle.
    """

    def __init__(self, num_downs: int = 9, ngf: int = 64, dropout: bool = False, **style: Any) -> None:
        zoo = ZooStyle(**style)
        norm = partial(zoo_norm, zoo)
        super().__init__("model zoo UNet", num_downs, ngf, norm, zoo.bias, False, dropout=dropout, result_first=True)


class Discriminator(nn.Module):
    """The model zoo's PatchGAN discriminator; its first and last convolutions have no bias.

    Args:
        ndf: channels of the first layer.
        n_layers: down-sampling convolutions.
        style: of the layers, as in ZooStyle.
    """

    def __init__(self, ndf: int = 64, n_layers: int = 3, **style: Any) -> None:
        super().__init__()
        zoo = ZooStyle(**style)
        self.n_layers = n_layers
        layers: list[nn.Module] = [nn.Conv2d(3, ndf, 4, 2, 1, bias=False), *activation(zoo.slope)]
        width = ndf
        for level in range(1, n_layers + 1):
            wider, stride = ndf * min(2**level, 8), 2 if level < n_layers else 1
            layers += [ConvNormReLU(width, wider, 4, stride, zoo, padding=1)]
            width = wider
        layers += [nn.Conv2d(width, 1, 4, 1, 1, bias=False)]
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> logits [N, 1, H / 2 ** n_layers - 2, W / 2 ** n_layers - 2], high for real; H and
        W at least 3 * 2 ** n_layers.

        Raises ValueError: for a size that the network cannot run.
        """
        require_size("model zoo discriminator", x, 1, 3 * 2**self.n_layers)
        return self.features(x)
