"""Inception v3 as the Fréchet Inception distance defines it: TensorFlow's network of 2015-12-05.

Paper: Rethinking the Inception Architecture for Computer Vision (arXiv 1512.00567). The layout and the tensor names are
those of the weights that mseitzer/pytorch-fid (Apache-2.0) published. The network is not the one of other Inception v3
files: average pools count no padding, the last block pools the maximum, and there are 1008 classes.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convert.errors import InputError
from convert.formats import open_checkpoint
from torch_ref.build import load_torch

__all__ = ["SIDE", "Inception", "load_inception"]

SIDE = 299
CLASSES = 1008
NORM_EPS = 1e-3
LISTED = 3  # names that an error shows


class ConvUnit(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim_in, dim_out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(dim_out, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, dim_out, H', W']."""
        return F.relu(self.bn(self.conv(x)))


def _row(dim_in: int, dim_out: int) -> ConvUnit:
    return ConvUnit(dim_in, dim_out, (1, 7), padding=(0, 3))


def _column(dim_in: int, dim_out: int) -> ConvUnit:
    return ConvUnit(dim_in, dim_out, (7, 1), padding=(3, 0))


def average_pool(x: Tensor) -> Tensor:
    """Mean of the 3x3 neighbours that lie inside the picture; keeps the size."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def maximum_pool(x: Tensor) -> Tensor:
    """Maximum of the 3x3 neighbours; keeps the size."""
    return F.max_pool2d(x, 3, stride=1, padding=1)


class BlockA(nn.Module):
    """35x35 block: 1x1, 5x5, two 3x3 and pooled branches; returns 224 + `pooled` channels."""

    def __init__(self, dim_in: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = ConvUnit(dim_in, 64)
        self.branch5x5_1 = ConvUnit(dim_in, 48)
        self.branch5x5_2 = ConvUnit(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = ConvUnit(dim_in, 64)
        self.branch3x3dbl_2 = ConvUnit(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvUnit(96, 96, 3, padding=1)
        self.branch_pool = ConvUnit(dim_in, pooled)

    def forward(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, 224 + pooled, H, W]."""
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(average_pool(x))], 1)


class BlockB(nn.Module):
    """35x35 to 17x17; returns 480 channels more than it takes."""

    def __init__(self, dim_in: int) -> None:
        super().__init__()
        self.branch3x3 = ConvUnit(dim_in, 384, 3, 2)
        self.branch3x3dbl_1 = ConvUnit(dim_in, 64)
        self.branch3x3dbl_2 = ConvUnit(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvUnit(96, 96, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, dim_in + 480, (H - 1) / 2, (W - 1) / 2]."""
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), three, F.max_pool2d(x, 3, 2)], 1)


class BlockC(nn.Module):
    """17x17 block with 7x7 filters taken apart into rows and columns; returns 768 channels."""

    def __init__(self, dim_in: int, inner: int) -> None:
        super().__init__()
        self.branch1x1 = ConvUnit(dim_in, 192)
        self.branch7x7_1 = ConvUnit(dim_in, inner)
        self.branch7x7_2 = _row(inner, inner)
        self.branch7x7_3 = _column(inner, 192)
        self.branch7x7dbl_1 = ConvUnit(dim_in, inner)
        self.branch7x7dbl_2 = _column(inner, inner)
        self.branch7x7dbl_3 = _row(inner, inner)
        self.branch7x7dbl_4 = _column(inner, inner)
        self.branch7x7dbl_5 = _row(inner, 192)
        self.branch_pool = ConvUnit(dim_in, 192)

    def forward(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, 768, H, W]."""
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return torch.cat([self.branch1x1(x), seven, twice, self.branch_pool(average_pool(x))], 1)


class BlockD(nn.Module):
    """17x17 to 8x8; returns 512 channels more than it takes."""

    def __init__(self, dim_in: int) -> None:
        super().__init__()
        self.branch3x3_1 = ConvUnit(dim_in, 192)
        self.branch3x3_2 = ConvUnit(192, 320, 3, 2)
        self.branch7x7x3_1 = ConvUnit(dim_in, 192)
        self.branch7x7x3_2 = _row(192, 192)
        self.branch7x7x3_3 = _column(192, 192)
        self.branch7x7x3_4 = ConvUnit(192, 192, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, dim_in + 512, (H - 1) / 2, (W - 1) / 2]."""
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, 2)], 1)


class BlockE(nn.Module):
    """8x8 block whose 3x3 filters end in a row beside a column; returns 2048 channels.

    Args:
        dim_in: channels taken.
        last: the network's last block, which pools the maximum instead of the average.
    """

    def __init__(self, dim_in: int, last: bool = False) -> None:
        super().__init__()
        self.last = last
        self.branch1x1 = ConvUnit(dim_in, 320)
        self.branch3x3_1 = ConvUnit(dim_in, 384)
        self.branch3x3_2a = ConvUnit(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = ConvUnit(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = ConvUnit(dim_in, 448)
        self.branch3x3dbl_2 = ConvUnit(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = ConvUnit(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = ConvUnit(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = ConvUnit(dim_in, 192)

    def forward(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, 2048, H, W]."""
        three = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = maximum_pool(x) if self.last else average_pool(x)
        branches = [
            self.branch1x1(x),
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(twice),
            self.branch3x3dbl_3b(twice),
            self.branch_pool(pooled),
        ]
        return torch.cat(branches, 1)


class Inception(nn.Module):
    """Pictures in, the 2048 numbers of the last pool out; the classifier is carried and not used."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvUnit(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = ConvUnit(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvUnit(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = ConvUnit(64, 80)
        self.Conv2d_4a_3x3 = ConvUnit(80, 192, 3)
        self.Mixed_5b = BlockA(192, 32)
        self.Mixed_5c = BlockA(256, 64)
        self.Mixed_5d = BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(768, 128)
        self.Mixed_6c = BlockC(768, 160)
        self.Mixed_6d = BlockC(768, 160)
        self.Mixed_6e = BlockC(768, 192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b = BlockE(1280)
        self.Mixed_7c = BlockE(2048, last=True)
        self.fc = nn.Linear(2048, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] RGB in [0, 1], brought to 299x299 bilinearly -> [N, 2048]."""
        x = F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(2 * x - 1)))  # [N, 64, 147, 147]
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))  # [N, 192, 71, 71]
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))  # [N, 288, 35, 35]
        x = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))  # [N, 768, 17, 17]
        x = self.Mixed_7a(self.Mixed_6e(self.Mixed_6d(x)))  # [N, 1280, 8, 8]
        x = self.Mixed_7c(self.Mixed_7b(x))  # [N, 2048, 8, 8]
        return x.mean((2, 3))


def load_inception(path: Path) -> Inception:
    """Return the network with a file's weights, strictly, in eval mode; only batch counters may be absent.

    Raises:
        InputError: the file cannot be used, or holds another network (lists what does not fit).
    """
    tensors = open_checkpoint(path).tensors
    network = Inception()
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    needed = {name for name in shapes if not name.endswith("num_batches_tracked")}
    wrong = [
        *(f"lacks {name}" for name in shapes if name in needed and name not in tensors),
        *(f"has {name} too" for name in tensors if name not in shapes),
        *(
            f"{name} is {list(entry.spec.shape)}, not {list(shapes[name])}"
            for name, entry in tensors.items()
            if name in shapes and entry.spec.shape != shapes[name]
        ),
    ]
    if wrong:
        more = f" and {len(wrong) - LISTED} more" if len(wrong) > LISTED else ""
        raise InputError(
            f"{path}: not the Inception network of FID: {', '.join(wrong[:LISTED])}{more}; toonport fetch inception"
        )
    load_torch(network, {name: entry.read() for name, entry in tensors.items()})
    return network.eval().requires_grad_(False)
