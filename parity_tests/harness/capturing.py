"""Captures what a network computes inside a user's own script, in either framework, without the other one.

Everything goes to disk as it is computed. A PyTorch network is copied, so that after each run its inputs can be run in
float64 and, moved by about one unit in the last place, in the network's own precision: what a judge needs to know.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from convert.devices import CPU
from convert.errors import InputError
from convert.plan import describe
from convert.tensors import tensor_sha256
from parity_tests.harness.accumulated import Runs
from parity_tests.harness.capture import NOISE_RUNS, Pair
from parity_tests.harness.captured_layers import capture_layers
from parity_tests.harness.captures import NOISE, OWN, TRUTH, Capture, Held, Keep, keeper, write_index, write_weights
from parity_tests.harness.pair import copied, twins_of
from parity_tests.harness.sides.base import LayerCall, NetworkSide
from parity_tests.harness.sides.mindspore import MindSporeSide, buffers_of, held, walk
from parity_tests.harness.sides.torch import TorchSide
from parity_tests.harness.sides.tree import Tree

FRAMEWORKS = ("torch", "mindspore")


@contextmanager
def capture(network: Any, folder: str | Path, truth: bool = True, layers: bool = False) -> Iterator[None]:
    """Capture every run of a network into a folder, to be judged elsewhere.

        with toonport.capture(network, "run_a/"):
            network(picture)

    Do the same with the port on the same inputs, on any machine; then `toonport compare run_a/ run_b/` judges them. A
    run is a call of the network itself. Outside of compiled graphs only: MindSpore networks in PyNative mode. Pictures
    that are not square tell a port's other layout, as NHWC, from a fault.

    Args:
        network: a `torch.nn.Module` on the CPU or a `mindspore.nn.Cell`, in the mode in which it is to be compared;
            leave dropout in eval mode.
        folder: is made, and appears only when everything is there.
        truth: of a PyTorch network: after each run, run copies of it in float64 and on moved inputs. A judge needs this
            of the reference, and it takes the time of five runs and the memory of two networks.
        layers: of a PyTorch network: also keep what it answers where layers are compared one by one, with gradients, so
            that `toonport compare run_a/ --mindspore port.py:Net` compares a port in every mode without PyTorch. Takes
            as long as comparing the network with itself.

    Raises InputError: no network of either framework, a folder that holds something, or no run inside the context.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target}: exists already; captures go into a folder of their own")
    recorder = _Recorder(network, truth, layers)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        with recorder.watching(unfinished):
            yield
        recorder.finish()
        unfinished.chmod(0o755)
        unfinished.replace(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


class _Recorder:
    """Writes the runs of one network.

    Args:
        network: of either framework.
        truth: whether to run copies of a PyTorch network.
        layers: whether to keep what its layers answer.
    """

    def __init__(self, network: Any, truth: bool, layers: bool) -> None:
        self._network, self._framework = network, framework_of(network)
        torch = self._framework == "torch"
        self._dtype = _precision(network.parameters() if torch else network.get_parameters())
        self._side: NetworkSide = (
            TorchSide(network, self._dtype) if torch else MindSporeSide(network, dtype=self._dtype)
        )
        if layers and not (torch and truth):
            raise InputError("capture: layers=True is for a PyTorch network with its truth")
        self._copies = _Copies(network, self._dtype) if torch and truth else None
        self._layers = layers
        self._runs: list[dict[str, Any]] = []
        self._inside = False  # a call of the network itself

    @contextmanager
    def watching(self, folder: Path) -> Iterator[None]:
        """Write all runs into a folder."""
        self._folder = folder
        with self._side.watched(self._leave, self._enter):
            yield

    def _enter(self, path: str) -> None:
        """Begin a run where the network itself is called."""
        if path or self._inside:
            return
        if not self._runs:
            self._tensors = self._written()
        self._inside, self._place = True, self._folder / f"run{len(self._runs)}"
        self._keep, self._count = keeper(self._place / OWN)
        if self._copies:
            self._copies.follow()
        self._training = bool(self._network.training)

    def _leave(self, path: str, given: Tree, outputs: Any) -> None:
        """Write a call; after the network's own, run the copies."""
        if not self._inside:
            return
        self._keep(self._side.returned(path, given, outputs))
        if path:
            return
        roles = {OWN: self._count()}
        if self._copies:
            with _undisturbed():
                roles |= self._copies.run(given, self._place)
                if self._layers and not self._runs:
                    capture_layers(self._copies.reference, self._dtype, given, self._folder)
        self._runs.append({"training": self._training, "roles": roles})
        self._inside = False

    def _written(self) -> dict[str, Held]:
        """Write what the network holds; return the facts about it."""
        values = _values(self._framework, self._network)
        arrays = {name: self._side.array(value) for name, (value, _) in values.items()}
        write_weights(self._folder, arrays)
        return {
            name: Held(
                tuple(arrays[name].shape),
                arrays[name].dtype.name,
                tensor_sha256(arrays[name]),
                parameter,
                bool(parameter and value.requires_grad),
            )
            for name, (value, parameter) in values.items()
        }

    def finish(self) -> None:
        """Write what the network is. Raises InputError: it was not run."""
        if not self._runs:
            raise InputError("capture: the network was not called inside the context, or only inside a compiled graph")
        network = self._network
        if self._framework == "torch":
            described = describe(network)
            types, layer_types = described.types, described.layer_types
        else:
            layer_types = {path: type(layer).__name__ for path, layer in walk(network)}
            types = {path: (kind,) for path, kind in layer_types.items()}
        values = _values(self._framework, network)
        twins = twins_of({name: value for name, (value, _) in values.items()})
        name = type(network).__name__
        write_index(
            self._folder,
            Capture(self._framework, self._dtype, name, types, layer_types, self._tensors, twins, self._runs),
        )


class _Copies:
    """Copies of a PyTorch network, in float64 and in its own precision, that run what it has run."""

    def __init__(self, network: Any, dtype: str) -> None:
        self._network = network
        self._truth, self._reference = copied(network).double(), copied(network)
        sides = TorchSide(self._truth, "float64"), TorchSide(self._reference, dtype)
        self._pair = Pair(*sides, sides[1], {}, {}, {}, dtype)

    @property
    def reference(self) -> Any:
        """The copy in the network's own precision, as the network was before the last run."""
        return self._reference

    def follow(self) -> None:
        """Take over the network's tensors and modes as they are."""
        import torch

        own = _all_tensors(self._network)
        for copy in (self._truth, self._reference):
            with torch.no_grad():
                for name, value in _all_tensors(copy).items():
                    value.copy_(own[name])
            for layer, module in zip(copy.modules(), self._network.modules(), strict=True):
                layer.training = module.training

    def run(self, given: Tree, folder: Path) -> dict[str, int]:
        """Run what the network was given and write it; return role -> number of calls."""
        imprecise = frozenset({""} & self._pair.reference.imprecise(given))
        pair = Pair(*self._pair.sides, {}, {}, {}, self._pair.dtype, imprecise=imprecise)
        found: dict[str, int] = {}

        def into(role: str) -> Keep:
            """What writes the calls of a run."""
            keep, count = keeper(folder / role)

            def kept(call: LayerCall) -> None:
                """Write a call."""
                keep(call)
                found[role] = count()

            return kept

        truth = into(TRUTH)
        Runs().trace(pair.truth, given, lambda _, call: truth(call))
        for seed in range(1, NOISE_RUNS):
            keep = into(f"{NOISE}{seed}")
            visit = partial(_second, keep)
            pair.noisy("", seed, given, partial(Runs().trace, pair.reference, visit=visit, seed=seed))
        return found


def _second(keep: Keep, _: Any, call: LayerCall) -> None:
    keep(call)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Run PyTorch as it runs by itself, whatever the user's script has switched off or on around its call."""
    import torch

    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(CPU, enabled=False):
        yield


def framework_of(network: Any) -> str:
    """Return "torch" or "mindspore", without importing either. Raises InputError: it is no network of these."""
    modules = {"torch": "torch.nn.modules.module", "mindspore": "mindspore.nn.cell"}
    places = {kind.__module__ for kind in type(network).__mro__}
    found = [framework for framework, module in modules.items() if module in places]
    if not found:
        what = f"the class {network.__name__}" if isinstance(network, type) else f"a {type(network).__name__}"
        raise InputError(f"capture takes a torch.nn.Module or a mindspore.nn.Cell, not {what}")
    return found[0]


def _precision(parameters: Any) -> str:
    """Precision of the first floating parameter of a network."""
    kinds = (str(value.dtype).removeprefix("torch.").lower() for value in parameters)
    return next((kind for kind in kinds if "float" in kind), "float32")


def _all_tensors(module: Any) -> dict[str, Any]:
    return {name: value.detach() for name, value in (*module.named_parameters(), *module.named_buffers())}


def _values(framework: str, network: Any) -> Mapping[str, tuple[Any, bool]]:
    """Name -> tensor, and whether it is a parameter, of everything that is compared of a network."""
    if framework == "mindspore":
        buffers = {name: (own[key], False) for name, (own, key) in buffers_of(network)}
        return {**buffers, **{name: (value, True) for name, value in held(network)}}
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    return {name: (value, name in parameters) for name, value in network.state_dict(keep_vars=True).items()}
