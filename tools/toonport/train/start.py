"""What a run starts from: the weights of --init, and fresh ones for the networks that it lacks."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from operator import attrgetter
from typing import Any

from convert.conversion import load_networks, torch_arrays
from convert.errors import InputError
from convert.family import Part, Training, resolve
from convert.identify import Network, open_source
from convert.registry import family_named, part_named
from convert.tensors import Array
from parity_tests.harness.trainers import Frozen, TrainingStart
from toonport.train.config import RunConfig, network_kwargs, settings_of, trained_family
from toonport.train.moments import Kept, kept_moments


@dataclass(frozen=True)
class Start(TrainingStart):
    """What a run starts from."""

    fresh: tuple[str, ...] = ()  # parts whose weights are new, seeded ones
    kept: Kept = field(default_factory=Kept)  # Adam's moments that the file keeps beside the weights


def starting_point(config: RunConfig, pictures: Sequence[int]) -> Start:
    """Return the weights to start from: those of --init, and fresh ones made in PyTorch from the seed for the rest.

    A network that --init lacks is built like the given one of its kind (a generator like the other generator), with
    what --width and --network say; so one generator's checkpoint is enough to start from.

    Args:
        config: the run.
        pictures: how many there are of A and of B.

    Raises InputError: the checkpoint holds no network that is trained, or does not fit the run.
    """
    import torch

    family, training = trained_family(config.family)
    found = _given(config)
    fresh = tuple(name for name in training.parts if name not in found)
    kwargs = _arguments(config, found)
    weights: dict[str, Mapping[str, Array]] = {}
    torch.manual_seed(config.seed)
    for name in training.parts:
        if name in found:
            weights[name] = torch_arrays(found[name])
        else:
            network = resolve("torch_ref", part_named(family, name).class_name)(**kwargs[name])
            weights[name] = {key: value.numpy() for key, value in network.state_dict().items()}
    _check_pictures(config, kwargs)
    kept = kept_moments(open_source(config.init), found, training) if config.init else Kept()
    return Start(family, kwargs, weights, _settings(config, pictures), _frozen(config), fresh, kept)


def arguments_of(config: RunConfig) -> dict[str, Mapping[str, Any]]:
    """Return the constructor arguments of the networks that a run trains, by part; none of them is built.

    Raises InputError: the checkpoint of --init, or the size of the pictures, does not fit the run.
    """
    arguments = _arguments(config, _given(config))
    _check_pictures(config, arguments)
    return arguments


def as_fresh(config: RunConfig) -> RunConfig:
    """Return a run whose networks can be built for another side: fresh ones like those of --init that have one side.

    Raises InputError: the checkpoint of --init does not fit the run.
    """
    found = _given(config)
    if all(_fixed_side(config, network.kwargs) is None for network in found.values()):
        return config
    given = {name: value for network in found.values() for name, value in network.kwargs.items()}
    given.pop(trained_family(config.family)[1].side_argument or "", None)
    return replace(config, init=None, network=given)


def _arguments(config: RunConfig, found: Mapping[str, Network]) -> dict[str, Mapping[str, Any]]:
    family, training = trained_family(config.family)
    return {
        name: _fitting(config, name, found[name].kwargs)
        if name in found
        else network_kwargs(config, name, _like(found, part_named(family, name)))
        for name in training.parts
    }


def _check_pictures(config: RunConfig, kwargs: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse networks of other pictures than a run has: other channels, or another side."""
    family, training = trained_family(config.family)
    smallest = max(part_named(family, name).smallest(values) for name, values in kwargs.items())
    for name, values in kwargs.items():
        part = part_named(family, name)
        made = next((values[key] for key in ("output_nc", "out_channels") if key in values), 3)
        if part.channels(values) != part.input_shape[1] or made != 3:
            raise InputError(
                f"{name} takes pictures of {part.channels(values)} channels and makes {made}; training is on colour "
                "pictures, of 3"
            )
    multiple = _side_multiple(training, kwargs)
    if config.size < smallest or config.size % multiple:
        raise InputError(
            f"--size {config.size}: {family.name} trains on sides from {smallest} up that are multiples of {multiple}"
        )


def _side_multiple(training: Training, kwargs: Mapping[str, Mapping[str, Any]]) -> int:
    return max(training.multiple, *(training.own_multiple(values) for values in kwargs.values()))


def larger_side(config: RunConfig) -> int:
    """Return a side that the run's networks take, about a third larger than its own.

    Raises InputError: see `starting_point`.
    """
    _, training = trained_family(config.family)
    multiple = _side_multiple(training, starting_point(config, (1, 1)).kwargs)
    return config.size + max(config.size // 3 // multiple, 1) * multiple


def _given(config: RunConfig) -> dict[str, Network]:
    """The networks of --init that are trained, by part."""
    if not config.init:
        return {}
    family, training = trained_family(config.family)
    found = {network.part.name: network for network in load_networks(config.init, family.name)}
    kept = {name: found[name] for name in training.parts if name in found}
    if not kept:
        raise InputError(f"{config.init}: has {', '.join(found)}; training needs one of {', '.join(training.parts)}")
    if len(kept) == len(training.parts) and (config.width or config.network):
        raise InputError("--width and --network are for fresh weights; --init brings its own networks")
    return kept


def _like(found: Mapping[str, Network], part: Part) -> Mapping[str, Any]:
    """Constructor arguments of a given network of the same kind, or none."""
    kind = attrgetter("class_name", "input_shape", "kwargs")
    return next((network.kwargs for network in found.values() if kind(network.part) == kind(part)), {})


def _fitting(config: RunConfig, part: str, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    if (side := _fixed_side(config, kwargs)) not in (None, config.size):
        raise InputError(f"{config.init}: {part} is the full model for pictures of {side}; use that --size")
    return kwargs


def _fixed_side(config: RunConfig, kwargs: Mapping[str, Any]) -> int | None:
    """The only side of pictures that a given network is trained on; None where there are several."""
    family, training = trained_family(config.family)
    fixed = family.cartoonize and training.side_argument in kwargs
    return family.cartoonize.fixed_side(kwargs) if fixed and family.cartoonize else None


def _frozen(config: RunConfig) -> Frozen | None:
    frozen = trained_family(config.family)[1].frozen
    if config.frozen is None:
        return None
    if frozen is None:
        raise InputError(f"--frozen: {config.family} uses no frozen network")
    network = load_networks(config.frozen, frozen.family, frozen.part)[0]
    return part_named(family_named(frozen.family), frozen.part), network.kwargs, torch_arrays(network)


def _settings(config: RunConfig, pictures: Sequence[int]) -> dict[str, Any]:
    """The step's settings: the family's defaults, what follows from the run, what was given."""
    _, training = trained_family(config.family)
    known = {known.name for known in fields(training.settings)}
    whole = config.batch * config.data_parallel
    per_epoch = max(1, max(pictures) // whole)
    derived = {"seed": config.seed, "total_steps": config.steps, "batch_size": whole, "steps_per_epoch": per_epoch}
    if "total_steps" not in known:  # the length of such a schedule is counted in epochs
        epochs = -(-config.steps // per_epoch)
        derived |= {"constant_epochs": (epochs + 1) // 2, "decay_epochs": epochs // 2}
    derived = {name: value for name, value in derived.items() if name in known}
    return asdict(settings_of(training, {**training.defaults, **derived, **config.settings}))
