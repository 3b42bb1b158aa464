"""Two published networks that work through sequences, in MindSpore: whole, but narrow."""

from mindspore import Parameter, Tensor, nn, ops


class Attention(nn.Cell):
    """Attention with several heads, whose query, key and value come out of one layer."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Dense(dim, 3 * dim), nn.Dense(dim, dim)

    def construct(self, x: Tensor) -> Tensor:
        n, length, dim = x.shape
        q, k, v = self.qkv(x).reshape(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # [N, heads, length, d]
        weights = ops.softmax(ops.matmul(q, k.swapaxes(-1, -2)) * q.shape[-1] ** -0.5, -1)
        return self.proj(ops.matmul(weights, v).swapaxes(1, 2).reshape(n, length, dim))


class Mlp(nn.Cell):
    """Two layers with a GELU between them."""

    def __init__(self, dim: int, wide: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Dense(dim, wide), nn.GELU(approximate=False), nn.Dense(wide, dim)

    def construct(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Cell):
    """Attention and two layers, each after a norm and added to its input."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm((dim,), epsilon=1e-6), Attention(dim, heads)
        self.norm2, self.mlp = nn.LayerNorm((dim,), epsilon=1e-6), Mlp(dim, 2 * dim)

    def construct(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Cell):
    """ViT: patches of a picture and a class token to scores (Dosovitskiy et al., 2021)."""

    def __init__(self, dim: int = 12, heads: int = 2, depth: int = 2, side: int = 16, patch: int = 4) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, patch, patch, pad_mode="valid", has_bias=True)
        self.cls_token = Parameter(ops.zeros((1, 1, dim)))
        self.pos_embed = Parameter(ops.zeros((1, (side // patch) ** 2 + 1, dim)))
        self.blocks = nn.SequentialCell(*(Block(dim, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm((dim,), epsilon=1e-6), nn.Dense(dim, 10)

    def construct(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).flatten(start_dim=2).swapaxes(1, 2)  # [N, patches, dim]
        x = ops.cat((self.cls_token.tile((x.shape[0], 1, 1)), x), 1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


class Captioner(nn.Cell):
    """Show and Tell's decoder: a picture's features, then words, to the next word's scores (Vinyals et al., 2015)."""

    def __init__(self, features: int = 10, words: int = 20, dim: int = 6, hidden: int = 8) -> None:
        super().__init__()
        self.project, self.norm = nn.Dense(features, dim), nn.BatchNorm1d(dim, momentum=0.99)
        self.embed = nn.Embedding(words, dim)
        self.lstm = nn.LSTM(dim, hidden, 2, batch_first=True)
        self.dropout = nn.Dropout(p=0.5)
        self.linear = nn.Dense(hidden, words)

    def construct(self, features: Tensor, captions: Tensor) -> Tensor:
        first = self.norm(self.project(features)).unsqueeze(1)  # [N, 1, dim]
        found, _ = self.lstm(ops.cat((first, self.embed(captions)), 1))
        return self.linear(self.dropout(found))
