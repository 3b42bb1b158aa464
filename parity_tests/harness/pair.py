"""Builds a reference and its port from the registry, or from a user's own two networks."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from convert.errors import InputError
from convert.family import Part, resolve
from convert.plan import Plan, plan_of
from ms_models.environment import launch_directly
from parity_tests.harness.capture import Pair
from parity_tests.harness.sides.base import Array
from parity_tests.harness.sides.mindspore import MindSporeSide
from parity_tests.harness.sides.torch import TorchSide

__all__ = [
    "build_mindspore",
    "build_pair",
    "build_torch",
    "for_inference",
    "load_mindspore",
    "load_torch",
    "pair_networks",
]


def build_torch(part: Part, kwargs: Mapping[str, Any], arrays: Mapping[str, Array]) -> Any:
    """Return the PyTorch network of a part with the given weights (PyTorch name -> values), in eval mode."""
    network = resolve("torch_ref", part.class_name)(**kwargs)
    load_torch(network, arrays)
    return network.eval()


def load_torch(network: Any, arrays: Mapping[str, Array]) -> None:
    """Load weights strictly; a batch counter that the file lacks keeps its zero."""
    import torch

    state = network.state_dict()
    lacking = {name: value for name, value in state.items() if name.endswith("num_batches_tracked")}
    loaded = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
    network.load_state_dict({**lacking, **loaded}, strict=True)


def for_inference(network: Any) -> Any:
    """Return the form of a network of either framework that draws pictures and goes into files.

    That is the network itself, but for those whose spectral norm moves on every run: a copy with W / sigma folded in.
    """
    package = type(network).__module__.partition(".")[0]
    return resolve(package, "spectral_wrapper.freeze")(network)


def build_mindspore(part: Part, kwargs: Mapping[str, Any], arrays: Mapping[str, Array]) -> Any:
    """Return the MindSpore network of a part with the given weights (MindSpore name -> values), in eval mode."""
    launch_directly()
    network = resolve("ms_models", part.class_name)(**kwargs)
    load_mindspore(network, arrays)
    return network.set_train(False)


def load_mindspore(network: Any, arrays: Mapping[str, Array]) -> None:
    """Load weights strictly: every parameter once, every array once, every shape equal.

    Raises:
        InputError: lists what is missing, unexpected or mis-shaped.
    """
    import mindspore

    parameters = dict(network.parameters_and_names())
    missing = parameters.keys() - arrays.keys()
    unexpected = arrays.keys() - parameters.keys()
    misshaped = [
        name for name, value in arrays.items() if name in parameters and tuple(parameters[name].shape) != value.shape
    ]
    if missing or unexpected or misshaped:
        raise InputError(
            f"the weights do not fit the MindSpore network: missing {sorted(missing)}, "
            f"unexpected {sorted(unexpected)}, wrong shape {sorted(misshaped)}"
        )
    for name, parameter in parameters.items():
        parameter.set_data(mindspore.Tensor(np.array(arrays[name])))


def build_pair(
    part: Part,
    kwargs: Mapping[str, Any],
    torch_arrays: Mapping[str, Array],
    mindspore_arrays: Mapping[str, Array],
    dtype: str = "float32",
) -> Pair:
    """Return the pair of a registry part, both sides in eval mode and in the precision `dtype`."""
    module, cell = build_torch(part, kwargs, torch_arrays), build_mindspore(part, kwargs, mindspore_arrays)
    return pair_networks(module, cell, dtype=dtype)


def pair_networks(module: Any, cell: Any, plan: Plan | None = None, dtype: str = "float32") -> Pair:
    """Return the pair of two networks that exist already.

    Args:
        module: PyTorch network; a float64 copy of it, with its weights rounded to `dtype`, becomes the truth.
        cell: MindSpore network with the same layer names.
        plan: naming plan, or None to derive it from the PyTorch network's layer types.
        dtype: precision that is compared; both networks are cast to it.
    """
    import torch

    launch_directly()
    plan = plan or plan_of(module)
    names = {row.mindspore: row.torch for row in plan.rows if not row.carried}
    carried = {row.torch for row in plan.rows if row.carried}
    state = {name: value.detach().numpy().copy() for name, value in module.state_dict().items()}
    port = {names.get(name, name): value.asnumpy().copy() for name, value in cell.parameters_and_names()}
    scales = _term_scales(module)
    truth = copy.deepcopy(module).to(getattr(torch, dtype)).double()
    return Pair(
        truth=TorchSide(truth, "float64"),
        reference=TorchSide(module, dtype),
        port=MindSporeSide(cell, names, dtype),
        reference_weights={name: value.copy() for name, value in state.items() if name not in carried},
        port_weights=port,
        term_scales=scales,
        dtype=dtype,
    )


def _term_scales(module: Any) -> dict[str, float]:
    """Layer -> factor that turns the size of its input into the size of the numbers whose rounding adds up.

    The norm of the weights of one output gives the size of the sum; a sum of n terms that is added up one by
    one carries the rounding of about sqrt(n) such sums, of which a quarter is allowed for.
    """
    import torch

    scales = {}
    for path, layer in module.named_modules():
        weight = getattr(layer, "weight", None)
        if isinstance(weight, torch.Tensor) and weight.dim() >= 2:
            rows = weight.detach().double().flatten(1)
            one_by_one = max(1.0, rows.shape[1] ** 0.5 / 4)
            scales[path] = float((rows**2).sum(1).mean().sqrt()) * one_by_one
    return scales
