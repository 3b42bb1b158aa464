"""The port of `net.py`, with a bug of choice."""

from mindspore import nn, ops


class Head(nn.Cell):
    """Two outputs in a structure."""

    def __init__(self, bug):
        super().__init__()
        self.a, self.b = nn.Conv2d(8, 3, 1, has_bias=True), nn.Conv2d(8, 3, 1, has_bias=True)
        self.bug = bug

    def construct(self, x, gain=1.0):
        if self.bug == "raises":
            raise ValueError("not today")
        mask = self.b(x)
        if self.bug == "detached":
            mask = ops.stop_gradient(mask)
        return {"image": ops.tanh(self.a(x)), "mask": [ops.sigmoid(mask) * (1.0 if self.bug == "gain" else gain)]}


class Net(nn.Cell):
    """Pictures to a picture and a mask."""

    def __init__(self, bug=""):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, pad_mode="pad", padding=1, has_bias=True)
        wide = 2 if bug == "dilation" else 1
        self.big = nn.Conv2d(32, 1024, 3, pad_mode="pad", padding=wide, dilation=wide, has_bias=True)
        self.norm = nn.BatchNorm2d(1024, momentum=0.8 if bug == "momentum" else 0.9)
        self.down = nn.Conv2d(1024, 8, 1, has_bias=True)
        self.up = nn.Conv2dTranspose(8, 8, 4, 2, pad_mode="pad", padding=0 if bug == "shape" else 1, has_bias=True)
        self.drop = nn.Dropout(p=0.5)
        self.head = Head(bug)

    def construct(self, x):
        x = self.down(ops.relu(self.norm(self.big(self.stem(x)))))
        return self.head(self.drop(self.up(x)), gain=0.5)
