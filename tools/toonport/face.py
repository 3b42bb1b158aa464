"""The library's face, all of it offered by `import toonport`: a framework is imported once a function needs it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from convert.conversion import Conversion, convert_file, load_networks
from convert.devices import CPU
from convert.errors import InputError
from convert.tensors import Array
from ms_models.environment import device_in_use
from parity_tests.harness import run as harness
from parity_tests.harness.families import compare_family, not_asked_for
from parity_tests.harness.own_steps import compare_steps as _compare_steps
from parity_tests.harness.request import CompareOptions
from toonport.draw.generators import build
from toonport.exporters.exporter import Exported, ExportOptions, default_target, export_network
from toonport.results import Result, Results, result_of, with_result
from toonport.train.finished import generating

if TYPE_CHECKING:
    from toonport.photo.picture import Picture
    from toonport.porting.porter import Port


compare_steps = with_result(_compare_steps)


def load(
    path: str | Path,
    framework: str = "mindspore",
    part: str | None = None,
    family: str | None = None,
    device: str = CPU,
) -> Any:
    """Return a network of a checkpoint with its weights, in eval mode.

        cell = toonport.load("photo2cartoon_weights.pt", framework="mindspore", part="genA2B")
        cartoon, cam_logit, heatmap = cell(photo)  # photo: mindspore.Tensor [N, 3, H, W] in [-1, 1]

    Args:
        path: checkpoint of any format and of either framework, or the folder of a training run.
        framework: "mindspore" for a `mindspore.nn.Cell`, "torch" for a `torch.nn.Module`.
        part: which network of the file; default: its only one, else the one that draws.
        family: family of the weights; default: by the tensors.
        device: one of convert.devices.DEVICES: cpu, gpu, ascend.

    Raises InputError: a file, network, framework or device that cannot be used; says what to do.
    """
    source = generating(str(path), family)
    networks = {network.part.name: network for network in load_networks(source.weights, source.family, part)}
    chosen = next(iter(networks.values()))
    if len(networks) > 1:
        drawing = chosen.family.cartoonize.part if chosen.family.cartoonize else ""
        if drawing not in networks:
            raise InputError(f"{path}: which network is it? say part=..., one of {', '.join(networks)}")
        chosen = networks[drawing]
    return build(chosen, framework, device)


def convert(
    source: str | Path,
    target: str | Path,
    family: str | None = None,
    part: str | None = None,
    names: str | None = None,
    style: str | None = None,
) -> Conversion:
    """Convert a checkpoint, bit for bit; the suffixes give the direction.

        toonport.convert("photo2cartoon_weights.pt", "photo2cartoon.ckpt")

    Args:
        source: .pt, .pth, .ckpt or .safetensors; "{part}" in the name stands for one file per network.
        target: the same suffixes; "{part}" writes one file per network. A ledger is written beside it.
        family: family of the source; default: by the tensors.
        part: only this network; default: all.
        names: "torch" or "mindspore", the names in a .safetensors target.
        style: write another system's networks, where they are the same.

    Returns:
        The files and ledgers written, and what they hold.

    Raises InputError: the source cannot be used; nothing is written then.
    """
    return convert_file(source, target, family, part, names, style=style)


@overload
def compare(reference: str, **options: Any) -> Results:
    """Compare the networks of a family."""


@overload
def compare(reference: Any, port: Any, inputs: Sequence[Array] | Array, **options: Any) -> Result:
    """Compare your own two networks."""


def compare(reference: Any, port: Any = None, inputs: Any = None, **options: Any) -> Results | Result:
    """Judge a MindSpore port against its PyTorch reference, layer by layer: a family's, or your own.

        for comparison in toonport.compare("photo2cartoon", weights="photo2cartoon_weights.pt"):
            print(comparison.name, comparison.equal)
        result = toonport.compare(torch_module, ms_cell, inputs)  # the same layer names on both sides
        print(result.equal, [verdict.measurement.layer for verdict in result.blamed])

    Args:
        reference: name of a family, see `toonport list`; or a `torch.nn.Module` with its weights.
        port: a `mindspore.nn.Cell` with its weights, beside a module.
        inputs: beside a module, one array or several, float32, as both networks take them.
        options: of a family, the fields of `CompareOptions`, e.g. part, weights, ported, modes, dtype, device, seed,
            with `picture` as the path of a picture and `runtime` as --runtime takes it; of an own pair, those of
            `parity_tests.harness.run.compare`: modes, probe, name, dtype, captures, keywords, names,
            reference_device, tf32.

    Returns:
        The result of each network of the family, or the one of the own pair: `.equal`, `.blamed`, `.verdicts`. Reports
        are written by `.save_html(path)`, `.save_json(path)` and `.save_junit(path)`, of one or of all of them.

    Raises InputError: something that cannot be compared, or an option that is not known.
    """
    if not isinstance(reference, str):
        if port is None or inputs is None:
            raise InputError("compare takes the name of a family, or a module, a cell and their inputs")
        return result_of(harness.compare(reference, port, inputs, **options), device_in_use())
    if port is not None or inputs is not None:
        raise InputError(f"compare('{reference}') builds both networks itself; give a module to compare your own cell")
    from toonport.own_pair import named_runtime

    _require_known(options, CompareOptions)
    path = options.get("picture")
    if path is not None and not callable(path):
        from toonport.photo.picture import network_picture

        options["picture"] = partial(network_picture, Path(path))
    if isinstance(options.get("runtime"), str):
        options["runtime"] = named_runtime(options["runtime"])
    asked = CompareOptions(reference, **options)
    return Results(compare_family(asked), asked.device, not_asked_for(asked))


def port(network: str, inputs: Any, out: str | Path, weights: str | None = None, **options: Any) -> Port:
    """Write the MindSpore network of a PyTorch network; it is kept only if it is proven equal.

        port = toonport.port("mynet.py:build", "3x256x256", "ported/", weights="my.pt")
        print(port.equal, port.folder)

    Args:
        network: "FILE.py:NAME" or "package.module:NAME", a class or a function that returns a `torch.nn.Module`.
        inputs: what it is called with, as arrays or as the command line says it.
        out: folder for the port, which is not there yet.
        weights: checkpoint in the network's own names; default: seeded weights.
        options: further fields of `PortOptions`: key, kwargs, seed, partial, train.

    Returns:
        A Port: `.equal`, `.folder`, `.comparisons`. What is not equal lies in a folder with the suffix `.unproven`.

    Raises InputError: something cannot be used, or an operator has no rule; nothing is written then.
    """
    from toonport.porting.porter import PortOptions
    from toonport.porting.porter import port as run

    _require_known(options, PortOptions)
    return run(PortOptions(network, inputs, Path(out), weights, **options))


def export(
    weights: str | Path, target: str | Path | None = None, family: str | None = None, **options: Any
) -> Exported:
    """Export a network to ONNX or MINDIR; the file is kept only if it computes what float64 PyTorch computes.

        toonport.export("photo2cartoon.ckpt", "cartoon.onnx", dynamic=True)

    Args:
        weights: checkpoint of any format, or the folder of a training run.
        target: .onnx or .mindir file; default: FAMILY_PART.onnx in the current folder.
        family: family of the weights; default: by the tensors.
        options: further fields of `ExportOptions`: part, side, dynamic, outputs, precision, complete, calibration.

    Returns:
        The file, its networks, and the judged outputs.

    Raises:
        InputError: the options do not fit together, or the weights cannot be used.
        NotReproducedError: the file would compute something else; nothing is written then.
    """
    _require_known(options, ExportOptions)
    source = generating(str(weights), family, options.pop("side", None))
    owner = source.family or load_networks(source.weights, None, options.get("part"))[0].family.name
    options.setdefault("to", "mindir" if Path(target or "").suffix == ".mindir" else "onnx")
    chosen = ExportOptions(family=owner, weights=source.weights, side=source.size, **options)
    return export_network(chosen, Path(target) if target else default_target(chosen))


def cartoonize(
    photo: str | Path | Picture,
    weights: str | Path,
    target: str | Path | None = None,
    family: str | None = None,
    **options: Any,
) -> Picture:
    """Return the cartoon of a photo, RGB uint8 [H, W, 3].

        picture = toonport.cartoonize("me.jpg", "photo2cartoon.ckpt", "cartoon.png")

    The network is loaded each time; for many photos hold a `toonport.draw.cartoonizer.Cartoonizer`.

    Args:
        photo: a picture file, or RGB uint8 [H, W, 3].
        weights: checkpoint of any format, .onnx, or the folder of a training run.
        target: also write the cartoon there, in the format of its suffix.
        family: family of the weights; default: by the tensors.
        options: further fields of `CartoonSettings`: part, backend, device, channels, frame, size, portrait, threads.

    Raises InputError: no picture, no face in it where the family draws faces, or weights that cannot be used.
    """
    from toonport.draw.cartoonizer import Cartoonizer, CartoonSettings
    from toonport.photo.picture import read_picture, write_picture

    _require_known(options, CartoonSettings)
    source = generating(str(weights), family, options.pop("size", None))
    cartoonizer = Cartoonizer(CartoonSettings(source.weights, source.family, size=source.size, **options))
    pixels = read_picture(Path(photo)) if isinstance(photo, str | Path) else photo
    picture = cartoonizer.draw(pixels)[0].picture
    if target is not None:
        write_picture(Path(target), picture)
    return picture


def _require_known(options: Iterable[str], kind: Any) -> None:
    own = {"family"} if kind is CompareOptions else {"family", "weights"}
    known = {field.name for field in fields(kind)} - own
    if unknown := set(options) - known:
        raise InputError(f"unknown option {', '.join(sorted(unknown))}; options: {', '.join(sorted(known))}")
