"""Both frameworks' training steps behind one interface; weights and moments go in and out as numpy arrays.

Everything is named as in PyTorch, so the state of a run does not depend on the framework that trained it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convert.conversion import load_networks, torch_arrays
from convert.errors import InputError
from convert.family import Part, resolve
from convert.identify import Network
from convert.plan import Plan, build_plan
from convert.registry import family_named, part_named
from convert.tensors import Array
from ms_models.environment import choose_device
from parity_tests.harness.sides.base import LayerCall, Side
from toonport.train.config import RunConfig, network_kwargs, settings_of, trained_family

__all__ = ["Engine", "Moments", "Start", "make_engine", "starting_point"]

Moments = dict[tuple[str, str, str], Array]  # (kind, part, PyTorch name); kind is exp_avg or exp_avg_sq


@dataclass(frozen=True)
class Start:
    """What a run starts from.

    Attributes:
        kwargs, weights: constructor arguments and weights (PyTorch names) by part.
        frozen: the network used without training it, its constructor arguments and weights.
        settings: of the step.
        fresh: parts whose weights are new, seeded ones.
    """

    kwargs: Mapping[str, Mapping[str, Any]]
    weights: Mapping[str, Mapping[str, Array]]
    frozen: tuple[Part, Mapping[str, Any], Mapping[str, Array]] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()


def starting_point(config: RunConfig, pictures: Sequence[int]) -> Start:
    """Return the weights to start from: those of --init, and fresh ones made in PyTorch from the seed for the rest.

    A network that --init lacks is built like the given one of its kind (a generator like the other generator), with
    what --width and --network say; so one generator's checkpoint is enough to start from.

    Args:
        config: the run.
        pictures: how many there are of A and of B.

    Raises:
        InputError: the checkpoint holds no network that is trained, or does not fit the run.
    """
    import torch

    family, training = trained_family(config.family)
    found = _given(config)
    fresh = tuple(name for name in training.parts if name not in found)
    kwargs: dict[str, Mapping[str, Any]] = {}
    weights: dict[str, Mapping[str, Array]] = {}
    torch.manual_seed(config.seed)
    for name in training.parts:
        if name in found:
            kwargs[name], weights[name] = _fitting(config, name, found[name].kwargs), torch_arrays(found[name])
        else:
            kwargs[name] = network_kwargs(config, name, _like(found, part_named(family, name)))
            network = resolve("torch_ref", part_named(family, name).class_name)(**kwargs[name])
            weights[name] = {key: value.numpy() for key, value in network.state_dict().items()}
    _check_size(config, kwargs)
    return Start(kwargs, weights, _frozen(config), _settings(config, pictures), fresh)


def _check_size(config: RunConfig, kwargs: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a side of pictures that a network of the run cannot take."""
    family, training = trained_family(config.family)
    smallest = max(part_named(family, name).smallest(values) for name, values in kwargs.items())
    levels = max(int(values.get("num_downs", 0)) for values in kwargs.values())  # of a U-Net
    multiple = max(training.multiple, 2**levels)
    if config.size < smallest or config.size % multiple:
        raise InputError(
            f"--size {config.size}: {family.name} trains on sides from {smallest} up that are multiples of {multiple}"
        )


def _given(config: RunConfig) -> dict[str, Network]:
    """The networks of --init that are trained, by part."""
    if not config.init:
        return {}
    family, training = trained_family(config.family)
    found = {one.part.name: one for one in load_networks(config.init, family.name)}
    kept = {name: found[name] for name in training.parts if name in found}
    if not kept:
        raise InputError(f"{config.init}: has {', '.join(found)}; training needs one of {', '.join(training.parts)}")
    if len(kept) == len(training.parts) and (config.width or config.network):
        raise InputError("--width and --network are for fresh weights; --init brings its own networks")
    return kept


def _like(found: Mapping[str, Network], part: Part) -> Mapping[str, Any]:
    """Constructor arguments of a given network of the same kind, or none."""
    return next((one.kwargs for one in found.values() if _kind(one.part) == _kind(part)), {})


def _kind(part: Part) -> tuple[str, tuple[int, ...], tuple[tuple[str, Any], ...]]:
    return part.class_name, part.input_shape, tuple(part.kwargs.items())


def _fitting(config: RunConfig, part: str, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    if kwargs.get("light") is False and kwargs.get("img_size") != config.size:
        raise InputError(
            f"{config.init}: {part} is the full model for pictures of {kwargs['img_size']}; use that --size"
        )
    return kwargs


def _frozen(config: RunConfig) -> tuple[Part, Mapping[str, Any], Mapping[str, Array]] | None:
    frozen = trained_family(config.family)[1].frozen
    if frozen is None:
        if config.frozen:
            raise InputError(f"--frozen: {config.family} uses no frozen network")
        return None
    if config.frozen is None:
        return None
    network = load_networks(config.frozen, frozen.family, frozen.part)[0]
    return part_named(family_named(frozen.family), frozen.part), network.kwargs, torch_arrays(network)


def _settings(config: RunConfig, pictures: Sequence[int]) -> dict[str, Any]:
    """The step's settings: the family's defaults, what follows from the run, what was given."""
    _, training = trained_family(config.family)
    known = resolve("torch_ref", training.settings).__dataclass_fields__
    whole = config.batch * config.data_parallel
    per_epoch = max(1, max(pictures) // whole)
    derived = {"seed": config.seed, "total_steps": config.steps, "batch_size": whole, "steps_per_epoch": per_epoch}
    if "total_steps" not in known:  # the length of such a schedule is counted in epochs
        epochs = -(-config.steps // per_epoch)
        derived |= {"constant_epochs": (epochs + 1) // 2, "decay_epochs": epochs // 2}
    return {**training.defaults, **{name: value for name, value in derived.items() if name in known}, **config.settings}


class Engine(ABC):
    """The networks, the step and the optimisers of a run in one framework.

    Args:
        config: the run.
        start: what to start from.
    """

    package: str

    def __init__(self, config: RunConfig, start: Start) -> None:
        self.config, self.start = config, start
        self.family, self.training = trained_family(config.family)
        self.parts = {name: part_named(self.family, name) for name in self.training.parts}
        self.networks = {
            name: self._build(self.parts[name], start.kwargs[name], start.weights[name]) for name in self.parts
        }
        frozen = self._build(*start.frozen) if start.frozen else None
        settings = settings_of(self.training, start.settings, self.package)
        try:
            self.step = resolve(self.package, self.training.step)(self.networks, settings, frozen)
        except ValueError as error:
            missing = self.training.frozen if not start.frozen else None
            advice = f"; --frozen FILE gives the weights of {missing.family}" if missing else ""
            raise InputError(f"{self.family.name}: {error}{advice}") from error
        self._give_picture_functions()
        self._execute()

    @property
    def bgr(self) -> bool:
        """Whether the networks take and give pictures as blue, green, red."""
        return getattr(self.step.settings, "colours", "rgb") == "bgr"

    def _give_picture_functions(self) -> None:
        """White-box's step asks for functions on numpy pictures, which need packages the networks do without."""
        if not hasattr(self.step, "superpixels"):
            return
        from toonport.train.superpixels import adaptive_structure, slic_structure

        self.step.superpixels = adaptive_structure if self.config.adaptive_structure else slic_structure
        if self.step.settings.landmark > 0:
            from toonport.train.landmark_windows import LandmarkWindows

            self.step.landmarks = LandmarkWindows()

    def plan(self, part: str) -> Plan:
        """Naming plan of a part."""
        return build_plan(self.parts[part], self.start.kwargs[part])

    def train(self, real_a: Array, real_b: Array) -> dict[str, float]:
        """Train one batch, [N, 3, H, W] in [-1, 1]; returns every loss term.

        Raises:
            FloatingPointError: a loss term or a gradient is not finite.
        """
        if self.bgr:
            real_a, real_b = (np.ascontiguousarray(one[:, ::-1]) for one in (real_a, real_b))
        terms: dict[str, float] = self.step(self._tensor(real_a), self._tensor(real_b))
        bad = [f"{name} is {value:g}" for name, value in terms.items() if not np.isfinite(value)]
        if bad:
            raise FloatingPointError(f"loss term {', '.join(bad)}")
        return terms

    def _execution(self, known: Mapping[str, Any]) -> Any:
        """Options of the step's Descent; InputError when the family's step has none and some are asked for."""
        config = self.config
        dynamic = config.loss_scale == "dynamic"
        options = {
            "accumulate": config.accumulate,
            "loss_scale": 2.0**16 if dynamic else float(config.loss_scale),
            "dynamic_scale": dynamic,
            "watch": True,
            **known,
        }
        if hasattr(self.step, "descent"):
            return resolve(self.package, "descent.Execution")(**options)
        if config.accumulate > 1 or config.loss_scale != "1" or config.data_parallel > 1:
            raise InputError(f"{self.family.name}: its step has no accumulation, loss scale or data parallel")
        return None

    def translators(self) -> list[tuple[str, ...]]:
        """Chains of parts that turn pictures of A into B and, where there is one, of B into A."""
        parts = [self.parts[name] for name in self.training.phases.get("G", ())]
        chains: list[tuple[str, ...]] = []
        for part in parts:
            if chains and part.input_shape[2:] != parts[0].input_shape[2:]:
                chains[-1] = (*chains[-1], part.name)
            else:
                chains.append((part.name,))
        return chains

    def bad_layer(self, pictures: Array) -> str:
        """Name the first weight, gradient or layer output of any network that is not finite, else say so."""
        for part in self.parts:
            for name, value in self.weights(part).items():
                if value.dtype.kind == "f" and not np.isfinite(value).all():
                    return f"first weight that is not finite: {part}.{name}"
        for part in self.parts:
            found: list[str] = []

            def visit(call: LayerCall, part: str = part, found: list[str] = found) -> None:
                if not all(np.isfinite(one).all() for one in call.outputs):
                    found.append(f"{part}.{call.layer}".rstrip("."))

            if self.parts[part].input_shape[1:2] == pictures.shape[1:2]:
                side = self.side(part)
                with side.preserved():
                    side.trace([pictures], visit)
                if found:
                    return f"first layer whose output is not finite: {found[0]}"
        return self._bad_gradient() or "every weight and every layer's output for these pictures is finite"

    def _bad_gradient(self) -> str:
        return ""

    @abstractmethod
    def _build(self, part: Part, kwargs: Mapping[str, Any], weights: Mapping[str, Array]) -> Any:
        """Build a network with weights by PyTorch name."""

    @abstractmethod
    def _execute(self) -> None:
        """Apply precision, compilation, accumulation."""

    @abstractmethod
    def _tensor(self, array: Array) -> Any:
        """A picture batch as the framework's tensor on the run's device."""

    @abstractmethod
    def side(self, part: str) -> Side:
        """A network behind the harness's interface."""

    @abstractmethod
    def weights(self, part: str) -> dict[str, Array]:
        """Copies of a network's whole state, by PyTorch name."""

    @abstractmethod
    def moments(self) -> Moments:
        """Copies of both Adam moments of each trained parameter."""

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """Updates that each phase's optimiser has made."""

    @abstractmethod
    def restore(self, moments: Mapping[tuple[str, str, str], Array], counts: Mapping[str, int]) -> None:
        """Put back what `moments` and `counts` returned."""

    def generate(self, chain: Sequence[str], pictures: Array) -> tuple[Array, ...]:
        """Run parts one after the other in eval mode, without moving any state, on RGB pictures [N, 3, H, W].

        Returns:
            The outputs of the last part; the first is a picture batch in RGB, finished as `toonport cartoonize` does.
        """
        turned = np.ascontiguousarray(pictures[:, ::-1]) if self.bgr else pictures
        first, *others = self._generate(chain, turned)
        first = self._finished(chain, turned, first)
        return (first[:, ::-1] if self.bgr else first, *others)

    def _finished(self, chain: Sequence[str], pictures: Array, drawn: Array) -> Array:
        """What the family does to the pictures of its cartoonizing generator, such as White-box's guided filter."""
        how = self.family.cartoonize
        if how is None or how.after is None or how.part not in chain:
            return drawn
        import torch

        with torch.no_grad():
            finish = resolve("torch_ref", how.after)
            return np.asarray(finish(torch.from_numpy(pictures.copy()), torch.from_numpy(drawn.copy())).numpy())

    @abstractmethod
    def _generate(self, chain: Sequence[str], pictures: Array) -> tuple[Array, ...]:
        """Run parts one after the other on pictures in the networks' own order of colours."""


def make_engine(config: RunConfig, start: Start) -> Engine:
    """Return the engine of the configured framework and device.

    Raises:
        InputError: the device is not usable here.
    """
    if config.framework == "torch":
        from toonport.train.engine_torch import TorchEngine

        return TorchEngine(config, start)
    import mindspore

    from toonport.train.engine_mindspore import MindSporeEngine

    choose_device(config.device)
    mindspore.set_seed(config.seed)
    return MindSporeEngine(config, start)
