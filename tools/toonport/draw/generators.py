"""A generator of the registry behind one interface, run by MindSpore, ONNX Runtime, OpenVINO or PyTorch.

Every backend takes and returns float32 arrays [N, C, H, W]; the pictures made of them agree to one grey level.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from convert.channels import ORDERS, channel_order
from convert.conversion import mindspore_arrays, require_finite, torch_arrays
from convert.devices import CPU, DEVICES
from convert.errors import InputError
from convert.family import Cartoonize, Family, resolve
from convert.identify import Network, identify, open_source, require_one_family
from convert.registry import families, family_named, part_named
from convert.tensors import Array
from ms_models import build as mindspore_build
from ms_models.environment import choose_device
from ms_models.environment import computing as mindspore_computing
from parity_tests.harness.inputs import UNTRAINED, in_channels, is_seeded
from parity_tests.harness.onnx.write import export_onnx, find_sizes, second_input
from parity_tests.harness.run import part_inputs
from parity_tests.harness.sides.tree import tuple_of
from toonport.draw.choices import BACKENDS
from toonport.draw.exported import RUNNERS, Opened, open_file
from toonport.exporters.complete import NETWORK_RANGE, PICTURES, Pictures
from torch_ref import build as torch_build
from torch_ref.environment import computing as torch_computing
from torch_ref.environment import place_of

# A third-party ONNX file names no family; the published ones with a picture in and out are photo2cartoon's.
ONNX_DEFAULT = "photo2cartoon"
PICTURE = "output"  # what the published file and `toonport export` call the picture

Run = Callable[[Array], list[Array]]


@dataclass(frozen=True)
class Generator:
    """A loaded generator."""

    family: Family  # the family it belongs to
    how: Cartoonize  # how the family feeds it with photos
    backend: str  # what runs it
    outputs: tuple[str, ...]  # names of what it returns; the first is the picture
    fixed_side: int | None  # the only side of a picture it takes, None when it takes several
    smallest: int  # the smallest side it takes
    run: Run  # [N, 3, H, W] -> the outputs, in the order of their names
    untrained: bool = False  # whether its weights are known to be seeded ones, which nobody trained

    def __call__(self, batch: Array) -> dict[str, Array]:
        """Return the outputs by name for pictures [N, 3, H, W] in [-1, 1], as float32.

        Raises InputError: the network returns no picture, or numbers that are not finite.
        """
        found = dict(zip(self.outputs, self.run(np.asarray(batch, np.float32)), strict=True))
        picture = np.asarray(found[self.outputs[0]], np.float32)
        if picture.ndim != 4 or picture.shape[:2] != (len(batch), 3):
            shape = "x".join(map(str, picture.shape))
            raise InputError(f"{self.family.name}: '{self.outputs[0]}' is no picture [N, 3, H, W] but {shape}")
        if not np.isfinite(picture).all():
            raise InputError(f"{self.family.name}: the network returns numbers that are not finite; check its weights")
        return {**found, "image": self._after(batch, picture)}

    def _after(self, batch: Array, picture: Array) -> Array:
        if not self.how.after:
            return picture
        import torch

        with torch.no_grad():
            finished = resolve("torch_ref", self.how.after)(torch.from_numpy(batch), torch.from_numpy(picture))
        return np.asarray(finished.numpy(), np.float32)


def open_generator(
    weights: str | Path,
    family: str | None = None,
    part: str | None = None,
    backend: str | None = None,
    device: str = CPU,
    threads: int | None = None,
    channels: str | None = None,
) -> Generator:
    """Load a generator.

    Args:
        weights: .onnx file, or a checkpoint of any format that `convert` reads.
        family: its family; default: by the tensors, for ONNX by what the file says of itself.
        part: which network of the file; default: the one that draws cartoons.
        backend: one of BACKENDS; default: the format's own (.ckpt MindSpore, .onnx ONNX Runtime, else PyTorch).
        device: one of DEVICES.
        threads: threads of ONNX Runtime and PyTorch; default: all.
        channels: order of the colours, "RGB" or "BGR"; default: what is known of the weights, else the family's.

    Raises InputError: a file, backend or device that cannot be used; says what to do.
    """
    path = Path(weights)
    if path.suffix.lower() == ".onnx":
        chosen = backend or RUNNERS[0]
        if chosen not in RUNNERS:
            runners = " or ".join(RUNNERS)
            raise InputError(f"{path}: an ONNX file is run by {runners}, not {backend}; give a checkpoint instead")
        return _from_onnx(path, family, part, open_file(path, chosen, device, threads), chosen, channels)
    chain = _chain(path, family, part)
    network = chain[0]
    chosen = backend or ("mindspore" if path.suffix == ".ckpt" else "torch")
    if chosen not in BACKENDS:
        raise InputError(f"unknown backend '{chosen}'; backends: {', '.join(BACKENDS)}")
    how = replace(_how(network.family), channels=channel_order(network, channels))
    openers: dict[str, Callable[[Network, str, int | None], Run]] = {
        "mindspore": _mindspore,
        "torch": _torch,
        **{name: partial(_exported, name) for name in RUNNERS},
    }
    return Generator(
        network.family,
        how,
        chosen,
        chain[-1].part.outputs,
        how.fixed_side(network.kwargs),
        network.part.smallest(network.kwargs),
        _in_colour(
            _one_after_the_other([openers[chosen](link, device, threads) for link in chain]),
            network.part.channels(network.kwargs),
            how.channels,
        ),
        all(is_seeded(link) for link in chain),
    )


def _in_colour(network: Run, channels: int, order: str, draws: bool = True) -> Run:
    """Feed a grey network with the luminance of colour pictures, and give a grey picture of its in 3 channels.

    `draws`: whether the first output is known to be a picture.
    """
    in_channels(np.zeros((1, 3, 1, 1), np.float32), channels)  # refuses others than grey and colour, before any photo

    def run(batch: Array) -> list[Array]:
        """[N, 3, H, W] -> the network's outputs."""
        picture, *others = network(in_channels(batch, channels, order))
        return [picture.repeat(3, 1) if draws and picture.ndim == 4 and picture.shape[1] == 1 else picture, *others]

    return run


def _one_after_the_other(runs: Sequence[Run]) -> Run:
    """Feed each network with the first output of the one before it."""

    def run(batch: Array) -> list[Array]:
        """[N, 3, H, W] -> the last network's outputs."""
        outputs = [batch]
        for network in runs:
            outputs = network(outputs[0])
        return outputs

    return run


def _how(family: Family) -> Cartoonize:
    if family.cartoonize is None:
        known = ", ".join(other.name for other in families() if other.cartoonize)
        raise InputError(f"{family.name} draws no pictures; families that do: {known}")
    return family.cartoonize


def _chain(path: Path, family: str | None, part: str | None) -> list[Network]:
    """Return the networks of a checkpoint that draw, one fed by the other, checked; mostly there is just one."""
    checkpoint = open_source(path)
    networks = {network.part.name: network for network in identify(checkpoint, family, part)}
    require_one_family(networks.values())
    first = next(iter(networks.values()))
    how = _how(first.family)
    wanted = [part] if part else [name for name in (how.part, how.then) if name]
    chain = [networks[name] for name in wanted if name in networks]
    if len(chain) < len(wanted):
        chain = [first] if len(wanted) == 1 else []
    if not chain or chain[-1].part.outputs[0] != "image":
        raise InputError(f"{path}: {first.part.name} draws no pictures; the file has no {' and '.join(wanted)}")
    for network in chain:
        require_finite(network)
    return chain


def build(network: Network, framework: str, device: str = CPU) -> Any:
    """Return a network of a checkpoint, in eval mode on a device; framework: "mindspore" or "torch".

    Raises InputError: a framework that is not known, or a device that it cannot use here.
    """
    if device not in DEVICES:
        raise InputError(f"unknown device '{device}'; devices: {', '.join(DEVICES)}")
    if framework == "mindspore":
        choose_device(device)
        return mindspore_build.build_mindspore(network.part, network.kwargs, mindspore_arrays(network))
    if framework != "torch":
        raise InputError(f"unknown framework '{framework}'; frameworks: mindspore, torch")
    place = place_of(device)
    return torch_build.build_torch(network.part, network.kwargs, torch_arrays(network)).to(place)


def _torch(network: Network, device: str, threads: int | None) -> Run:
    import torch

    if threads:
        torch.set_num_threads(threads)
    module = torch_build.for_inference(build(network, "torch", device))
    place = place_of(device)

    def run(batch: Array) -> list[Array]:
        """[N, 3, H, W] -> the module's outputs."""
        with torch.no_grad(), torch_computing(device):
            found = module(torch.from_numpy(batch).to(place))
        return [tensor.cpu().numpy() for tensor in tuple_of(found)]

    return run


def _mindspore(network: Network, device: str, threads: int | None) -> Run:
    import mindspore

    cell = mindspore_build.for_inference(build(network, "mindspore", device))

    def run(batch: Array) -> list[Array]:
        """[N, 3, H, W] -> the cell's outputs."""
        with mindspore_computing():
            return [tensor.asnumpy() for tensor in tuple_of(cell(mindspore.Tensor(batch)))]

    return run


def _exported(backend: str, network: Network, device: str, threads: int | None) -> Run:
    """Run an ONNX file exported from a checkpoint: one where photos keep their sizes, else one for each size."""
    part, outputs = network.part, network.part.outputs
    module = torch_build.for_inference(build(network, "torch"))
    any_size = _how(network.family).side is None
    sizes = find_sizes(module, part.channels(network.kwargs), part.smallest(network.kwargs)) if any_size else None
    sessions: dict[tuple[int, ...] | None, Run] = {}

    def run(batch: Array) -> list[Array]:
        """[N, 3, H, W] -> the outputs of a file that takes this size."""
        key = None if sizes else batch.shape[2:]
        if key not in sessions:
            inputs = part_inputs(part, network.kwargs, 0) if sizes else batch[:1]
            more = [second_input(inputs, sizes)] if sizes else []
            with tempfile.TemporaryDirectory() as folder:
                target = Path(folder) / "network.onnx"
                export_onnx(module, inputs, outputs, target, more, sizes)
                sessions[key] = open_file(target, backend, device, threads).run
        return sessions[key](batch)

    return run


def _from_onnx(
    path: Path, family: str | None, part: str | None, opened: Opened, backend: str, channels: str | None
) -> Generator:
    facts = opened.facts  # as export writes them
    owner = family_named(family or facts.get("toonport.family", ONNX_DEFAULT))
    how, kind = _how(owner), _pictures_of(path, facts)
    if kind and channels:
        raise InputError(f"{path}: holds everything from picture to picture, the order of colours too; no --channels")
    if kind:
        how = replace(how, channels="RGB", after=None)
    else:
        how = replace(how, channels=channels or facts.get("toonport.channels", how.channels))
    if how.channels not in ORDERS:
        raise InputError(f"{path}: unknown order of colours '{how.channels}'; orders: {', '.join(ORDERS)}")
    known = part_named(owner, part or how.part)
    if not opened.outputs:
        raise InputError(f"{path}: it has no output")
    places = sorted(range(len(opened.outputs)), key=lambda place: opened.outputs[place] != PICTURE)
    names = tuple(opened.outputs[place] for place in places)
    _, count, height, width = _picture_shape(path, opened)

    def run(batch: Array) -> list[Array]:
        """[N, 3, H, W] -> the file's outputs."""
        found = opened.run(kind.given(batch) if kind else batch.astype(opened.numbers))
        picture, *others = (np.asarray(found[place]) for place in places)
        return [kind.drawn(picture) if kind else picture, *others]

    fixed = height if height == width else None
    coloured = _in_colour(run, count or 3, how.channels, draws=names[0] == PICTURE)
    smallest, untrained = known.smallest(known.kwargs), facts.get("toonport.weights") == UNTRAINED
    return Generator(owner, how, backend, names, fixed, smallest, coloured, untrained)


def _pictures_of(path: Path, facts: Mapping[str, str]) -> Pictures | None:
    """What pictures a complete file takes; None: the network's own, in [-1, 1]."""
    range_of = facts.get("toonport.range", NETWORK_RANGE)
    kinds = {kind.range: kind for kind in PICTURES.values()}
    if range_of != NETWORK_RANGE and range_of not in kinds:
        raise InputError(f"{path}: unknown range of values '{range_of}'; known: {', '.join((NETWORK_RANGE, *kinds))}")
    return kinds.get(range_of)


def _picture_shape(path: Path, opened: Opened) -> tuple[int | None, ...]:
    """Return the shape [N, C, H, W] of an ONNX file's one input, None for a length that is free."""
    shape = opened.shapes[0] if len(opened.shapes) == 1 and opened.numbers else ()
    if len(shape) == 4 and opened.numbers is np.uint8:
        shape = tuple(shape[place] for place in (0, 3, 1, 2))
    if len(shape) != 4 or shape[1] not in (None, 1, 3):
        raise InputError(f"{path}: its input is not one picture [N, 3, H, W]")
    return shape
