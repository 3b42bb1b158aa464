"""The frameworks behind one interface: named layers, single-layer calls, whole-network traces.

A side never judges; it only runs. Arrays go in and come out as numpy.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

from convert.errors import first_line
from parity_tests.harness.sides.settings import Described, described
from parity_tests.harness.sides.tree import Array, Tree, arguments, as_arguments, number, text


class LayerError(RuntimeError):
    """A layer raised an error while it ran: which one, and the first line of the framework's message."""

    def __init__(self, layer: str, error: Exception) -> None:
        self.layer, self.reason = layer, f"{type(error).__name__}: {first_line(error)}"
        super().__init__(f"{layer or '(network)'}: {self.reason}\n{error}")


@dataclass(frozen=True)
class LayerCall:
    """One call of one named layer during a run."""

    layer: str  # dotted path; "" is the network itself
    # inputs, outputs: arrays in order, `Tree` where there is more to them than arrays one after the other
    inputs: Sequence[Array]
    outputs: Sequence[Array]


@dataclass(frozen=True)
class Dropout:
    """A layer that sets random elements to 0 in train mode, and enlarges the others so that the mean stays."""

    rate: float  # the probability of being left out
    channels: bool  # whether whole channels are


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
        self._resting = True  # whether dropout is at rest
        self._dropping: Callable[[Dropout | None], None] = lambda form: None  # told each use of dropout

    def layer_types(self) -> Mapping[str, str]:
        """Dotted path -> class name of every layer."""
        return self._types

    def settings(self) -> "Mapping[str, Described]":
        """Path -> how each layer is set, but for its weights (networks that can be run only)."""
        return {}

    @abstractmethod
    def call(self, layer: str, inputs: Sequence[Array]) -> Sequence[Array]:
        """Run one layer alone; raises LayerError where it cannot run."""

    def call_drawing(self, layer: str, inputs: Sequence[Array]) -> Sequence[Array]:
        """Run one layer alone like `call`, but with dropout as it is, where that rests otherwise."""
        return self.call(layer, inputs)

    def accepts(self, layer: str, inputs: Sequence[Array]) -> bool:
        """Whether a layer can be called in the form of `inputs`: as many arguments, keywords that it knows."""
        return True

    @abstractmethod
    def trace(self, inputs: Sequence[Array], visit: Callable[[LayerCall], None]) -> None:
        """Run the whole network and visit every layer as it returns, children before parents."""

    @abstractmethod
    def gradients(self, layer: str, inputs: Sequence[Array], cotangents: Sequence[Array]) -> Gradients:
        """Vector-Jacobian products of one layer for the given cotangents of its floating outputs."""

    def trace_with_cotangents(self, inputs: Sequence[Array]) -> list[tuple[LayerCall, tuple[Array, ...]]]:
        """Run forward and backward; return every layer's call with the gradients at its floating outputs.

        Only references can do this.

        The loss is the sum of all outputs times seeded numbers; outputs that it does not reach get zeros.
        """
        raise NotImplementedError(f"{self.name} is not a reference")

    def as_graphs(self) -> "Side":
        """Return the same side with every layer compiled to a graph before it runs, in the mode it has then.

        Graphs cannot be traced. A side that knows none runs as it is.
        """
        return self

    @abstractmethod
    def state(self, layer: str = "") -> dict[str, Array]:
        """Copies of what running a layer may change (spectral-norm vectors, running statistics), by full name."""

    @abstractmethod
    def set_state(self, state: Mapping[str, Array]) -> None:
        """Put back values returned by `state`."""

    @abstractmethod
    def set_training(self, training: bool, resting: Collection[str] = ()) -> None:
        """Switch between train and eval mode, except for the layers `resting`, which stay in eval mode."""

    def imprecise(self, inputs: Sequence[Array]) -> frozenset[str]:
        """Layers that compute functions of which MindSpore's kernels are imprecise (references only)."""
        return frozenset()

    @property
    def dropouts(self) -> "Mapping[str, Dropout | None]":
        """Path -> form of the layers that leave out random elements in train mode (references only).

        None where they put something else in their place.
        """
        return {}

    def uses_of_dropout(self, inputs: Sequence[Array]) -> "list[tuple[str, Dropout | None]] | None":
        """Run the whole network; return the innermost layer and the form of each use of dropout that is not at rest.

        None where that is not known, and in the place of a form as in `dropouts`.
        """
        return None

    @abstractmethod
    def weights(self) -> dict[str, Array]:
        """Copies of the trained parameters, by the PyTorch name."""

    @abstractmethod
    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """Give parameters other values, by the PyTorch name; names that the network lacks are ignored."""

    def own_name(self, layer: str, name: str) -> str:
        """What a layer's tensor, named inside the layer as in PyTorch, is called in this framework."""
        return name

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
    """What sides of frameworks have in common."""

    def call(self, layer: str, inputs: Sequence[Array]) -> Sequence[Array]:
        """See `Side.call`."""
        try:
            return Tree.of(self._run(self.layers[layer], inputs), self._output)
        except Exception as error:
            raise LayerError(layer, error) from error

    def call_drawing(self, layer: str, inputs: Sequence[Array]) -> Sequence[Array]:
        """See `Side.call_drawing`."""
        self._resting = False
        try:
            return self.call(layer, inputs)
        finally:
            self._resting = True

    def trace(self, inputs: Sequence[Array], visit: Callable[[LayerCall], None]) -> None:
        """See `Side.trace`."""

        def leave(path: str, given: Tree, outputs: Any) -> None:
            """Visit a call."""
            visit(self.returned(path, given, outputs))

        self._traced(lambda: self._run(self.network, inputs), leave)

    def gradients(self, layer: str, inputs: Sequence[Array], cotangents: Sequence[Array]) -> Gradients:
        """See `Side.gradients`."""
        try:
            return self._gradients(layer, inputs, cotangents)
        except Exception as error:
            raise LayerError(layer, error) from error

    def uses_of_dropout(self, inputs: Sequence[Array]) -> list[tuple[str, Dropout | None]]:
        """See `Side.uses_of_dropout`."""
        found: list[tuple[str, Dropout | None]] = []
        before = self._dropping
        with self.preserved(), self.watched(lambda *_: None) as running:
            self._dropping = lambda form: found.append((running[-1][0] if running else "", form))
            try:
                self._run(self.network, inputs)
            finally:
                self._dropping = before
        return found

    def accepts(self, layer: str, inputs: Sequence[Array]) -> bool:
        """See `Side.accepts`."""
        args, keywords = arguments(inputs, list(inputs))
        try:
            signature(self._function(self.layers[layer])).bind(*args, **keywords)
        except TypeError:
            return False
        return True

    def state(self, layer: str = "") -> dict[str, Array]:
        """See `Side.state`."""
        return {name: self._array(value) for name, value in self._moving(layer).items()}

    def _traced(self, run: Callable[[], Any], leave: Callable[[str, Tree, Any], Any]) -> Any:
        """Run, and call `leave` as `watched` does. An error names the innermost layer that did not return."""
        with self.watched(leave) as running:
            try:
                return run()
            except Exception as error:
                raise LayerError(running[-1][0] if running else "", error) from error

    @contextmanager
    def watched(
        self, leave: Callable[[str, Tree, Any], Any], enter: Callable[[str], None] | None = None
    ) -> Iterator[list[tuple[str, Tree]]]:
        """Call `leave` with path, inputs as they came in, and outputs of every layer that returns.

        An error of `leave` or `enter` comes out at the end as it is, even where the network forgives it.

        Args:
            leave: what it returns takes the place of the layer's outputs, unless it is None.
            enter: called with the path of every layer before it runs.

        Yields:
            Path and inputs of the layers that are running, the innermost last.
        """
        running: list[tuple[str, Tree]] = []
        own: list[Exception] = []  # errors of the visit, not of the network

        def entered(path: str, args: Any, keywords: Any) -> None:
            """Copy the inputs before the layer can change them in place."""
            with _noted(own):
                if enter:
                    enter(path)
                running.append((path, as_arguments(args, keywords, self._input)))

        def left(path: str, outputs: Any) -> Any:
            """Take the inputs of the call that ends; calls inside it that failed and were forgiven are dropped."""
            with _noted(own):
                while True:
                    entered_path, given = running.pop()
                    if entered_path == path:
                        return leave(path, given, outputs)

        once = {id(layer): path for path, layer in reversed(list(self.layers.items()))}  # under its first path
        handles = [handle for path in once.values() for handle in self._hook(path, self.layers[path], entered, left)]
        try:
            yield running
        except Exception:
            if not own:
                raise
        finally:
            for handle in handles:
                handle.remove()
        if own:
            raise own[0]

    def settings(self) -> Mapping[str, Described]:
        """See `Side.settings`."""
        known = {id(layer): f"layer {path}" for path, layer in reversed(list(self.layers.items()))}
        return {path: described(self._settings(layer), self._input, known) for path, layer in self.layers.items()}

    def array(self, tensor: Any) -> Array:
        """A copy of the values of one of the network's tensors."""
        return self._array(tensor)

    def returned(self, path: str, given: Tree, outputs: Any) -> LayerCall:
        """The call of a layer that has just returned."""
        return LayerCall(path, given, Tree.of(outputs, self._output))

    def _input(self, leaf: Any) -> Array | None:
        return self._array(leaf) if self._is_tensor(leaf) else None

    def _output(self, leaf: Any) -> Array | None:
        """A number or text that a layer returns is compared like a tensor."""
        if self._is_tensor(leaf):
            return self._array(leaf)
        return text(leaf) if isinstance(leaf, str) else number(leaf)

    def _run(self, layer: Any, inputs: Sequence[Array]) -> Any:
        """The framework's own outputs of one of its layers."""
        args, keywords = arguments(inputs, self._tensors(inputs))
        return layer(*args, **keywords)

    @abstractmethod
    def _gradients(self, layer: str, inputs: Sequence[Array], cotangents: Sequence[Array]) -> Gradients:
        """See `Side.gradients`."""

    @abstractmethod
    def _settings(self, layer: Any) -> Mapping[str, Any]:
        """The attributes of a layer that not every layer has: no weights, and no layers inside it."""

    @abstractmethod
    def _hook(self, path: str, layer: Any, entered: Callable[..., None], left: Callable[..., Any]) -> Sequence[Any]:
        """Have `entered(path, args, keywords)` and `left(path, outputs)` called; return what takes the hooks off."""

    @abstractmethod
    def _function(self, layer: Any) -> Callable[..., Any]:
        """The function of a layer that its user wrote."""

    @abstractmethod
    def _moving(self, layer: str) -> Mapping[str, Any]:
        """What running a layer may change, by full name: as it is now, a run may put another tensor in its place."""

    @abstractmethod
    def _is_tensor(self, leaf: Any) -> bool:
        """Whether something is a tensor of the framework."""

    @abstractmethod
    def _tensors(self, arrays: Sequence[Array]) -> list[Any]:
        """The framework's tensors of arrays: real floating numbers in the side's precision, others as they are."""

    @abstractmethod
    def _array(self, tensor: Any) -> Array:
        """A copy of a tensor's values; bfloat16, which numpy lacks, as float32."""


@contextmanager
def _noted(errors: list[Exception]) -> Iterator[None]:
    """Note an error on its way."""
    try:
        yield
    except Exception as error:
        errors.append(error)
        raise


def inside(name: str, layer: str) -> bool:
    """Whether a parameter or layer lies inside a layer; everything lies in the network, ""."""
    return not layer or name.startswith(f"{layer}.")
