"""The usual ways to do what the programs do, as a program: `python -m toonport.bench.usual WAY SOURCE TARGET`.

`nothing` starts an interpreter; `copy` is what a disk and a hash allow; the others convert a file of dictionaries of
tensors with the frameworks' own functions.
"""

import hashlib
import shutil
import sys
from collections.abc import Iterator
from typing import Any

from convert.devices import CPU


def copy(source: str, target: str) -> None:
    """Copy a file and hash what was copied."""
    shutil.copyfile(source, target)
    with open(target, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)


def to_mindspore(source: str, target: str) -> None:
    """.pt -> .ckpt: load all of it, make MindSpore's tensors, save them."""
    import mindspore
    import torch

    found = torch.load(source, map_location=CPU, weights_only=True)
    mindspore.save_checkpoint(
        [{"name": name, "data": mindspore.Tensor(value.numpy())} for name, value in _flat(found)], target
    )


def to_torch(source: str, target: str) -> None:
    """.ckpt -> .pt: load all of it, make PyTorch's tensors, save them."""
    import mindspore
    import torch

    found = mindspore.load_checkpoint(source)
    torch.save({name: torch.from_numpy(value.asnumpy()) for name, value in found.items()}, target)


def to_safetensors(source: str, target: str) -> None:
    """.pt -> .safetensors: load all of it, save it."""
    import torch
    from safetensors.torch import save_file

    save_file(dict(_flat(torch.load(source, map_location=CPU, weights_only=True))), target)


def nothing(*_: str) -> None:
    """Start an interpreter with numpy, and end it."""
    import numpy  # noqa: F401


def _flat(found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in found.items():
        yield from (
            ((f"{name}.{key}", inner) for key, inner in value.items()) if isinstance(value, dict) else [(name, value)]
        )


WAYS = {way.__name__: way for way in (copy, to_mindspore, to_torch, to_safetensors, nothing)}

if __name__ == "__main__":
    WAYS[sys.argv[1]](*sys.argv[2:])
