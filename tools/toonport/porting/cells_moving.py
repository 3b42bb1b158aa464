"""What pools, pads, resizes and moves elements, for the file of layers of a ported network; see `cells.py`."""

import math

from mindspore import Tensor, nn, ops


def padded(x: Tensor, padding: tuple[int, ...], value: float = 0.0) -> Tensor:
    """Pad before and after each axis, the last first; negative numbers cut. [..., H, W] -> [..., H', W'].

    By concatenation: in a graph, MindSpore's own gradient of a constant border is right in the first run only.
    """
    for place in range(len(padding) // 2):
        axis, (before, after) = x.ndim - 1 - place, padding[2 * place : 2 * place + 2]
        if min(before, after) < 0:
            x = ops.narrow(x, axis, max(-before, 0), x.shape[axis] - max(-before, 0) - max(-after, 0))
        if before > 0:
            x = ops.cat((border(x, axis, before, value), x), axis)
        if after > 0:
            x = ops.cat((x, border(x, axis, after, value)), axis)
    return x


def border(x: Tensor, axis: int, rows: int, value: float) -> Tensor:
    """A constant, in the shape of x but for one axis, which has `rows`."""
    return ops.full((*x.shape[:axis], rows, *x.shape[axis + 1 :]), value, dtype=x.dtype)


def wrapped(x: Tensor, padding: tuple[int, ...]) -> Tensor:
    """Go on at the other end before and after each axis, the last first: [..., H, W] -> [..., H', W']."""
    for place in range(len(padding) // 2):
        axis, (before, after) = x.ndim - 1 - place, padding[2 * place : 2 * place + 2]
        end = ops.narrow(x, axis, x.shape[axis] - before, before) if before > 0 else None
        start = ops.narrow(x, axis, 0, after) if after > 0 else None
        if before > 0:
            x = ops.cat((end, x), axis)
        if after > 0:
            x = ops.cat((x, start), axis)
    return x


class CircularPad(nn.Cell):
    """Pads the last axes by what stands at their other end."""

    def __init__(self, padding: tuple[int, ...]) -> None:
        super().__init__()
        self.padding = padding

    def construct(self, x: Tensor) -> Tensor:
        """[..., H, W] -> [..., H', W']."""
        return wrapped(x, self.padding)


class ConstantPad(nn.Cell):
    """Pads the last axes by a constant."""

    def __init__(self, padding: tuple[int, ...], value: float = 0.0) -> None:
        super().__init__()
        self.padding, self.value = padding, value

    def construct(self, x: Tensor) -> Tensor:
        """[..., H, W] -> [..., H', W']."""
        return padded(x, self.padding, self.value)


def max_pool2d(
    x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], ceil_mode: bool = False
) -> Tensor:
    """Largest of each window: [N, C, H, W] -> [N, C, H', W']; what is padded never counts."""
    (above, left), (below, right) = padding, padding
    if ceil_mode:
        below = rows_after(x.shape[2], kernel[0], stride[0], padding[0])
        right = rows_after(x.shape[3], kernel[1], stride[1], padding[1])
    if above + below + left + right > 0:
        x = padded(x, (left, right, above, below), -math.inf)
    return ops.MaxPool(kernel, stride, "valid")(x)


def rows_after(side: int, window: int, step: int, rows: int) -> int:
    """Rows to pad after the end so that the last window, which begins inside the picture, is whole."""
    count = -(-(side + 2 * rows - window) // step) + 1
    if (count - 1) * step >= side + rows:
        count -= 1
    return max((count - 1) * step + window - side - rows, 0)


class MaxPool2d(nn.Cell):
    """Max pooling whose padding never counts."""

    def __init__(
        self,
        kernel_size: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int] = (0, 0),
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding, self.ceil_mode = kernel_size, stride, padding, ceil_mode

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H', W']."""
        return max_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode)


class PaddedConv2d(nn.Conv2d):
    """Convolution of pictures whose borders go on as a mirror, the last row or the other end; nn.Conv2d knows zeros.

    Args:
        rows: left, right, above and below.
        mode: "reflect", "replicate" or "circular".
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        rows: tuple[int, int, int, int],
        mode: str,
        stride: int | tuple[int, int] = 1,
        dilation: int | tuple[int, int] = 1,
        group: int = 1,
        has_bias: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, "valid", 0, dilation, group, has_bias)
        self.rows, self.border = rows, mode

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, out_channels, H', W']."""
        around = wrapped(x, self.rows) if self.border == "circular" else ops.pad(x, self.rows, self.border)
        return super().construct(around)


def upsample_nearest(x: Tensor, factor: int) -> Tensor:
    """Repeat each pixel `factor` times in both directions: [N, C, H, W] -> [N, C, H * factor, W * factor]."""
    return ops.interpolate(x, size=(x.shape[2] * factor, x.shape[3] * factor), mode="nearest")


class UpsampleTo(nn.Cell):
    """Resizes pictures to a size."""

    def __init__(self, size: tuple[int, int], mode: str = "nearest", align_corners: bool | None = None) -> None:
        super().__init__()
        self.size, self.mode, self.align_corners = size, mode, align_corners

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, *size]."""
        return ops.interpolate(x, self.size, mode=self.mode, align_corners=self.align_corners)


class UpsampleBilinear(nn.Cell):
    """Bilinear up-sampling by a whole factor."""

    def __init__(self, scale_factor: int, align_corners: bool = False) -> None:
        super().__init__()
        self.scale_factor, self.align_corners = scale_factor, align_corners

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H * scale_factor, W * scale_factor]."""
        size = x.shape[2] * self.scale_factor, x.shape[3] * self.scale_factor
        return ops.interpolate(x, size, mode="bilinear", align_corners=self.align_corners)


def unfold(
    x: Tensor, kernel: tuple[int, int], dilation: tuple[int, int], padding: tuple[int, int], stride: tuple[int, int]
) -> Tensor:
    """Windows as columns: [N, C, H, W] -> [N, C * elements of a window, windows].

    As a convolution of each channel by kernels that hold a single one.
    """
    n, channels = x.shape[:2]
    elements = kernel[0] * kernel[1]
    ones = ops.tile(ops.eye(elements, elements, x.dtype).reshape(elements, 1, *kernel), (channels, 1, 1, 1))
    x = padded(x, (padding[1], padding[1], padding[0], padding[0]))
    return ops.conv2d(x, ones, None, stride, "valid", 0, dilation, channels).reshape(n, channels * elements, -1)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of the groups: [N, C, H, W] -> [N, C, H, W]."""
    n, channels, height, width = x.shape
    return x.reshape(n, groups, channels // groups, height, width).swapaxes(1, 2).reshape(x.shape)


class ChannelShuffle(nn.Cell):
    """Interleaves the channels of groups."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def construct(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        return channel_shuffle(x, self.groups)


def roll(x: Tensor, shifts: tuple[int, ...], axes: tuple[int, ...]) -> Tensor:
    """Move elements along axes; those that leave at the end come in at the beginning. The shape stays."""
    for place in range(len(axes)):
        axis = axes[place]
        size = x.shape[axis]
        cut = (size - shifts[place]) % size
        if cut > 0:
            first, last = ops.split(x, [cut, size - cut], axis)
            x = ops.cat((last, first), axis)
    return x


def every(x: Tensor, axis: int, start: int, step: int, stop: int | None = None) -> Tensor:
    """Every so many elements of an axis, from one on; MindSpore's gradient of x[start::step] fails."""
    side = x.shape[axis]
    return ops.index_select(x, axis, ops.arange(start, side if stop is None or stop > side else stop, step))


def resized_by(
    x: Tensor, factors: tuple[float, float], mode: str = "nearest", align_corners: bool | None = None
) -> Tensor:
    """Resize pictures by factors: [N, C, H, W] -> [N, C, H * factors[0], W * factors[1]], rounded down.

    Raises ValueError: sides would be rounded, where PyTorch goes on with the factor and MindSpore with the size.
    """
    height, width = x.shape[2] * factors[0], x.shape[3] * factors[1]
    if not align_corners and (height != int(height) or width != int(width)):
        raise ValueError(f"sides of {x.shape} times {factors} are no whole numbers")
    return ops.interpolate(x, (int(height), int(width)), mode=mode, align_corners=align_corners)


def conv_transpose2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Transposed convolution: x [N, C, H, W], weight [C, D, K, L], bias [D] -> [N, D, H', W']."""
    kernel = weight.shape[2:]
    height = stride[0] * (x.shape[2] - 1) + kernel[0] - 2 * padding[0]
    width = stride[1] * (x.shape[3] - 1) + kernel[1] - 2 * padding[1]
    pads = (padding[0], padding[0], padding[1], padding[1])
    transpose = ops.Conv2DTranspose(weight.shape[0], kernel, pad_mode="pad", pad=pads, stride=stride)
    out = transpose(x, weight, (x.shape[0], weight.shape[1], height, width))
    return out if bias is None else out + bias.reshape(1, -1, 1, 1)
