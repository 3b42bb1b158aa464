"""The naming rules against the installed frameworks, and against a layer that has no rule."""

import pytest

from convert.layers import LAYER_RULES, SPECTRAL_NORM, rule_for
from convert.plan import plan_of

pytestmark = pytest.mark.quick

BUILD = {
    "Conv2d": lambda lib: lib.nn.Conv2d(3, 4, 3, **({} if lib.__name__ == "torch" else {"has_bias": True})),
    "Linear": lambda lib: lib.nn.Linear(3, 4) if lib.__name__ == "torch" else lib.nn.Dense(3, 4),
    "BatchNorm1d": lambda lib: lib.nn.BatchNorm1d(4),
    "BatchNorm2d": lambda lib: lib.nn.BatchNorm2d(4),
    "PReLU": lambda lib: lib.nn.PReLU(4),
    "ConvTranspose2d": lambda lib: (
        lib.nn.ConvTranspose2d(3, 4, 4) if lib.__name__ == "torch" else lib.nn.Conv2dTranspose(3, 4, 4, has_bias=True)
    ),
}
OWN = {
    "SpectralConv2d": ("spectral_wrapper", (3, 4, 4)),
    "SpectralConvTranspose2d": ("spectral_wrapper", (3, 4, 4)),
    "Self_Attention": ("sagan_cyclegan", (8,)),
    "GANLoss": ("sagan_cyclegan", ("sn",)),
    "SameConvTranspose2d": ("cyclegan_zoo_layers", (3, 4, True)),
    "ZooInstanceNorm2d": ("cyclegan_zoo_layers", (4,)),
}


def _parametrized(package: str):
    if package == "ms_models":
        from ms_models.layers import ParametrizedConv2d

        return ParametrizedConv2d(3, 4, 3)
    import torch

    return torch.nn.utils.parametrizations.spectral_norm(torch.nn.Conv2d(3, 4, 3))


def _own(package: str, name: str):
    from importlib import import_module

    if name == "ParametrizedConv2d":
        return _parametrized(package)
    if name == "InstanceNorm2d":
        return _affine(package)
    file, arguments = OWN.get(name, ("layers", (4,)))
    layers = import_module(f"{package}.{file}")
    if not name.endswith(SPECTRAL_NORM):
        return getattr(layers, name)(*arguments)
    kind = name.removesuffix(SPECTRAL_NORM)
    if package == "torch_ref":
        import torch

        return torch.nn.utils.spectral_norm(torch.nn.Conv2d(3, 4, 3) if kind == "Conv2d" else torch.nn.Linear(3, 4))
    return layers.SpectralNormConv2d(3, 4, 3) if kind == "Conv2d" else layers.SpectralNormLinear(3, 4)


def _affine(package: str):
    import torch

    from ms_models.layers import InstanceNorm2d

    return (torch.nn.InstanceNorm2d if package == "torch_ref" else InstanceNorm2d)(4, affine=True)


def _torch_layer(rule):
    import torch

    return BUILD[rule.torch_type](torch) if rule.torch_type in BUILD else _own("torch_ref", rule.torch_type)


def _mindspore_layer(rule):
    import mindspore

    return BUILD[rule.torch_type](mindspore) if rule.torch_type in BUILD else _own("ms_models", rule.torch_type)


@pytest.mark.parametrize("rule", LAYER_RULES, ids=lambda rule: rule.torch_type)
def test_rule_names_what_the_installed_frameworks_name(rule):
    import mindspore

    own = {name for name in _torch_layer(rule).state_dict() if "." not in name or name.startswith("parametrizations.")}
    assert own == set(rule.names) | rule.carried
    cell = mindspore.nn.SequentialCell(_mindspore_layer(rule))  # a bare root cell names things differently
    found = {name.removeprefix("0.") for name, _ in cell.parameters_and_names()}
    assert {name for name in found if "." not in name} == set(rule.names.values())
    assert type(cell[0]).__name__ == rule.mindspore_type


def test_layer_types_have_one_rule_each():
    types = [rule.torch_type for rule in LAYER_RULES]
    assert len(types) == len(set(types))


def test_unknown_layer_type_is_an_error_that_says_where_to_add_it():
    import torch

    with pytest.raises(KeyError, match=r"Bilinear.*convert/layers\.py"):
        rule_for("Bilinear")
    with pytest.raises(KeyError, match="GRUCell"):
        plan_of(torch.nn.Sequential(torch.nn.GRUCell(2, 2)))
