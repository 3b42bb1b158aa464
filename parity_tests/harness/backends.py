"""The two frameworks behind one interface: named layers, single-layer calls, whole-network traces.

A side never judges; it only runs. Frameworks are imported when a side is made, so that the command
line's help works without them. Arrays go in and come out as numpy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Gradients", "LayerCall", "MindSporeSide", "Side", "TorchSide", "lacks_kernel"]

Array = NDArray[Any]


@dataclass(frozen=True)
class LayerCall:
    """One call of one named layer during a run.

    Attributes:
        layer: dotted path; "" is the network itself.
        inputs, outputs: arrays in order.
    """

    layer: str
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]


@dataclass(frozen=True)
class Gradients:
    """Vector-Jacobian products of one layer: with respect to its inputs and, by name, its own parameters."""

    inputs: tuple[Array, ...]
    parameters: Mapping[str, Array]


class Side(ABC):
    """A network in one framework and one precision."""

    name: str

    _layers: Mapping[str, Any]

    def layer_types(self) -> dict[str, str]:
        """Dotted path -> class name of every layer, the network itself under ""."""
        return {path: type(layer).__name__ for path, layer in self._layers.items()}

    def layer_classes(self) -> set[type]:
        """Classes of all layers."""
        return {type(layer) for layer in self._layers.values()}

    @abstractmethod
    def call(self, layer: str, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """Run one layer alone."""

    @abstractmethod
    def trace(self, inputs: Sequence[Array], visit: Callable[[LayerCall], None]) -> None:
        """Run the whole network and visit every layer as it returns, children before parents."""

    @abstractmethod
    def gradients(self, layer: str, inputs: Sequence[Array], cotangents: Sequence[Array]) -> Gradients:
        """Vector-Jacobian products of one layer for the given output cotangents."""

    def trace_with_cotangents(self, inputs: Sequence[Array]) -> list[tuple[LayerCall, tuple[Array, ...]]]:
        """Run forward and backward; return every layer's call with the gradients at its outputs (references only).

        The loss is the sum of all outputs times seeded numbers; outputs that it does not reach get zeros.
        """
        raise NotImplementedError(f"{self.name} is not a reference")

    @abstractmethod
    def state(self, layer: str = "") -> dict[str, Array]:
        """Copies of what running a layer may change (spectral-norm vectors, running statistics), by full name."""

    @abstractmethod
    def set_state(self, state: Mapping[str, Array]) -> None:
        """Put back values returned by `state`."""

    @abstractmethod
    def set_training(self, training: bool) -> None:
        """Switch between train and eval mode."""

    @contextmanager
    def preserved(self, layer: str = "") -> Iterator[None]:
        """Undo, at the end, whatever running the layer changed."""
        state = self.state(layer)
        try:
            yield
        finally:
            if state:
                self.set_state(state)


def _tuple(outputs: Any) -> tuple[Any, ...]:
    return tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)


class TorchSide(Side):
    """A PyTorch module on the CPU, in float16, bfloat16, float32 or float64."""

    def __init__(self, module: Any, dtype: str = "float32") -> None:
        import torch

        self._torch = torch
        self.name = f"torch {dtype}"
        self._dtype = getattr(torch, dtype)
        self.module = module.to(self._dtype)
        self._layers = {path: one for path, one in module.named_modules() if ".parametrizations." not in f".{path}."}
        fixed = {name: value.data for name, value in module.named_parameters() if not value.requires_grad}
        buffers = {**dict(module.named_buffers()), **fixed}  # some systems keep moving vectors as parameters
        self._buffers = {name: value for name, value in buffers.items() if value.is_floating_point()}

    def call(self, layer: str, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """See `Side.call`."""
        with self._torch.no_grad():
            outputs = self._layers[layer](*self._tensors(inputs))
        return tuple(_array(tensor) for tensor in _tuple(outputs))

    def trace(self, inputs: Sequence[Array], visit: Callable[[LayerCall], None]) -> None:
        """See `Side.trace`."""

        def hook(layer: str) -> Callable[[Any, Any, Any], None]:
            def record(_: Any, args: Any, outputs: Any) -> None:
                arrays = tuple(tuple(_array(tensor) for tensor in _tuple(group)) for group in (args, outputs))
                visit(LayerCall(layer, *arrays))

            return record

        handles = [module.register_forward_hook(hook(path)) for path, module in self._layers.items()]
        try:
            with self._torch.no_grad():
                self.module(*self._tensors(inputs))
        finally:
            for handle in handles:
                handle.remove()

    def gradients(self, layer: str, inputs: Sequence[Array], cotangents: Sequence[Array]) -> Gradients:
        """See `Side.gradients`."""
        tensors = [tensor.requires_grad_() for tensor in self._tensors(inputs)]
        parameters = {name: one for name, one in self._layers[layer].named_parameters() if one.requires_grad}
        outputs = _tuple(self._layers[layer](*tensors))
        found = self._torch.autograd.grad(
            outputs, [*tensors, *parameters.values()], self._tensors(cotangents), allow_unused=True
        )
        arrays = [
            np.zeros(source.shape, np.float32) if gradient is None else _array(gradient)
            for gradient, source in zip(found, [*tensors, *parameters.values()], strict=True)
        ]
        return Gradients(tuple(arrays[: len(tensors)]), dict(zip(parameters, arrays[len(tensors) :], strict=True)))

    def trace_with_cotangents(self, inputs: Sequence[Array]) -> list[tuple[LayerCall, tuple[Array, ...]]]:
        """See `Side.trace_with_cotangents`."""
        calls: list[tuple[str, Any, Any]] = []
        handles = [
            layer.register_forward_hook(lambda _, args, out, path=path: calls.append((path, _tuple(args), _tuple(out))))
            for path, layer in self._layers.items()
        ]
        try:
            outputs = _tuple(self.module(*[tensor.requires_grad_() for tensor in self._tensors(inputs)]))
        finally:
            for handle in handles:
                handle.remove()
        tensors = [tensor for _, _, out in calls for tensor in out]
        generator = self._torch.Generator().manual_seed(0)
        seeds = [self._torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype) for tensor in outputs]
        loss = sum((tensor * seed).mean() for tensor, seed in zip(outputs, seeds, strict=True))
        found = iter(self._torch.autograd.grad(loss, tensors, allow_unused=True))
        traced = []
        for path, args, out in calls:
            gradients = [(gradient, tensor) for tensor, gradient in zip(out, found, strict=False)]
            arrays = tuple(np.zeros(t.shape, np.float32) if g is None else _array(g) for g, t in gradients)
            call = LayerCall(path, *(tuple(_array(one) for one in group) for group in (args, out)))
            traced.append((call, arrays))
        return traced

    def state(self, layer: str = "") -> dict[str, Array]:
        """See `Side.state`."""
        return {name: _array(value).copy() for name, value in self._buffers.items() if _inside(name, layer)}

    def set_state(self, state: Mapping[str, Array]) -> None:
        """See `Side.set_state`."""
        for name, value in state.items():
            self._buffers[name].copy_(self._torch.from_numpy(np.asarray(value)))

    def set_training(self, training: bool) -> None:
        """See `Side.set_training`."""
        self.module.train(training)

    def _tensors(self, arrays: Sequence[Array]) -> list[Any]:
        return [self._torch.from_numpy(np.array(array)).to(self._dtype) for array in arrays]


def _array(tensor: Any) -> Array:
    """Values of a PyTorch tensor; bfloat16, which numpy lacks, as float32."""
    tensor = tensor.detach()
    return np.asarray((tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy())


class MindSporeSide(Side):
    """A MindSpore cell in PyNative mode, on the device that the process has chosen.

    Args:
        cell: the network.
        torch_names: MindSpore parameter name -> PyTorch name, so that both sides speak of the same
            tensor; names that are absent stay as they are.
        dtype: "float16", "bfloat16", "float32" or "float64"; the parameters are cast to it.
    """

    def __init__(self, cell: Any, torch_names: Mapping[str, str] | None = None, dtype: str = "float32") -> None:
        import mindspore

        self._ms = mindspore
        self._dtype = getattr(mindspore, dtype)
        self.name = f"mindspore {dtype}"
        if dtype != "float32":
            for value in cell.get_parameters():
                value.set_dtype(self._dtype)
        self.cell = cell
        self._layers = dict(cell.cells_and_names())
        names = torch_names or {}
        self._parameters = {names.get(name, name): value for name, value in cell.parameters_and_names()}
        self._buffers = {name: value for name, value in self._parameters.items() if not value.requires_grad}

    def call(self, layer: str, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """See `Side.call`."""
        return tuple(self._array(tensor) for tensor in _tuple(self._layers[layer](*self._tensors(inputs))))

    def trace(self, inputs: Sequence[Array], visit: Callable[[LayerCall], None]) -> None:
        """See `Side.trace`."""

        def hook(layer: str) -> Callable[[Any, Any, Any], None]:
            def record(_: Any, args: Any, outputs: Any) -> None:
                arrays = tuple(tuple(self._array(tensor) for tensor in _tuple(group)) for group in (args, outputs))
                visit(LayerCall(layer, *arrays))

            return record

        handles = [cell.register_forward_hook(hook(path)) for path, cell in self._layers.items()]
        try:
            self.cell(*self._tensors(inputs))
        finally:
            for handle in handles:
                handle.remove()

    def gradients(self, layer: str, inputs: Sequence[Array], cotangents: Sequence[Array]) -> Gradients:
        """See `Side.gradients`."""
        cell = self._layers[layer]
        prefix = f"{layer}." if layer else ""
        own = {
            name.removeprefix(prefix): value
            for name, value in self._parameters.items()
            if value.requires_grad and _inside(name, layer)
        }
        weights = self._ms.ParameterTuple(list(own.values()))
        take = self._ms.ops.GradOperation(get_all=True, get_by_list=bool(own), sens_param=True)
        seeds = self._tensors(cotangents)
        transform = take(cell, weights) if own else take(cell)
        found = transform(*self._tensors(inputs), seeds[0] if len(seeds) == 1 else tuple(seeds))
        by_input, by_weight = found if own else (found, ())
        return Gradients(
            tuple(self._array(tensor) for tensor in by_input),
            {name: self._array(tensor) for name, tensor in zip(own, by_weight, strict=True)},
        )

    def state(self, layer: str = "") -> dict[str, Array]:
        """See `Side.state`."""
        return {name: self._array(value).copy() for name, value in self._buffers.items() if _inside(name, layer)}

    def set_state(self, state: Mapping[str, Array]) -> None:
        """See `Side.set_state`."""
        for name, value in state.items():
            if name in self._buffers:
                self._buffers[name].set_data(self._tensors([value])[0])

    def set_training(self, training: bool) -> None:
        """See `Side.set_training`."""
        self.cell.set_train(training)

    def _tensors(self, arrays: Sequence[Array]) -> list[Any]:
        wide = np.float64 if self._dtype == self._ms.float64 else np.float32
        tensors = [self._ms.Tensor(np.asarray(array, wide)) for array in arrays]
        return [tensor if tensor.dtype == self._dtype else tensor.astype(self._dtype) for tensor in tensors]

    def _array(self, tensor: Any) -> Array:
        """Values of a MindSpore tensor; bfloat16, which numpy lacks, as float32."""
        return np.asarray((tensor.astype(self._ms.float32) if tensor.dtype == self._ms.bfloat16 else tensor).asnumpy())


def lacks_kernel(error: Exception) -> bool:
    """Whether an error says that MindSpore has no kernel for the precision on this device."""
    return any(words in str(error) for words in ("must be a type of", "Unsupported data type", "nsupported type"))


def _inside(name: str, layer: str) -> bool:
    return not layer or name.startswith(f"{layer}.")
