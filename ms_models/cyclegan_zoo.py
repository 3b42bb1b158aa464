"""The CycleGAN networks of the MindSpore model zoo, which human2anime uses; the twin of `torch_ref/cyclegan_zoo.py`."""

from mindspore import Tensor, nn, ops

from ms_models.cyclegan_zoo_layers import (
    ConvNormReLU,
    ConvTransposeNormReLU,
    ResidualBlock,
    SharedBlocks,
    activation,
    zoo_norm,
)
from ms_models.layers import Tanh, conv2d, conv_transpose2d, require_size


class ResNet(nn.Cell):
    """The model zoo's ResNet generator."""

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
            self.conv_out: nn.Cell = nn.SequentialCell(nn.ReflectionPad2d(3), conv2d(ngf, 3, 7, bias=False))
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
        self.conv_in = nn.SequentialCell(conv2d(3, ngf, 3, padding=1), wide)
        self.down_1 = nn.SequentialCell(down(ngf, ngf * 2), block(ngf * 2))
        self.down_2 = nn.SequentialCell(down(ngf * 2, ngf * 3), block(ngf * 3))
        self.down_3 = down(ngf * 3, ngf * 4)
        self.residuals = SharedBlocks(block(ngf * 4), n_blocks - 5)
        self.up_3 = nn.SequentialCell(up(ngf * 4, ngf * 3), block(ngf * 3))
        self.up_2 = nn.SequentialCell(up(ngf * 3, ngf * 2), block(ngf * 2))
        self.up_1 = nn.SequentialCell(up(ngf * 2, ngf), block(ngf))
        self.conv_out = nn.SequentialCell(*_depth_output(ngf, pad_mode))

    def construct(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> the same; H and W multiples of 8 and at least 16."""
        require_size("model zoo DepthResNet", x, 8, 16)
        x = self.down_3(self.down_2(self.down_1(self.conv_in(x))))  # [N, 4C, H/8, W/8]
        return self.conv_out(self.up_1(self.up_2(self.up_3(self.residuals(x)))))


def _depth_output(ngf: int, pad_mode: str) -> list[nn.Cell]:
    if pad_mode == "REFLECT":
        return [nn.ReflectionPad2d(3), conv2d(ngf, 3, 7, bias=False), Tanh()]
    return [conv2d(ngf, 3, 7, padding=3), Tanh(), conv2d(3, 3, 3, padding=1), Tanh()]


class UnetSkipConnectionBlock(nn.Cell):
    """One level of the model zoo's U-Net; it joins its result and its input, the result first."""

    def __init__(
        self,
        outer: int,
        inner: int,
        submodule: nn.Cell | None = None,
        outermost: bool = False,
        norm: str = "instance",
        dropout: bool = False,
        reference_exact: bool = False,
    ) -> None:
        super().__init__()
        self.outermost = outermost
        bias = norm == "instance"
        down = conv2d(outer, inner, 4, 2, 1, bias=bias)
        width = inner if submodule is None else inner * 2
        up = conv_transpose2d(width, outer, 4, 2, 1, bias=bias and not outermost)
        if submodule is None:
            layers = [nn.LeakyReLU(0.2), down, nn.ReLU(), up, zoo_norm(norm, outer, reference_exact)]
        elif outermost:
            layers = [down, submodule, nn.ReLU(), up, Tanh()]
        else:
            layers = [nn.LeakyReLU(0.2), down, zoo_norm(norm, inner, reference_exact), submodule, nn.ReLU(), up]
            layers += [zoo_norm(norm, outer, reference_exact), *([nn.Dropout(p=0.5)] if dropout else [])]
        self.model = nn.SequentialCell(*layers)

    def construct(self, x: Tensor) -> Tensor:
        """[N, outer, H, W] -> [N, 2 * outer, H, W]; the outermost keeps [N, outer, H, W]."""
        return self.model(x) if self.outermost else ops.cat((self.model(x), x), 1)


class UNet(nn.Cell):
    """The model zoo's U-Net generator."""

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

    def construct(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> the same; H and W multiples of 2 ** num_downs."""
        require_size("model zoo UNet", x, 2**self.num_downs, 2**self.num_downs)
        return self.model(x)


class Discriminator(nn.Cell):
    """The model zoo's PatchGAN discriminator; its first and last convolutions have no bias."""

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
        layers: list[nn.Cell] = [conv2d(3, ndf, 4, 2, 1, bias=False), activation(slope)]
        width = ndf
        for level in range(1, n_layers + 1):
            wider, stride = ndf * min(2**level, 8), 2 if level < n_layers else 1
            layers += [ConvNormReLU(width, wider, 4, stride, slope, norm, "CONSTANT", 1, reference_exact)]
            width = wider
        layers += [conv2d(width, 1, 4, 1, 1, bias=False)]
        self.features = nn.SequentialCell(*layers)

    def construct(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> logits [N, 1, H / 2 ** n_layers - 2, W / 2 ** n_layers - 2], high for real; H and
        W at least 3 * 2 ** n_layers.
        """
        require_size("model zoo discriminator", x, 1, 3 * 2**self.n_layers)
        return self.features(x)
