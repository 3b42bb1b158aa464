"""PyTorch as a side."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any

import numpy as np

from convert.devices import CPU
from parity_tests.harness.sides.base import Array, Dropout, Gradients, LayerCall, LayerError, NetworkSide
from parity_tests.harness.sides.dropping import resting_in_torch
from parity_tests.harness.sides.inexact import watched_kernels
from parity_tests.harness.sides.precise import in_float64
from parity_tests.harness.sides.tree import Tree, arguments, leaves, mapped
from torch_ref.environment import place_of


class TorchSide(NetworkSide):
    """A PyTorch module in float16, bfloat16, float32 or float64 on one of DEVICES, to which it is moved.

    Raises InputError: PyTorch cannot use the device here.
    """

    def __init__(self, module: Any, dtype: str = "float32", device: str = CPU) -> None:
        import torch

        self._torch, self._dtype, self._place = torch, getattr(torch, dtype), place_of(device)
        module = module._apply(self._cast).to(self._place)
        layers = {path: layer for path, layer in module.named_modules() if ".parametrizations." not in f".{path}."}
        super().__init__(f"torch {dtype}", module, layers)

    def _gradients(self, layer: str, inputs: Sequence[Array], cotangents: Sequence[Array]) -> Gradients:
        tensors = self._tensors(inputs)
        sources = [tensor.requires_grad_() for tensor in tensors if tensor.is_floating_point()]
        named = self.layers[layer].named_parameters()
        parameters = {name: value for name, value in named if value.requires_grad}
        args, keywords = arguments(inputs, [tensor.clone() for tensor in tensors])  # a layer may change them in place
        with self._kept():
            outputs = self._floating(self.layers[layer](*args, **keywords))
        reached = [pair for pair in zip(outputs, self._tensors(cotangents), strict=True) if pair[0].requires_grad]
        arrays = self._derivatives(
            [output for output, _ in reached], [seed for _, seed in reached], [*sources, *parameters.values()]
        )
        return Gradients(arrays[: len(sources)], dict(zip(parameters, arrays[len(sources) :], strict=True)))

    def trace_with_cotangents(self, inputs: Sequence[Array]) -> list[tuple[LayerCall, tuple[Array, ...]]]:
        """See `Side.trace_with_cotangents`."""
        calls: list[tuple[LayerCall, list[Any]]] = []

        def leave(path: str, given: Tree, outputs: Any) -> Any:
            """Keep a layer's outputs, and pass copies on, which later layers may change in place."""
            calls.append((LayerCall(path, given, Tree.of(outputs, self._output)), self._floating(outputs)))
            return mapped(outputs, lambda _, leaf: leaf.clone() if self._is_tensor(leaf) else leaf)

        def run() -> list[Any]:
            """The network's floating outputs."""
            tensors = self._tensors(inputs)
            given = [tensor.requires_grad_().clone() if tensor.is_floating_point() else tensor for tensor in tensors]
            args, keywords = arguments(inputs, given)
            with self._kept():
                return self._floating(self.network(*args, **keywords))

        outputs = self._traced(run, leave)
        tensors = [tensor for _, own in calls for tensor in own]
        generator = self._torch.Generator().manual_seed(0)
        draw = partial(self._torch.randn, generator=generator)
        seeds = [draw(tensor.shape, dtype=tensor.dtype).to(self._place) for tensor in outputs]
        losses = [(tensor * seed).mean() for tensor, seed in zip(outputs, seeds, strict=True)]
        found = iter(self._derivatives([loss for loss in losses if loss.requires_grad], None, tensors))
        return [(call, tuple(next(found) for _ in own)) for call, own in calls]

    def set_state(self, state: Mapping[str, Array]) -> None:
        """See `Side.set_state`."""
        moving = self._moving("")
        with self._torch.no_grad():
            for name, value in state.items():
                moving[name].copy_(self._torch.from_numpy(np.array(value)))

    def set_training(self, training: bool, resting: Collection[str] = ()) -> None:
        """See `Side.set_training`."""
        self.network.train(training)
        for path in resting:
            self.layers[path].eval()

    def imprecise(self, inputs: Sequence[Array]) -> frozenset[str]:
        """See `Side.imprecise`."""
        running, found = list[str](), set[str]()
        handles = [
            handle
            for path, layer in self.layers.items()
            for handle in (
                layer.register_forward_pre_hook(lambda *_, path=path: running.append(path)),
                layer.register_forward_hook(lambda *_: running.pop() and None),
            )
        ]
        try:
            with watched_kernels(lambda: found.update(running)), self.preserved():
                self.call("", inputs)
        except LayerError:
            found.update(self.layers)
        finally:
            for handle in handles:
                handle.remove()
        return frozenset(found)

    @property
    def dropouts(self) -> Mapping[str, Dropout | None]:
        """See `Side.dropouts`."""
        nn = self._torch.nn
        whole = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
        found = {path: it for path, it in self.layers.items() if isinstance(it, nn.modules.dropout._DropoutNd)}
        return {
            path: Dropout(layer.p, isinstance(layer, whole)) if isinstance(layer, (nn.Dropout, *whole)) else None
            for path, layer in found.items()
        }

    def weights(self) -> dict[str, Array]:
        """See `Side.weights`."""
        named = self.network.named_parameters()
        return {name: self._array(value).copy() for name, value in named if value.requires_grad}

    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """See `Side.set_weights`."""
        for name, value in self.network.named_parameters():
            if name in weights:
                value.data.copy_(self._torch.from_numpy(np.asarray(weights[name])))

    def _run(self, layer: Any, inputs: Sequence[Array]) -> Any:
        with self._torch.no_grad(), self._kept():
            return super()._run(layer, inputs)

    def _kept(self) -> AbstractContextManager[Any]:
        """What keeps the side's precision where a network asks for another one, and dropout at rest."""
        stack = ExitStack()
        if self._dtype == self._torch.float64:
            stack.enter_context(in_float64())
        if self._resting:
            stack.enter_context(resting_in_torch(self._dropping))
        return stack

    def _settings(self, layer: Any) -> Mapping[str, Any]:
        common = vars(self._torch.nn.Module())
        hooks = [*layer._forward_pre_hooks.values(), *layer._forward_hooks.values()]
        return {name: value for name, value in vars(layer).items() if name not in common} | {"hooks": hooks}

    def _hook(self, path: str, layer: Any, entered: Callable[..., None], left: Callable[..., Any]) -> Sequence[Any]:
        return (
            layer.register_forward_pre_hook(lambda _, args, keywords: entered(path, args, keywords), with_kwargs=True),
            layer.register_forward_hook(lambda _, args, outputs: left(path, outputs)),
        )

    def _function(self, layer: Any) -> Callable[..., Any]:
        function: Callable[..., Any] = layer.forward
        return function

    def _moving(self, layer: str) -> dict[str, Any]:
        """Buffers, and parameters that are not trained: some systems keep moving vectors as such."""
        module = self.layers[layer]
        fixed = {name: value.data for name, value in module.named_parameters(layer) if not value.requires_grad}
        return {**dict(module.named_buffers(layer)), **fixed}

    def _is_tensor(self, leaf: Any) -> bool:
        return isinstance(leaf, self._torch.Tensor)

    def _floating(self, outputs: Any) -> list[Any]:
        return [leaf for leaf in leaves(outputs) if self._is_tensor(leaf) and leaf.is_floating_point()]

    def _tensors(self, arrays: Sequence[Array]) -> list[Any]:
        return [self._cast(self._torch.from_numpy(np.array(array))).to(self._place) for array in arrays]

    def _cast(self, tensor: Any) -> Any:
        """A tensor in the side's precision; of complex numbers there is one for float64 and one for all others."""
        if tensor.is_complex():
            return tensor.to(self._torch.complex128) if self._dtype == self._torch.float64 else tensor
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor

    def _derivatives(self, outputs: list[Any], seeds: list[Any] | None, sources: list[Any]) -> tuple[Array, ...]:
        """Gradients of outputs as arrays; zeros where nothing flows into the source."""
        grown = [source for source in sources if source.requires_grad]
        found = self._torch.autograd.grad(outputs, grown, seeds, allow_unused=True) if outputs and grown else ()
        known = {id(source): gradient for source, gradient in zip(grown, found, strict=False)}
        gradients = [known.get(id(source)) for source in sources]
        return tuple(
            np.zeros(source.shape, np.float32) if gradient is None else self._array(gradient)
            for gradient, source in zip(gradients, sources, strict=True)
        )

    def _array(self, tensor: Any) -> Array:
        tensor = tensor.detach().cpu()
        return np.array((tensor.float() if tensor.dtype == self._torch.bfloat16 else tensor).numpy())
