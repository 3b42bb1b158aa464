"""MindSpore's own layers without the branches and loops of their code.

MindSpore makes a graph of every branch and of every turn of a loop, anew for each layer, before it knows which of them
are taken. In photo2cartoon's generator, which has some 1100 layers, that was two fifths of the time of compiling. The
layers here compute what MindSpore's own do, and hold parameters of the same names.
"""

from mindspore import Tensor, nn, ops


class _Conv2d(nn.Conv2d):
    """Convolution without a bias."""

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H', W']."""
        return self.conv2d(x, self.weight)


class _BiasedConv2d(nn.Conv2d):
    """Convolution with a bias."""

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H', W']."""
        return self.bias_add(self.conv2d(x, self.weight), self.bias)


class _Dense(nn.Dense):
    """Linear layer without a bias."""

    def construct(self, x: Tensor) -> Tensor:
        """[N, C] -> [N, C']."""
        return self.matmul(x, self.weight)


class _BiasedDense(nn.Dense):
    """Linear layer with a bias."""

    def construct(self, x: Tensor) -> Tensor:
        """[N, C] -> [N, C']."""
        return self.bias_add(self.matmul(x, self.weight), self.bias)


class ReflectionPad2d(nn.ReflectionPad2d):
    """Reflection padding of pictures by the same width on all sides."""

    def __init__(self, padding: int) -> None:
        super().__init__(padding)
        self._mirror = ops.MirrorPad(mode="REFLECT")
        self._widths = Tensor(((0, 0), (0, 0), (padding, padding), (padding, padding)))

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H + 2 * padding, W + 2 * padding]."""
        return self._mirror(x, self._widths)


class _Two(nn.SequentialCell):
    def construct(self, x: Tensor) -> Tensor:
        first, second = self.cell_list
        return second(first(x))


class _Three(nn.SequentialCell):
    def construct(self, x: Tensor) -> Tensor:
        first, second, third = self.cell_list
        return third(second(first(x)))


class _Four(nn.SequentialCell):
    def construct(self, x: Tensor) -> Tensor:
        first, second, third, fourth = self.cell_list
        return fourth(third(second(first(x))))


class _Five(nn.SequentialCell):
    def construct(self, x: Tensor) -> Tensor:
        first, second, third, fourth, fifth = self.cell_list
        return fifth(fourth(third(second(first(x)))))


class _Seven(nn.SequentialCell):
    def construct(self, x: Tensor) -> Tensor:
        first, second, third, fourth, fifth, sixth, seventh = self.cell_list
        return seventh(sixth(fifth(fourth(third(second(first(x)))))))


def sequence(*layers: nn.Cell) -> nn.SequentialCell:
    """Return layers that run one after the other; of a length that is rare, in MindSpore's own loop."""
    kinds = {2: _Two, 3: _Three, 4: _Four, 5: _Five, 7: _Seven}
    return kinds.get(len(layers), nn.SequentialCell)(*layers)


def conv2d(
    dim_in: int, dim_out: int, kernel: int, stride: int = 1, padding: int = 0, bias: bool = True, groups: int = 1
) -> nn.Conv2d:
    """Return a convolution with zero padding; arguments and defaults are PyTorch's."""
    kind = _BiasedConv2d if bias else _Conv2d
    return kind(dim_in, dim_out, kernel, stride, pad_mode="pad", padding=padding, group=groups, has_bias=bias)


def dense(dim_in: int, dim_out: int, bias: bool = True) -> nn.Dense:
    """Return a linear layer for vectors [N, C]."""
    return (_BiasedDense if bias else _Dense)(dim_in, dim_out, has_bias=bias)
