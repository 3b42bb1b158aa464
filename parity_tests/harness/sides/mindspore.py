"""MindSpore as a side."""

import copy
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np

from convert.plan import Plan
from parity_tests.harness.sides.base import Array, Gradients, LayerCall, NetworkSide, inside
from parity_tests.harness.sides.borders import RIGHT_ONCE, RunsOnceError, constant_borders
from parity_tests.harness.sides.dropping import resting_in_mindspore
from parity_tests.harness.sides.tree import Tree, arguments, floating, leaves, mapped


class MindSporeSide(NetworkSide):
    """A MindSpore cell on the device that the process has chosen: operation by operation, or see `as_graphs`.

    Args:
        cell: the network.
        torch_names: MindSpore parameter name -> PyTorch name, so that both sides speak of the same
            tensor; names that are absent stay as they are.
        dtype: "float16", "bfloat16", "float32" or "float64"; the parameters are cast to it.
        plan: also says how PyTorch calls the layers and lays values out; its names go before `torch_names`.
    """

    def __init__(
        self, cell: Any, torch_names: Mapping[str, str] | None = None, dtype: str = "float32", plan: Plan | None = None
    ) -> None:
        import mindspore

        self._ms, self._dtype = mindspore, getattr(mindspore, dtype)
        if dtype != "float32":
            self._cast(cell, _kept_in_float32(cell) if dtype != "float64" else ())
        names = plan.names if plan else torch_names or {}
        self._rows = {row.torch: row for row in plan.rows} if plan else {}
        own = {names.get(name, name): value for name, value in held(cell)}
        order = {name: place for place, name in enumerate(names.values())}
        self._parameters = dict(sorted(own.items(), key=lambda item: order.get(item[0], len(order))))
        self._buffers = {names.get(name, name): place for name, place in buffers_of(cell)}
        self._compiled = False
        self._graphs: dict[tuple[int, str], Any] = {}  # layer and what it does -> its graph
        super().__init__(f"mindspore {dtype}", cell, layers_of(cell, plan.paths if plan else {}))

    def _cast(self, cell: Any, but: Iterable[Any]) -> None:
        """Give the parameters of a cell this side's precision."""
        floating_types = (self._ms.float16, self._ms.bfloat16, self._ms.float32, self._ms.float64)
        kept = {id(value) for value in but}
        for value in cell.get_parameters():
            if value.dtype in floating_types and id(value) not in kept:
                value.set_dtype(self._dtype)

    def as_graphs(self) -> "MindSporeSide":
        """See `Side.as_graphs`."""
        other = copy.copy(self)
        other.name, other._compiled, other._graphs = f"{self.name}, compiled", True, {}
        return other

    def _run(self, layer: Any, inputs: Sequence[Array]) -> Any:
        if not self._compiled:
            with resting_in_mindspore(self._dropping) if self._resting else nullcontext():
                return super()._run(layer, inputs)

        args, keywords = arguments(inputs, self._tensors(inputs))

        def run(*args: Any) -> Any:
            """What the graph is made of."""
            return layer(*args)

        def run_with(*args: Any, **keywords: Any) -> Any:
            """What it is made of where there are keyword arguments."""
            return layer(*args, **keywords)

        return self._as_graph(layer, "run", run_with if keywords else run)(*args, **keywords)

    def _as_graph(self, layer: Any, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the graph of a function, of all that are the same but for their inputs the first one's."""
        graph = self._graphs.setdefault((id(layer), what), self._ms.jit(function))

        def run(*args: Any, **keywords: Any) -> Any:
            """Run it."""
            with elsewhere():
                return graph(*args, **keywords)

        return run

    def _gradients(self, layer: str, inputs: Sequence[Array], cotangents: Sequence[Array]) -> Gradients:
        own = self._trained(layer)
        places = [place for place, array in enumerate(inputs) if floating(array)]
        seeds = self._tensors(cotangents)
        if not (own or places) or not seeds:
            return Gradients((), {})
        transformed = self._transformed_as_graph if self._compiled else self._transformed
        weights = self._ms.ParameterTuple(list(own.values()))
        try:
            with resting_in_mindspore(self._dropping):
                found = transformed(self.layers[layer], inputs, places, weights, seeds)
        except Exception:
            _forget_gradients()
            raise
        by_input, by_weight = (found if places else ((), found)) if own else (found, ())
        prefix = f"{layer}." if layer else ""
        parameters = dict(zip(own, self._arrays(by_weight), strict=True))
        return Gradients(
            self._arrays(by_input), {name: self._to_torch(prefix + name, value) for name, value in parameters.items()}
        )

    def _transformed(
        self, cell: Any, inputs: Sequence[Array], places: Sequence[int], weights: Any, seeds: Sequence[Any]
    ) -> Any:
        """The gradients by the inputs at `places` and by the weights, whichever of both there are."""
        tensors = self._tensors(inputs)

        def forward(*variables: Any) -> Any:
            """The layer's floating outputs as a function of its floating inputs."""
            given = dict(zip(places, variables, strict=True))
            args, keywords = arguments(inputs, [given.get(place, tensor) for place, tensor in enumerate(tensors)])
            outputs = [leaf for leaf in leaves(cell(*args, **keywords)) if self._is_tensor(leaf)]
            found = tuple(tensor for tensor in outputs if tensor.is_floating_point())
            return found[0] if len(found) == 1 else found

        take = self._ms.ops.GradOperation(get_all=bool(places), get_by_list=bool(weights), sens_param=True)
        transform = take(forward, weights) if weights else take(forward)
        return transform(*[tensors[place] for place in places], seeds[0] if len(seeds) == 1 else tuple(seeds))

    def _transformed_as_graph(
        self, cell: Any, inputs: Sequence[Array], places: Sequence[int], weights: Any, seeds: Sequence[Any]
    ) -> Any:
        """The same of a compiled layer, which takes tensors one after the other and returns floating ones."""
        if isinstance(inputs, Tree) and not inputs.plain:
            raise ValueError("only what takes tensors one after the other is differentiated as a graph")
        if (id(cell), "gradient") in self._graphs and self._has_constant_borders(cell, inputs):
            raise RunsOnceError(RIGHT_ONCE)
        count, sums = len(inputs), self._ms.ops.sum

        def weighted(*given: Any) -> Any:
            """The sum of the outputs times their cotangents."""
            outputs = cell(*given[:count])
            total = 0.0
            if isinstance(outputs, (tuple, list)):
                for place in range(len(outputs)):
                    total = total + sums(outputs[place] * given[count + place])
            else:
                total = sums(outputs * given[count])
            return total

        gradient = self._ms.grad(weighted, tuple(places) or None, weights or None)
        return self._as_graph(cell, "gradient", gradient)(*self._tensors(inputs), *seeds)

    def _has_constant_borders(self, cell: Any, inputs: Sequence[Array]) -> bool:
        with self.preserved(), constant_borders() as used, resting_in_mindspore(self._dropping):
            super()._run(cell, inputs)
        return bool(used)

    def trace_changed(self, inputs: Sequence[Array], visit: Callable[[LayerCall], Sequence[Array] | None]) -> None:
        """Run the whole network like `trace`; outputs that `visit` returns, in the same shapes, go on instead."""

        def leave(path: str, given: Tree, outputs: Any) -> Any:
            """Visit a call, and put other numbers into what it returned."""
            other = visit(LayerCall(path, given, Tree.of(outputs, self._output)))
            if other is None:
                return None
            arrays = iter(other)

            def put(_: Any, leaf: Any) -> Any:
                """A tensor of the other numbers; what is no tensor stays."""
                array = next(arrays) if self._output(leaf) is not None else None
                return self._ms.Tensor(array).astype(leaf.dtype) if self._is_tensor(leaf) else leaf

            return mapped(outputs, put)

        self._traced(lambda: self._run(self.network, inputs), leave)

    def state(self, layer: str = "") -> dict[str, Array]:
        """See `Side.state`."""
        return {name: self._to_torch(name, value) for name, value in super().state(layer).items()}

    def _to_torch(self, name: str, values: Array) -> Array:
        return self._rows[name].to_torch(values) if name in self._rows else values

    def set_state(self, state: Mapping[str, Array]) -> None:
        """See `Side.set_state`."""
        moving = self._moving("")
        for name, value in state.items():
            if name in moving:
                own = self._rows[name].to_mindspore(value) if name in self._rows else value
                tensor = self._tensors([own])[0].astype(moving[name].dtype)
                if name in self._parameters and tensor.dtype != self._ms.bfloat16:  # for which there is no kernel
                    self._ms.ops.assign(moving[name], tensor)  # in place, where graphs look for it
                else:
                    moving[name].assign_value(tensor)

    def set_training(self, training: bool, resting: Collection[str] = ()) -> None:
        """See `Side.set_training`."""
        self.network.set_train(training)
        for path in set(resting) & self.layers.keys():
            self.layers[path].set_train(False)

    def weights(self) -> dict[str, Array]:
        """See `Side.weights`."""
        named = self._parameters.items()
        return {name: self._to_torch(name, self._array(value)) for name, value in named if value.requires_grad}

    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """See `Side.set_weights`."""
        for name in weights.keys() & self._parameters.keys():
            own = self._rows[name].to_mindspore(weights[name]) if name in self._rows else weights[name]
            self._parameters[name].set_data(self._tensors([own])[0].astype(self._parameters[name].dtype))

    def own_name(self, layer: str, name: str) -> str:
        """See `Side.own_name`."""
        wanted = self._parameters.get(f"{layer}.{name}" if layer else name)
        own = self.layers[layer].parameters_and_names()
        return next((known for known, value in own if value is wanted), name)

    def _trained(self, layer: str) -> dict[str, Any]:
        """Name inside the layer -> parameter; one that several layers share only under its first name."""
        prefix = f"{layer}." if layer else ""
        found: dict[int, tuple[str, Any]] = {}
        for name, value in self._parameters.items():
            if value.requires_grad and inside(name, layer):
                found.setdefault(id(value), (name.removeprefix(prefix), value))
        return dict(found.values())

    def _settings(self, layer: Any) -> Mapping[str, Any]:
        common = vars(self._ms.nn.Cell().set_train(False))
        own = {name: value for name, value in vars(layer).items() if name not in common}
        return {name: value for name, value in own.items() if not isinstance(value, self._ms.Parameter)}

    def _hook(self, path: str, layer: Any, entered: Callable[..., None], left: Callable[..., Any]) -> Sequence[Any]:
        with mock.patch.object(layer, "has_bprop", False):  # else a cell with a gradient of its own takes no hooks
            return (
                layer.register_forward_pre_hook(
                    lambda _, args, keywords: entered(path, args, keywords), with_kwargs=True
                ),
                layer.register_forward_hook(lambda _, args, outputs: left(path, outputs)),
            )

    def _function(self, layer: Any) -> Callable[..., Any]:
        function: Callable[..., Any] = layer.construct
        return function

    def _moving(self, layer: str) -> dict[str, Any]:
        own = ((name, value) for name, value in self._parameters.items() if inside(name, layer))
        fixed = {name: value for name, value in own if not value.requires_grad}
        return fixed | {name: place[key] for name, (place, key) in self._buffers.items() if inside(name, layer)}

    def _is_tensor(self, leaf: Any) -> bool:
        return isinstance(leaf, self._ms.Tensor)

    def _tensors(self, arrays: Sequence[Array]) -> list[Any]:
        wide = np.float64 if self._dtype == self._ms.float64 else np.float32
        tensors = [self._ms.Tensor(np.asarray(array, wide if floating(array) else None)) for array in arrays]
        return [
            tensor.astype(self._dtype) if floating(array) and tensor.dtype != self._dtype else tensor
            for array, tensor in zip(arrays, tensors, strict=True)
        ]

    def _arrays(self, tensors: Any) -> tuple[Array, ...]:
        return tuple(self._array(tensor) for tensor in (tensors if isinstance(tensors, tuple | list) else (tensors,)))

    def _array(self, tensor: Any) -> Array:
        return np.array((tensor.astype(self._ms.float32) if tensor.dtype == self._ms.bfloat16 else tensor).asnumpy())


@contextmanager
def elsewhere() -> Iterator[None]:
    """Work in a folder that is gone afterwards: where MindSpore cannot compile, it leaves files where it is."""
    here = os.getcwd()
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(here)


def walk(cell: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield path and cell of a cell and all inside it, a cell that stands in several places under each of its paths."""
    yield path, cell
    for name, child in cell._cells.items():
        if child is not None:
            yield from walk(child, f"{path}.{name}" if path else name)


def layers_of(cell: Any, paths: Mapping[str, str]) -> dict[str, Any]:
    """Return path -> layer of a cell, under PyTorch's path (`paths`: PyTorch's -> MindSpore's) where it is known."""
    there = dict(walk(cell))
    found = {path: there[own] for path, own in paths.items() if own in there}
    taken = set(paths.values())
    return {"": cell} | found | {path: layer for path, layer in there.items() if path not in taken | found.keys()}


def held(cell: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and parameter of a cell, what several layers share under each of its names."""
    for path, layer in walk(cell):
        for name, value in layer._params.items():
            if value is not None:
                yield f"{path}.{name}" if path else name, value


def buffers_of(cell: Any) -> Iterator[tuple[str, tuple[dict[str, Any], str]]]:
    """Yield name and place, a dictionary and its key, of every registered buffer of a cell."""
    for path, layer in walk(cell):
        for name, value in layer._buffers.items():
            if value is not None:
                yield f"{path}.{name}" if path else name, (layer._buffers, name)


def _kept_in_float32(cell: Any) -> Iterator[Any]:
    """Yield the parameters of batch norms: beside half inputs they stay float32, as in MindSpore's own mixed precision.

    The kernel would move copies of running statistics in another precision.
    """
    from mindspore.nn.layer.normalization import _BatchNorm

    for layer in cell.cells():
        yield from _kept_in_float32(layer)
    if isinstance(cell, _BatchNorm):
        yield from cell.get_parameters()


def _forget_gradients() -> None:
    """Clear what a gradient that failed has left behind; later ones, of any network, fail in MindSpore otherwise."""
    from mindspore.common.api import _pynative_executor

    _pynative_executor.clear_res()


def lacks_kernel(error: Exception) -> bool:
    """Whether an error says that MindSpore has no kernel for the precision on this device."""
    return any(words in str(error) for words in ("must be a type of", "Unsupported data type", "nsupported type"))


def lacks_gradient(error: Exception) -> bool:
    """Whether an error says that MindSpore differentiates an operation for real numbers only."""
    return "gradient not support for complex type" in str(error)
