"""Builds the networks of the registry in PyTorch, with weights loaded strictly, and their form for inference."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from convert.family import Part, resolve
from convert.tensors import Array, numpys_own


def build_torch(part: Part, kwargs: Mapping[str, Any], arrays: Mapping[str, Array]) -> Any:
    """Return the PyTorch network of a part with the given weights (PyTorch name -> values), in eval mode."""
    network = resolve("torch_ref", part.class_name)(**kwargs)
    load_torch(network, arrays)
    return network.eval()


def load_torch(network: Any, arrays: Mapping[str, Array]) -> None:
    """Load weights strictly; a batch counter that the file lacks keeps its zero."""
    import torch

    state = network.state_dict()
    lacking = {name: value for name, value in state.items() if name.endswith("num_batches_tracked")}
    loaded = {name: torch.from_numpy(np.array(numpys_own(value))) for name, value in arrays.items()}
    network.load_state_dict({**lacking, **loaded}, strict=True)


def for_inference(network: Any) -> Any:
    """Return the form of a network that draws pictures and goes into files.

    That is the network itself, but for those whose spectral norm moves on every run: a copy with W / sigma folded in.
    """
    from torch_ref.spectral_wrapper import freeze

    return freeze(network)
