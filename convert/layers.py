"""The naming rules: what each layer type calls its tensors in PyTorch and in MindSpore.

One row per layer type; a class without a row has its base class's. Tensors that no row names keep their own name where
the MindSpore network has them in the same shape; without such a network they are an error, never a guess.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

from convert.tensors import Array

SPECTRAL_NORM = " (spectral norm)"
HOW_TO_WRITE = "write one: toonport.rules.register(LayerRule(its class, MindSpore's class, {name: MindSpore's name}))"


@dataclass(frozen=True)
class Change:
    """How the values of a tensor differ between both sides; each function undoes the other, bit for bit."""

    words: str  # for ledgers
    # to_mindspore, to_torch: values of one side -> values of the other
    to_mindspore: Callable[[Array], Array]
    to_torch: Callable[[Array], Array]


@dataclass(frozen=True)
class LayerRule:
    """How the tensors of one layer type are named on both sides."""

    torch_type: str  # class name in PyTorch or `torch_ref`; SPECTRAL_NORM is appended for wrapped layers
    mindspore_type: str  # class name in MindSpore or `ms_models`
    names: Mapping[str, str] = field(default_factory=dict)  # PyTorch tensor name -> MindSpore parameter name
    # PyTorch tensors that the MindSpore layer lacks. They travel in the file under their PyTorch name, so that the way
    # back is bit-exact, and start at zero when a file lacks them.
    carried: frozenset[str] = field(default=frozenset())
    same: bool = False  # whether tensors that `names` lacks have the same name on both sides
    children: Mapping[str, str] = field(default_factory=dict)  # PyTorch name of a layer inside it -> MindSpore name
    changes: Mapping[str, Change] = field(default_factory=dict)  # PyTorch tensor name -> how its values differ


_SAME = {"weight": "weight", "bias": "bias"}
_SCALED = {"weight": "gamma", "bias": "beta"}
_BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_PARAMETRIZED = {
    "bias": "bias",
    "parametrizations.weight.original": "weight_orig",
    "parametrizations.weight.0._u": "weight_u",
    "parametrizations.weight.0._v": "weight_v",
}
_STORED_NORM = {name: name for name in ("moving_mean", "moving_variance", "gamma", "beta")}
_SPECTRAL = {name: name for name in ("bias", "weight_orig", "weight_u", "weight_v")}
_MATRICES = {name: name for name in ("bias", "weight_u", "weight_v", "weight_matrices")}

_TRACKED = frozenset({"num_batches_tracked"})
_NESTED_NORM = {name: f"bn2d.{other}" for name, other in _BATCH_NORM.items()}
_DENSE = {"linear1": "dense1", "linear2": "dense2"}

LAYER_RULES: tuple[LayerRule, ...] = (
    LayerRule("Conv1d", "Conv1d", _SAME),
    LayerRule("Conv2d", "Conv2d", _SAME),
    LayerRule("Conv3d", "Conv3d", _SAME),
    LayerRule("ConvTranspose1d", "Conv1dTranspose", _SAME),
    LayerRule("ConvTranspose2d", "Conv2dTranspose", _SAME),
    LayerRule("ConvTranspose3d", "Conv3dTranspose", _SAME),
    LayerRule("SameConvTranspose2d", "SameConvTranspose2d", _SAME),
    LayerRule("Linear", "Dense", _SAME),
    LayerRule("Bilinear", "BiDense", _SAME),
    LayerRule("Embedding", "Embedding", {"weight": "embedding_table"}),
    LayerRule("EmbeddingBag", "Embedding", {"weight": "embedding_table"}),
    LayerRule("BatchNorm1d", "BatchNorm1d", _BATCH_NORM, _TRACKED),
    LayerRule("BatchNorm2d", "BatchNorm2d", _BATCH_NORM, _TRACKED),
    LayerRule("BatchNorm3d", "BatchNorm3d", _NESTED_NORM, _TRACKED),
    LayerRule("SyncBatchNorm", "SyncBatchNorm", _BATCH_NORM, _TRACKED),
    LayerRule("InstanceNorm1d", "InstanceNorm1d", _BATCH_NORM, _TRACKED),
    LayerRule("InstanceNorm2d", "InstanceNorm2d", _BATCH_NORM, _TRACKED),
    LayerRule("InstanceNorm3d", "InstanceNorm3d", _BATCH_NORM, _TRACKED),
    LayerRule("GroupNorm", "GroupNorm", _SCALED),
    LayerRule("LayerNorm", "LayerNorm", _SCALED),
    LayerRule("RMSNorm", "RMSNorm", {"weight": "gamma"}),
    LayerRule("ZooInstanceNorm2d", "ZooInstanceNorm2d", _STORED_NORM),
    LayerRule("PReLU", "PReLU", {"weight": "w"}),
    LayerRule("RNN", "RNN", same=True),
    LayerRule("LSTM", "LSTM", same=True),
    LayerRule("GRU", "GRU", same=True),
    LayerRule("RNNCell", "RNNCell", same=True),
    LayerRule("LSTMCell", "LSTMCell", same=True),
    LayerRule("GRUCell", "GRUCell", same=True),
    LayerRule("MultiheadAttention", "MultiheadAttention", same=True),
    LayerRule("TransformerEncoderLayer", "TransformerEncoderLayer", children=_DENSE),
    LayerRule("TransformerDecoderLayer", "TransformerDecoderLayer", children=_DENSE),
    LayerRule("_WeightedLoss", "LossBase", same=True),
    LayerRule("Conv2d" + SPECTRAL_NORM, "SpectralNormConv2d", _SPECTRAL),
    LayerRule("ParametrizedConv2d", "ParametrizedConv2d", _PARAMETRIZED),
    LayerRule("Linear" + SPECTRAL_NORM, "SpectralNormLinear", _SPECTRAL),
    LayerRule("SpectralConv2d", "SpectralConv2d", _MATRICES),
    LayerRule("SpectralConvTranspose2d", "SpectralConvTranspose2d", _MATRICES),
    LayerRule("Self_Attention", "Self_Attention", {"gamma": "gamma"}),
    LayerRule("GANLoss", "GANLoss", {"real_label": "real_label", "fake_label": "fake_label"}),
    LayerRule("AdaLIN", "AdaLIN", {"rho": "rho"}),
    LayerRule("LIN", "LIN", {"rho": "rho", "gamma": "gamma", "beta": "beta"}),
    LayerRule("SoftAdaLIN", "SoftAdaLIN", {"w_gamma": "w_gamma", "w_beta": "w_beta"}),
)
# what MindSpore layers may call a tensor, in the order in which a network is looked for them
USUAL = {
    "weight": ("gamma", "w", "embedding_table", "bn2d.gamma"),
    "bias": ("beta", "bn2d.beta"),
    "running_mean": ("moving_mean", "bn2d.moving_mean"),
    "running_var": ("moving_variance", "bn2d.moving_variance"),
    "parametrizations.weight.original": ("weight_orig",),
    "parametrizations.weight.0._u": ("weight_u",),
    "parametrizations.weight.0._v": ("weight_v",),
    "parametrizations.weight.original0": ("weight_g",),
    "parametrizations.weight.original1": ("weight_v",),
}
_own_rules: dict[str, LayerRule] = {}  # those that a user has registered, by PyTorch class name


NO_RULE = LayerRule("", "")  # of layers that have none


def register(rule: LayerRule) -> None:
    """Use a rule for a layer type of your own, before the project's; a later one takes an earlier one's place."""
    _own_rules[rule.torch_type] = rule


def find_rule(types: tuple[str, ...]) -> LayerRule | None:
    """Return the rule of the first of some class names that has any: a layer's class and its base classes."""
    known = {rule.torch_type: rule for rule in LAYER_RULES} | _own_rules
    return next((known[name] for name in types if name in known), None)


def candidates(rule: LayerRule | None, leaf: str) -> Iterator[str]:
    """Yield the names that a tensor may have in MindSpore: its rule's, its own, then those that MindSpore uses."""
    if rule and leaf in rule.names:
        yield rule.names[leaf]
    yield leaf
    yield from USUAL.get(leaf, ())


def reshaping(torch: tuple[int, ...], mindspore: tuple[int, ...]) -> Change | None:
    """Return the change between two shapes that differ only by axes of length 1, as a one-dimensional convolution's."""
    if torch == mindspore or prod(torch) != prod(mindspore):
        return None
    if [side for side in torch if side != 1] != [side for side in mindspore if side != 1]:
        return None
    words = f"{list(torch)} <-> {list(mindspore)}"
    return Change(words, lambda array: array.reshape(mindspore), lambda array: array.reshape(torch))
