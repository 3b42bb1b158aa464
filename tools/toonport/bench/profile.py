"""`toonport bench profile`: time and memory by layer and by kind of kernel, MindSpore and PyTorch side by side.

Each framework is traced by its own profiler in a process of its own; the limit of what multiplies matrices is the rate
of the largest product that this machine was seen to make.
"""

import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from convert.registry import family_named, part_named
from toonport.bench.processes import alone
from toonport.bench.traces import Kernel, Trace, gemm_peak, trace

# kind -> what the names of its kernels hold, in either framework; the first that fits.
KINDS = {
    "convolution": r"conv",
    "up-sampling": r"resize|upsample|interpolate",
    "padding": r"pad",
    "pooling": r"pool",
    "norm": r"layer_?norm|batch_?norm|group_?norm|instance_?norm",
    "optimiser": r"adam|addcdiv|addcmul|lerp|_foreach",
    "activation": r"relu|tanh|sigmoid|softmax|softplus|clamp|hardtanh|threshold|expm1",
    "matmul": r"matmul|mm|dense|linear|gemv",
    "reduction": r"reduce|sum|mean|var|std|norm|argmax|max$|min$|isfinite|all$",
    "copy": r"copy|clone|contiguous|transpose|concat|cat$|stack|slice|reshape|view|expand|tile|broadcast|zeros|ones"
    r"|fill|select|cast|to$|assign|gather|index|empty|split|squeeze|permute|as_strided|detach|alias|resolve|^t$|^set_$|item",
    "dispatch": r"backward\d|^autograd|optimizer",
    "arithmetic": r"",
}
# the limit is known for these: kind -> what the names hold of the operators whose multiplications PyTorch counts
COUNTED = {"convolution": "convolution"}
OUTSIDE = "(outside)"


@dataclass(frozen=True)
class Line:
    """A kind of kernel, or a layer, in every contender."""

    name: str
    backward: bool
    milliseconds: Mapping[str, float]  # by contender
    mebibytes: Mapping[str, float]  # what its kernels read, by contender
    limit: float | None  # milliseconds at the measured peak of a matrix product; None: not known


@dataclass(frozen=True)
class Profile:
    """What a run is made of."""

    family: str
    training: bool
    what: str  # what was run, in words
    gemm: float  # measured peak, multiplications and additions in a second
    totals: Mapping[str, Mapping[str, float]]  # by contender: seconds of a run, of its kernels, at best; first; MiB
    kinds: tuple[Line, ...]
    layers: tuple[Line, ...]

    def said(self) -> dict[str, str]:
        """What the runs of each contender took, in words."""
        return {
            name: f"{one['seconds'] * 1e3:.0f} ms a run, {one['kernels'] * 1e3:.0f} in kernels, "
            f"{one['best'] * 1e3:.0f} with each at its best; first run {one['first']:.1f} s, peak {one['MiB']:.0f} MiB"
            for name, one in self.totals.items()
        }


def kind_of(operator: str) -> str:
    """The kind of a kernel, by its name in its framework."""
    name = operator.removeprefix("aten::").lower()
    return next(kind for kind, pattern in KINDS.items() if re.search(pattern, name))


def sizes_of(family: str, training: bool, size: int | None, batch: int, width: int | None) -> dict[str, Any]:
    """Return what a profile of a family runs, as the arguments of `toonport.bench.work`.

    Args:
        family: its name.
        training: whether a step is traced, of networks of 8 channels on 96² where nothing else is said.
        size: side of the pictures; None: as released.
        batch: pictures at once.
        width: channels of the first layers; None: as released.

    Raises InputError: an unknown family.
    """
    if training:
        return {"size": size or 96, "batch": batch, "width": width or 8}
    known = family_named(family)
    part = part_named(known, known.cartoonize.part) if known.cartoonize else known.parts[0]
    widths = known.training.widths if known.training else ()
    changed = {name: width for name in widths if width and name in part.kwargs}
    return {"part": part.name, "side": size, "batch": batch, "kwargs": changed}


def profile(family: str, training: bool, sizes: Mapping[str, Any], rounds: int = 5) -> Profile:
    """Trace inference (graph mode, PyNative, PyTorch) or a training step (compiled, PyTorch) of a family.

    Args:
        family: its name.
        training: whether a step is traced.
        sizes: of what is run, see `toonport.bench.work`.
        rounds: runs that are traced.
    """
    kinds = {"MindSpore": "mindspore", "PyTorch": "torch"}
    if not training:
        kinds = {"graph": "graph", "PyNative": "mindspore", "PyTorch": "torch"}
    traces = {}
    for name, framework in kinds.items():
        with tempfile.TemporaryDirectory(prefix="toonport_profile_") as folder:
            what = "step" if training else "network"
            arguments = {"framework": framework, "family": family, **sizes}
            traces[name] = alone(trace, what, arguments, rounds, Path(folder))
    said = ", ".join(f"{name} {value}" for name, value in sizes.items() if value)
    return put_together(family, training, said, traces, alone(gemm_peak))


def put_together(family: str, training: bool, said: str, traces: Mapping[str, Trace], gemm: float) -> Profile:
    """Return the profile that traces make."""
    flops = traces["PyTorch"].flops

    def limit(name: str, backward: bool) -> float | None:
        """Milliseconds that the operations of a kind take at least."""
        if name not in COUNTED:
            return None
        own = (count for operator, count in flops.items()
               if COUNTED[name] in operator and backward == ("backward" in operator))  # fmt: skip
        return sum(own) / gemm * 1e3 or None

    totals = {
        name: {"seconds": one.seconds, "kernels": sum(kernel.seconds for kernel in one.kernels),
               "best": sum(kernel.best for kernel in one.kernels), "first": one.first, "MiB": one.peak / 2**20}
        for name, one in traces.items()
    }  # fmt: skip
    kinds = _lines(traces, lambda kernel: kind_of(kernel.operator), limit)
    layers = _lines(traces, lambda kernel: kernel.layer or OUTSIDE, lambda *_: None)
    return Profile(family, training, said, gemm, totals, kinds, layers)


def _lines(traces: Mapping[str, Trace], key: Any, limit: Any) -> tuple[Line, ...]:
    """Sum kernels up by a key and direction; the longest first."""
    found: dict[tuple[str, bool], dict[str, list[Kernel]]] = {}
    for contender, one in traces.items():
        for kernel in one.kernels:
            found.setdefault((key(kernel), kernel.backward), {}).setdefault(contender, []).append(kernel)
    lines = [
        Line(name, backward, {one: sum(k.seconds for k in own) * 1e3 for one, own in kernels.items()},
             {one: sum(k.read for k in own) / 2**20 for one, own in kernels.items()}, limit(name, backward))
        for (name, backward), kernels in found.items()
    ]  # fmt: skip
    return tuple(sorted(lines, key=lambda line: -max(line.milliseconds.values())))


def cut(lines: Iterable[Line], depth: int) -> list[Line]:
    """Sum layers up to the first `depth` names of their paths, both directions together."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(".".join(line.name.split(".")[:depth]), []).append(line)
    summed = [
        Line(name, False, _sums(line.milliseconds for line in own), _sums(line.mebibytes for line in own), None)
        for name, own in found.items()
    ]
    return sorted(summed, key=lambda line: -max(line.milliseconds.values()))


def _sums(values: Iterable[Mapping[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in values:
        for name, value in one.items():
            found[name] = found.get(name, 0.0) + value
    return found


def rows(lines: Sequence[Line], contenders: Sequence[str], shown: int = 16) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of a table: milliseconds of each contender, first / last, the limit, and MiB read."""
    first, last = contenders[0], contenders[-1]
    limits = any(line.limit is not None for line in lines)
    headings = ["", *(f"{name} ms" for name in contenders), "ratio", *(["limit ms"] if limits else []), "MiB read"]
    cells = []
    for line in lines[:shown]:
        times = [line.milliseconds.get(name, 0.0) for name in contenders]
        ratio = f"{times[0] / times[-1]:.2f}" if times[-1] else "-"
        limit = ["-" if line.limit is None else f"{line.limit:.1f}"] if limits else []
        read = "/".join(f"{line.mebibytes.get(name, 0.0):.0f}" for name in (first, last))
        name = f"{line.name}, backward" if line.backward else line.name
        cells.append([name, *(f"{time:.1f}" for time in times), ratio, *limit, read])
    return headings, cells


def as_data(made: Profile) -> dict[str, Any]:
    """A profile as plain data."""
    return asdict(made)


def from_data(data: Mapping[str, Any]) -> Profile:
    """The profile that `as_data` wrote."""
    lines = {name: tuple(Line(**line) for line in data[name]) for name in ("kinds", "layers")}
    return Profile(**{**data, **lines})
