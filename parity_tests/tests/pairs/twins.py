"""Small networks written once for both frameworks: a table of layers and one forward function that both understand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

import parity_tests  # noqa: F401  # prepares the environment before any framework is imported
from convert.plan import plan_of
from parity_tests.harness.pair import array_of, target_of

Layers = Callable[[Any], Mapping[str, Any]]
Forward = Callable[..., Any]


def torch_library() -> SimpleNamespace:
    """PyTorch's layers and functions, by the names that the tables use."""
    import torch
    from torch import nn

    return SimpleNamespace(
        name="torch",
        conv=lambda i, o, k=3, s=1, p=1: nn.Conv2d(i, o, k, s, p),
        conv1=lambda i, o, k=3: nn.Conv1d(i, o, k, padding=1),
        conv3=lambda i, o, k=3: nn.Conv3d(i, o, k, padding=1),
        up=lambda i, o: nn.ConvTranspose2d(i, o, 4, 2, 1),
        linear=nn.Linear,
        bilinear=nn.Bilinear,
        relu=lambda inplace=False: nn.ReLU(inplace=inplace),
        leaky=lambda slope=0.2: nn.LeakyReLU(slope),
        tanh=nn.Tanh,
        batch_norm=nn.BatchNorm2d,
        batch_norm1=nn.BatchNorm1d,
        batch_norm3=nn.BatchNorm3d,
        group_norm=nn.GroupNorm,
        layer_norm=nn.LayerNorm,
        prelu=nn.PReLU,
        embedding=nn.Embedding,
        lstm=nn.LSTM,
        gru=nn.GRU,
        lstm_cell=nn.LSTMCell,
        attention=lambda width, heads: nn.MultiheadAttention(width, heads, batch_first=True),
        encoder=lambda width: nn.TransformerEncoderLayer(width, 2, 8, 0.0, batch_first=True),
        dropout=nn.Dropout,
        sequence=nn.Sequential,
        several=nn.ModuleList,
        parameter=lambda *shape: nn.Parameter(torch.rand(*shape) + 0.5),
        network=_torch_network,
        relu_of=torch.relu,
        tanh_of=torch.tanh,
        exp=torch.exp,
        log=torch.log,
        cat=torch.cat,
        softmax=lambda x: torch.softmax(x, -1),
        batched=torch.bmm,
        norm_of=lambda x, eps=1e-5: (
            (x - x.mean((2, 3), True)) / torch.sqrt(x.var((2, 3), unbiased=False, keepdim=True) + eps)
        ),
        double=lambda x: torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest"),
        array=lambda values: torch.from_numpy(np.asarray(values)),
        complex_of=torch.complex,
        real=torch.real,
        imag=torch.imag,
        float32=lambda x: x.float(),
        detached=lambda x: x.detach(),
        half=lambda x: x.half().float(),
    )


def mindspore_library() -> SimpleNamespace:
    """MindSpore's layers and functions, by the same names."""
    import mindspore
    from mindspore import nn, ops

    def padded(kind: Any, i: int, o: int, k: int, s: int, p: int) -> Any:
        """A convolution with PyTorch's padding and a bias."""
        return kind(i, o, k, s, pad_mode="pad", padding=p, has_bias=True)

    return SimpleNamespace(
        name="mindspore",
        conv=lambda i, o, k=3, s=1, p=1: padded(nn.Conv2d, i, o, k, s, p),
        conv1=lambda i, o, k=3: padded(nn.Conv1d, i, o, k, 1, 1),
        conv3=lambda i, o, k=3: padded(nn.Conv3d, i, o, k, 1, 1),
        up=lambda i, o: padded(nn.Conv2dTranspose, i, o, 4, 2, 1),
        linear=nn.Dense,
        bilinear=nn.BiDense,
        relu=lambda inplace=False: nn.ReLU(),
        leaky=lambda slope=0.2: nn.LeakyReLU(slope),
        tanh=nn.Tanh,
        batch_norm=nn.BatchNorm2d,
        batch_norm1=nn.BatchNorm1d,
        batch_norm3=nn.BatchNorm3d,
        group_norm=nn.GroupNorm,
        layer_norm=lambda width, eps=1e-5: nn.LayerNorm((width,), epsilon=eps),
        prelu=nn.PReLU,
        embedding=nn.Embedding,
        lstm=nn.LSTM,
        gru=nn.GRU,
        lstm_cell=nn.LSTMCell,
        attention=lambda width, heads: nn.MultiheadAttention(width, heads, batch_first=True),
        encoder=lambda width: nn.TransformerEncoderLayer(width, 2, 8, 0.0, batch_first=True),
        dropout=lambda p: nn.Dropout(p=p),
        sequence=nn.SequentialCell,
        several=nn.CellList,
        parameter=lambda *shape: mindspore.Parameter(mindspore.ops.ones(shape, mindspore.float32)),
        network=_mindspore_network,
        relu_of=ops.relu,
        tanh_of=ops.tanh,
        exp=ops.exp,
        log=ops.log,
        cat=lambda tensors, axis: ops.cat(tuple(tensors), axis),
        softmax=lambda x: ops.softmax(x, -1),
        batched=ops.bmm,
        norm_of=lambda x, eps=1e-5: (
            (x - x.mean((2, 3), True)) / ops.sqrt(ops.var(x, axis=(2, 3), ddof=0, keepdims=True) + eps)
        ),
        double=lambda x: ops.interpolate(x, size=(2 * x.shape[2], 2 * x.shape[3]), mode="nearest"),
        array=lambda values: mindspore.Tensor(np.asarray(values)),
        complex_of=ops.Complex(),
        real=ops.real,
        imag=ops.imag,
        float32=lambda x: x.astype(mindspore.float32),
        detached=ops.stop_gradient,
        half=lambda x: x.astype(mindspore.float16).astype(mindspore.float32),
    )


def _torch_network(layers: Mapping[str, Any], forward: Forward) -> Any:
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, layer in layers.items():
                setattr(self, name, layer)

        def forward(self, *args: Any, **keywords: Any) -> Any:
            return forward(self, *args, **keywords)

    return Network()


def _mindspore_network(layers: Mapping[str, Any], forward: Forward) -> Any:
    from mindspore import nn

    class Network(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            for name, layer in layers.items():
                setattr(self, name, layer)

        def construct(self, *args: Any, **keywords: Any) -> Any:
            return forward(self, *args, **keywords)

    return Network()


@dataclass(frozen=True)
class Twin:
    """A network in both frameworks, with the same weights."""

    module: Any
    cell: Any

    def carry(self) -> None:
        """Give the cell the module's weights."""
        carry(self.module, self.cell)


def twin(layers: Layers, forward: Callable[[Any], Forward], port: Callable[[Any], Forward] | None = None) -> Twin:
    """Build both networks with the same seeded weights.

    Args:
        layers: a library -> name and layer of everything that the network holds.
        forward: a library -> the function that runs, (network, *inputs).
        port: another such function for MindSpore; default: the same.
    """
    import torch

    torch.manual_seed(0)
    there, here = torch_library(), mindspore_library()
    module = there.network(layers(there), forward(there))
    cell = here.network(layers(here), (port or forward)(here))
    carry(module, cell)
    return Twin(module, cell)


def carry(module: Any, cell: Any, layers: Mapping[str, str] | None = None) -> None:
    """Give a cell the weights of a module; `layers` says which are called otherwise there."""
    import mindspore

    plan = plan_of(module, target_of(cell), layers)
    arrays = plan.to_mindspore({name: array_of(value) for name, value in module.state_dict().items()})
    for name, value in cell.parameters_and_names():
        value.set_data(mindspore.Tensor(arrays[name]))
