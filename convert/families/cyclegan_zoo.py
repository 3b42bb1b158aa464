"""The CycleGAN networks of the MindSpore model zoo: how to recognise them, and what they share with junyanz's.

Where a network of one system is the same function as one of the other, its tensors are carried over; else the
translation is refused with every reason. Discriminators and U-Nets can be carried over, ResNets cannot.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from convert.errors import InputError
from convert.family import Kwargs, Shapes, Translated
from convert.tensors import Array

BLOCKS, SLOPE = 9, 0.2  # the model zoo's defaults, which its files do not tell
OTHER_JUDGE = {"D_A": "D_B", "D_B": "D_A"}
SHIFTED = "the model zoo's transposed convolutions give an image shifted by one pixel against PyTorch's"
SWAPPED = "the halves of the input channels of all transposed convolutions but the innermost were swapped"
NEUTRAL = {"moving_mean": 0.0, "moving_variance": 1.0, "gamma": 1.0, "beta": 0.0}
TO_ZOO = {"weight": "gamma", "bias": "beta"}
TO_JUNYANZ = {"gamma": "weight", "beta": "bias"}


@dataclass(frozen=True)
class ZooStyle:
    """What the layers of one model-zoo network have in common."""

    slope: float | None = SLOPE  # of the leaky ReLUs; 0 for ReLU, None for no activation
    norm: str = "instance"  # "instance" or "batch"
    # "CONSTANT" pads with zeros inside the convolution; "REFLECT" puts a reflection before it, which moves the indices
    # of what follows by one
    pad_mode: str = "CONSTANT"
    reference_exact: bool = False  # whether the instance norm shares its statistics over the batch, as in the model zoo

    def __post_init__(self) -> None:
        if self.norm not in {"instance", "batch"}:
            raise ValueError(f"unknown norm '{self.norm}'; norms: instance, batch")

    @property
    def bias(self) -> bool:
        """Whether the convolutions before a norm have a bias."""
        return self.norm == "instance"

    @property
    def reflects(self) -> bool:
        """Whether convolutions are padded by reflection."""
        return self.pad_mode == "REFLECT"


Tensors = dict[str, tuple[str, Array]]  # new name -> (name in the source, "" for none; values)


def zoo_generator_kwargs(shapes: Shapes) -> Kwargs | None:
    """Constructor arguments of a model-zoo generator behind a checkpoint's shapes, None for other networks."""
    if len(shapes.get("model.model.0.weight", ())) == 4 and "model.model.3.weight" in shapes:
        return {
            "architecture": "zoo_unet",
            "num_downs": sum(len(shape) == 4 for shape in shapes.values()) // 2,
            "ngf": shapes["model.model.0.weight"][0],
            "norm": _norm(shapes, "model.model.0"),
            "dropout": False,
        }
    for architecture, prefix in (("zoo_resnet", "conv_in"), ("zoo_depth_resnet", "conv_in.1")):
        for index, pad_mode in enumerate(("CONSTANT", "REFLECT")):
            first = f"{prefix}.features.{index}"
            if len(shapes.get(f"{first}.weight", ())) == 4:
                return {
                    "architecture": architecture,
                    "ngf": shapes[f"{first}.weight"][0],
                    "n_blocks": BLOCKS,
                    "slope": SLOPE,
                    "norm": _norm(shapes, first),
                    "pad_mode": pad_mode,
                }
    return None


def zoo_discriminator_kwargs(shapes: Shapes) -> Kwargs | None:
    """Constructor arguments of a model-zoo discriminator behind a checkpoint's shapes, None for other networks."""
    if len(shapes.get("features.0.weight", ())) != 4 or "features.2.features.0.weight" not in shapes:
        return None
    layers = sum(bool(re.fullmatch(r"features\.\d+\.features\.0\.weight", name)) for name in shapes)
    return {
        "architecture": "zoo_patch",
        "ndf": shapes["features.0.weight"][0],
        "n_layers": layers,
        "slope": SLOPE,
        "norm": _norm(shapes, "features.2.features.0"),
    }


def _norm(shapes: Shapes, convolution: str) -> str:
    return "instance" if f"{convolution}.bias" in shapes else "batch"


def to_zoo(part: str, kwargs: Mapping[str, Any], arrays: Mapping[str, Array]) -> Translated:
    """Put a junyanz network, PyTorch name -> values, into the model zoo's.

    Raises InputError: it is not the same function; every reason is named.
    """
    architecture = kwargs["architecture"]
    if architecture.startswith("zoo_"):
        return Translated(part, kwargs, {name: (name, value) for name, value in arrays.items()})
    reasons = list(_obstacles(kwargs, arrays))
    if reasons:
        raise InputError(f"{part} cannot be put into the model zoo's network: {'; '.join(reasons)}")
    kept = {name: value for name, value in arrays.items() if name not in _without_bias(kwargs)}
    notes = [f"left out {', '.join(_without_bias(kwargs))}, which are zero"]
    norms = {} if kwargs["norm"] == "batch" else TO_ZOO
    norm = "batch" if kwargs["norm"] == "batch" else "instance"
    if architecture == "patch":
        wanted = {"ndf": kwargs["ndf"], "n_layers": kwargs["n_layers"], "slope": SLOPE, "norm": norm}
        tensors = _renamed(kept, _discriminator_layers(kwargs["n_layers"]), norms)
        notes.append(f"{part} judges the domain that the model zoo's {OTHER_JUDGE[part]} judges, and is called so")
        return Translated(OTHER_JUDGE[part], {"architecture": "zoo_patch", **wanted}, tensors, NEUTRAL, tuple(notes))
    sizes = {name: kwargs[name] for name in ("num_downs", "ngf", "dropout")}
    tensors = _swapped(_renamed(kept, {}, norms))
    wanted = {"architecture": "zoo_unet", **sizes, "norm": norm}
    return Translated(part, wanted, tensors, NEUTRAL, (*notes, SWAPPED))


def _obstacles(kwargs: Mapping[str, Any], arrays: Mapping[str, Array]) -> Iterator[str]:
    """Every reason why a junyanz network is not one of the model zoo's."""
    if kwargs["input_nc"] != 3 or kwargs.get("output_nc", 3) != 3:
        yield "the model zoo's networks have three image channels"
    for name in _without_bias(kwargs):
        if np.any(arrays[name]):
            yield f"{name} is not zero, and the model zoo's convolution there has no bias"
    if kwargs["architecture"] == "resnet":
        yield SHIFTED
        different = [index for index in range(1, kwargs["n_blocks"]) if _block_differs(arrays, index)]
        if different:
            yield (
                f"{len(different)} of its {kwargs['n_blocks']} residual blocks differ from the first, and the model "
                "zoo runs one block again and again"
            )
        yield "the model zoo sets one slope for generators, which need 0 here, and discriminators, which need 0.2"


def _without_bias(kwargs: Mapping[str, Any]) -> tuple[str, ...]:
    """Biases of a junyanz network that the model zoo's has no place for."""
    return {
        "patch": ("model.0.bias", f"model.{3 * kwargs.get('n_layers', 0) + 2}.bias"),
        "unet": ("model.model.3.bias",),
        "resnet": (f"model.{17 + kwargs.get('n_blocks', 0)}.bias",),
    }[kwargs["architecture"]]


def _block_differs(arrays: Mapping[str, Array], index: int) -> bool:
    return any(
        not np.array_equal(value, arrays[name.replace("model.10.", f"model.{10 + index}.", 1)])
        for name, value in arrays.items()
        if name.startswith("model.10.")
    )


def to_junyanz(part: str, kwargs: Mapping[str, Any], arrays: Mapping[str, Array]) -> Translated:
    """Put a model-zoo network into junyanz's; arguments and errors as in `to_zoo`.

    The moving values of an instance norm, which no network reads, are left out.
    """
    architecture = kwargs["architecture"]
    if not architecture.startswith("zoo_"):
        return Translated(part, kwargs, {name: (name, value) for name, value in arrays.items()})
    if architecture in {"zoo_resnet", "zoo_depth_resnet"}:
        raise InputError(f"{part} cannot be put into junyanz's network: {'; '.join(_zoo_obstacles(architecture))}")
    norm = _junyanz_norm(kwargs["norm"], arrays)
    norms = {} if norm == "batch" else TO_JUNYANZ
    kept = {name: value for name, value in arrays.items() if norm == "batch" or _leaf(name) not in _dropped(norm)}
    notes = [] if norm == "batch" else ["left out the moving values of the instance norms, which nothing reads"]
    if architecture == "zoo_patch":
        layers = {new: old for old, new in _discriminator_layers(kwargs["n_layers"]).items()}
        tensors = _renamed(kept, layers, norms)
        wanted = {"architecture": "patch", "input_nc": 3, "ndf": kwargs["ndf"], "n_layers": kwargs["n_layers"]}
        notes.append(f"{part} judges the domain that junyanz's {OTHER_JUDGE[part]} judges, and is called so")
        part = OTHER_JUDGE[part]
    else:
        tensors = _swapped(_renamed(kept, {}, norms))
        sizes = {name: kwargs[name] for name in ("num_downs", "ngf", "dropout")}
        wanted = {"architecture": "unet", "input_nc": 3, "output_nc": 3, **sizes}
        notes.append(SWAPPED)
    filled = dict.fromkeys(_without_bias(wanted), 0.0)
    return Translated(part, {**wanted, "norm": norm}, tensors, filled, tuple(notes))


def _zoo_obstacles(architecture: str) -> Iterator[str]:
    yield SHIFTED
    if architecture == "zoo_depth_resnet":
        yield "junyanz has no network with three down-sampling steps and residual blocks between them"
    else:
        yield "its leaky ReLUs have slope 0.2 where junyanz's network has ReLU"


def _junyanz_norm(norm: str, arrays: Mapping[str, Array]) -> str:
    if norm == "batch":
        return "batch"
    scales = [(NEUTRAL[_leaf(name)], value) for name, value in arrays.items() if _leaf(name) in TO_JUNYANZ]
    return "affine instance" if any(np.any(value != neutral) for neutral, value in scales) else "instance"


def _dropped(norm: str) -> set[str]:
    return {"moving_mean", "moving_variance"} | (set() if norm == "affine instance" else set(TO_JUNYANZ))


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _discriminator_layers(n_layers: int) -> dict[str, str]:
    """Path of every layer with tensors, junyanz's -> the model zoo's."""
    layers = {"model.0": "features.0", f"model.{3 * n_layers + 2}": f"features.{n_layers + 2}"}
    for level in range(1, n_layers + 1):
        layers[f"model.{3 * level - 1}"] = f"features.{level + 1}.features.0"
        layers[f"model.{3 * level}"] = f"features.{level + 1}.features.1"
    return layers


def _renamed(arrays: Mapping[str, Array], layers: Mapping[str, str], norms: Mapping[str, str]) -> Tensors:
    """Tensors under the other system's names: layers by `layers`, the norms' own tensors by `norms`."""
    tensors: Tensors = {}
    for name, value in arrays.items():
        path, _, leaf = name.rpartition(".")
        weight = arrays.get(f"{path}.weight")
        leaf = leaf if weight is not None and weight.ndim == 4 else norms.get(leaf, leaf)
        tensors[f"{layers.get(path, path)}.{leaf}"] = (name, value)
    return tensors


def _swapped(tensors: Tensors) -> Tensors:
    """Swap the halves of the input channels of the transposed convolutions that read joined channels."""
    for name, (source, value) in tensors.items():
        if name == "model.model.3.weight" or name.endswith(".model.5.weight"):
            tensors[name] = (source, np.concatenate(np.split(value, 2)[::-1]))
    return tensors
