"""PyTorch on the CPU as a side."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from parity_tests.harness.sides.base import Array, Gradients, LayerCall, NetworkSide, tuple_of


class TorchSide(NetworkSide):
    """A PyTorch module on the CPU, in float16, bfloat16, float32 or float64."""

    def __init__(self, module: Any, dtype: str = "float32") -> None:
        import torch

        self._torch, self._dtype = torch, getattr(torch, dtype)
        module = module.to(self._dtype)
        layers = {path: layer for path, layer in module.named_modules() if ".parametrizations." not in f".{path}."}
        fixed = {name: value.data for name, value in module.named_parameters() if not value.requires_grad}
        buffers = {**dict(module.named_buffers()), **fixed}  # some systems keep moving vectors as parameters
        moving = {name: value for name, value in buffers.items() if value.is_floating_point()}
        super().__init__(f"torch {dtype}", module, layers, moving)

    def gradients(self, layer: str, inputs: Sequence[Array], cotangents: Sequence[Array]) -> Gradients:
        """See `Side.gradients`."""
        tensors = [tensor.requires_grad_() for tensor in self._tensors(inputs)]
        named = self.layers[layer].named_parameters()
        parameters = {name: value for name, value in named if value.requires_grad}
        outputs, sources = tuple_of(self.layers[layer](*tensors)), [*tensors, *parameters.values()]
        found = self._torch.autograd.grad(outputs, sources, self._tensors(cotangents), allow_unused=True)
        arrays = self._filled(found, sources)
        return Gradients(arrays[: len(tensors)], dict(zip(parameters, arrays[len(tensors) :], strict=True)))

    def trace_with_cotangents(self, inputs: Sequence[Array]) -> list[tuple[LayerCall, tuple[Array, ...]]]:
        """See `Side.trace_with_cotangents`."""
        calls: list[tuple[str, tuple[Any, ...], tuple[Any, ...]]] = []
        with self._hooked(lambda path, args, out: calls.append((path, tuple_of(args), tuple_of(out)))):
            outputs = tuple_of(self.network(*[tensor.requires_grad_() for tensor in self._tensors(inputs)]))
        tensors = [tensor for _, _, out in calls for tensor in out]
        generator = self._torch.Generator().manual_seed(0)
        seeds = [self._torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype) for tensor in outputs]
        loss = sum((tensor * seed).mean() for tensor, seed in zip(outputs, seeds, strict=True))
        found = iter(self._filled(self._torch.autograd.grad(loss, tensors, allow_unused=True), tensors))
        return [
            (LayerCall(path, self._arrays(args), self._arrays(out)), tuple(next(found) for _ in out))
            for path, args, out in calls
        ]

    def set_state(self, state: Mapping[str, Array]) -> None:
        """See `Side.set_state`."""
        for name, value in state.items():
            self._buffers[name].copy_(self._torch.from_numpy(np.asarray(value)))

    def set_training(self, training: bool, resting: Collection[str] = ()) -> None:
        """See `Side.set_training`."""
        self.network.train(training)
        for path in resting:
            self.layers[path].eval()

    @property
    def dropouts(self) -> tuple[str, ...]:
        """See `Side.dropouts`."""
        kind = self._torch.nn.modules.dropout._DropoutNd
        return tuple(path for path, layer in self.layers.items() if isinstance(layer, kind))

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
        with self._torch.no_grad():
            return layer(*self._tensors(inputs))

    def _tensors(self, arrays: Sequence[Array]) -> list[Any]:
        return [self._torch.from_numpy(np.array(array)).to(self._dtype) for array in arrays]

    def _filled(self, gradients: Sequence[Any], sources: Sequence[Any]) -> tuple[Array, ...]:
        """Gradients as arrays; zeros where nothing flows into the source."""
        return tuple(
            np.zeros(source.shape, np.float32) if gradient is None else self._array(gradient)
            for gradient, source in zip(gradients, sources, strict=True)
        )

    def _array(self, tensor: Any) -> Array:
        tensor = tensor.detach()
        return np.asarray((tensor.float() if tensor.dtype == self._torch.bfloat16 else tensor).numpy())
