"""Which rule a layer has.

A layer type without a rule is traced like a user's own class, and its operators need rules.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.utils.spectral_norm import SpectralNorm

from toonport.porting import computing, moving
from toonport.porting.made import Made, Optional, layer
from toonport.porting.nets import one_of
from toonport.porting.registry import LayerRule, refuse_unless
from toonport.porting.values import UnportableError

RULES: Mapping[type, LayerRule] = {**computing.RULES, **moving.RULES}


def _spectral(m: Any, moved_first: bool) -> Made:
    """A layer with either form of spectral norm; `moved_first` says which vector a step takes first."""
    if isinstance(m, nn.Linear):
        refuse_unless(not moved_first, "Linear with parametrizations.spectral_norm")
        bias = Optional(m.bias is not None, True)
        sizes = ("dim_in", m.in_features), ("dim_out", m.out_features)
        return layer("SpectralNormLinear", *sizes, bias=bias)
    one = len(set(m.kernel_size)) == len(set(m.stride)) == 1 and m.groups == 1 and one_of(m.dilation) == 1
    refuse_unless(one and not isinstance(m.padding, str), "Conv2d with spectral norm: sides, groups or dilation")
    name = "ParametrizedConv2d" if moved_first else "SpectralNormConv2d"
    return layer(
        name,
        ("dim_in", m.in_channels),
        ("dim_out", m.out_channels),
        ("kernel", m.kernel_size[0]),
        stride=Optional(m.stride[0], 1),
        bias=Optional(m.bias is not None, True),
        padding=Optional(m.padding[0], 0),
    )


def rule_for(m: nn.Module) -> LayerRule | None:
    """Return the rule of a layer, None where it is to be traced.

    A class that inherits the forward of one with a rule, and adds no layers or tensors, has its rule.

    Raises UnportableError: it has hooks, or a parameter of it has, which would not be written.
    """
    hooked = [name for name, each in m.named_parameters(recurse=False) if each._backward_hooks]
    refuse_unless(not hooked, f"{type(m).__name__}: with a hook on {', '.join(hooked)}, which is not written")
    backward = m._backward_hooks or m._backward_pre_hooks
    refuse_unless(not backward, f"{type(m).__name__}: with hooks on its gradients, which are not written")
    wrapped = _wrapped(m)
    if wrapped:
        return wrapped
    if m._forward_hooks or m._forward_pre_hooks:
        raise UnportableError(f"{type(m).__name__}: with hooks, which are not written")
    kind: Any = next((kind for kind in type(m).__mro__ if kind in RULES), None)
    return RULES[kind] if kind and type(m).forward is kind.forward else None


def _wrapped(m: Any) -> LayerRule | None:
    """The rule of a layer whose weight is normed."""
    plain = isinstance(m, nn.Conv2d | nn.Linear) and not isinstance(m, nn.modules.conv._ConvTransposeNd)
    hooks = list(m._forward_pre_hooks.values())
    if hooks and all(isinstance(hook, SpectralNorm) for hook in hooks) and plain:
        refuse_unless(hooks[0].n_power_iterations == 1 and hooks[0].dim == 0, "spectral norm: several iterations")
        return lambda m, shapes: _spectral(m, moved_first=False)
    if nn.utils.parametrize.is_parametrized(m):
        names = [type(each).__name__ for each in m.parametrizations["weight"]] if "weight" in m.parametrizations else []
        refuse_unless(names == ["_SpectralNorm"] and plain, f"{type(m).__name__}: parametrized by {', '.join(names)}")
        return lambda m, shapes: _spectral(m, moved_first=True)
    return None
