"""A reference with an output in a dictionary, a keyword argument, dropout, a running state and a large weight."""

import torch
from torch import nn


class Head(nn.Module):
    """Two outputs in a structure."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(8, 3, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x, gain=1.0):
        return {"image": torch.tanh(self.a(x)), "mask": [torch.sigmoid(self.b(x)) * gain]}


class Net(nn.Module):
    """Pictures to a picture and a mask."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.big = nn.Conv2d(32, 1024, 3, padding=1)  # 1.2 MB of weights
        self.norm = nn.BatchNorm2d(1024)
        self.down = nn.Conv2d(1024, 8, 1)
        self.up = nn.ConvTranspose2d(8, 8, 4, 2, 1)
        self.drop = nn.Dropout(0.5)
        self.head = Head()

    def forward(self, x):
        x = self.down(torch.relu(self.norm(self.big(self.stem(x)))))
        return self.head(self.drop(self.up(x)), gain=0.5)
