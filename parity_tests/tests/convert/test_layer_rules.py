"""The naming rules against the installed frameworks, and against a layer that has no rule."""

import numpy as np
import pytest

from convert.errors import InputError
from convert.layers import LAYER_RULES, SPECTRAL_NORM
from convert.plan import Target, plan_of
from toonport import rules

pytestmark = pytest.mark.quick

OWN = {
    "LIN": ("layers", (4,)),
    "AdaLIN": ("layers", (4,)),
    "SoftAdaLIN": ("layers", (4,)),
    "ParametrizedConv2d": ("layers", (3, 4, 3)),
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
    file, arguments = OWN.get(name, ("layers", (4,)))
    layers = import_module(f"{package}.{file}")
    if not name.endswith(SPECTRAL_NORM):
        return getattr(layers, name)(*arguments)
    kind = name.removesuffix(SPECTRAL_NORM)
    if package == "torch_ref":
        import torch

        return torch.nn.utils.spectral_norm(torch.nn.Conv2d(3, 4, 3) if kind == "Conv2d" else torch.nn.Linear(3, 4))
    return layers.SpectralNormConv2d(3, 4, 3) if kind == "Conv2d" else layers.SpectralNormLinear(3, 4)


OWN_RULES = [rule for rule in LAYER_RULES if rule.torch_type in OWN or rule.torch_type.endswith(SPECTRAL_NORM)]


@pytest.mark.parametrize("rule", OWN_RULES, ids=lambda rule: rule.torch_type)
def test_rule_names_what_the_projects_own_layers_name(rule):
    import mindspore

    module = _own("torch_ref", rule.torch_type)
    own = {name for name in module.state_dict() if "." not in name or name.startswith("parametrizations.")}
    assert own == set(rule.names) | rule.carried
    cell = mindspore.nn.SequentialCell(_own("ms_models", rule.torch_type))  # a bare root cell names things differently
    found = {name.removeprefix("0.") for name, _ in cell.parameters_and_names()}
    assert {name for name in found if "." not in name} == set(rule.names.values())
    assert type(cell[0]).__name__ == rule.mindspore_type


def test_layer_types_have_one_rule_each():
    types = [rule.torch_type for rule in LAYER_RULES]
    assert len(types) == len(set(types))


ARGUMENTS = {
    **dict.fromkeys(("Conv1d", "Conv2d", "Conv3d"), (3, 4, 3)),
    **dict.fromkeys(("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"), (3, 4, 3)),
    **dict.fromkeys(("Linear", "RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"), (3, 4)),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"), (4,)),
    **dict.fromkeys(("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"), (4, 1e-5, 0.1, True, True)),
    **dict.fromkeys(("LayerNorm", "RMSNorm", "PReLU"), (4,)),
    **dict.fromkeys(("Embedding", "EmbeddingBag"), (5, 3)),
    **dict.fromkeys(("NLLLoss", "CrossEntropyLoss", "BCELoss", "BCEWithLogitsLoss", "MultiMarginLoss"), ()),
    **dict.fromkeys(("NLLLoss2d", "MultiLabelSoftMarginLoss"), ()),
    "GroupNorm": (2, 4),
    "Bilinear": (3, 4, 2),
    "MultiheadAttention": (4, 2),
    "TransformerEncoderLayer": (4, 2),
    "TransformerDecoderLayer": (4, 2),
    "Transformer": (4, 2, 1, 1),
    "AdaptiveLogSoftmaxWithLoss": (4, 9, [3, 6]),
}
MINDSPORE_ARGUMENTS = {
    **dict.fromkeys(("Conv1d", "Conv2d", "Conv3d"), (3, 4, 3)),
    "LayerNorm": ((4,),),
    "Embedding": (5, 3),
}
NOT_ALONE = {
    "TransformerEncoder": "holds copies of a layer that it is given",
    "TransformerDecoder": "holds copies of a layer that it is given",
    "RNNBase": "has no forward of its own",
    "RNNCellBase": "has no forward of its own",
    "Container": "only holds layers",
    "Module": "only holds layers",
}


def _layer_classes():
    import torch

    found = {name: kind for name, kind in vars(torch.nn).items() if isinstance(kind, type)}
    return {name: kind for name, kind in found.items() if issubclass(kind, torch.nn.Module)}


def _without_arguments(kind):
    """A layer of a class that needs no state; None where it asks for something."""
    for arguments in ((), (2,), (2, 2), (0.1, 20), ([4, 4],), (1, (4,))):
        try:
            return kind(*arguments)
        except (TypeError, ValueError, AssertionError):
            continue
    return None


def told_of_every_layer():
    """Name of each class of torch.nn -> "rule", "no tensors", or why not."""
    import warnings

    told = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, kind in _layer_classes().items():
            if name in NOT_ALONE or name.startswith("Lazy"):
                told[name] = NOT_ALONE.get(name, "becomes another one on its first run")
                continue
            layer = kind(*ARGUMENTS[name]) if name in ARGUMENTS else _without_arguments(kind)
            assert layer is not None, f"{name}: say how it is built"
            told[name] = "rule" if plan_of(layer).rows else "no tensors"
    return told


def test_every_layer_of_pytorch_has_a_rule_or_no_tensors_or_a_reason():
    told = told_of_every_layer()
    without = [name for name in ARGUMENTS if told.get(name) != "rule" and not name.endswith(("Loss", "Loss2d"))]
    assert not without
    assert len(told) > 150
    assert sum(word == "rule" for word in told.values()) >= 28


PAIRED = [
    rule for rule in LAYER_RULES if rule.torch_type in ARGUMENTS and rule.torch_type not in ("EmbeddingBag", "RMSNorm")
]


@pytest.mark.parametrize("rule", PAIRED, ids=lambda rule: rule.torch_type)
def test_rule_names_what_the_installed_frameworks_name(rule):
    import mindspore
    import torch

    arguments = ARGUMENTS[rule.torch_type]
    module = getattr(torch.nn, rule.torch_type)(*arguments)
    kind, own = getattr(mindspore.nn, rule.mindspore_type), MINDSPORE_ARGUMENTS.get(rule.torch_type, arguments)
    biased = {"has_bias": True} if "Conv" in rule.mindspore_type else {}
    cell = mindspore.nn.SequentialCell(kind(*(own[:1] if "Norm" in kind.__name__ and len(own) > 2 else own), **biased))
    plan = plan_of(torch.nn.Sequential(module))
    assert {row.mindspore for row in plan.rows if not row.carried} == {name for name, _ in cell.parameters_and_names()}


def test_unknown_layer_type_is_an_error_that_says_how_to_write_a_rule():
    import torch

    class Scale(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.alpha = torch.nn.Parameter(torch.ones(3))

    network = torch.nn.Sequential(Scale())
    with pytest.raises(InputError, match=r"0\.alpha: no naming rule for .* Scale; .*toonport\.rules\.register"):
        plan_of(network)
    there = plan_of(network, Target({"0.alpha": (3,)}, {"0"}))
    assert [(row.mindspore, row.rule) for row in there.rows] == [
        ("0.alpha", "Scale: same name (no rule: its own name, the shapes agree)")
    ]


def test_a_registered_rule_goes_before_the_others(monkeypatch):
    import torch

    monkeypatch.setattr("convert.layers._own_rules", {})
    swap = rules.Change("axes swapped", lambda a: a.T.copy(), lambda a: a.T.copy())
    rules.register(rules.LayerRule("Linear", "Mix", {"weight": "matrix", "bias": "shift"}, changes={"weight": swap}))
    plan = plan_of(torch.nn.Sequential(torch.nn.Linear(2, 3)))
    assert plan.names == {"0.matrix": "0.weight", "0.shift": "0.bias"}
    values = {"0.weight": np.arange(6.0).reshape(3, 2), "0.bias": np.zeros(3)}
    there = plan.to_mindspore(values)
    assert there["0.matrix"].shape == (2, 3)
    assert plan.rows[0].to_torch(there["0.matrix"]).tolist() == values["0.weight"].tolist()
    assert plan.rows[0].rule == "Linear: weight <-> matrix, axes swapped"


def test_values_of_one_dimensional_convolutions_have_an_axis_more_in_mindspore():
    import torch

    plan = plan_of(torch.nn.Sequential(torch.nn.Conv1d(3, 4, 5)), Target({"0.weight": (4, 3, 1, 5)}, {"0"}))
    weight = np.arange(60.0, dtype=np.float32).reshape(4, 3, 5)
    there = plan.rows[0].to_mindspore(weight)
    assert there.shape == (4, 3, 1, 5)
    assert np.array_equal(plan.rows[0].to_torch(there), weight)
