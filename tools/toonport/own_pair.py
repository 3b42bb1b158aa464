"""A user's own two networks, or own runtime, named on the command line: `FILE.py:NAME` or `package.module:NAME`.

Their code runs; their checkpoints are read as all others, without unpickling.
"""

import importlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from traceback import extract_tb
from typing import Any

import numpy as np

from convert.conversion import (
    Conversion,
    Progress,
    checked_first,
    mindspore_arrays,
    require_another_file,
    torch_arrays,
    write_networks,
)
from convert.disk import read_toml
from convert.errors import InputError, first_line
from convert.identify import Network, open_source, opened_source
from convert.own import own_network
from convert.plan import Plan, plan_by_name, plan_of
from parity_tests.harness.captured_layers import compare_with_capture, plan_with
from parity_tests.harness.captures import read_index
from parity_tests.harness.capturing import framework_of
from parity_tests.harness.inputs import feature, image
from parity_tests.harness.onnx.runtimes import RUNTIMES, Runtime, own_runtime
from parity_tests.harness.pair import array_of, require_layers, require_networks, target_of
from parity_tests.harness.replay.write import Build
from parity_tests.harness.run import Comparison, Say, silent
from parity_tests.harness.sides.mindspore import buffers_of, held
from parity_tests.harness.stages import MODES
from torch_ref.build import load_torch

SHOWN = 5
NETWORKS = {"torch.nn.modules.module", "mindspore.nn.cell"}  # where the base classes of networks are
BATCH = 2  # examples: norms over a batch need more than one
PICTURES = {3, 1}  # channels of what is taken for a picture


@dataclass(frozen=True)
class OwnPair:
    """Which two networks, and how they are built."""

    # torch, mindspore: "FILE.py:NAME" or "package.module:NAME", of a class or of a function that returns the network
    torch: str
    mindspore: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)  # what both are called with
    layers: Mapping[str, str] = field(default_factory=dict)  # PyTorch path -> MindSpore path where they differ
    seed: int = 0  # of weights that no file holds

    @property
    def name(self) -> str:
        """What reports call the network."""
        return self.torch.rpartition(":")[2]

    def networks(self) -> tuple[Any, Any]:
        """Return the module and the cell.

        Raises InputError: the code or the name is not there, fails, or builds something else.
        """
        import torch

        torch.manual_seed(self.seed)
        module, cell = _built(self.torch, self.kwargs), _built(self.mindspore, self.kwargs)
        require_networks(module, cell)
        return module, cell

    def builds(self) -> tuple[Build, Build]:
        """Return how a script of its own builds the module and the cell."""
        return in_script(self.torch, self.kwargs), in_script(self.mindspore, self.kwargs)

    def build(self) -> tuple[Any, Any, Plan]:
        """Return the module, the cell, and which tensor of one is which of the other.

        Raises InputError: see `networks`; a tensor has no place on the other side.
        """
        module, cell = self.networks()
        target = target_of(cell)
        require_layers(self.layers, module, target)
        plan = plan_of(module, target, self.layers)
        own = [name for name, _ in held(cell)]
        lacking = [row for row in plan.rows if not row.carried and row.mindspore not in target.shapes]
        _require_none([f"{row.torch} -> {row.mindspore}" for row in lacking], f"have no place in {self.mindspore}")
        _require_none([name for name in own if name not in plan.names], f"of {self.mindspore} are not in {self.torch}")
        return module, cell, plan


def built(text: str, kwargs: Mapping[str, Any], seed: int = 0) -> Any:
    """Return what a name builds, with PyTorch's chance seeded; a network that exists already is returned as it is.

    Raises InputError: the code or the name is not there, or fails.
    """
    import torch

    torch.manual_seed(seed)
    return _built(text, kwargs)


def _require_none(names: Sequence[str], what: str) -> None:
    if names:
        shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        raise InputError(
            f"{len(names)} tensors {what}: {shown}; --map FILE.toml says which layers are called otherwise"
        )


def pair_from(torch: str, mindspore: str, kwargs: str | None, names: str | None, seed: int = 0) -> OwnPair:
    """Return a pair as the command line names it: `kwargs` is JSON, `names` a TOML file with a table [layers].

    Raises InputError: one of them is not of this form.
    """
    return OwnPair(torch, mindspore, kwargs_from(kwargs), layers_from(Path(names)) if names else {}, seed)


def kwargs_from(kwargs: str | None) -> dict[str, Any]:
    """Return what --kwargs says. Raises InputError: it is no object of JSON."""
    try:
        found = json.loads(kwargs) if kwargs else {}
    except ValueError as error:
        raise InputError(f"--kwargs {kwargs}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise InputError(f"--kwargs {kwargs}: is an object of names and values, e.g. '{{\"width\": 8}}'")
    return found


def layers_from(path: Path) -> Mapping[str, str]:
    """Read a map: a TOML file with a table [layers]. Raises InputError: it is not of this form."""
    layers = read_toml(path).get("layers")
    if not isinstance(layers, dict) or not all(isinstance(value, str) for value in layers.values()):
        raise InputError(f'{path}: holds a table [layers] with "PyTorch path" = "MindSpore path" in each line')
    return layers


def read_weights(pair: OwnPair, plan: Plan, weights: str, key: str | None = None) -> Network:
    """Find the network in a checkpoint, in the names of either side. Raises InputError: it is not there."""
    return own_network(open_source(weights), plan, pair.name, key)


def load(module: Any, cell: Any, plan: Plan, weights: Network | None, ported: Network | None = None) -> None:
    """Give both networks the same weights.

    Args:
        module, cell: the networks.
        plan: which tensor of one is which of the other.
        weights: of both; None: those that the module has.
        ported: other weights of the cell.
    """
    if weights:
        load_torch(module, torch_arrays(weights))
    if ported:
        arrays = mindspore_arrays(ported)
    else:
        state = {name: array_of(value) for name, value in module.state_dict().items()}
        arrays = plan.to_mindspore(state)
    _put_into(cell, arrays)


def compare_with_folder(
    folder: Path,
    mindspore: str,
    kwargs: str | None = None,
    names: str | None = None,
    weights: tuple[str | None, str | None] = (None, None),
    modes: Iterable[str] = MODES,
    say: Say = silent,
) -> Comparison:
    """Compare a port with a reference that was captured with `layers=True`, without PyTorch.

    Args:
        folder: of the capture.
        mindspore, kwargs, names: as `pair_from` takes them.
        weights: checkpoint of the port, and the dictionary or prefix in it; None: those that were captured.
        modes, say: see `captured_layers.compare_with_capture`.

    Raises InputError: the capture or the port cannot be used.
    """
    capture, layers = read_index(folder), layers_from(Path(names)) if names else {}
    cell = _built(mindspore, kwargs_from(kwargs))
    if framework_of(cell) != "mindspore":
        raise InputError(f"{mindspore}: builds no mindspore.nn.Cell")
    plan = plan_with(capture, cell, layers)
    source, key = weights
    if source:
        arrays = mindspore_arrays(own_network(open_source(source), plan, capture.name, key))
    else:
        arrays = plan.to_mindspore(capture.weights())
    _put_into(cell, arrays)
    return compare_with_capture(capture, cell.set_train(False), plan, modes, say)


def _put_into(cell: Any, arrays: Mapping[str, Any]) -> None:
    """Give a cell's parameters and buffers values."""
    import mindspore

    for name, value in held(cell):
        if name in arrays:
            value.set_data(mindspore.Tensor(np.asarray(arrays[name], order="C"), value.dtype))
    for name, (owner, key) in buffers_of(cell):
        if name in arrays:
            owner[key] = mindspore.Tensor(arrays[name], owner[key].dtype)


def load_each(module: Any, cell: Any, weights: str | None, ported: str | None, key: str | None = None) -> None:
    """Give each network the weights of a checkpoint in its own names; None: it keeps those that it has.

    Raises InputError: the tensors of a checkpoint do not fit its network.
    """
    import mindspore

    if weights:
        named = plan_by_name({name: array_of(value) for name, value in module.state_dict().items()})
        load_torch(module, torch_arrays(own_network(open_source(weights), named, type(module).__name__, key)))
    if ported:
        named = plan_by_name({name: array_of(value) for name, value in held(cell)})
        arrays = torch_arrays(own_network(open_source(ported), named, type(cell).__name__))
        for name, value in held(cell):
            value.set_data(mindspore.Tensor(np.asarray(arrays[name], order="C"), value.dtype))


def convert_own(
    pair: OwnPair,
    source: str,
    target: str,
    names: str | None = None,
    progress: Progress | None = None,
    key: str | None = None,
    force: bool = True,
) -> Conversion:
    """Convert a checkpoint of a user's own network; the suffixes give the direction, see `convert_file`.

    Raises InputError: the networks or the source cannot be used; nothing is written then.
    """
    require_another_file(source, target)
    checkpoint, check = opened_source(source)
    plan = pair.build()[2]
    with checked_first(check):
        network = own_network(checkpoint, plan, pair.name, key)
    used = set(network.file_names.values())
    unused = tuple(name for name in checkpoint.tensors if name not in used)
    return write_networks(checkpoint, check, [network], Path(target), names, progress, unused, force)


def inputs_of(text: str, seed: int = 0) -> Any:
    """Return what networks are called with, as the command line says it.

    Args:
        text: shapes without the batch, "3x256x256" or "3x64x64,10" (seeded numbers; three sides of which the first is 1
            or 3 are a picture in [-1, 1]; batches of two, but a picture alone is one, of which smaller ones are cut);
            a .npy file; a .npz file, whose arrays are keyword arguments by their names,
            or come in order if they are called arr_0, arr_1; or `FILE.py:NAME`, a function that returns the inputs.
        seed: of the numbers.

    Raises InputError: none of these, or it cannot be read.
    """
    path = Path(text)
    if path.suffix in {".npy", ".npz"}:
        return _arrays(path)
    if ":" in text:
        return _called(_found(text), text, {})
    try:
        shapes = [tuple(int(side) for side in part.split("x")) for part in text.split(",")]
    except ValueError:
        shapes = [(0,)]
    if any(side < 1 for shape in shapes for side in shape):
        raise InputError(f"--inputs {text}: shapes such as 3x256x256, a .npy or .npz file, or FILE.py:NAME")
    batch = 1 if len(shapes) == 1 and _is_picture(shapes[0]) else BATCH
    return [_seeded(batch, shape, f"toonport/{seed}/{index}") for index, shape in enumerate(shapes)]


def _is_picture(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[0] in PICTURES


def _seeded(batch: int, shape: tuple[int, ...], tag: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    if _is_picture(shape):
        return image(tag, batch, shape[1], shape[2], shape[0])
    return feature(tag, (batch, *shape))


def _arrays(path: Path) -> Any:
    try:
        found = np.load(path, allow_pickle=False)
        if path.suffix == ".npy":
            return found
        arrays = {name: found[name] for name in found.files}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not arrays that numpy reads without unpickling ({first_line(error)})") from error
    in_order = all(name.startswith("arr_") for name in arrays)
    return list(arrays.values()) if in_order else arrays


def _built(text: str, kwargs: Mapping[str, Any]) -> Any:
    found = _found(text)
    return _called(found, text, kwargs) if callable(found) and not _is_network(found) else found


def in_script(text: str, kwargs: Mapping[str, Any]) -> Build:
    """Return how a script of its own builds what a name builds."""
    found, (where, _, name) = _found(text), text.rpartition(":")
    call = f"({', '.join(f'{key}={value!r}' for key, value in kwargs.items())})"
    call = call if callable(found) and not _is_network(found) else ""
    path = Path(where).resolve()
    if path.suffix != ".py":
        folder, reader, source = Path.cwd(), "pkgutil", f"pkgutil.resolve_name({text!r})"
    else:
        first, dot, inner = name.partition(".")
        folder, reader, source = path.parent, "runpy", f"runpy.run_path({str(path)!r})[{first!r}]{dot}{inner}"
    return Build(source + call, (reader, "sys"), setup=(f"sys.path.insert(0, {str(folder)!r})",))


def _is_network(found: Any) -> bool:
    """Whether something is a network already, which can be called as well."""
    return not isinstance(found, type) and bool({kind.__module__ for kind in type(found).__mro__} & NETWORKS)


def _found(text: str) -> Any:
    """What `FILE.py:NAME` or `package.module:NAME` is."""
    where, colon, name = text.rpartition(":")
    if not colon or not where or not name:
        raise InputError(f"{text}: say FILE.py:NAME or package.module:NAME")
    module = imported(where, text)
    try:
        found = module
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        close = get_close_matches(name, [own for own in vars(module) if not own.startswith("_")], 3)
        raise InputError(f"{text}: {where} has no {name}{'; there is ' + ', '.join(close) if close else ''}") from error
    return found


def imported(where: str, text: str) -> Any:
    """Return the module of a file or a dotted name. Raises InputError, which begins with `text`: it has none."""
    path = Path(where)
    try:
        if path.suffix != ".py":
            if "" not in sys.path:
                sys.path.insert(0, "")  # packages in the current folder, as with python -m
            return importlib.import_module(where)
        if not path.is_file():
            raise InputError(f"{text}: there is no file {where}")
        folder = str(path.resolve().parent)  # of what the file imports from beside it
        if folder not in sys.path:
            sys.path.insert(0, folder)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{text}: cannot be imported: {_where(error)}") from error


def named_runtime(text: str) -> Runtime:
    """Return what runs exported files, by its name in RUNTIMES or as `FILE.py:run`, see `own_runtime`.

    Raises InputError: neither, or the file's code fails.
    """
    if text in RUNTIMES:
        return RUNTIMES[text]
    if ":" not in text:
        raise InputError(f"--runtime {text}: one of {', '.join(RUNTIMES)}, or FILE.py:run")
    function = _found(text)
    if not callable(function):
        raise InputError(f"--runtime {text}: is not callable; run(path, inputs) -> outputs is needed")
    return own_runtime(text, function)


def _called(function: Any, text: str, kwargs: Mapping[str, Any]) -> Any:
    try:
        return function(**kwargs)
    except Exception as error:
        raise InputError(f"{text}: fails: {_where(error)}") from error


def _where(error: Exception) -> str:
    """An error in one line, with the place where it was raised."""
    last = extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {first_line(error)} ({Path(last.filename).name}, line {last.lineno})"
