"""Networks of which a port would go wrong unseen: each is refused by name."""

import random

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from parity_tests.tests.porting.kinds import Base


class ReadsBuffer(Base):
    def setup(self):
        self.register_buffer("gain", torch.tensor(0.7))

    def forward(self, x):
        return self.conv(x) * self.gain.item()


class DecidesByBuffer(Base):
    def setup(self):
        self.register_buffer("on", torch.tensor(True))

    def forward(self, x):
        return torch.relu(self.conv(x)) if self.on else self.conv(x)


class PythonChance(Base):
    def forward(self, x):
        return self.conv(x) if random.random() < 2 else x


class NumpyChance(Base):
    def forward(self, x):
        return self.conv(x) if not self.training or np.random.rand() < 2 else x


class OwnChance(Base):
    def setup(self):
        self.chance = np.random.default_rng(0)

    def forward(self, x):
        return self.conv(x) * self.chance.choice([1.0, 2.0])


class Counts(Base):
    calls = 0

    def forward(self, x):
        self.calls += self.training
        return self.conv(x)


class Remembers(Base):
    def setup(self):
        self.seen = {"last": [None]}

    def forward(self, x):
        y = self.conv(x)
        self.seen["last"][0] = y.detach()
        return y


class Averages(Base):
    def setup(self):
        self.register_buffer("mean", torch.zeros(4, 1, 1))

    def forward(self, x):
        y = self.conv(x)
        self.mean.data.lerp_(y.detach().mean((0, 2, 3)).view(4, 1, 1), 0.1)
        return y


class HooksWeight(Base):
    def setup(self):
        self.conv.weight.register_hook(lambda gradient: gradient * 0.5)

    def forward(self, x):
        return self.conv(x)


class HooksModule(Base):
    def setup(self):
        self.conv.register_full_backward_hook(lambda *_: None)

    def forward(self, x):
        return self.conv(x)


class ReturnsText(Base):
    def forward(self, x):
        self.conv(x)
        return "done"


class HoldsModule(Base):
    def setup(self):
        self.library = F

    def forward(self, x):
        return self.library.relu(self.conv(x))


class Repeats(Base):
    def setup(self):
        self.blocks = nn.ModuleList([nn.Conv2d(4, 4, 1)] * 2)

    def forward(self, x):
        return self.blocks[1](self.blocks[0](self.conv(x)))


class SetsData(Base):
    def forward(self, x):
        y = self.conv(x)
        y.data = torch.zeros_like(y)
        return y


class SeesChange(Base):
    def forward(self, x):
        y = self.conv(x)
        before = y.detach()
        y.add_(1)
        return y + before


class Unsaved(Base):
    def setup(self):
        self.register_buffer("mean", torch.zeros(4), persistent=False)

    def forward(self, x):
        y = self.conv(x)
        self.mean.copy_(y.detach().mean((0, 2, 3)))
        return y


class Clips(Base):
    def forward(self, x):
        with torch.no_grad():
            self.conv.weight.clamp_(-0.1, 0.1)
        return self.conv(x)


class Halves(Base):
    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.conv(x).float()


class Tally:
    def __init__(self):
        self.calls = 0


class CountsElsewhere(Base):
    def setup(self):
        self.tally = Tally()

    def forward(self, x):
        self.tally.calls += 1
        return self.conv(x)


class Iterates(Base):
    def setup(self):
        self.gains = iter([1.0, 2.0, 3.0, 4.0])

    def forward(self, x):
        return self.conv(x) * next(self.gains)
