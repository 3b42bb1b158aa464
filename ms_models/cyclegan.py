"""CycleGAN: ResNet and U-Net generators and the patch discriminator; the twin of `torch_ref/cyclegan.py`."""

from typing import Any

from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import Normal, initializer

from ms_models.cyclegan_zoo import DepthResNet, Discriminator, ResNet, UNet
from ms_models.layers import InstanceNorm2d, Tanh, conv2d, conv_transpose2d, require_size

SPREAD = 0.02  # standard deviation of fresh weights


def build_generator(architecture: str = "resnet", **options: Any) -> nn.Cell:
    """Return a generator with fresh weights."""
    kinds = {
        "resnet": ResnetGenerator,
        "unet": UnetGenerator,
        "zoo_resnet": ResNet,
        "zoo_depth_resnet": DepthResNet,
        "zoo_unet": UNet,
    }
    return _fresh(kinds[architecture](**options))


def build_discriminator(architecture: str = "patch", **options: Any) -> nn.Cell:
    """Return a discriminator with fresh weights."""
    return _fresh({"patch": NLayerDiscriminator, "zoo_patch": Discriminator}[architecture](**options))


def _fresh(network: nn.Cell) -> nn.Cell:
    """Draw convolution weights from N(0, 0.02) and norm scales from N(1, 0.02); biases and shifts are zero."""
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.Conv2d | nn.Conv2dTranspose):
            _draw(cell.weight, 0.0)
            if cell.has_bias:
                cell.bias.set_data(ops.zeros_like(cell.bias))
        elif isinstance(cell, nn.BatchNorm2d) or (isinstance(cell, InstanceNorm2d) and cell.affine):
            _draw(cell.gamma, 1.0)
    return network


def _draw(parameter: Parameter, mean: float) -> None:
    parameter.set_data(initializer(Normal(SPREAD, mean), parameter.shape, parameter.dtype))


def _norm(norm: str, channels: int) -> nn.Cell:
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm in {"instance", "affine instance"}:
        return InstanceNorm2d(channels, affine=norm == "affine instance")
    raise ValueError(f"unknown norm '{norm}'; norms: instance, affine instance, batch")


class ResnetBlock(nn.Cell):
    """Residual block: x + norm(conv([dropout] ReLU(norm(conv(x))))), reflection padding."""

    def __init__(self, dim: int, norm: str, dropout: bool) -> None:
        super().__init__()
        bias = norm != "batch"
        self.conv_block = nn.SequentialCell(
            nn.ReflectionPad2d(1),
            conv2d(dim, dim, 3, bias=bias),
            _norm(norm, dim),
            nn.ReLU(),
            *([nn.Dropout(p=0.5)] if dropout else []),
            nn.ReflectionPad2d(1),
            conv2d(dim, dim, 3, bias=bias),
            _norm(norm, dim),
        )

    def construct(self, x: Tensor) -> Tensor:
        """[N, dim, H, W] -> [N, dim, H, W]."""
        return x + self.conv_block(x)


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
        layers = [nn.ReflectionPad2d(3), conv2d(input_nc, ngf, 7, bias=bias), _norm(norm, ngf), nn.ReLU()]
        for dim in (ngf, ngf * 2):
            layers += [conv2d(dim, dim * 2, 3, 2, 1, bias=bias), _norm(norm, dim * 2), nn.ReLU()]
        layers += [ResnetBlock(ngf * 4, norm, dropout) for _ in range(n_blocks)]
        for dim in (ngf * 4, ngf * 2):
            up = conv_transpose2d(dim, dim // 2, 3, 2, 1, output_padding=1, bias=bias)
            layers += [up, _norm(norm, dim // 2), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), conv2d(ngf, output_nc, 7), Tanh()]
        self.model = nn.SequentialCell(*layers)

    def construct(self, x: Tensor) -> Tensor:
        """[N, input_nc, H, W] in [-1, 1] -> [N, output_nc, H, W] in [-1, 1]; H and W at least 8. A side that is no
        multiple of 4 comes out as the next multiple of 4.
        """
        require_size("CycleGAN ResNet generator", x, 1, 8)
        return self.model(x)


class UnetSkipConnectionBlock(nn.Cell):
    """One level of the U-Net: down, the level below, up; all but the outermost join their input to the result."""

    def __init__(
        self,
        outer: int,
        inner: int,
        input_nc: int | None = None,
        submodule: nn.Cell | None = None,
        outermost: bool = False,
        norm: str = "instance",
        dropout: bool = False,
    ) -> None:
        super().__init__()
        self.outermost = outermost
        bias = norm != "batch"
        down = conv2d(input_nc or outer, inner, 4, 2, 1, bias=bias)
        width = inner if submodule is None else inner * 2
        up = conv_transpose2d(width, outer, 4, 2, 1, bias=bias or outermost)
        if submodule is None:
            layers = [nn.LeakyReLU(0.2), down, nn.ReLU(), up, _norm(norm, outer)]
        elif outermost:
            layers = [down, submodule, nn.ReLU(), up, Tanh()]
        else:
            layers = [nn.LeakyReLU(0.2), down, _norm(norm, inner), submodule, nn.ReLU(), up, _norm(norm, outer)]
            layers += [nn.Dropout(p=0.5)] if dropout else []
        self.model = nn.SequentialCell(*layers)

    def construct(self, x: Tensor) -> Tensor:
        """[N, outer, H, W] -> [N, 2 * outer, H, W], input first; outermost: [N, input_nc, H, W] -> [N, outer, H, W]."""
        return self.model(x) if self.outermost else ops.cat((x, self.model(x)), 1)


class UnetGenerator(nn.Cell):
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
        super().__init__()
        self.num_downs = num_downs
        block = UnetSkipConnectionBlock(ngf * 8, ngf * 8, norm=norm)
        for _ in range(num_downs - 5):
            block = UnetSkipConnectionBlock(ngf * 8, ngf * 8, submodule=block, norm=norm, dropout=dropout)
        for factor in (4, 2, 1):
            block = UnetSkipConnectionBlock(ngf * factor, ngf * factor * 2, submodule=block, norm=norm)
        self.model = UnetSkipConnectionBlock(output_nc, ngf, input_nc, block, outermost=True, norm=norm)

    def construct(self, x: Tensor) -> Tensor:
        """[N, input_nc, H, W] in [-1, 1] -> [N, output_nc, H, W] in [-1, 1]; H and W multiples of 2 ** num_downs."""
        require_size("CycleGAN U-Net generator", x, 2**self.num_downs, 2**self.num_downs)
        return self.model(x)


class NLayerDiscriminator(nn.Cell):
    """PatchGAN discriminator: one logit for each overlapping patch (70x70 pixels with three layers)."""

    def __init__(self, input_nc: int = 3, ndf: int = 64, n_layers: int = 3, norm: str = "instance") -> None:
        super().__init__()
        self.n_layers = n_layers
        layers: list[nn.Cell] = [conv2d(input_nc, ndf, 4, 2, 1), nn.LeakyReLU(0.2)]
        width = ndf
        for level in range(1, n_layers + 1):
            wider, stride = ndf * min(2**level, 8), 2 if level < n_layers else 1
            layers += [conv2d(width, wider, 4, stride, 1, bias=norm != "batch"), _norm(norm, wider)]
            layers += [nn.LeakyReLU(0.2)]
            width = wider
        layers += [conv2d(width, 1, 4, 1, 1)]
        self.model = nn.SequentialCell(*layers)

    def construct(self, x: Tensor) -> Tensor:
        """[N, input_nc, H, W] in [-1, 1] -> logits [N, 1, H / 2 ** n_layers - 2, W / 2 ** n_layers - 2], high for real;
        H and W at least 3 * 2 ** n_layers.
        """
        require_size("CycleGAN discriminator", x, 1, 3 * 2**self.n_layers)
        return self.model(x)
