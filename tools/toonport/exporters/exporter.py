"""One export from start to end: the network of a checkpoint as a verified ONNX or MINDIR file."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from convert.channels import channel_order
from convert.conversion import load_networks, mindspore_arrays, torch_arrays
from convert.disk import atomic_path, sha256_of
from convert.errors import InputError, first_line
from convert.family import Family
from convert.identify import Network
from convert.registry import family_named, part_named
from convert.tensors import Array
from ms_models import build as mindspore_build
from parity_tests.harness.inputs import UNTRAINED, image, in_channels, is_seeded
from parity_tests.harness.judge import Verdict
from parity_tests.harness.measurement import Mode
from parity_tests.harness.onnx.write import Export, Sizes, export_onnx, find_sizes, second_input
from parity_tests.harness.run import part_inputs
from toonport.exporters.complete import NETWORK_RANGE, PICTURES, as_input, completed, to_bytes
from toonport.exporters.mindir import export_mindir
from toonport.exporters.reduce import QuantizationError, measure_int8, to_float16, to_int8
from torch_ref import build as torch_build

WHOLE = ("onnx", "float32")  # format and precision of files that hold everything
CALIBRATION_PICTURES = 8  # seeded ones, when the user gives none
MEASURED_PICTURES = 4  # of these, the error of an int8 file is measured: float64 takes long


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and how."""

    family: str  # its name in the registry
    weights: str  # checkpoint of any format that `convert` reads
    to: str = "onnx"  # "onnx" or "mindir"
    part: str | None = None  # the network, or None for the family's first
    side: int | None = None  # side of the picture, or None for the network's own
    dynamic: bool = False  # leave height and width free
    outputs: str = "first"  # "first" (the picture) or "all"
    precision: str = "float32"  # "float32", "float16" or "int8"
    # what pictures a file takes and gives that holds all between them: a key of PICTURES; None: the network alone
    complete: str | None = None
    calibration: tuple[Path, ...] = ()  # pictures that show an int8 network the range of its values; empty: seeded ones


@dataclass(frozen=True)
class Exported:
    """What was written."""

    path: Path  # the file
    networks: tuple[Network, ...]  # what it was made of, each fed by the one before it
    verdicts: tuple[Verdict, ...]  # every output, judged
    facts: tuple[str, ...] = ()  # nodes, sizes and other facts in words
    quantization: QuantizationError | None = None  # the measured error of an int8 file


def default_target(options: ExportOptions) -> Path:
    """Return the file name of an export that was given none, in the current folder."""
    family = family_named(options.family)
    parts = _parts(options, family)
    name = family.name if len(parts) > 1 or parts[0] == family.name else f"{family.name}_{parts[0]}"
    precision = "" if options.precision == "float32" else f"_{options.precision}"
    return Path(f"{name}{precision}.{options.to}")


def export_network(options: ExportOptions, target: Path) -> Exported:
    """Export a network and keep the file only if it computes what float64 PyTorch computes.

    Where two networks of a family draw together and no part is asked for, the file holds both.

    Raises:
        InputError: the options do not fit together, or the weights cannot be used.
        NotReproducedError: the file computes something else; nothing is written then.
    """
    import torch

    _check(options, target)
    family = family_named(options.family)
    parts = [part_named(family, name) for name in _parts(options, family)]
    networks = [load_networks(options.weights, family.name, part.name)[0] for part in parts]
    built = [torch_build.build_torch(network.part, network.kwargs, torch_arrays(network)) for network in networks]
    modules = [torch_build.for_inference(module) for module in built]
    module = modules[0] if len(modules) == 1 else torch.nn.Sequential(*modules)
    inputs = _first_input(options, networks[0], module)
    names = parts[-1].outputs if options.outputs == "all" else parts[-1].outputs[:1]
    job = _Job(options, target, tuple(networks), module, inputs, names)
    job = _completed(job) if options.complete else job
    return _mindir(job) if options.to == "mindir" else _onnx(job)


@dataclass(frozen=True)
class _Job:
    """An export under way: the PyTorch module that is written, its example input [1, C, H, W] and its outputs."""

    options: ExportOptions
    target: Path
    networks: tuple[Network, ...]
    module: Any
    inputs: Array
    names: Sequence[str]


def _completed(job: _Job) -> _Job:
    """The same with everything that comes before and after the network inside."""
    first, kind = job.networks[0], PICTURES[str(job.options.complete)]
    how = first.family.cartoonize
    if how is None or job.networks[-1].part.outputs[0] != "image":
        raise InputError(f"--complete: {job.networks[-1].part.name} draws no pictures")
    _, channels, height, width = job.inputs.shape
    module = completed(job.module, replace(how, channels=channel_order(first)), channels, kind)
    return replace(job, module=module, inputs=as_input(image("toonport/0", 1, height, width), kind))


def _parts(options: ExportOptions, family: Family) -> list[str]:
    """Return the names of the networks of the file, each fed by the one before it."""
    how = family.cartoonize
    if options.part or not (how and how.then):
        return [options.part or family.parts[0].name]
    return [how.part, how.then]


def _check(options: ExportOptions, target: Path) -> None:
    """Refuse what does not fit together before anything is loaded."""
    if target.suffix != f".{options.to}":
        raise InputError(f"{target}: the target must end in .{options.to}")
    if options.to == "mindir" and (options.dynamic or options.precision != "float32"):
        raise InputError(
            "--to mindir: the file has a fixed size and float32 weights; --dynamic, --fp16, --int8 are for ONNX"
        )
    if options.complete and (options.complete not in PICTURES or (options.to, options.precision) != WHOLE):
        raise InputError(f"--complete {options.complete}: {' or '.join(PICTURES)}, for float32 ONNX files")
    if options.calibration and options.precision != "int8":
        raise InputError("--calibration is for --int8 only")


def _first_input(options: ExportOptions, network: Network, module: Any) -> Array:
    """Return the picture that gives the size of the file, after a run of the network on that size."""
    import torch

    if options.side is not None and options.side < 1:
        raise InputError(f"--size {options.side}: must be at least 1")
    inputs = part_inputs(network.part, network.kwargs, 0, options.side)
    try:
        with torch.no_grad():
            module(torch.from_numpy(inputs))
    except (ValueError, RuntimeError) as error:
        raise InputError(f"--size {options.side}: {first_line(error)}") from error
    return inputs


def _onnx(job: _Job) -> Exported:
    sizes = _sizes(job) if job.options.dynamic else None
    kind = PICTURES[job.options.complete] if job.options.complete else None
    second = second_input(job.inputs, sizes)
    more, metadata = [as_input(second, kind) if kind else second], _metadata(job, sizes)
    write = partial(export_onnx, job.module, job.inputs, job.names, more=more, sizes=sizes, metadata=metadata)
    if job.options.precision == "int8":
        return _int8(job, write)
    if kind and kind.whole:
        return _bytes(job, write)
    half = job.options.precision == "float16"
    done = write(path=job.target, reduce=to_float16 if half else None, mode=Mode.ONNX_FLOAT16 if half else Mode.ONNX)
    facts = [f"{done.nodes} nodes"]
    if sizes:
        facts.append(f"any height and width {_words(sizes)}")
    return Exported(job.target, job.networks, done.verdicts, tuple(facts))


def _words(sizes: Sizes) -> str:
    return f"from {sizes.smallest} in steps of {sizes.step}"


def _bytes(job: _Job, write: Callable[..., Export]) -> Exported:
    """Verify the file with levels as floats first, then make them bytes and verify that it draws the same."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / job.target.name
        done = write(path=plain)
        to_bytes(plain, job.inputs)
        with atomic_path(job.target) as temporary:
            shutil.copyfile(plain, temporary)
    return Exported(job.target, job.networks, done.verdicts, (f"{done.nodes} nodes before they were bytes",))


def _sizes(job: _Job) -> Sizes:
    part, kwargs = job.networks[0].part, job.networks[0].kwargs
    sizes = find_sizes(job.module, job.inputs.shape[1], part.smallest(kwargs))
    if sizes is None:
        side = f"{job.inputs.shape[2]}x{job.inputs.shape[3]}"
        raise InputError(f"--dynamic: {part.name} takes pictures of {side} only; drop --dynamic")
    return sizes


def _int8(job: _Job, write: Callable[..., Export]) -> Exported:
    """Verify the float32 file first, then quantize it and measure what that costs."""
    pictures = list(_calibration(job))
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "float32.onnx"
        done = write(path=plain)
        to_int8(plain, pictures)
        error = measure_int8(job.module, plain, pictures[-MEASURED_PICTURES:])
        with atomic_path(job.target) as temporary:
            shutil.copyfile(plain, temporary)
    kind = "given" if job.options.calibration else "seeded"
    facts = (f"{done.nodes} nodes before quantization", f"calibrated on {len(pictures)} {kind} pictures")
    return Exported(job.target, job.networks, done.verdicts, facts, error)


def _calibration(job: _Job) -> Iterator[Array]:
    from toonport.photo.picture import network_picture

    _, channels, height, width = job.inputs.shape
    for path in job.options.calibration:
        yield in_channels(network_picture(path, height), channels)
    for index in range(0 if job.options.calibration else CALIBRATION_PICTURES):
        yield image(f"toonport/calibration/{index}", 1, height, width, channels)


def _metadata(job: _Job, sizes: Sizes | None = None) -> dict[str, str]:
    """What the file says of itself; `sizes`: that it takes, None for that of the job's input."""
    source, family = Path(job.options.weights), job.networks[0].family
    kind = PICTURES[job.options.complete] if job.options.complete else None
    height, width = job.inputs.shape[2:]
    order = {"toonport.channels": "RGB" if kind else channel_order(job.networks[0])} if family.cartoonize else {}
    return {
        "toonport.family": family.name,
        "toonport.part": "+".join(network.part.name for network in job.networks),
        "toonport.precision": job.options.precision,
        "toonport.licence": family.licence,
        "toonport.range": kind.range if kind else NETWORK_RANGE,
        "toonport.sizes": _words(sizes) if sizes else f"{height}x{width}",
        **order,
        **({"toonport.weights": UNTRAINED} if all(map(is_seeded, job.networks)) else {}),
        **({"toonport.weights_sha256": sha256_of(source)} if source.is_file() else {}),
    }


def _mindir(job: _Job) -> Exported:
    from mindspore import nn

    built = [mindspore_build.build_mindspore(own.part, own.kwargs, mindspore_arrays(own)) for own in job.networks]
    cells = [mindspore_build.for_inference(cell) for cell in built]
    cell = cells[0] if len(cells) == 1 else nn.SequentialCell(*cells)
    verdicts = export_mindir(cell, job.module, job.inputs, job.names, job.target, _metadata(job))
    return Exported(job.target, job.networks, verdicts, (f"fixed input {list(job.inputs.shape)}",))
