"""Small PyTorch networks that are ported in tests: what a user's file may hold."""

import torch
from torch import nn
from torch.nn import functional as F


class Branch(nn.Module):
    """A convolution and its norm."""

    def __init__(self, width, kernel):
        super().__init__()
        self.conv = nn.Conv2d(width, width, kernel, padding=kernel // 2)
        self.norm = nn.BatchNorm2d(width, momentum=0.3)

    def forward(self, x):
        return F.leaky_relu(self.norm(self.conv(x)), 0.1)


class Branches(nn.Module):
    """Branches of two kernels, a list of layers, functions, an own parameter and dropout."""

    def __init__(self, width=4):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        self.blocks = nn.ModuleList([Branch(width, 3) for _ in range(2)])
        self.wide = Branch(width, 5)
        self.scale = nn.Parameter(torch.full((1, width, 1, 1), 0.5))
        self.drop = nn.Dropout(0.2)
        self.head = nn.Conv2d(2 * width, 3, 1)

    def forward(self, x):
        h, w = x.shape[-2:]
        y = self.stem(x)
        for block in self.blocks:
            y = block(y)
        y = torch.cat([y * self.scale, self.wide(y)], dim=1)
        y = F.interpolate(y, size=(h, w), mode="bilinear", align_corners=False)
        return torch.tanh(self.head(self.drop(y)))


class Unruly(nn.Module):
    """Calls an operator without a rule."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        return self.last(torch.cdist(self.first(x), x))


class Deciding(nn.Module):
    """Decides by the values of its input."""

    def forward(self, x):
        return x if x.mean() > 0 else -x


class Pinned(nn.Module):
    """Computes with a side of its input that it has made a plain number."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(x).reshape(len(x), 4, int(x.shape[2]), -1)


class Overwriting(nn.Module):
    """Uses a tensor that another name has changed."""

    def forward(self, x):
        y = x * 2
        z = y.view(-1)
        z.add_(1)
        return y


class Functions(nn.Module):
    """Functions and methods, one after the other."""

    def forward(self, x, y):
        n, c, h, w = x.shape
        first, second = x.chunk(2, dim=1)
        scores = torch.einsum("nchw,nchd->ncwd", x, y).softmax(-1)
        picked = x[..., ::2, 1::2] + y[:, :, ::2, 1::2]
        z = x.clone()
        z[:, 0, 1:] = 1.5
        x = x + 1
        x += y.clamp(min=-0.5)
        return (
            F.max_pool2d(x, 3, 2, 1),
            F.pad(first, (1, 1, -1, 2)) - 2 * F.pad(second, (1, 1, -1, 2)),
            scores.amax(dim=(2, 3)),
            picked.flatten(1).std(dim=1, keepdim=True),
            x.permute(0, 2, 3, 1).reshape(n, h * w, c).transpose(1, 2).unsqueeze(-1).squeeze(-1),
            torch.roll(y, (1, -2), (2, 3)).view(n, -1).max(dim=1)[0],
            F.selu(x) + F.elu(y, 0.5) + F.softplus(x) - F.gelu(y),
            F.layer_norm(x, (w,)) * torch.where(y > 0, y, x.new_zeros(())),
            F.normalize(x) @ F.normalize(y).mT,
            z.mean((1, 2), keepdim=True),
            F.scaled_dot_product_attention(x, y, x),
            F.interpolate(x, scale_factor=2, mode="nearest"),
        )


class Layers(nn.Module):
    """Layers of which MindSpore's defaults or kernels differ."""

    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 4, 3, 2, 1, output_padding=1)
        self.same = nn.Conv2d(4, 4, 3, padding="same")
        self.norms = nn.Sequential(
            nn.InstanceNorm2d(4, affine=True), nn.GroupNorm(2, 4), nn.BatchNorm2d(4, affine=False)
        )
        self.pools = nn.ModuleList([nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d((3, 2))])
        self.acts = nn.Sequential(nn.LeakyReLU(), nn.GELU(), nn.PReLU(4), nn.SELU(), nn.Hardswish(), nn.Tanh())
        self.last = nn.LayerNorm(4)
        self.spectral = nn.utils.spectral_norm(nn.Conv2d(4, 4, 3))
        self.local = nn.LocalResponseNorm(3)

    def forward(self, x):
        x = self.local(self.acts(self.norms(self.same(self.up(x)))))
        return [pool(x) for pool in self.pools], self.last(self.spectral(x).permute(0, 2, 3, 1))
