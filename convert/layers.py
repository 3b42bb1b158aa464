"""The naming rules: what each layer type calls its tensors in PyTorch and in MindSpore.

One row per layer type. A tensor that a row does not name is an error, never a guess.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

SPECTRAL_NORM = " (spectral norm)"


@dataclass(frozen=True)
class LayerRule:
    """How the tensors of one layer type are named on both sides."""

    torch_type: str  # class name in PyTorch or `torch_ref`; SPECTRAL_NORM is appended for wrapped layers
    mindspore_type: str  # class name in MindSpore or `ms_models`
    names: Mapping[str, str]  # PyTorch tensor name -> MindSpore parameter name
    # PyTorch tensors that the MindSpore layer lacks. They travel in the file under their PyTorch name, so that the way
    # back is bit-exact, and start at zero when a file lacks them.
    carried: frozenset[str] = field(default=frozenset())


_SAME = {"weight": "weight", "bias": "bias"}
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

LAYER_RULES: tuple[LayerRule, ...] = (
    LayerRule("Conv2d", "Conv2d", _SAME),
    LayerRule("ConvTranspose2d", "Conv2dTranspose", _SAME),
    LayerRule("SameConvTranspose2d", "SameConvTranspose2d", _SAME),
    LayerRule("Linear", "Dense", _SAME),
    LayerRule("BatchNorm1d", "BatchNorm1d", _BATCH_NORM, frozenset({"num_batches_tracked"})),
    LayerRule("BatchNorm2d", "BatchNorm2d", _BATCH_NORM, frozenset({"num_batches_tracked"})),
    LayerRule("InstanceNorm2d", "InstanceNorm2d", {"weight": "gamma", "bias": "beta"}),
    LayerRule("ZooInstanceNorm2d", "ZooInstanceNorm2d", _STORED_NORM),
    LayerRule("PReLU", "PReLU", {"weight": "w"}),
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


def rule_for(torch_type: str) -> LayerRule:
    """Return the rule of a layer type.

    Raises KeyError: for a layer type without a rule; a new layer needs a new row above.
    """
    for rule in LAYER_RULES:
        if rule.torch_type == torch_type:
            return rule
    raise KeyError(f"no naming rule for layers of type {torch_type}; add a row to convert/layers.py")
