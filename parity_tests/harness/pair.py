"""Builds a reference and its port from the registry, or from a user's own two networks."""

import copy
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from convert.errors import InputError, first_line
from convert.family import Part
from convert.plan import Plan, Target, plan_of
from ms_models.build import build_mindspore
from ms_models.environment import launch_directly
from parity_tests.harness.capture import Pair
from parity_tests.harness.legs import legs_in_use
from parity_tests.harness.sides.base import Array
from parity_tests.harness.sides.mindspore import MindSporeSide, buffers_of, held, walk
from parity_tests.harness.sides.torch import TorchSide
from parity_tests.harness.sides.tree import Tree, as_arguments
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


def pair_networks(
    module: Any, cell: Any, plan: Plan | None = None, dtype: str = "float32", layers: Mapping[str, str] | None = None
) -> Pair:
    """Return the pair of two networks that exist already.

    Args:
        module: PyTorch network; a float64 copy of it, with its weights rounded to `dtype`, becomes the truth.
        cell: MindSpore network with the same layer names.
        plan: naming plan, or None to derive it from the PyTorch network's layer types.
        dtype: precision that is compared; both networks are cast to it, and `module` is moved where the legs say.
        layers: PyTorch path -> MindSpore path of layers that are called otherwise there.

    Raises InputError: `layers` names a layer that its network does not have.
    """
    launch_directly()
    target = target_of(cell)
    require_layers(layers or {}, module, target)
    plan = plan or plan_of(module, target, layers)
    carried = {row.torch for row in plan.rows if row.carried}
    state = {name: array_of(value) for name, value in module.state_dict().items()}
    port, port_weights = held_by_port(cell, plan)
    twins = twins_of(module.state_dict(keep_vars=True))
    truth = TorchSide(copied(module), dtype).network
    return Pair(
        truth=TorchSide(truth, "float64"),
        reference=TorchSide(module, dtype, legs_in_use().reference),
        port=MindSporeSide(cell, dtype=dtype, plan=plan),
        reference_weights={name: value for name, value in state.items() if name not in carried},
        port_weights=port_weights,
        term_scales=term_scales_of(module),
        dtype=dtype,
        faults=faults_of(
            twins,
            twins_of({name: port[name] for name in state if name in port}),
            {name: value.requires_grad for name, value in module.named_parameters(remove_duplicate=False)},
            trained_in(cell, plan),
        ),
        twins=twins,
    )


def held_by_port(cell: Any, plan: Plan) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return PyTorch name -> tensor of a port, and -> values as PyTorch lays them out; of buffers those of the plan."""
    names, rows = plan.names, {row.torch: row for row in plan.rows}
    buffers = {names.get(name, name): own[key] for name, (own, key) in buffers_of(cell)}
    port = {names.get(name, name): value for name, value in held(cell)}
    port |= {name: value for name, value in buffers.items() if name in rows}
    values = {name: array_of(value) for name, value in port.items()}
    return port, {name: rows[name].to_torch(value) if name in rows else value for name, value in values.items()}


def trained_in(cell: Any, plan: Plan) -> dict[str, bool]:
    """Return PyTorch name of each parameter of a port -> whether it is trained."""
    return {plan.names.get(name, name): bool(value.requires_grad) for name, value in held(cell)}


def faults_of(
    twins: Mapping[str, str],
    port_twins: Mapping[str, str],
    trained: Mapping[str, bool],
    port_trained: Mapping[str, bool],
) -> dict[str, str]:
    """Return PyTorch name -> what is wrong with a weight besides its values.

    Args:
        twins, port_twins: of both sides, see `twins_of`.
        trained, port_trained: PyTorch name of each parameter -> whether it is trained.
    """
    return _frozen(trained, port_trained) | _sharing(twins, port_twins)


def require_layers(layers: Mapping[str, str], module: Any, target: Target) -> None:
    """Raise InputError unless each network has the layers, or tensors, that a mapping names, each once."""
    known = {path for path, _ in module.named_modules(remove_duplicate=False)}
    tensors = module.state_dict().keys()
    missing = [f"the reference has no layer {path}" for path in layers if path not in known | tensors]
    for path, other in layers.items():
        there = target.shapes if path in tensors else target.layers
        missing += [] if other in there else [f"the port has no {'tensor' if path in tensors else 'layer'} {other}"]
    twice = [path for path, count in Counter(layers.values()).items() if count > 1]
    missing += [f"two layers of the reference are said to be the port's {path}" for path in twice]
    if missing:
        raise InputError(f"names: {'; '.join(missing)}")


def target_of(cell: Any) -> Target:
    """Return a MindSpore network as a plan sees it."""
    shapes = {name: tuple(value.shape) for name, value in held(cell)}
    buffers = {name: tuple(own[key].shape) for name, (own, key) in buffers_of(cell)}
    return Target(shapes | buffers, {path for path, _ in walk(cell)})


def require_networks(module: Any, cell: Any) -> None:
    """Raise InputError unless these are a PyTorch module with all its tensors and a MindSpore cell, in this order."""
    import mindspore
    import torch

    if not isinstance(module, torch.nn.Module):
        raise InputError(f"the reference is a torch.nn.Module, not {_described(module)}")
    if not isinstance(cell, mindspore.nn.Cell):
        raise InputError(f"the port is a mindspore.nn.Cell, not {_described(cell)}")
    tensors = (*module.named_parameters(), *module.named_buffers())
    if lazy := [name for name, value in tensors if torch.nn.parameter.is_lazy(value)]:
        raise InputError(f"the reference's {lazy[0]} has no shape yet: run the network once, then hand it in")


def _described(value: Any) -> str:
    return f"the class {value.__name__} (build it first)" if isinstance(value, type) else f"a {type(value).__name__}"


def as_inputs(inputs: Any, keywords: Mapping[str, Any] | None = None) -> Tree:
    """Return what networks are called with: arrays and tensors taken out of their structure.

    Args:
        inputs: one array or tensor, several in a list or tuple, or keyword arguments in a dictionary.
        keywords: more keyword arguments.
    """
    import mindspore

    def leaf(value: Any) -> Array | None:
        """Arrays as they are, tensors of either framework as arrays; everything else is a constant."""
        if isinstance(value, np.ndarray):
            return value
        return array_of(value) if is_torch(value) or isinstance(value, mindspore.Tensor) else None

    more = dict(keywords or {})
    if isinstance(inputs, Mapping):
        return as_arguments((), {**inputs, **more}, leaf)
    several = type(inputs) in (list, tuple)
    found = as_arguments(inputs if several else [inputs], more, leaf)
    if bad := [array.dtype for array in found.arrays if array.dtype.kind not in "biufc"]:
        raise InputError(f"inputs are arrays of numbers, not of {bad[0]}")
    return found


def copied(module: Any) -> Any:
    """Return a copy of a PyTorch network; tensors that it has computed and keeps are copied without their history.

    Raises InputError: it holds something that cannot be copied.
    """
    import torch

    known: dict[int, Any] = {}
    for layer in module.modules():
        for value in vars(layer).values():
            if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                known[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(module, known)
    except Exception as error:
        raise InputError(f"{type(module).__name__}: cannot be copied ({first_line(error)})") from error


@contextmanager
def borrowed(cell: Any) -> Iterator[None]:
    """Put back, at the end, the mode of every layer of a MindSpore network, and its tensors' types and values."""
    modes = [(layer, layer.training) for _, layer in cell.cells_and_names()]
    values = [(value, value.dtype, value.asnumpy().copy()) for value in cell.get_parameters()]
    try:
        yield
    finally:
        from mindspore import Tensor

        for value, dtype, array in values:
            if value.dtype != dtype:
                value.set_dtype(dtype)
                value.set_data(Tensor(array))
        for layer, training in modes:
            layer.set_train(training)


def array_of(tensor: Any) -> Array:
    """Return a copy of the values of a PyTorch or MindSpore tensor; bfloat16, which numpy lacks, as float32."""
    if "bfloat16" in str(tensor.dtype).lower():
        tensor = tensor.float()
    return np.array(tensor.detach().cpu().numpy() if is_torch(tensor) else tensor.asnumpy())


def is_torch(leaf: Any) -> bool:
    """Whether something is a PyTorch tensor."""
    torch = sys.modules.get("torch")  # without PyTorch there are none
    return torch is not None and isinstance(leaf, torch.Tensor)


def twins_of(tensors: Mapping[str, Any]) -> dict[str, str]:
    """Name -> first name of the same tensor, for the other names of tensors that stand in several layers."""
    first: dict[int, str] = {}
    for name, value in tensors.items():
        first.setdefault(id(value), name)
    return {name: first[id(value)] for name, value in tensors.items() if first[id(value)] != name}


def _sharing(reference: Mapping[str, str], port: Mapping[str, str]) -> dict[str, str]:
    """Name -> what is wrong, for tensors that are one and the same on one side only."""
    missing = {name: f"a tensor of its own, in the reference the same as {other}" for name, other in reference.items()}
    extra = {name: f"the same tensor as {other}, in the reference one of its own" for name, other in port.items()}
    return {name: words for name, words in (missing | extra).items() if reference.get(name) != port.get(name)}


def _frozen(reference: Mapping[str, bool], port: Mapping[str, bool]) -> dict[str, str]:
    """Name -> what is wrong, for parameters that are trained on one side only; nothing where a side is all frozen."""
    own = {name: port[name] for name in reference if name in port}
    if not any(reference.values()) or not any(own.values()):
        return {}
    frozen = "frozen in the reference (requires_grad is False), trained in the port"
    trained = "trained in the reference, frozen in the port (requires_grad is False)"
    return {name: trained if reference[name] else frozen for name, value in own.items() if value != reference[name]}


def term_scales_of(module: Any) -> dict[str, float]:
    """Return layer -> factor that turns the size of its input into the size of the numbers whose rounding adds up.

    The norm of the weights of one output gives the size of the sum; a sum of n terms that is added up one by
    one carries the rounding of about sqrt(n) such sums, of which a quarter is allowed for.
    """
    import torch

    scales: dict[str, float] = {}
    for path, layer in module.named_modules():
        own = getattr(layer, "weight", None)  # computed, of a layer whose weight is parametrized
        weights = [own] if isinstance(own, torch.Tensor) else list(layer.parameters(recurse=False))
        for weight in weights:
            if weight.dim() >= 2:
                rows = weight.detach().double().flatten(1)
                one_by_one = max(1.0, rows.shape[1] ** 0.5 / 4)
                found = float((rows**2).sum(1).mean().sqrt()) * one_by_one
                scales[path] = max(found, scales.get(path, 0.0))
    return scales
