"""CycleGAN: ResNet and U-Net generators and the patch discriminator; the twin of `torch_ref/cyclegan.py`."""

from functools import partial
from typing import Any

from mindspore import Tensor, nn

from ms_models.compact import ReflectionPad2d, conv2d, sequence
from ms_models.cyclegan_zoo import DepthResNet, Discriminator, ResNet, UNet
from ms_models.kernels import LeakyReLU
from ms_models.layers import InstanceNorm2d, ResnetBlock, Tanh, conv_transpose2d, initialize, require_size
from ms_models.unet import SkipUnet


def build_generator(architecture: str = "resnet", **options: Any) -> nn.Cell:
    """Return a generator with fresh weights."""
    kinds = {
        "resnet": ResnetGenerator,
        "unet": UnetGenerator,
        "zoo_resnet": ResNet,
        "zoo_depth_resnet": DepthResNet,
        "zoo_unet": UNet,
    }
    return initialize(kinds[architecture](**options))


def build_discriminator(architecture: str = "patch", **options: Any) -> nn.Cell:
    """Return a discriminator with fresh weights."""
    return initialize({"patch": NLayerDiscriminator, "zoo_patch": Discriminator}[architecture](**options))


def _norm(norm: str, channels: int) -> nn.Cell:
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm in {"instance", "affine instance"}:
        return InstanceNorm2d(channels, affine=norm == "affine instance")
    raise ValueError(f"unknown norm '{norm}'; norms: instance, affine instance, batch")


class ResnetGenerator(nn.Cell):
    """Two down-sampling convolutions, residual blocks, two transposed convolutions."""

    def __init__(
        self,
        input_nc: int = 3,
        output_nc: int = 3,
        ngf: int = 64,
        n_blocks: int = 9,
        norm: str = "instance",
        dropout: bool = False,
    ) -> None:
        super().__init__()
        bias = norm != "batch"
        layers = [ReflectionPad2d(3), conv2d(input_nc, ngf, 7, bias=bias), _norm(norm, ngf), nn.ReLU()]
        for dim in (ngf, ngf * 2):
            layers += [conv2d(dim, dim * 2, 3, 2, 1, bias=bias), _norm(norm, dim * 2), nn.ReLU()]
        layers += [ResnetBlock(ngf * 4, partial(_norm, norm), bias, dropout) for _ in range(n_blocks)]
        for dim in (ngf * 4, ngf * 2):
            up = conv_transpose2d(dim, dim // 2, 3, 2, 1, output_padding=1, bias=bias)
            layers += [up, _norm(norm, dim // 2), nn.ReLU()]
        layers += [ReflectionPad2d(3), conv2d(ngf, output_nc, 7), Tanh()]
        self.model = sequence(*layers)

    def construct(self, x: Tensor) -> Tensor:
        """[N, input_nc, H, W] in [-1, 1] -> [N, output_nc, H, W] in [-1, 1]; H and W at least 8. A side that is no
        multiple of 4 comes out as the next multiple of 4.
        """
        require_size("CycleGAN ResNet generator", x, 1, 8)
        return self.model(x)


class UnetGenerator(SkipUnet):
    """U-Net with `num_downs` levels; 7 for 128x128 images, 8 for 256x256."""

    def __init__(
        self,
        input_nc: int = 3,
        output_nc: int = 3,
        num_downs: int = 8,
        ngf: int = 64,
        norm: str = "instance",
        dropout: bool = False,
    ) -> None:
        super().__init__(
            "CycleGAN U-Net generator",
            num_downs,
            ngf,
            partial(_norm, norm),
            norm != "batch",
            channels=(input_nc, output_nc),
            dropout=dropout,
        )


class NLayerDiscriminator(nn.Cell):
    """PatchGAN discriminator: one logit for each overlapping patch (70x70 pixels with three layers)."""

    title = "CycleGAN discriminator"

    def __init__(
        self, input_nc: int = 3, ndf: int = 64, n_layers: int = 3, norm: str = "instance", bias: bool | None = None
    ) -> None:
        super().__init__()
        self.n_layers = n_layers
        bias = norm != "batch" if bias is None else bias
        layers: list[nn.Cell] = [conv2d(input_nc, ndf, 4, 2, 1), LeakyReLU(0.2)]
        width = ndf
        for level in range(1, n_layers + 1):
            wider, stride = ndf * min(2**level, 8), 2 if level < n_layers else 1
            layers += [conv2d(width, wider, 4, stride, 1, bias=bias), _norm(norm, wider)]
            layers += [LeakyReLU(0.2)]
            width = wider
        layers += [conv2d(width, 1, 4, 1, 1)]
        self.model = sequence(*layers)

    def construct(self, x: Tensor) -> Tensor:
        """[N, input_nc, H, W] in [-1, 1] -> logits [N, 1, H / 2 ** n_layers - 2, W / 2 ** n_layers - 2], high for real;
        H and W at least 3 * 2 ** n_layers.
        """
        require_size(self.title, x, 1, 3 * 2**self.n_layers)
        return self.model(x)
