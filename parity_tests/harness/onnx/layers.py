"""Which value of an ONNX graph each layer of the network returns.

PyTorch's exporter notes beside every node the modules it was computed in. A value that is read outside of a module
is what the module returns. Simplifiers drop the notes but keep the names of the values that survive, so files of
this project carry the result of `noted_layers` themselves. Layers that were fused or folded have no value of their
own and are absent.
"""

import ast
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from parity_tests.harness.accumulated import Key
from parity_tests.harness.sides.base import Array, LayerCall

LAYERS = "toonport.layers"  # key of the file's metadata
SCOPES = "pkg.torch.onnx.name_scopes"  # key of a node's metadata: module paths from the root on, then the operation

LayerValues = Mapping[str, Sequence[str]]  # layer -> names of the values it returns, in the order of computation


def layer_values(model: Any, layers: Collection[str]) -> dict[str, list[str]]:
    """Return what is known of the layers of an ONNX model.

    Args:
        model: onnx.ModelProto.
        layers: dotted paths of the reference's layers; the file may hold them below another module.
    """
    own = next((entry.value for entry in model.metadata_props if entry.key == LAYERS), None)
    noted = json.loads(own) if own else noted_layers(model)
    values = {name for node in model.graph.node for name in node.output}
    kept = {layer: [name for name in names if name in values] for layer, names in noted.items()}
    return _below(_best_prefix(kept, layers), kept)


def noted_layers(model: Any, prefix: str = "") -> dict[str, list[str]]:
    """Return layer -> values, read from the exporter's notes; empty where there are none.

    Args:
        model: onnx.ModelProto as the exporter made it.
        prefix: module below which the network lies; it is dropped from the names.
    """
    scopes = [_scopes(node) for node in model.graph.node]
    outside = {output.name: [frozenset[str]()] for output in model.graph.output}
    for node, within in zip(model.graph.node, scopes, strict=True):
        for name in node.input if within else ():
            outside.setdefault(name, []).append(within)
    found: dict[str, list[str]] = {}
    for node, within in zip(model.graph.node, scopes, strict=True):
        for name in node.output:
            for layer in sorted(within):
                if any(layer not in reader for reader in outside.get(name, ())):
                    found.setdefault(layer, []).append(name)
    return _below(prefix, found)


def _scopes(node: Any) -> frozenset[str]:
    """Modules a node was computed in; none for what the exporter adds for itself, such as sizes."""
    noted = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "[]")
    try:
        scopes = ast.literal_eval(noted)
    except (SyntaxError, ValueError):
        return frozenset()
    return frozenset(scopes[:-1]) if isinstance(scopes, list) and "" in scopes else frozenset()


def _best_prefix(found: LayerValues, layers: Collection[str]) -> str:
    """The module below which most of the layers are found; none before any other."""
    return max(["", *found], key=lambda prefix: len(_below(prefix, found).keys() & set(layers)))


def _below(prefix: str, found: LayerValues) -> dict[str, list[str]]:
    if not prefix:
        return {layer: list(names) for layer, names in found.items()}
    head = f"{prefix}."
    return {layer.removeprefix(head): list(names) for layer, names in found.items() if layer.startswith(head)}


def packed(noted: LayerValues, model: Any) -> str:
    """Return layer -> values as text for the metadata of `model`, with the values that it still holds."""
    values = {name for node in model.graph.node for name in node.output}
    return json.dumps({layer: names for layer, names in noted.items() if values.issuperset(names)})


def candidates(found: LayerValues, calls: Mapping[Key, LayerCall]) -> dict[Key, Sequence[str]]:
    """Return (layer, which of its calls) -> values of which one is what the layer returns, for layers with one output.

    Several values leave a layer where the exporter shares what two layers compute alike. A layer that is called
    several times is taken only if one value leaves it each time.

    Args:
        found: layer -> values.
        calls: (layer, which of its calls) -> what the reference did, in the order of computation.
    """
    times = Counter(layer for layer, _ in calls)
    chosen: dict[Key, Sequence[str]] = {}
    for (layer, call), done in calls.items():
        names = found.get(layer, ())
        if layer and len(done.outputs) == 1 and names and times[layer] in (1, len(names)):
            chosen[layer, call] = names if times[layer] == 1 else names[call : call + 1]
    return chosen


def only_fitting(names: Sequence[str], values: Mapping[str, Array], shape: tuple[int, ...]) -> str | None:
    """Return the value a layer returns: the only candidate, or the only one of the right shape; None if in doubt."""
    fitting = names if len(names) == 1 else [name for name in names if values[name].shape == shape]
    return fitting[0] if len(fitting) == 1 else None


def with_outputs(model: Any, values: Collection[str]) -> Any:
    """Return a copy of an ONNX model that also puts out the named values."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {output.name for output in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in values if name not in present)
    return copy
