"""The U-Net whose levels join what they take and what they make, as every CycleGAN system builds it in its own way.

Paper: pix2pix (arXiv 1611.07004).
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from torch_ref.layers import require_size


class UnetSkipConnectionBlock(nn.Module):
    """One level of the U-Net: down, the level below, up; all but the outermost join their input to the result.

    Args:
        outer: channels of the level's input and of what it adds to it.
        inner: channels one level further down.
        norm: channels -> norm layer.
        biases: whether the convolution down and the one up have a bias.
        inside: the level below, None for the innermost.
        input_nc: input channels where they differ from `outer` (the outermost level).
        outermost: whether this is the level of the images.
        dropout: whether half of the values are dropped in train mode.
        result_first: whether the result comes before the input where they are joined.
    """

    def __init__(
        self,
        outer: int,
        inner: int,
        norm: Callable[[int], nn.Module],
        biases: tuple[bool, bool],
        inside: nn.Module | None = None,
        input_nc: int | None = None,
        outermost: bool = False,
        dropout: bool = False,
        result_first: bool = False,
    ) -> None:
        super().__init__()
        self.outermost, self.result_first = outermost, result_first
        down = nn.Conv2d(input_nc or outer, inner, 4, 2, 1, bias=biases[0])
        up = nn.ConvTranspose2d(inner * (2 if inside else 1), outer, 4, 2, 1, bias=biases[1])
        if inside is None:
            layers = [nn.LeakyReLU(0.2), down, nn.ReLU(), up, norm(outer)]
        elif outermost:
            layers = [down, inside, nn.ReLU(), up, nn.Tanh()]
        else:
            layers = [nn.LeakyReLU(0.2), down, norm(inner), inside, nn.ReLU(), up, norm(outer)]
            layers += [nn.Dropout(0.5)] if dropout else []
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """[N, outer, H, W] -> [N, 2 * outer, H, W]; outermost: [N, input_nc, H, W] -> [N, outer, H, W]."""
        if self.outermost:
            return self.model(x)
        return torch.cat((self.model(x), x) if self.result_first else (x, self.model(x)), 1)


class SkipUnet(nn.Module):
    """U-Net with `num_downs` levels; 7 for 128x128 images, 8 for 256x256.

    Args:
        title: the network in words, for messages.
        num_downs: levels, at least 5; the innermost works on images 2 ** num_downs times smaller.
        ngf: channels of the first level.
        norm: channels -> norm layer.
        bias: whether the convolutions before a norm have a bias.
        last_bias: whether the outermost transposed convolution has one.
        channels: of the images, in and out.
        dropout: whether the levels with 8 * ngf channels drop half of their values in train mode.
        result_first: whether the levels put their result before their input.
    """

    def __init__(
        self,
        title: str,
        num_downs: int,
        ngf: int,
        norm: Callable[[int], nn.Module],
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

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] in [-1, 1] -> the same with its own channels; H and W multiples of 2 ** num_downs.

        Raises ValueError: for a size that the network cannot run.
        """
        require_size(self.title, x, 2**self.num_downs, 2**self.num_downs)
        return self.model(x)
