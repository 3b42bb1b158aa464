"""The U-Net that every CycleGAN system builds in its own way; the twin of `torch_ref/unet.py`."""

from collections.abc import Callable
from functools import partial

from mindspore import Tensor, nn, ops

from ms_models.compact import conv2d, sequence
from ms_models.kernels import LeakyReLU
from ms_models.layers import Tanh, conv_transpose2d, require_size


class UnetSkipConnectionBlock(nn.Cell):
    """One level of the U-Net: down, the level below, up; all but the outermost join their input to the result."""

    def __init__(
        self,
        outer: int,
        inner: int,
        norm: Callable[[int], nn.Cell],
        biases: tuple[bool, bool],
        inside: nn.Cell | None = None,
        input_nc: int | None = None,
        outermost: bool = False,
        dropout: bool = False,
        result_first: bool = False,
    ) -> None:
        super().__init__()
        self.outermost, self.result_first = outermost, result_first
        down = conv2d(input_nc or outer, inner, 4, 2, 1, bias=biases[0])
        up = conv_transpose2d(inner * (2 if inside else 1), outer, 4, 2, 1, bias=biases[1])
        if inside is None:
            layers = [LeakyReLU(0.2), down, nn.ReLU(), up, norm(outer)]
        elif outermost:
            layers = [down, inside, nn.ReLU(), up, Tanh()]
        else:
            layers = [LeakyReLU(0.2), down, norm(inner), inside, nn.ReLU(), up, norm(outer)]
            layers += [nn.Dropout(p=0.5)] if dropout else []
        self.model = sequence(*layers)

    def construct(self, x: Tensor) -> Tensor:
        """[N, outer, H, W] -> [N, 2 * outer, H, W]; outermost: [N, input_nc, H, W] -> [N, outer, H, W]."""
        if self.outermost:
            return self.model(x)
        return ops.cat((self.model(x), x) if self.result_first else (x, self.model(x)), 1)


class SkipUnet(nn.Cell):
    """U-Net with `num_downs` levels; 7 for 128x128 images, 8 for 256x256."""

    def __init__(
        self,
        title: str,
        num_downs: int,
        ngf: int,
        norm: Callable[[int], nn.Cell],
        bias: bool,
        last_bias: bool = True,
        channels: tuple[int, int] = (3, 3),
        dropout: bool = False,
        result_first: bool = False,
    ) -> None:
        super().__init__()
        self.title, self.num_downs = title, num_downs
        level = partial(UnetSkipConnectionBlock, norm=norm, biases=(bias, bias), result_first=result_first)
        block = level(ngf * 8, ngf * 8)
        for _ in range(num_downs - 5):
            block = level(ngf * 8, ngf * 8, inside=block, dropout=dropout)
        for factor in (4, 2, 1):
            block = level(ngf * factor, ngf * factor * 2, inside=block)
        input_nc, output_nc = channels
        biases = bias, last_bias
        self.model = level(output_nc, ngf, biases=biases, inside=block, input_nc=input_nc, outermost=True)

    def construct(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] in [-1, 1] -> the same with its own channels; H and W multiples of 2 ** num_downs."""
        require_size(self.title, x, 2**self.num_downs, 2**self.num_downs)
        return self.model(x)
