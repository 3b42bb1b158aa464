"""Inception v3 as the Fréchet Inception distance defines it: TensorFlow's network of 2015-12-05.

Paper: Rethinking the Inception Architecture for Computer Vision (arXiv 1512.00567). The layout and the tensor names are
those of the weights that mseitzer/pytorch-fid (Apache-2.0) published. The network is not the one of other Inception v3
files: average pools count no padding, the last block pools the maximum, and there are 1008 classes. It is kept here
because torch-fidelity and pytorch-fid bring torchvision, which does not install beside the pinned torch.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convert.errors import InputError
from convert.formats import open_checkpoint
from torch_ref.build import load_torch

SIDE = 299
CLASSES = 1008
NORM_EPS = 1e-3
LISTED = 3  # names that an error shows


Kernel = int | tuple[int, int]
ROW, COLUMN = (1, 7), (7, 1)


class ConvUnit(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, dim_in: int, dim_out: int, kernel: Kernel = 1, stride: int = 1, padding: Any = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim_in, dim_out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(dim_out, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, dim_out, H', W']."""
        return F.relu(self.bn(self.conv(x)))


def average_pool(x: Tensor) -> Tensor:
    """Mean of the 3x3 neighbours that lie inside the picture; keeps the size."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def maximum_pool(x: Tensor) -> Tensor:
    """Maximum of the 3x3 neighbours; keeps the size."""
    return F.max_pool2d(x, 3, stride=1, padding=1)


def halving_pool(x: Tensor) -> Tensor:
    """Maximum of 3x3 pixels at every second one: [N, C, H, W] -> [N, C, (H - 1) / 2, (W - 1) / 2]."""
    return F.max_pool2d(x, 3, 2)


class Unit(NamedTuple):
    """A ConvUnit of a branch, under the published file's name; with stride 1 it keeps the size, else it halves it."""

    name: str
    dim_out: int
    kernel: Kernel = 1
    stride: int = 1


Branch = tuple[Unit | Callable[[Tensor], Tensor], ...]


class Block(nn.Module):
    """Branches of units and pools side by side, their channels joined; units of one name are one unit."""

    def __init__(self, dim_in: int, *branches: Branch) -> None:
        super().__init__()
        self.branches = branches
        for branch in branches:
            channels = dim_in
            for step in branch:
                if isinstance(step, Unit):
                    rows, columns = step.kernel if isinstance(step.kernel, tuple) else (step.kernel, step.kernel)
                    padding = (rows // 2, columns // 2) if step.stride == 1 else 0
                    self.add_module(step.name, ConvUnit(channels, step.dim_out, (rows, columns), step.stride, padding))
                    channels = step.dim_out

    def forward(self, x: Tensor) -> Tensor:
        """[N, dim_in, H, W] -> [N, channels of all branches, H', W']."""
        return torch.cat([self._through(branch, x) for branch in self.branches], 1)

    def _through(self, branch: Branch, x: Tensor) -> Tensor:
        for step in branch:
            x = self.get_submodule(step.name)(x) if isinstance(step, Unit) else step(x)
        return x


def block_a(dim_in: int, pooled: int) -> Block:
    """35x35 block: 1x1, 5x5, two 3x3 and pooled branches; returns 224 + `pooled` channels."""
    return Block(
        dim_in,
        (Unit("branch1x1", 64),),
        (Unit("branch5x5_1", 48), Unit("branch5x5_2", 64, 5)),
        (Unit("branch3x3dbl_1", 64), Unit("branch3x3dbl_2", 96, 3), Unit("branch3x3dbl_3", 96, 3)),
        (average_pool, Unit("branch_pool", pooled)),
    )


def block_b(dim_in: int) -> Block:
    """35x35 to 17x17; returns 480 channels more than it takes."""
    return Block(
        dim_in,
        (Unit("branch3x3", 384, 3, 2),),
        (Unit("branch3x3dbl_1", 64), Unit("branch3x3dbl_2", 96, 3), Unit("branch3x3dbl_3", 96, 3, 2)),
        (halving_pool,),
    )


def block_c(dim_in: int, inner: int) -> Block:
    """17x17 block with 7x7 filters taken apart into rows and columns; returns 768 channels."""
    seven, twice = "branch7x7_", "branch7x7dbl_"
    return Block(
        dim_in,
        (Unit("branch1x1", 192),),
        (Unit(f"{seven}1", inner), Unit(f"{seven}2", inner, ROW), Unit(f"{seven}3", 192, COLUMN)),
        (
            Unit(f"{twice}1", inner),
            *(Unit(f"{twice}{number}", inner, kernel) for number, kernel in ((2, COLUMN), (3, ROW), (4, COLUMN))),
            Unit(f"{twice}5", 192, ROW),
        ),
        (average_pool, Unit("branch_pool", 192)),
    )


def block_d(dim_in: int) -> Block:
    """17x17 to 8x8; returns 512 channels more than it takes."""
    seven = "branch7x7x3_"
    return Block(
        dim_in,
        (Unit("branch3x3_1", 192), Unit("branch3x3_2", 320, 3, 2)),
        (Unit(f"{seven}1", 192), Unit(f"{seven}2", 192, ROW), Unit(f"{seven}3", 192, COLUMN),
         Unit(f"{seven}4", 192, 3, 2)),
        (halving_pool,),
    )  # fmt: skip


def block_e(dim_in: int, pool: Callable[[Tensor], Tensor]) -> Block:
    """8x8 block whose 3x3 filters end in a row beside a column; returns 2048 channels."""
    three = Unit("branch3x3_1", 384)
    twice = (Unit("branch3x3dbl_1", 448), Unit("branch3x3dbl_2", 384, 3))
    return Block(
        dim_in,
        (Unit("branch1x1", 320),),
        (three, Unit("branch3x3_2a", 384, (1, 3))),
        (three, Unit("branch3x3_2b", 384, (3, 1))),
        (*twice, Unit("branch3x3dbl_3a", 384, (1, 3))),
        (*twice, Unit("branch3x3dbl_3b", 384, (3, 1))),
        (pool, Unit("branch_pool", 192)),
    )


class Inception(nn.Module):
    """Pictures in, the 2048 numbers of the last pool out; the classifier is carried and not used."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvUnit(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = ConvUnit(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvUnit(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = ConvUnit(64, 80)
        self.Conv2d_4a_3x3 = ConvUnit(80, 192, 3)
        self.Mixed_5b = block_a(192, 32)
        self.Mixed_5c = block_a(256, 64)
        self.Mixed_5d = block_a(288, 64)
        self.Mixed_6a = block_b(288)
        self.Mixed_6b = block_c(768, 128)
        self.Mixed_6c = block_c(768, 160)
        self.Mixed_6d = block_c(768, 160)
        self.Mixed_6e = block_c(768, 192)
        self.Mixed_7a = block_d(768)
        self.Mixed_7b = block_e(1280, average_pool)
        self.Mixed_7c = block_e(2048, maximum_pool)
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

    Raises InputError: the file cannot be used, or holds another network (lists what does not fit).
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
