"""Captures on disk: what a side computed, kept by what it was computed from, and replayed instead of run.

A capture's key is the hash of the network's weights and state, the inputs, the mode, the devices, the layer, how every
layer is set, and the code: the versions of the frameworks and the source of every package that a layer's class comes
from. Whatever changes gives another key, so a capture is never replayed for another network, input or program.

What is large and about as quick to compute as to read is not kept: whole networks on large pictures are most of the
bytes and little of the time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convert.disk import atomic_path
from parity_tests.harness.capture import Pair
from parity_tests.harness.identity import digest, identity_of
from parity_tests.harness.sides.base import Array, Dropout, Gradients, LayerCall, Side
from parity_tests.harness.sides.tree import Tree, decoded, encoded

LARGE = 2**22  # bytes of a capture that is kept however quickly it was computed
AS_QUICK = 2.5e8  # bytes computed in a second from which on reading them again gains little


def recorded(pair: Pair, folder: Path, replay_port: bool = False) -> Pair:
    """Return the pair with its captures kept in a folder.

    Args:
        pair: reference and port.
        folder: made if absent. The reference's captures found there are replayed; what is run is saved, but for what is
            large and quick.
        replay_port: replay the port's captures too.
    """
    return replace(
        pair,
        truth=RecordedSide(pair.truth, folder, pair.reference_weights, True),
        reference=RecordedSide(pair.reference, folder, pair.reference_weights, True),
        port=RecordedSide(pair.port, folder, pair.port_weights, replay_port),
    )


def run_by(side: Side) -> Side:
    """Return the side that runs the network, without captures."""
    return side.side if isinstance(side, RecordedSide) else side


class RecordedSide(Side):
    """A side whose results are saved, and replayed when they are already there.

    Args:
        side: runs what is not there.
        folder: holds one safetensors file per call, `<first two digits of the key>/<key>.safetensors`.
        weights: everything the network holds, by name.
        replay: whether saved results are used.
        identity: stands for network and code, where a folder holds the results of one network only, and all of them;
            default: a hash.

    Attributes:
        runs: how many calls were run, not replayed.
        thrifty: whether what is large and quick is not kept.
    """

    def __init__(
        self, side: Side, folder: Path, weights: Mapping[str, Array], replay: bool, identity: str | None = None
    ) -> None:
        super().__init__(side.name, side.network, side.layers)
        self.side, self.folder, self.replay, self._given = side, folder, replay, weights
        self.runs = 0
        self.thrifty = identity is None
        self._training = False
        self._identity = self._loaded = identity or digest(identity_of(side), dict(weights))

    def layer_types(self) -> Mapping[str, str]:
        """See `Side.layer_types`."""
        return self.side.layer_types()

    def call(self, layer: str, inputs: Sequence[Array]) -> Sequence[Array]:
        """See `Side.call`."""
        kept = self._kept("call", layer, inputs)
        calls = kept.replayed() or kept.saved([LayerCall(layer, (), self.side.call(layer, inputs))])
        return calls[0].outputs

    def accepts(self, layer: str, inputs: Sequence[Array]) -> bool:
        """See `Side.accepts`."""
        return self.side.accepts(layer, inputs)

    def trace(self, inputs: Sequence[Array], visit: Callable[[LayerCall], None]) -> None:
        """See `Side.trace`."""
        kept = self._kept("trace", "", inputs)
        calls = kept.replayed()
        if not calls:
            self.side.trace(inputs, calls.append)
            kept.saved(calls)
        for call in calls:
            visit(call)

    def gradients(self, layer: str, inputs: Sequence[Array], cotangents: Sequence[Array]) -> Gradients:
        """See `Side.gradients`."""
        kept = self._kept("gradients", layer, inputs, cotangents)
        calls = kept.replayed()
        if not calls:
            found = self.side.gradients(layer, inputs, cotangents)
            own = [LayerCall(name, (), (value,)) for name, value in found.parameters.items()]
            calls = kept.saved([LayerCall("", (), found.inputs), *own])
        return Gradients(tuple(calls[0].outputs), {call.layer: call.outputs[0] for call in calls[1:]})

    def trace_with_cotangents(self, inputs: Sequence[Array]) -> list[tuple[LayerCall, tuple[Array, ...]]]:
        """See `Side.trace_with_cotangents`."""
        kept = self._kept("cotangents", "", inputs)
        flat = kept.replayed()
        if not flat:
            traced = self.side.trace_with_cotangents(inputs)
            flat = kept.saved([part for call, more in traced for part in (call, LayerCall(call.layer, (), more))])
        return [(call, tuple(more.outputs)) for call, more in zip(flat[::2], flat[1::2], strict=True)]

    def as_graphs(self) -> RecordedSide:
        """See `Side.as_graphs`."""
        return RecordedSide(self.side.as_graphs(), self.folder, self._given, self.replay)

    def state(self, layer: str = "") -> dict[str, Array]:
        """See `Side.state`."""
        return self.side.state(layer)

    def set_state(self, state: Mapping[str, Array]) -> None:
        """See `Side.set_state`."""
        self.side.set_state(state)

    def set_training(self, training: bool, resting: Collection[str] = ()) -> None:
        """See `Side.set_training`."""
        self._training = training
        self.side.set_training(training, resting)

    def imprecise(self, inputs: Sequence[Array]) -> frozenset[str]:
        """See `Side.imprecise`."""
        return self.side.imprecise(inputs)

    @property
    def dropouts(self) -> Mapping[str, Dropout | None]:
        """See `Side.dropouts`."""
        return self.side.dropouts

    def weights(self) -> dict[str, Array]:
        """See `Side.weights`."""
        return self.side.weights()

    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """See `Side.set_weights`; what is captured from then on belongs to these weights."""
        self.side.set_weights(weights)
        self._identity = digest(self._loaded, dict(weights))

    def _kept(self, what: str, layer: str, inputs: Sequence[Array], cotangents: Sequence[Array] = ()) -> _Kept:
        asked = {"what": what, "layer": layer, "training": self._training}
        form = repr(inputs.form) if isinstance(inputs, Tree) else ""
        key = digest(self._identity, json.dumps(asked), list(inputs), list(cotangents), self.side.state(layer), form)
        path = self.folder / key[:2] / f"{key}.safetensors"
        return _Kept(self, path, asked | {"side": self.name}, time.perf_counter())


@dataclass(frozen=True)
class _Kept:
    """The place of one capture: the calls that it holds, and what they left in the network's state."""

    owner: RecordedSide
    path: Path
    asked: Mapping[str, Any]
    begun: float  # seconds on the clock that measures how long a run takes

    def replayed(self) -> list[LayerCall]:
        """The calls as they were saved, with the state set to what they left; empty where they must be run."""
        from safetensors import safe_open

        if not (self.owner.replay and self.path.is_file()):
            self.owner.runs += 1
            return []
        with safe_open(self.path, "numpy") as file:
            index = json.loads(file.metadata()["capture"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        if index["state"]:
            self.owner.side.set_state({name: arrays[key] for name, key in index["state"].items()})

        def values(found: Mapping[str, Any]) -> Sequence[Array]:
            """Put arrays into their structure."""
            own = tuple(arrays[key] for key in found["arrays"])
            return Tree(own, decoded(found["form"]), tuple(found["paths"])) if "form" in found else own

        return [LayerCall(name, values(inputs), values(outputs)) for name, inputs, outputs in index["calls"]]

    def saved(self, calls: list[LayerCall]) -> list[LayerCall]:
        """Save calls and return them; arrays that occur more than once (an output is the next input) only once.

        What takes objects of other classes than Python's containers is not saved, and run every time.
        """
        from safetensors.numpy import save_file

        size = sum(value.nbytes for call in calls for value in (*call.inputs, *call.outputs))
        if self.owner.thrifty and size > max(LARGE, AS_QUICK * (time.perf_counter() - self.begun)):
            return calls
        arrays: dict[str, Array] = {}

        def keys(values: Iterable[Array]) -> list[str]:
            """Add arrays to the file under their hashes, and return these."""
            named = [(digest(value), np.ascontiguousarray(value).reshape(value.shape)) for value in values]
            arrays.update(named)
            return [key for key, _ in named]

        def described(values: Sequence[Array]) -> dict[str, Any]:
            """Say which arrays stand where."""
            form = {"form": encoded(values.form), "paths": values.paths} if isinstance(values, Tree) else {}
            return {"arrays": keys(values), **form}

        try:
            rows = [(call.layer, described(call.inputs), described(_formless(call.outputs))) for call in calls]
        except TypeError:
            return calls
        state = self.owner.side.state(str(self.asked["layer"]))
        index = {"calls": rows, "state": dict(zip(state, keys(state.values()), strict=True)), **self.asked}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.path) as temporary:
            save_file(arrays, temporary, {"capture": json.dumps(index)})
        return calls


def _formless(outputs: Sequence[Array]) -> Sequence[Array]:
    """Outputs without the structure, which nothing asks for again; where each lies in it is kept."""
    return replace(outputs, form=None) if isinstance(outputs, Tree) else outputs
