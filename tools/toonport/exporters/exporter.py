"""One export from start to end: the network of a checkpoint as a verified ONNX or MINDIR file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from convert.conversion import load_networks, mindspore_arrays, torch_arrays
from convert.disk import sha256_of
from convert.errors import InputError
from convert.family import Family
from convert.identify import Network
from convert.registry import family_named, part_named
from convert.tensors import Array
from parity_tests.harness.judge import Verdict
from parity_tests.harness.measurement import Mode
from toonport.exporters.reduce import QuantizationError

__all__ = ["ExportOptions", "Exported", "default_target", "export_network", "second_input"]

CALIBRATION_PICTURES = 8  # seeded ones, when the user gives none
MEASURED_PICTURES = 4  # of these, the error of an int8 file is measured: float64 takes long


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and how.

    Attributes:
        family: its name in the registry.
        weights: checkpoint of any format that `convert` reads.
        to: "onnx" or "mindir".
        part: the network, or None for the family's first.
        side: side of the picture, or None for the network's own.
        dynamic: leave height and width free.
        outputs: "first" (the picture) or "all".
        precision: "float32", "float16" or "int8".
        calibration: pictures that show an int8 network the range of its values; empty: seeded ones.
    """

    family: str
    weights: str
    to: str = "onnx"
    part: str | None = None
    side: int | None = None
    dynamic: bool = False
    outputs: str = "first"
    precision: str = "float32"
    calibration: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file.
        networks: what it was made of, each fed by the one before it.
        verdicts: every output, judged.
        facts: nodes, sizes and other facts in words.
        quantization: the measured error of an int8 file.
    """

    path: Path
    networks: tuple[Network, ...]
    verdicts: tuple[Verdict, ...]
    facts: tuple[str, ...] = ()
    quantization: QuantizationError | None = None


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

    from torch_ref.build import build_torch, for_inference

    _check(options, target)
    family = family_named(options.family)
    parts = [part_named(family, name) for name in _parts(options, family)]
    networks = [load_networks(options.weights, family.name, part.name)[0] for part in parts]
    modules = [for_inference(build_torch(one.part, one.kwargs, torch_arrays(one))) for one in networks]
    module = modules[0] if len(modules) == 1 else torch.nn.Sequential(*modules)
    inputs = _first_input(options, networks[0], module)
    names = parts[-1].outputs if options.outputs == "all" else parts[-1].outputs[:1]
    if options.to == "mindir":
        return _mindir(networks, module, inputs, names, target)
    return _onnx(options, networks, module, inputs, names, target)


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
    if options.calibration and options.precision != "int8":
        raise InputError("--calibration is for --int8 only")


def _first_input(options: ExportOptions, network: Network, module: Any) -> Array:
    """Return the picture that gives the size of the file, after a run of the network on that size."""
    import torch

    from parity_tests.harness.run import part_inputs

    if options.side is not None and options.side < 1:
        raise InputError(f"--size {options.side}: must be at least 1")
    inputs = part_inputs(network.part, network.kwargs, 0, options.side)
    try:
        with torch.no_grad():
            module(torch.from_numpy(inputs))
    except (ValueError, RuntimeError) as error:
        raise InputError(f"--size {options.side}: {str(error).splitlines()[0]}") from error
    return inputs


def _onnx(
    options: ExportOptions, networks: Sequence[Network], module: Any, inputs: Array, names: Sequence[str], target: Path
) -> Exported:
    from parity_tests.harness.onnx.write import export_onnx, find_sizes
    from toonport.exporters.reduce import to_float16

    sizes, network = None, networks[0]
    if options.dynamic:
        sizes = find_sizes(module, inputs.shape[1], network.part.smallest(network.kwargs))
        if sizes is None:
            side = f"{inputs.shape[2]}x{inputs.shape[3]}"
            raise InputError(f"--dynamic: {network.part.name} takes pictures of {side} only; drop --dynamic")
    more = [second_input(network, inputs, sizes)]
    write = partial(export_onnx, module, inputs, names, more=more, sizes=sizes, metadata=_metadata(options, networks))
    if options.precision == "int8":
        return _int8(options, networks, module, inputs, write, target)
    half = options.precision == "float16"
    done = write(path=target, reduce=to_float16 if half else None, mode=Mode.ONNX_FLOAT16 if half else Mode.ONNX)
    facts = [f"{done.nodes} nodes"]
    if sizes:
        facts.append(f"any height and width from {sizes.smallest} in steps of {sizes.step}")
    return Exported(target, tuple(networks), done.verdicts, tuple(facts))


def second_input(network: Network, inputs: Array, sizes: Any) -> Array:
    """Return a batch of two to verify with: of another size and shape where the size is free."""
    from parity_tests.harness.inputs import image

    height, width = inputs.shape[2:]
    if sizes:
        height, width = sizes.smallest + sizes.step, sizes.smallest + 2 * sizes.step
    return image("toonport/second", 2, height, width, network.part.input_shape[1])


def _int8(
    options: ExportOptions, networks: Sequence[Network], module: Any, inputs: Array, write: Any, target: Path
) -> Exported:
    """Verify the float32 file first, then quantize it and measure what that costs."""
    import tempfile

    from convert.disk import atomic_path
    from toonport.exporters.reduce import measure_int8, to_int8

    pictures = list(_calibration(options, networks[0], inputs))
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "float32.onnx"
        done = write(path=plain)
        with atomic_path(target) as temporary:
            temporary.write_bytes(plain.read_bytes())
            to_int8(temporary, pictures)
            error = measure_int8(module, temporary, pictures[-MEASURED_PICTURES:])
    kind = "given" if options.calibration else "seeded"
    facts = (f"{done.nodes} nodes before quantization", f"calibrated on {len(pictures)} {kind} pictures")
    return Exported(target, tuple(networks), done.verdicts, facts, error)


def _calibration(options: ExportOptions, network: Network, inputs: Array) -> Iterator[Array]:
    from parity_tests.harness.inputs import image
    from toonport.photo.picture import network_picture

    for path in options.calibration:
        yield network_picture(path, inputs.shape[2])
    if not options.calibration:
        for index in range(CALIBRATION_PICTURES):
            height, width = inputs.shape[2:]
            yield image(f"toonport/calibration/{index}", 1, height, width, inputs.shape[1])


def _metadata(options: ExportOptions, networks: Sequence[Network]) -> dict[str, str]:
    source, family = Path(options.weights), networks[0].family
    return {
        "toonport.family": family.name,
        "toonport.part": "+".join(one.part.name for one in networks),
        "toonport.precision": options.precision,
        "toonport.licence": family.licence,
        **({"toonport.weights_sha256": sha256_of(source)} if source.is_file() else {}),
    }


def _mindir(networks: Sequence[Network], module: Any, inputs: Array, names: Sequence[str], target: Path) -> Exported:
    from mindspore import nn

    from ms_models.build import build_mindspore, for_inference
    from toonport.exporters.mindir import export_mindir

    cells = [for_inference(build_mindspore(one.part, one.kwargs, mindspore_arrays(one))) for one in networks]
    cell = cells[0] if len(cells) == 1 else nn.SequentialCell(*cells)
    verdicts = export_mindir(cell, module, inputs, names, target)
    return Exported(target, tuple(networks), verdicts, (f"fixed input {list(inputs.shape)}",))
