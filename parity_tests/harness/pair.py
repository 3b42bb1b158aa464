"""Builds a reference and its port from the registry, or from a user's own two networks."""

import copy
from collections.abc import Mapping
from typing import Any

from convert.family import Part
from convert.plan import Plan, plan_of
from ms_models.build import build_mindspore
from ms_models.environment import launch_directly
from parity_tests.harness.capture import Pair
from parity_tests.harness.sides.base import Array
from parity_tests.harness.sides.mindspore import MindSporeSide
from parity_tests.harness.sides.torch import TorchSide
from torch_ref.build import build_torch


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
    names = plan.names
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
