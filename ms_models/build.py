"""Builds the networks of the registry in MindSpore, with weights loaded strictly, and their form for inference."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from convert.errors import InputError
from convert.family import Part, resolve
from convert.tensors import Array
from ms_models.environment import launch_directly


def build_mindspore(part: Part, kwargs: Mapping[str, Any], arrays: Mapping[str, Array]) -> Any:
    """Return the MindSpore network of a part with the given weights (MindSpore name -> values), in eval mode."""
    launch_directly()
    network = resolve("ms_models", part.class_name)(**kwargs)
    load_mindspore(network, arrays)
    return network.set_train(False)


def load_mindspore(network: Any, arrays: Mapping[str, Array]) -> None:
    """Load weights strictly: every parameter once, every array once, every shape equal.

    Raises InputError: lists what is missing, unexpected or mis-shaped.
    """
    import mindspore

    parameters = dict(network.parameters_and_names())
    missing = parameters.keys() - arrays.keys()
    unexpected = arrays.keys() - parameters.keys()
    misshaped = [
        name for name, value in arrays.items() if name in parameters and tuple(parameters[name].shape) != value.shape
    ]
    if missing or unexpected or misshaped:
        raise InputError(
            f"the weights do not fit the MindSpore network: missing {sorted(missing)}, "
            f"unexpected {sorted(unexpected)}, wrong shape {sorted(misshaped)}"
        )
    for name, parameter in parameters.items():
        parameter.set_data(mindspore.Tensor(np.array(arrays[name])))


def for_inference(network: Any) -> Any:
    """Return the form of a network that draws pictures and goes into files.

    That is the network itself, but for those whose spectral norm moves on every run: a copy with W / sigma folded in.
    """
    from ms_models.spectral_wrapper import freeze

    return freeze(network)
