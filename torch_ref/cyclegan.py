"""CycleGAN: ResNet and U-Net generators and the patch discriminator, with junyanz's parameter names.

Paper: Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks (arXiv 1703.10593); the
U-Net is pix2pix's (arXiv 1611.07004). System: junyanz/pytorch-CycleGAN-and-pix2pix (BSD). The networks of the
MindSpore model zoo stand in `cyclegan_zoo.py`; `build_generator` and `build_discriminator` make either.

Norms: "instance" (no parameters), "affine instance" (with scale and shift), "batch". Convolutions before a norm have a
bias only where the norm is an instance norm.
"""

from functools import partial
from typing import Any

from torch import Tensor, nn

from torch_ref.cyclegan_zoo import DepthResNet, Discriminator, ResNet, UNet
from torch_ref.layers import ResnetBlock, initialize, require_size
from torch_ref.unet import SkipUnet


def build_generator(architecture: str = "resnet", **options: Any) -> nn.Module:
    """Return a generator with fresh weights.

    Args:
        architecture: "resnet" or "unet" (junyanz), "zoo_resnet", "zoo_depth_resnet" or "zoo_unet" (model zoo).
        options: constructor arguments of that network.
    """
    kinds = {
        "resnet": ResnetGenerator,
        "unet": UnetGenerator,
        "zoo_resnet": ResNet,
        "zoo_depth_resnet": DepthResNet,
        "zoo_unet": UNet,
    }
    return initialize(kinds[architecture](**options))


def build_discriminator(architecture: str = "patch", **options: Any) -> nn.Module:
    """Return a discriminator with fresh weights: "patch" is junyanz's, "zoo_patch" the model zoo's."""
    return initialize({"patch": NLayerDiscriminator, "zoo_patch": Discriminator}[architecture](**options))


def _norm(norm: str, channels: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm in {"instance", "affine instance"}:
        return nn.InstanceNorm2d(channels, affine=norm == "affine instance")
    raise ValueError(f"unknown norm '{norm}'; norms: instance, affine instance, batch")


class ResnetGenerator(nn.Module):
    """Two down-sampling convolutions, residual blocks, two transposed convolutions.

    Args:
        input_nc, output_nc: image channels.
        ngf: channels of the first layer.
        n_blocks: residual blocks (the system uses 6 or 9).
        norm: see the module.
        dropout: whether the residual blocks drop half of their values in train mode.
    """

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
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(input_nc, ngf, 7, bias=bias), _norm(norm, ngf), nn.ReLU()]
        for dim in (ngf, ngf * 2):
            layers += [nn.Conv2d(dim, dim * 2, 3, 2, 1, bias=bias), _norm(norm, dim * 2), nn.ReLU()]
        layers += [ResnetBlock(ngf * 4, partial(_norm, norm), bias, dropout) for _ in range(n_blocks)]
        for dim in (ngf * 4, ngf * 2):
            up = nn.ConvTranspose2d(dim, dim // 2, 3, 2, 1, output_padding=1, bias=bias)
            layers += [up, _norm(norm, dim // 2), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(ngf, output_nc, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """[N, input_nc, H, W] in [-1, 1] -> [N, output_nc, H, W] in [-1, 1]; H and W at least 8. A side that is no
        multiple of 4 comes out as the next multiple of 4.

        Raises ValueError: for a size that the network cannot run.
        """
        require_size("CycleGAN ResNet generator", x, 1, 8)
        return self.model(x)


class UnetGenerator(SkipUnet):
    """U-Net with `num_downs` levels; 7 for 128x128 images, 8 for 256x256.

    Args:
        input_nc, output_nc: image channels.
        num_downs: levels, at least 5; the innermost works on images 2 ** num_downs times smaller.
        ngf: channels of the first level.
        norm: see the module.
        dropout: whether the levels with 8 * ngf channels drop half of their values in train mode.
    """

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


class NLayerDiscriminator(nn.Module):
    """PatchGAN discriminator: one logit for each overlapping patch (70x70 pixels with three layers).

    Args:
        input_nc: image channels.
        ndf: channels of the first layer.
        n_layers: down-sampling convolutions.
        norm: see the module.
        bias: whether the convolutions before a norm have a bias; None: see the module.
    """

    title = "CycleGAN discriminator"

    def __init__(
        self, input_nc: int = 3, ndf: int = 64, n_layers: int = 3, norm: str = "instance", bias: bool | None = None
    ) -> None:
        super().__init__()
        self.n_layers = n_layers
        bias = norm != "batch" if bias is None else bias
        layers: list[nn.Module] = [nn.Conv2d(input_nc, ndf, 4, 2, 1), nn.LeakyReLU(0.2)]
        width = ndf
        for level in range(1, n_layers + 1):
            wider, stride = ndf * min(2**level, 8), 2 if level < n_layers else 1
            layers += [nn.Conv2d(width, wider, 4, stride, 1, bias=bias), _norm(norm, wider)]
            layers += [nn.LeakyReLU(0.2)]
            width = wider
        layers += [nn.Conv2d(width, 1, 4, 1, 1)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """[N, input_nc, H, W] in [-1, 1] -> logits [N, 1, H / 2 ** n_layers - 2, W / 2 ** n_layers - 2], high for real;
        H and W at least 3 * 2 ** n_layers.

        Raises ValueError: for a size that the network cannot run.
        """
        require_size(self.title, x, 1, 3 * 2**self.n_layers)
        return self.model(x)
