"""One framework's own profiler, read: which kernels a run calls, for which layer, how long, and what each reads."""

import os
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from toonport.bench import work
from toonport.bench.processes import Memory

FLOAT = 4  # bytes of what networks compute with
LAYER = "layer:"  # what marks a layer among PyTorch's events
UNTRACED = 3  # runs that tell how long one takes without the profiler
EVALUATED = "autograd::engine::evaluate_function"
SHAPE = re.compile(r"input_\d+:\[([\d, ]*)\]")


@dataclass(frozen=True)
class Kernel:
    """A kernel of one place in a run."""

    operator: str  # its framework's name for it
    layer: str  # path of the layer that calls it, below the network's name; "" outside
    backward: bool
    seconds: float  # median of the traced runs
    best: float  # the shortest of them
    read: int  # bytes of its inputs


@dataclass(frozen=True)
class Trace:
    """What one framework does in a run."""

    seconds: float  # of a run, without the profiler
    first: float  # of the first one, which compiles
    peak: int  # largest memory of the process before it was traced, in bytes
    kernels: tuple[Kernel, ...]
    flops: Mapping[str, int] = field(default_factory=dict)  # operator -> multiplications and additions; PyTorch only


def trace(what: str, arguments: Mapping[str, Any], rounds: int, folder: Path) -> Trace:
    """Trace a function of `toonport.bench.work`; in a process of its own, because profilers stay.

    Args:
        what, arguments: the function, and what it is called with.
        rounds: traced runs.
        folder: for the profiler's files.
    """
    ready = getattr(work, what)(**arguments)
    torch = arguments["framework"] == "torch"
    layers = {
        id(layer): f"{part}.{path}".rstrip(".")
        for part, network in ready.networks.items()
        for path, layer in (network.named_modules() if torch else network.cells_and_names())
    }
    for network in () if torch else ready.networks.values():
        for _, cell in network.cells_and_names():
            cell._set_scope(layers[id(cell)])  # what graphs call the kernels of a layer
    first, seconds, peak = _untraced(ready.run)
    if torch:
        return Trace(seconds, first, peak, *_torch(ready, layers, rounds))
    compiled = what == "step" or arguments["framework"] == "graph"
    return Trace(seconds, first, peak, _mindspore(ready, layers, rounds, folder, compiled))


def _untraced(run: Callable[[], object]) -> tuple[float, float, int]:
    """Seconds of the first run and of a later one, and the largest memory."""
    times, memory = [], Memory()
    for _ in range(1 + UNTRACED):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    memory.look(os.getpid())
    return times[0], median(times[1:]), memory.resident


def _mindspore(
    ready: work.Ready, layers: Mapping[int, str], rounds: int, folder: Path, compiled: bool
) -> tuple[Kernel, ...]:
    from mindspore.profiler import Profiler, ProfilerActivity

    marks: list[tuple[int, str]] = [(0, "")]  # (nanosecond from which a layer runs, the layer)
    handles = [] if compiled else list(_marking(ready.networks, layers, marks))
    profiler = Profiler(activities=[ProfilerActivity.CPU], output_path=str(folder), start_profile=False)
    profiler.start()
    for _ in range(rounds):
        ready.run()
    profiler.stop()
    for handle in handles:
        handle.remove()
    moments, names = [moment for moment, _ in marks], set(layers.values())
    kernels = []
    for path, calls, read in _calls(folder):
        each = np.array([seconds for _, seconds in calls])
        count = len(each) // rounds  # in every run; what runs otherwise than in each counts as a mean
        table = each[: count * rounds].reshape(rounds, count) if count * rounds == len(each) else each[None] / rounds
        scopes = path.split("/")
        operator, backward = scopes[-1].rsplit("-op", 1)[0], any(part.startswith("Gradients") for part in scopes)
        for place, (middle, best) in enumerate(zip(np.median(table, 0), table.min(0), strict=True)):
            layer = next((scope for scope in scopes if scope in names), "")
            if not compiled:
                layer = marks[bisect_right(moments, calls[place][0]) - 1][1]
            kernels.append(Kernel(operator, layer, backward, float(middle), float(best), read[place]))
    return tuple(kernels)


def _marking(networks: Mapping[str, Any], layers: Mapping[int, str], marks: list[tuple[int, str]]) -> Iterator[Any]:
    """Note when a cell begins and when the one around it goes on; yields what takes the hooks off."""
    running: list[str] = [""]

    def enter(cell: Any, _: Any) -> None:
        """A cell begins."""
        running.append(layers[id(cell)])
        marks.append((time.time_ns(), running[-1]))

    def leave(cell: Any, _: Any, outputs: Any) -> None:
        """The one around it goes on."""
        running.pop()
        marks.append((time.time_ns(), running[-1]))

    for network in networks.values():
        for _, cell in network.cells_and_names():
            yield cell.register_forward_pre_hook(enter)
            yield cell.register_forward_hook(leave)


def _calls(folder: Path) -> Iterator[tuple[str, list[tuple[int, float]], list[int]]]:
    """Yield every kernel's path, (nanosecond, seconds) of its calls in order, and bytes that each reads."""
    (times,), (shapes,) = folder.rglob("cpu_op_execute_timestamp_*.txt"), folder.rglob("cpu_framework_*.txt")
    read: dict[str, list[int]] = {}
    for line in shapes.read_text().splitlines():
        _, name, rest = line.split(";", 2)
        sizes = (np.prod([int(side) for side in found.split(",") if side.strip()]) for found in SHAPE.findall(rest))
        read.setdefault(name, []).append(FLOAT * int(sum(sizes)))
    found: dict[str, list[tuple[str, int, float]]] = {}
    for line in times.read_text().splitlines():
        path, _, calls = line.split(";", 2)
        pairs = (call.split(",")[:2] for call in calls.split())
        found.setdefault(path.rsplit("/", 1)[-1], []).extend(
            (path, int(moment), float(duration) / 1e3) for moment, duration in pairs
        )
    for name, each in found.items():
        each.sort(key=lambda call: call[1])
        sizes_of = dict(enumerate(read.get(name, [])))
        by_path: dict[str, list[tuple[int, float, int]]] = {}
        for place, (path, moment, seconds) in enumerate(each):
            by_path.setdefault(path, []).append((moment, seconds, sizes_of.get(place, 0)))
        for path, own in by_path.items():
            yield path, [(moment, seconds) for moment, seconds, _ in own], [size for _, _, size in own]


def _torch(ready: work.Ready, layers: Mapping[int, str], rounds: int) -> tuple[tuple[Kernel, ...], Mapping[str, int]]:
    from torch.profiler import ProfilerActivity, profile, record_function
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        ready.run()
    flops = {str(name): int(count) for name, count in counter.get_flop_counts().get("Global", {}).items()}
    running: list[Any] = []

    def enter(module: Any, _: Any) -> None:
        """Mark a layer's events."""
        running.append(record_function(LAYER + layers[id(module)]))
        running[-1].__enter__()

    def leave(module: Any, _: Any, outputs: Any) -> None:
        """End the mark."""
        running.pop().__exit__(None, None, None)

    for network in ready.networks.values():
        for module in network.modules():
            module.register_forward_pre_hook(enter)
            module.register_forward_hook(leave)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as made:
        for _ in range(rounds):
            ready.run()
    events = [event for event in made.events() if not event.name.startswith(LAYER)]
    forward = {event.sequence_nr: event for event in events
               if event.sequence_nr >= 0 and not _evaluated(event)}  # fmt: skip
    found: dict[tuple[str, str, bool], list[Any]] = {}
    for event in events:
        backward = _evaluated(event)
        origin = forward.get(backward.sequence_nr) if backward else event
        found.setdefault((event.name, _layer(origin), backward is not None), []).append(event)
    return tuple(kernel for key, own in found.items() for kernel in _kernels(*key, own, rounds)), flops


def _kernels(operator: str, layer: str, backward: bool, events: Sequence[Any], rounds: int) -> Iterator[Kernel]:
    """Kernels of one name in a layer: the n-th of each run are the same one."""
    events = sorted(events, key=lambda event: event.time_range.start)
    count = len(events) // rounds
    regular = count * rounds == len(events)
    for place in range(count if regular else len(events)):
        own = events[place::count] if regular else [events[place]]
        seconds = [event.self_cpu_time_total / 1e6 / (1 if regular else rounds) for event in own]
        shapes = _shapes(own[0])  # which what only passes them on to another operator does not read
        passed = any(_shapes(child) == shapes for child in own[0].cpu_children)
        sizes = (np.prod(shape) for shape in shapes if not passed)
        yield Kernel(operator, layer, backward, median(seconds), min(seconds), FLOAT * int(sum(sizes)))


def _shapes(event: Any) -> list[list[int]]:
    """Shapes of the tensors that an event is given, [] for none."""
    return [shape for shape in event.input_shapes or () if shape and isinstance(shape[0], int)]


def _evaluated(event: Any) -> Any:
    """The evaluation of the gradient in which an event lies, None in the forward pass."""
    while event is not None and not event.name.startswith(EVALUATED):
        event = event.cpu_parent
    return event


def _layer(event: Any) -> str:
    """The innermost layer in which an event lies."""
    while event is not None and not event.name.startswith(LAYER):
        event = event.cpu_parent
    return "" if event is None else str(event.name.removeprefix(LAYER))


def gemm_peak(side: int = 1536, rounds: int = 6) -> float:
    """The rate of a large matrix product in float32, in multiplications and additions a second: the best of some."""
    work.only_pytorch()
    import torch

    one, seconds = torch.rand(side, side), []
    for _ in range(rounds):
        started = time.perf_counter()
        torch.mm(one, one)
        seconds.append(time.perf_counter() - started)
    return 2 * side**3 / min(seconds)
