"""What a result depends on beside the code: versions, variables, settings, seeds, weights, samples and their order.

`toonport doctor --json` writes it, `toonport compare --environment a.json b.json` says what two of them differ in.
"""

import json
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.devices import CPU
from convert.disk import sha256_of
from convert.errors import InputError, guarded
from convert.identify import open_source
from convert.tensors import tensor_sha256
from torch_ref.environment import products

FORM = "toonport environment"
VERSION = 1
PACKAGES = (
    "mindspore",
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "ml_dtypes",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxscript",
    "safetensors",
    "opencv-python-headless",
    "opencv-python",
    "pillow",
    "scikit-image",
    "dlib-bin",
    "toonport",
)
# Variables that change what is computed, and where; what could be a secret is left out.
VARIABLES = re.compile(
    r"^(OMP|KMP|GOMP|MKL|OPENBLAS|BLIS|NUMEXPR|DNNL|ONEDNN|ATEN|TORCH|PYTORCH|CUDA|CUDNN|CUBLAS|NVIDIA|NCCL|HCCL|ASCEND"
    r"|MS|MINDSPORE|XLA|TOONPORT)_(?!.*(KEY|TOKEN|SECRET|PASSWORD))|^(PYTHONHASHSEED|LD_PRELOAD|TZ|LANG)$"
)
AREAS = ("versions", "machine", "variables", "settings", "seeds", "weights", "samples")
ABSENT = "-"
SHOWN = 3


@dataclass(frozen=True)
class EnvironmentDifference:
    """One thing in which two environments differ."""

    area: str  # one of AREAS
    name: str  # of the package, variable, setting, ...
    first: str
    second: str


def environment(
    seeds: Mapping[str, str | int] | None = None,
    weights: Mapping[str, str | Path] | None = None,
    samples: Mapping[str, str | Path] | None = None,
) -> dict[str, Any]:
    """Return the environment of this process as plain data.

        toonport.environment(seeds={"torch": 1}, weights={"net": "my.pt"}, samples={"faces": "faces/"})

    In your own script it holds the settings that the script has made; `toonport doctor --json` shows those of a fresh
    process.

    Args:
        seeds: name -> value, as you have set them.
        weights: name -> checkpoint of any format; each tensor's values are hashed.
        samples: name -> folder, or a text file that names samples in the order in which they are used, one a line. Of a
            folder the order in which the system lists it is kept, and a hash of every file.

    Raises InputError: a file or folder that cannot be read.
    """
    settings = {**_torch_settings(), **_mindspore_settings()}  # first: importing MindSpore sets variables
    return {
        "form": FORM,
        "version": VERSION,
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": _machine(),
        "variables": {name: value for name, value in sorted(os.environ.items()) if VARIABLES.match(name)},
        "settings": settings,
        "seeds": {name: str(value) for name, value in (seeds or {}).items()},
        "weights": {name: _tensors(path) for name, path in (weights or {}).items()},
        "samples": {name: _samples(Path(path)) for name, path in (samples or {}).items()},
    }


def _versions() -> dict[str, str]:
    from toonport.doctor import version_of

    found = {name: version_of(name) for name in PACKAGES}
    return {name: version for name, version in found.items() if version}


def _machine() -> dict[str, str]:
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "cores": str(os.cpu_count()),
    }


def _torch_settings() -> dict[str, str]:
    import torch

    found = {
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "default type": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "threads": torch.get_num_threads(),
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "oneDNN": torch.backends.mkldnn.is_available(),
        **{f"float32 in {part}": product.fp32_precision for part, product in products().items()},
        "cuDNN benchmark": torch.backends.cudnn.benchmark,
        "cuDNN deterministic": torch.backends.cudnn.deterministic,
        "cuDNN": torch.backends.cudnn.version(),
        "CUDA": torch.version.cuda,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else CPU,
    }
    return {f"torch: {name}": str(value) for name, value in found.items()}


def _mindspore_settings() -> dict[str, str]:
    import mindspore

    names = {
        "mode": "mode",
        "device": "device_target",
        "deterministic": "deterministic",
        "threads": "runtime_num_threads",
    }
    return {f"mindspore: {name}": str(mindspore.get_context(key)) for name, key in names.items()}


def _tensors(path: str | Path) -> dict[str, str]:
    """Name of each tensor of a checkpoint -> hash of its values."""
    return {name: tensor_sha256(entry.read()) for name, entry in open_source(path).tensors.items()}


def _samples(path: Path) -> dict[str, Any]:
    """The samples in order, and the hash of each that is a file here."""
    try:
        if path.is_dir():
            files = {str(file.relative_to(path)): sha256_of(file) for file in _listed(path)}
            return {"order": list(files), "sha256": files}
        names = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: neither a folder of samples nor a text file that names them ({error})") from error
    beside = {name: path.parent / name for name in names}
    return {"order": names, "sha256": {name: sha256_of(file) for name, file in beside.items() if file.is_file()}}


def _listed(folder: Path) -> Iterator[Path]:
    """Every file below a folder in the order in which the system lists them."""
    for root, _, names in os.walk(folder):
        yield from (Path(root) / name for name in names)


def load_environment(path: Path) -> dict[str, Any]:
    """Read what `toonport doctor --json` wrote. Raises InputError: it is something else."""
    with guarded(path, "cannot be read"):
        data = json.loads(path.read_text())
    if not isinstance(data, dict) or data.get("form") != FORM:
        raise InputError(f"{path}: not an environment; toonport doctor --json FILE writes one")
    if data.get("version") != VERSION or not all(isinstance(data.get(area), dict) for area in AREAS):
        raise InputError(
            f"{path}: an environment of another version than {VERSION}; write it again with toonport doctor"
        )
    return data


def environment_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[EnvironmentDifference]:
    """Return everything in which two environments differ, area by area."""
    found = [each for area in AREAS[:5] for each in _plain(area, first[area], second[area])]
    for area, differ in (("weights", _of_weights), ("samples", _of_samples)):
        for name in _names(first[area], second[area]):
            own, other = first[area].get(name), second[area].get(name)
            if own is None or other is None:
                found.append(
                    EnvironmentDifference(area, name, *(ABSENT if x is None else "given" for x in (own, other)))
                )
            else:
                found += [EnvironmentDifference(area, f"{name}: {what}", a, b) for what, a, b in differ(own, other)]
    return found


def _names(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys([*first, *second]))


def _plain(area: str, first: Mapping[str, str], second: Mapping[str, str]) -> Iterator[EnvironmentDifference]:
    for name in _names(first, second):
        own, other = first.get(name, ABSENT), second.get(name, ABSENT)
        if own != other:
            yield EnvironmentDifference(area, name, own, other)


def _of_weights(first: Mapping[str, str], second: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Other values; files of other formats call the same values otherwise."""
    if sorted(first.values()) == sorted(second.values()):
        return
    for name in _names(first, second):
        own, other = first.get(name), second.get(name)
        same_elsewhere = (own is None or own in second.values()) and (other is None or other in first.values())
        if own != other and not same_elsewhere:
            yield name, own[:12] if own else ABSENT, other[:12] if other else ABSENT


def _of_samples(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    orders = first["order"], second["order"]
    for name in _names(dict.fromkeys(orders[0]), dict.fromkeys(orders[1])):
        there = [name in order for order in orders]
        if not all(there):
            yield name, "there" if there[0] else ABSENT, "there" if there[1] else ABSENT
        else:
            own, other = first["sha256"].get(name, ABSENT), second["sha256"].get(name, ABSENT)
            if own != other:
                yield name, own[:12], other[:12]
    common = set(orders[0]) & set(orders[1])
    kept = [[name for name in order if name in common] for order in orders]
    if kept[0] != kept[1]:
        place = next(i for i, pair in enumerate(zip(*kept, strict=False)) if pair[0] != pair[1])
        own, other = (f"{', '.join(order[place : place + SHOWN])} from place {place + 1}" for order in kept)
        yield "order", own, other


def named(options: Sequence[str], what: str) -> dict[str, str]:
    """Return options of the form NAME=VALUE as a dictionary; a file alone has its own name, without suffix.

    Raises InputError: a name that occurs twice.
    """
    found: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals:
            name, value = Path(option).stem, option
        if name in found:
            raise InputError(f"{what} {name} is given twice; say NAME=VALUE")
        found[name] = value
    return found
