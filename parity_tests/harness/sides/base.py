"""The frameworks behind one interface: named layers, single-layer calls, whole-network traces.

A side never judges; it only runs. Arrays go in and come out as numpy.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class LayerCall:
    """One call of one named layer during a run."""

    layer: str  # dotted path; "" is the network itself
    # inputs, outputs: arrays in order
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]


@dataclass(frozen=True)
class Gradients:
    """Vector-Jacobian products of one layer: with respect to its inputs and, by name, its own parameters."""

    inputs: tuple[Array, ...]
    parameters: Mapping[str, Array]


class Side(ABC):
    """A network in one framework and one precision.

    Attributes:
        name: framework and precision.
        network: the framework's own object.
        layers: dotted path -> the framework's layer; the network itself under "".
    """

    def __init__(self, name: str, network: Any, layers: Mapping[str, Any]) -> None:
        self.name, self.network, self.layers = name, network, layers
        self._types = {path: type(layer).__name__ for path, layer in layers.items()}

    def layer_types(self) -> Mapping[str, str]:
        """Dotted path -> class name of every layer."""
        return self._types

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
    def set_training(self, training: bool, resting: Collection[str] = ()) -> None:
        """Switch between train and eval mode, except for the layers `resting`, which stay in eval mode."""

    @property
    def dropouts(self) -> tuple[str, ...]:
        """Paths of the layers that leave out random elements in train mode (references only)."""
        return ()

    @abstractmethod
    def weights(self) -> dict[str, Array]:
        """Copies of the trained parameters, by the PyTorch name."""

    @abstractmethod
    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """Give parameters other values, by the PyTorch name; names that the network lacks are ignored."""

    @contextmanager
    def preserved(self, layer: str = "") -> Iterator[None]:
        """Undo, at the end, whatever running the layer changed."""
        state = self.state(layer)
        try:
            yield
        finally:
            if state:
                self.set_state(state)


class NetworkSide(Side):
    """What sides of frameworks have in common; `buffers` is what running the network may change, by full name."""

    def __init__(self, name: str, network: Any, layers: Mapping[str, Any], buffers: Mapping[str, Any]) -> None:
        super().__init__(name, network, layers)
        self._buffers = buffers

    def call(self, layer: str, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """See `Side.call`."""
        return self._arrays(self._run(self.layers[layer], inputs))

    def trace(self, inputs: Sequence[Array], visit: Callable[[LayerCall], None]) -> None:
        """See `Side.trace`."""
        with self._hooked(lambda path, args, out: visit(LayerCall(path, self._arrays(args), self._arrays(out)))):
            self._run(self.network, inputs)

    def state(self, layer: str = "") -> dict[str, Array]:
        """See `Side.state`."""
        return {name: self._array(value).copy() for name, value in self._buffers.items() if inside(name, layer)}

    @contextmanager
    def _hooked(self, record: Callable[[str, Any, Any], None]) -> Iterator[None]:
        """Call `record` with path, inputs and outputs of every layer that returns in the meantime."""
        handles = [
            layer.register_forward_hook(lambda _, args, outputs, path=path: record(path, args, outputs))
            for path, layer in self.layers.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _arrays(self, tensors: Any) -> tuple[Array, ...]:
        return tuple(self._array(tensor) for tensor in tuple_of(tensors))

    @abstractmethod
    def _run(self, layer: Any, inputs: Sequence[Array]) -> Any:
        """The framework's own outputs of one of its layers."""

    @abstractmethod
    def _array(self, tensor: Any) -> Array:
        """Values of a tensor; bfloat16, which numpy lacks, as float32."""


def tuple_of(outputs: Any) -> tuple[Any, ...]:
    """Return what a layer takes or returns as a tuple, also where it is one tensor."""
    return tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)


def inside(name: str, layer: str) -> bool:
    """Whether a parameter or layer lies inside a layer; everything lies in the network, ""."""
    return not layer or name.startswith(f"{layer}.")
