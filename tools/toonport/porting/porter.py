"""One port from start to end: build, trace, write, prove, keep."""

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import invalidate_caches
from pathlib import Path
from typing import Any

import numpy as np

from convert.devices import CPU
from convert.disk import locked
from convert.errors import InputError
from parity_tests.harness.judge import Outcome
from parity_tests.harness.pair import as_inputs
from parity_tests.harness.report.data import report_data
from parity_tests.harness.report.html import difference_pictures, write_html
from parity_tests.harness.run import Comparison, Say, silent
from parity_tests.harness.sides.tree import arguments
from toonport.own_pair import OwnPair, built, convert_own, imported, in_script, inputs_of, load_each
from toonport.porting.network import Ported, port_network
from toonport.porting.proof import Candidate, Proof, prove
from toonport.porting.readme import readme
from toonport.porting.source import constants_file, layers_source, network_source

UNPROVEN = ".unproven"  # what stands after the name of a folder until its network is proven
MARK = "UNPROVEN.txt"  # in such a folder


@dataclass(frozen=True)
class PortOptions:
    """What is ported, and where to."""

    network: str  # "FILE.py:NAME" or "package.module:NAME", of a class or of a function that returns the network
    inputs: Any  # as `own_pair.inputs_of` takes them, or arrays
    out: Path
    weights: str | None = None  # checkpoint in the network's own names; None: seeded weights
    key: str | None = None  # dictionary or prefix of the checkpoint
    kwargs: Mapping[str, Any] = field(default_factory=dict)  # what the network is called with
    seed: int = 0
    partial: bool = False  # write what has a rule, with something that raises in the place of the rest
    train: bool = False  # also write an optimiser and a training step, and prove that both train alike


@dataclass(frozen=True)
class Port:
    """A port, and what is known of it."""

    folder: Path  # where it lies: under its own name only where it is equal
    outcome: Outcome
    comparisons: tuple[Comparison, ...]
    sizes: tuple[str, ...]  # inputs at which it was proven
    problem: str  # in words, what else is wrong with it
    left_out: tuple[str, ...]  # operators and layers that have no rule

    @property
    def equal(self) -> bool:
        """Whether it was proven, and kept."""
        return self.outcome is Outcome.EQUAL


def port(options: PortOptions, say: Say = silent) -> Port:
    """Port a network, and keep it only if it is proven to compute what the reference computes.

    Args:
        options: what and where to.
        say: told in words what is being done.

    Returns:
        The port. Where it is not equal, its folder has the suffix `.unproven`, and holds the report and the smallest
        case that still differs.

    Raises InputError: something cannot be used, or has no rule, or another process ports into that folder; nothing is
        written then.
    """
    _require_parent(options.out)
    with locked(options.out):
        return _port(options, say)


def _port(options: PortOptions, say: Say) -> Port:
    staging = _staging(options.out)
    stem = _stem(options.network)
    network = built(options.network, options.kwargs, options.seed)
    _require_module(network, options.network)
    load_each(network, None, options.weights, None, options.key)
    inputs = inputs_of(options.inputs, options.seed) if isinstance(options.inputs, str) else options.inputs
    say("tracing the network")
    args, kwargs = _tensors(inputs)
    ported = port_network(network, args, kwargs, options.partial)
    inputs = doubled(inputs) if ported.twice else inputs
    try:
        return _written(options, staging, stem, network, ported, inputs, say)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _written(
    options: PortOptions, staging: Path, stem: str, network: Any, ported: Ported, inputs: Any, say: Say
) -> Port:
    """Write the port beside its place, prove it, and move it there if it is equal."""
    _write(staging, stem, ported, options)
    if ported.left_out:
        _say(staging / "README.md", readme(options, stem, ported, None, None))
        return Port(staging, Outcome.CANNOT_TELL, (), (), "", tuple(ported.left_out))
    door = f"{staging / stem}_ms.py:{ported.name}"
    cell = _fresh(door, stem)
    builds = (
        in_script(options.network, options.kwargs),
        in_script(str(Path(door.rpartition(":")[0]).resolve()) + f":{ported.name}", {}),
    )
    name = options.network.rpartition(":")[2]
    candidate = Candidate(name, network, cell, inputs, ported.layers, builds, staging / "case")
    proof = prove(candidate, say)
    outcome, problem = proof.outcome, proof.problem
    if outcome is Outcome.EQUAL and options.train:
        proof = _trained(staging, stem, network, ported, inputs, proof, say)
        outcome = proof.outcome
    if proof.comparisons:
        _report(staging / "report.html", proof.comparisons)
    if outcome is not Outcome.EQUAL:
        return Port(staging, outcome, proof.comparisons, (), problem, ())
    checkpoint = None
    if options.weights or network.state_dict():
        _weights(options, staging, stem, ported, network)
        checkpoint = _checkpoint_name(options, stem)
    _say(staging / "README.md", readme(options, stem, ported, proof, checkpoint))
    (staging / MARK).unlink()
    staging.rename(options.out)
    return Port(options.out, outcome, proof.comparisons, proof.sizes, "", ())


def _trained(staging: Path, stem: str, network: Any, ported: Ported, inputs: Any, proof: Proof, say: Say) -> Proof:
    """Write a training step, and prove it as well.

    Raises InputError: the network is not called with tensors one after the other.
    """
    from toonport.porting.training import prove_training, training_source

    given = as_inputs(inputs)
    if not getattr(given, "plain", True):
        raise InputError("--train: only for networks that are called with tensors, one after the other")
    path = staging / f"train_{stem}_ms.py"
    _say(path, training_source(ported, stem))
    door = f"{staging / stem}_ms.py:{ported.name}"
    _fresh(door, stem)
    module = _beside(path.parent, lambda: imported(str(path), path.name))
    written = module, lambda: _fresh(door, stem)
    trained = prove_training(network, written, list(given), ported.layers, ported.name, say)
    return Proof((*proof.comparisons, trained), proof.sizes)


def _staging(out: Path) -> Path:
    """The folder that a port is written into; one that an earlier port left there is removed.

    Raises InputError: the place is taken.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out}: is there already; choose another --out or remove it")
    staging = out.with_name(out.name + UNPROVEN)
    if staging.exists() and not (staging / MARK).is_file():
        raise InputError(f"{staging}: is there already, and holds no unproven port; remove it")
    if out.exists():
        out.rmdir()
    return staging


def _require_parent(out: Path) -> None:
    if not out.parent.is_dir():
        raise InputError(f"{out}: there is no folder {out.parent}")


def _stem(network: str) -> str:
    """What the files are called: as the file of the network, or its module's last name."""
    where, colon, name = network.rpartition(":")
    if not colon or not where or not name:
        raise InputError(f"{network}: say FILE.py:NAME or package.module:NAME")
    stem = Path(where).stem if where.endswith(".py") else where.rpartition(".")[2]
    words = "".join(c if c.isalnum() else "_" for c in stem)
    return f"net_{words}" if words[:1].isdigit() else words


def doubled(inputs: Any) -> Any:
    """Return arrays with every example twice, the second one turned round; other inputs as they are."""
    given = as_inputs(inputs)
    if not getattr(given, "plain", True):
        return inputs
    return [np.ascontiguousarray(np.concatenate([each, each[..., ::-1]])) for each in given]


def _require_module(network: Any, text: str) -> None:
    import torch

    if not isinstance(network, torch.nn.Module):
        raise InputError(f"{text}: builds no torch.nn.Module, but a {type(network).__name__}")
    lazy = [name for name, value in network.named_parameters() if torch.nn.parameter.is_lazy(value)]
    if lazy:
        raise InputError(f"{text}: {lazy[0]} has no shape yet: run the network once before it is returned")


def _tensors(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs as the arguments of a module."""
    import torch

    given = as_inputs(inputs)

    def tensor(array: np.ndarray[Any, Any]) -> Any:
        """An array as a tensor, floating ones in float32."""
        found = torch.from_numpy(np.ascontiguousarray(array))
        return found.float() if found.is_floating_point() else found

    args, kwargs = arguments(given, [tensor(array) for array in given])
    return tuple(args), dict(kwargs)


def _write(staging: Path, stem: str, ported: Ported, options: PortOptions) -> None:
    """Write the code, the constants and the map."""
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir()
    _say(staging / MARK, "What is in this folder was not proven to compute what its reference computes.\n")
    needs = set().union(*(cell.needs for cell in ported.classes))
    _say(staging / f"{stem}_ms.py", network_source(ported, f"{stem}_ms", options.network.rpartition("/")[2]))
    if needs:
        _say(staging / f"{stem}_ms_layers.py", layers_source(needs))
    if ported.constants:
        (staging / f"{stem}_ms.npz").write_bytes(constants_file(ported.constants))
    if ported.layers:
        rows = (f"{json.dumps(path)} = {json.dumps(other)}" for path, other in ported.layers.items())
        _say(staging / "map.toml", "\n".join(["[layers]", *rows]) + "\n")


def _say(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _fresh(door: str, stem: str) -> Any:
    """Build the port from its file, not from one of the same name that was imported before."""
    for name in (f"{stem}_ms", f"{stem}_ms_layers"):
        sys.modules.pop(name, None)
    return _beside(Path(door.rpartition(":")[0]).parent, lambda: built(door, {}))


def _beside(folder: Path, load: Callable[[], Any]) -> Any:
    """Import something that imports from beside it, and forget the folder again."""
    before = list(sys.path)
    sys.path.insert(0, str(folder.resolve()))
    invalidate_caches()
    try:
        return load()
    finally:
        sys.path[:] = before


def _report(path: Path, comparisons: tuple[Comparison, ...]) -> None:
    data = report_data(list(comparisons), CPU, ["ONNX Runtime: not asked for"])
    pictures = {each.name: difference_pictures(*each.pictures) for each in comparisons if each.pictures}
    write_html(path, data, pictures)


def _checkpoint_name(options: PortOptions, stem: str) -> str:
    return f"{Path(options.weights).stem if options.weights else stem}.ckpt"


def _weights(options: PortOptions, staging: Path, stem: str, ported: Ported, network: Any) -> None:
    """Write the weights as a checkpoint with a ledger; seeded ones where there are no others."""
    import torch

    pair = _Pair(options.network, f"{staging / stem}_ms.py:{ported.name}", options.kwargs, ported.layers, options.seed)
    source = options.weights
    if source is None:
        source = str(staging / f"{stem}.pt")
        torch.save(network.state_dict(), source)
    convert_own(pair, source, str(staging / _checkpoint_name(options, stem)), key=options.key)


class _Pair(OwnPair):
    """A pair of which only the reference takes arguments."""

    def networks(self) -> tuple[Any, Any]:
        """Return the module and the cell."""
        stem = Path(self.mindspore.rpartition(":")[0]).stem.removesuffix("_ms")
        return built(self.torch, self.kwargs, self.seed), _fresh(self.mindspore, stem)
