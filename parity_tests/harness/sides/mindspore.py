"""MindSpore as a side."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from parity_tests.harness.sides.base import Array, Gradients, NetworkSide, inside


class MindSporeSide(NetworkSide):
    """A MindSpore cell in PyNative mode, on the device that the process has chosen.

    Args:
        cell: the network.
        torch_names: MindSpore parameter name -> PyTorch name, so that both sides speak of the same
            tensor; names that are absent stay as they are.
        dtype: "float16", "bfloat16", "float32" or "float64"; the parameters are cast to it.
    """

    def __init__(self, cell: Any, torch_names: Mapping[str, str] | None = None, dtype: str = "float32") -> None:
        import mindspore

        self._ms, self._dtype = mindspore, getattr(mindspore, dtype)
        if dtype != "float32":
            for value in cell.get_parameters():
                value.set_dtype(self._dtype)
        names = torch_names or {}
        self._parameters = {names.get(name, name): value for name, value in cell.parameters_and_names()}
        buffers = {name: value for name, value in self._parameters.items() if not value.requires_grad}
        super().__init__(f"mindspore {dtype}", cell, dict(cell.cells_and_names()), buffers)

    def gradients(self, layer: str, inputs: Sequence[Array], cotangents: Sequence[Array]) -> Gradients:
        """See `Side.gradients`."""
        cell, prefix = self.layers[layer], f"{layer}." if layer else ""
        own = {
            name.removeprefix(prefix): value
            for name, value in self._parameters.items()
            if value.requires_grad and inside(name, layer)
        }
        weights = self._ms.ParameterTuple(list(own.values()))
        take = self._ms.ops.GradOperation(get_all=True, get_by_list=bool(own), sens_param=True)
        seeds = self._tensors(cotangents)
        transform = take(cell, weights) if own else take(cell)
        found = transform(*self._tensors(inputs), seeds[0] if len(seeds) == 1 else tuple(seeds))
        by_input, by_weight = found if own else (found, ())
        return Gradients(self._arrays(by_input), dict(zip(own, self._arrays(by_weight), strict=True)))

    def set_state(self, state: Mapping[str, Array]) -> None:
        """See `Side.set_state`."""
        for name, value in state.items():
            if name in self._buffers:
                self._buffers[name].set_data(self._tensors([value])[0])

    def set_training(self, training: bool, resting: Collection[str] = ()) -> None:
        """See `Side.set_training`."""
        self.network.set_train(training)
        for path in set(resting) & self.layers.keys():
            self.layers[path].set_train(False)

    def weights(self) -> dict[str, Array]:
        """See `Side.weights`."""
        named = self._parameters.items()
        return {name: self._array(value).copy() for name, value in named if value.requires_grad}

    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """See `Side.set_weights`."""
        for name in weights.keys() & self._parameters.keys():
            self._parameters[name].set_data(self._tensors([weights[name]])[0])

    def _run(self, layer: Any, inputs: Sequence[Array]) -> Any:
        return layer(*self._tensors(inputs))

    def _tensors(self, arrays: Sequence[Array]) -> list[Any]:
        wide = np.float64 if self._dtype == self._ms.float64 else np.float32
        tensors = [self._ms.Tensor(np.asarray(array, wide)) for array in arrays]
        return [tensor if tensor.dtype == self._dtype else tensor.astype(self._dtype) for tensor in tensors]

    def _array(self, tensor: Any) -> Array:
        return np.asarray((tensor.astype(self._ms.float32) if tensor.dtype == self._ms.bfloat16 else tensor).asnumpy())


def lacks_kernel(error: Exception) -> bool:
    """Whether an error says that MindSpore has no kernel for the precision on this device."""
    return any(words in str(error) for words in ("must be a type of", "Unsupported data type", "nsupported type"))
