"""Networks whose names, values and modes are hard to write."""

import torch
from torch import nn
from torch.nn import functional as F


class Base(nn.Module):
    """A convolution."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.setup()

    def setup(self):
        """What a network keeps besides."""


class Shared(Base):
    """One activation for several branches, each of them named in a loop and put together at the end."""

    def setup(self):
        self.branches, self.act = nn.ModuleList(nn.Conv2d(1, 1, 1) for _ in range(3)), nn.PReLU()

    def forward(self, x):
        parts, done = torch.split(self.conv(x), 1, 1), []
        for branch, part in zip(self.branches, parts):  # noqa: B905
            done.append(self.act(branch(part)))
        return torch.cat([*reversed(done), parts[3]], 1)


class Borders(nn.Module):
    """Convolutions whose borders are a mirror or the last row, with uneven rows."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect")
        self.down = nn.Conv2d(8, 8, (3, 5), stride=2, padding=(1, 2), padding_mode="replicate", groups=2, bias=False)
        self.same = nn.Conv2d(8, 3, 4, padding="same", padding_mode="reflect")
        self.wide = nn.Conv2d(3, 3, 3, padding=2, dilation=2, padding_mode="replicate")

    def forward(self, x):
        return self.wide(self.same(self.down(self.head(x)).relu()))


class Wraps(Base):
    """Borders that go on at the other end."""

    def setup(self):
        self.around = nn.Conv2d(4, 4, 3, stride=2, padding=(2, 1), padding_mode="circular")
        self.pad = nn.CircularPad2d((1, 0, 2, 3))

    def forward(self, x):
        return F.pad(self.pad(self.around(self.conv(x))), (1, 2, 0, 1), mode="circular")


class Windows(Base):
    """Windows as columns, by a layer and by a function."""

    def setup(self):
        self.windows, self.mix = nn.Unfold((3, 2), padding=(1, 0), stride=(2, 1)), nn.Linear(24, 5)

    def forward(self, x):
        y = self.conv(x)
        wide = F.unfold(y, 3, dilation=2, padding=2)
        return self.mix(self.windows(y).transpose(1, 2)).mean((1, 2)) + wide.square().mean((1, 2))


class Joins(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x, shortcut=None, kept=None):
        kept.append(x)
        return torch.relu(self.conv(x) + (x if shortcut is None else shortcut))


class Same(Base):
    """A tensor is handed over under two names, in a list that the module inside adds to."""

    def setup(self):
        self.join = Joins()

    def forward(self, x):
        y, kept = self.conv(x), []
        return self.join(y, y, kept) + kept[0]


class Pads(Base):
    def setup(self):
        self.zero, self.one, self.tail = nn.ZeroPad2d(1), nn.ConstantPad2d((2, 0, -1, 1), 1.0), nn.Conv2d(4, 4, 3)
        self.pool, self.norm = nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.LocalResponseNorm(3)

    def forward(self, x):
        y = self.tail(self.one(self.zero(self.conv(x))))
        return F.pad(self.pool(self.norm(y)), (1, -1, 0, 2, 1, 0), value=-0.5)


class Types(Base):
    def forward(self, x):
        y = self.conv(x)
        bright = y > 0  # of truth values, whose sums are numbers only as another type
        rows, share = bright.cumsum(2, dtype=torch.float32), bright.mean((2, 3), keepdim=True, dtype=torch.float32)
        exact = y.sum(1, keepdim=True, dtype=torch.float64).to(torch.float32)
        return y * rows + share + exact + F.log_softmax(bright.int(), 1, dtype=torch.float32)


class Tanh(nn.Module):
    """Of the name of a layer of the port's own, with local names of its functions and of Python's."""

    def forward(self, x, skip=None):
        variance = x.var(1, keepdims=True)
        layer = torch.tanh(x) * variance
        return layer + variance if skip is None else layer + skip


class Names(Base):
    def setup(self):
        self.phase = nn.Parameter(torch.full((1, 4, 1, 1), 0.5))
        self.paths = nn.ModuleDict({"in": nn.Conv2d(4, 4, 1), "1x1": nn.Conv2d(4, 4, 1)})
        self.gains = nn.ParameterList([nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(2.0))])
        self.grids = [torch.full((4, 1, 1), 0.5), torch.full((4, 1, 1), 3.0)]
        self.act, self.last = Tanh(), nn.Tanh()

    def forward(self, x):
        y = self.paths["in"](self.conv(x)) * self.gains[0] * self.grids[0] + self.phase
        y = self.act(y, self.paths["1x1"](y)) if self.training else self.act(y)
        return self.last(y * self.gains[1] + self.grids[1])


class Gain(nn.Module):
    def __init__(self, phase):
        super().__init__()
        self.mul, self.phase = nn.Conv2d(4, 4, 1), phase

    def forward(self, x):
        return self.mul(x) * self.phase


class Scaled(nn.Sequential):
    def __init__(self):
        super().__init__(Gain(0.5), nn.ReLU(), Gain(0.25))
        self.scale = nn.Parameter(torch.tensor(0.3))

    def forward(self, x):
        return super().forward(x) * self.scale


class Pool(nn.AdaptiveAvgPool2d):
    def __init__(self):
        super().__init__((None, 3))


class Twice(Base):
    """A norm whose result is used twice by one rule, modules that stand twice, and lists of one tensor."""

    def setup(self):
        self.norm, self.body, self.pool = nn.BatchNorm2d(4), Scaled(), nn.AdaptiveAvgPool2d(1)
        act = nn.ReLU()
        self.acts, self.again = nn.Sequential(nn.Conv2d(4, 4, 1), act, nn.Conv2d(4, 4, 1), act), self.conv

    def forward(self, x):
        y = F.interpolate(self.norm(self.again(x)), scale_factor=2)
        (only,) = torch.split(self.acts(self.body(y)), 4, dim=1)
        return only + self.pool(only)


class Sides(Base):
    """Fractions of sides, and keywords by place."""

    def forward(self, x):
        h, w = x.shape[2:]
        if w > 12:
            x = x * 2
        size = -(-h // 2), round(w * 0.75)
        y = F.interpolate(self.conv(x), size=size) * (2 - 1 / w)
        rows = torch.ceil(torch.tensor(0.5)) if h < 0 else -(-y.shape[2] // 3) * 3 - y.shape[2]
        return torch.flip(F.pad(y, (0, 0, 0, rows)), dims=[3]).repeat(repeats=(1, 1, 1, 2)).mean(axis=1, keepdims=True)


class Still(Base):
    def setup(self):
        self.gate = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sigmoid())

    def forward(self, image, mask, strength=0.5):
        with torch.no_grad():
            gate = self.gate(image)
        return self.conv(image) * gate * mask * strength


class Bound(Base):
    """Computes with a side of a keyword that it has made a plain number."""

    def forward(self, image, mask):
        return self.conv(image) * mask / int(image.shape[2])


class Skip(nn.Module):
    """Its first layer writes into what the skip hands on."""

    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))

    def forward(self, x):
        return torch.cat([x, self.model(x)], 1)


class Adds(nn.Module):
    def forward(self, x, y):
        x += y
        return x.mean((2, 3), keepdim=True)


class Only(nn.Sequential):
    """The only one of its class, with layers and nothing else."""

    def __init__(self):
        super().__init__(nn.Conv2d(8, 4, 1), nn.ReLU(inplace=True))


class InPlace(Base):
    """Writes into slices, into views of views, into what modules around it hold, and by fractions of sides."""

    def setup(self):
        self.skip, self.adds, self.only, self.slope = Skip(), Adds(), Only(), 0.375

    def forward(self, x):
        y = self.conv(x)
        y[:, 0] *= 2
        part = y[:, 1:3]
        part[:, 0].add_(1)
        mean = part.mean()
        y = self.only(self.skip(y)) + mean
        z = y * self.slope
        y = self.adds(z, y) + z
        return F.interpolate(y, scale_factor=0.5, mode="bilinear", align_corners=True)


class Moves(Base):
    """Keeps statistics of its own, and holds a layer that is not trained."""

    def setup(self):
        self.register_buffer("mean", torch.zeros(4))
        self.conv.requires_grad_(False)
        self.tail = nn.Conv2d(4, 4, 1)
        self.tail.bias.requires_grad_(False)

    def forward(self, x):
        y = self.conv(x)
        distance = y.mean((0, 2, 3)) - self.mean
        if self.training:
            with torch.no_grad():
                self.mean.mul_(0.9).add_(y.mean((0, 2, 3)), alpha=0.1)
                self.mean[0] = 3
        return self.tail(y - self.mean.view(1, -1, 1, 1)) + distance.sum()
