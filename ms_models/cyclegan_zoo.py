"""The CycleGAN networks of the MindSpore model zoo, which human2anime uses; the twin of `torch_ref/cyclegan_zoo.py`."""

from dataclasses import replace
from functools import partial
from typing import Any

from mindspore import Tensor, nn

from convert.families.cyclegan_zoo import ZooStyle
from ms_models.compact import ReflectionPad2d, conv2d, sequence
from ms_models.cyclegan_zoo_layers import (
    ConvNormReLU,
    ConvTransposeNormReLU,
    ResidualBlock,
    SharedBlocks,
    activation,
    zoo_norm,
)
from ms_models.layers import Tanh, require_size
from ms_models.unet import SkipUnet


class ResNet(nn.Cell):
    """The model zoo's ResNet generator."""

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
            self.conv_out: nn.Cell = sequence(ReflectionPad2d(3), conv2d(ngf, 3, 7, bias=False))
        else:
            self.conv_out = conv2d(ngf, 3, 7, padding=3, bias=False)
        self.tanh = Tanh()

    def construct(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> the same; H and W multiples of 4 and at least 8."""
        require_size("model zoo ResNet", x, 4, 8)
        x = self.residuals(self.down_2(self.down_1(self.conv_in(x))))  # [N, 4C, H/4, W/4]
        return self.tanh(self.conv_out(self.up_1(self.up_2(x))))


class DepthResNet(nn.Cell):
    """The model zoo's deeper ResNet generator, human2anime's default: 8 times smaller inside, 3 residual stages."""

    def __init__(self, ngf: int = 64, n_blocks: int = 9, **style: Any) -> None:
        super().__init__()
        zoo = ZooStyle(**style)
        unpadded = replace(zoo, pad_mode="CONSTANT")
        down, up = partial(ConvNormReLU, kernel=3, stride=2, zoo=unpadded), partial(ConvTransposeNormReLU, zoo=zoo)
        block = partial(ResidualBlock, slopes=(0.2, 0.2), zoo=zoo)
        wide = ConvNormReLU(ngf, ngf, 7, 1, zoo)
        self.conv_in = sequence(conv2d(3, ngf, 3, padding=1), wide)
        self.down_1 = sequence(down(ngf, ngf * 2), block(ngf * 2))
        self.down_2 = sequence(down(ngf * 2, ngf * 3), block(ngf * 3))
        self.down_3 = down(ngf * 3, ngf * 4)
        self.residuals = SharedBlocks(block(ngf * 4), n_blocks - 5)
        self.up_3 = sequence(up(ngf * 4, ngf * 3), block(ngf * 3))
        self.up_2 = sequence(up(ngf * 3, ngf * 2), block(ngf * 2))
        self.up_1 = sequence(up(ngf * 2, ngf), block(ngf))
        self.conv_out = sequence(*_depth_output(ngf, zoo.reflects))

    def construct(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> the same; H and W multiples of 8 and at least 16."""
        require_size("model zoo DepthResNet", x, 8, 16)
        x = self.down_3(self.down_2(self.down_1(self.conv_in(x))))  # [N, 4C, H/8, W/8]
        return self.conv_out(self.up_1(self.up_2(self.up_3(self.residuals(x)))))


def _depth_output(ngf: int, reflects: bool) -> list[nn.Cell]:
    if reflects:
        return [ReflectionPad2d(3), conv2d(ngf, 3, 7, bias=False), Tanh()]
    return [conv2d(ngf, 3, 7, padding=3), Tanh(), conv2d(3, 3, 3, padding=1), Tanh()]


class UNet(SkipUnet):
    """The model zoo's U-Net generator."""

    def __init__(self, num_downs: int = 9, ngf: int = 64, dropout: bool = False, **style: Any) -> None:
        zoo = ZooStyle(**style)
        norm = partial(zoo_norm, zoo)
        super().__init__("model zoo UNet", num_downs, ngf, norm, zoo.bias, False, dropout=dropout, result_first=True)


class Discriminator(nn.Cell):
    """The model zoo's PatchGAN discriminator; its first and last convolutions have no bias."""

    def __init__(self, ndf: int = 64, n_layers: int = 3, **style: Any) -> None:
        super().__init__()
        zoo = ZooStyle(**style)
        self.n_layers = n_layers
        layers: list[nn.Cell] = [conv2d(3, ndf, 4, 2, 1, bias=False), *activation(zoo.slope)]
        width = ndf
        for level in range(1, n_layers + 1):
            wider, stride = ndf * min(2**level, 8), 2 if level < n_layers else 1
            layers += [ConvNormReLU(width, wider, 4, stride, zoo, padding=1)]
            width = wider
        layers += [conv2d(width, 1, 4, 1, 1, bias=False)]
        self.features = sequence(*layers)

    def construct(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> logits [N, 1, H / 2 ** n_layers - 2, W / 2 ** n_layers - 2], high for real; H and
        W at least 3 * 2 ** n_layers.
        """
        require_size("model zoo discriminator", x, 1, 3 * 2**self.n_layers)
        return self.features(x)
