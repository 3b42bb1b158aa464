"""Whether a run of a network leaves something behind that its port would not: state of Python's, or of chance."""

import copy
import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from toonport.porting.values import UnportableError

COUNTER = "num_batches_tracked"  # which MindSpore's norms do without
MODULES_OWN = frozenset(vars(nn.Module()))
PLAIN = (bool, int, float, complex, str, bytes, type(None))


@contextmanager
def unmoved(network: nn.Module, written: Sequence[str]) -> Iterator[set[str]]:
    """Refuse a run that moves what the network keeps, or draws random numbers that are not PyTorch's.

    Args:
        network: that runs in the block.
        written: dotted paths of the modules that are not one layer; the statistics of norms may move.

    Yields:
        A set for the names of what may move.

    Raises UnportableError: after the block; names the attribute.
    """
    chance = _chance()
    before = {path: _kept(network.get_submodule(path)) for path in written}
    free: set[str] = set()
    yield free
    if not _alike(chance, _chance()):
        raise UnportableError("the forward draws random numbers outside of torch, which are not written")
    for path, known in before.items():
        now = _kept(network.get_submodule(path))
        for name in {**known, **now}:
            full = f"{path}.{name}".strip(".")
            if full not in free and (name not in known or name not in now or not _alike(known[name], now[name])):
                raise UnportableError(f"{full}: is changed by the forward, which is not written")


def _chance() -> Any:
    return random.getstate(), np.random.get_state()


def _kept(module: nn.Module) -> dict[str, Any]:
    """What a module itself keeps, as it is now."""
    own = {name: each for name, each in vars(module).items() if name not in MODULES_OWN}
    tensors: dict[str, Any] = dict(module._parameters)
    if not isinstance(module, nn.modules.batchnorm._NormBase):
        tensors |= {name: each for name, each in module._buffers.items() if name != COUNTER}
    return {name: _copy(each) for name, each in {**own, **tensors}.items()}


def _copy(kept: Any, inside: tuple[Any, ...] = ()) -> Any:
    """What something holds: numbers, text, tensors, states of chance; of containers and objects, what is in them."""
    if isinstance(kept, torch.Tensor):
        return kept.detach().clone()
    if isinstance(kept, (*PLAIN, np.ndarray, np.generic, set, frozenset)):
        return copy.deepcopy(kept)
    if any(each is kept for each in inside) or isinstance(kept, (nn.Module, type, ModuleType)):
        return type(kept)
    held = _held(kept)
    return type(kept) if held is None else [type(kept), *(_copy(each, (*inside, kept)) for each in held)]


def _held(kept: Any) -> list[Any] | None:
    """The parts of a container, an iterator, a source of chance or an object; None of what has no parts."""
    if isinstance(kept, Mapping):
        return [*kept, *kept.values()]
    if isinstance(kept, list | tuple | deque):
        return list(kept)
    if isinstance(kept, random.Random):
        return [kept.getstate()]
    if isinstance(kept, np.random.Generator):
        return [kept.bit_generator.state]
    if isinstance(kept, np.random.RandomState | torch.Generator):
        return [kept.get_state()]
    if isinstance(kept, Iterator):
        return [kept.__reduce__()]
    own = getattr(kept, "__dict__", None)
    return [*own, *own.values()] if own else None


def _alike(first: Any, second: Any) -> bool:
    """Whether two copies hold the same."""
    if type(first) is not type(second):
        return False
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(_alike, first, second))
    if isinstance(first, torch.Tensor):
        same = first.shape == second.shape and first.dtype == second.dtype
        return same and bool(((first == second) | ((first != first) & (second != second))).all())
    if isinstance(first, np.ndarray):
        return first.shape == second.shape and first.tobytes() == second.tobytes()
    return bool(first == second) or first != first
