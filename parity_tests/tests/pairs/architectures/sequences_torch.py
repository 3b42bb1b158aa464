"""Two published networks that work through sequences, in PyTorch: whole, but narrow."""

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Attention with several heads, whose query, key and value come out of one layer."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        n, length, dim = x.shape
        q, k, v = self.qkv(x).reshape(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # [N, heads, length, d]
        weights = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, length, dim))


class Mlp(nn.Module):
    """Two layers with a GELU between them."""

    def __init__(self, dim: int, wide: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, wide), nn.GELU(), nn.Linear(wide, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """Attention and two layers, each after a norm and added to its input."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim, 1e-6), Attention(dim, heads)
        self.norm2, self.mlp = nn.LayerNorm(dim, 1e-6), Mlp(dim, 2 * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """ViT: patches of a picture and a class token to scores (Dosovitskiy et al., 2021)."""

    def __init__(self, dim: int = 12, heads: int = 2, depth: int = 2, side: int = 16, patch: int = 4) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, patch, patch)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, (side // patch) ** 2 + 1, dim) * 0.02)
        self.blocks = nn.Sequential(*(Block(dim, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(dim, 1e-6), nn.Linear(dim, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)  # [N, patches, dim]
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


class Captioner(nn.Module):
    """Show and Tell's decoder: a picture's features, then words, to the next word's scores (Vinyals et al., 2015)."""

    def __init__(self, features: int = 10, words: int = 20, dim: int = 6, hidden: int = 8) -> None:
        super().__init__()
        self.project, self.norm = nn.Linear(features, dim), nn.BatchNorm1d(dim, momentum=0.01)
        self.embed = nn.Embedding(words, dim)
        self.lstm = nn.LSTM(dim, hidden, 2, batch_first=True)
        self.dropout = nn.Dropout(0.5)
        self.linear = nn.Linear(hidden, words)

    def forward(self, features: Tensor, captions: Tensor) -> Tensor:
        first = self.norm(self.project(features)).unsqueeze(1)  # [N, 1, dim]
        found, _ = self.lstm(torch.cat([first, self.embed(captions)], 1))
        return self.linear(self.dropout(found))
