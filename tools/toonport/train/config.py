"""The configuration of a training run: defaults of the source system, a TOML file, flags; saved beside the results."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from convert.errors import InputError
from convert.files import atomic_path
from convert.registry import Family, Training, families, family_named, part_named, resolve

__all__ = ["CONFIG_FILE", "RunConfig", "network_kwargs", "read_config", "settings_of", "trained_family", "write_config"]

CONFIG_FILE = "config.toml"  # beside a run's results

# What may be given anew when a run is resumed: nothing of it changes a number.
FREE_ON_RESUME = frozenset(
    {"data", "out", "device", "until", "save_every", "log_every", "sheet_every", "keep", "workers", "tensorboard"}
)
WIDTHS = ("ngf", "ndf", "conv_dim", "channel")


@dataclass(frozen=True)
class RunConfig:
    """What a run does; the field names are those of the TOML file and, with dashes, of the flags.

    Attributes:
        family: what is trained.
        data: folder with trainA, trainB and, for the sheets, testA and testB.
        out: folder of the run.
        framework: "mindspore" or "torch".
        device: "cpu", "gpu" or "ascend" ("gpu" is CUDA).
        init: checkpoint to start from, or None for fresh weights.
        frozen: weights of the network that the step uses without training it (Face-ID, VGG).
        size: side of the training pictures.
        margin: pictures are enlarged to size + margin before a random crop.
        flip: mirror half of the pictures.
        batch: pictures of each domain in a step (of one process).
        width: channels of the first layers of generators and discriminators.
        network: other constructor arguments of the networks.
        settings: attributes of the family's step settings that differ from its defaults.
        steps: length of the whole training; the learning rate's schedule follows it.
        until: stop, saved, after this step.
        seed: of fresh weights, data order, augmentation and the step's own draws.
        save_every, log_every, sheet_every: steps between checkpoints, log lines and sample sheets; 0 for never.
        keep: how many checkpoints to keep beside the best.
        best_by: loss term whose mean between two checkpoints decides which is best.
        workers: threads that read pictures.
        accumulate: pieces in which a batch is worked through.
        precision: "float32" or, on GPU and Ascend, "float16".
        loss_scale: factor for half precision, or "dynamic".
        compiled: run MindSpore's steps as graphs.
        tensorboard: write event files.
        data_parallel: processes that train together.
        adaptive_structure: White-box's structure term: regions joined by colour instead of plain superpixels.
    """

    family: str
    data: str
    out: str
    framework: str = "mindspore"
    device: str = "cpu"
    init: str | None = None
    frozen: str | None = None
    size: int = 0
    margin: int = 30
    flip: bool = True
    batch: int = 1
    width: int | None = None
    network: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 0
    until: int | None = None
    seed: int = 0
    save_every: int = 1000
    log_every: int = 10
    sheet_every: int = 1000
    keep: int = 3
    best_by: str = "G.total"
    workers: int = 2
    accumulate: int = 1
    precision: str = "float32"
    loss_scale: str = "1"
    compiled: bool = True
    tensorboard: bool = True
    data_parallel: int = 1
    adaptive_structure: bool = False

    @property
    def last_step(self) -> int:
        """The step after which this process stops."""
        return min(self.steps, self.until or self.steps)

    def checked(self) -> RunConfig:
        """Return the configuration with the family's own values where none was given.

        Raises:
            InputError: a value that cannot be.
        """
        family, training = trained_family(self.family)
        if self.framework not in ("mindspore", "torch"):
            raise InputError(f"--framework {self.framework}: use mindspore or torch")
        for name in ("batch", "accumulate", "data_parallel", "keep"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least 1")
        if self.batch % self.accumulate:
            raise InputError(f"--batch {self.batch}: must be a multiple of --accumulate {self.accumulate}")
        if self.device == "cpu" and (self.precision != "float32" or self.loss_scale != "1"):
            raise InputError("half precision and loss scaling need --device gpu or ascend; the CPU trains in float32")
        if self.loss_scale != "dynamic" and not _positive(self.loss_scale):
            raise InputError(f"--loss-scale {self.loss_scale}: use a positive number or dynamic")
        if self.data_parallel > 1 and self.framework != "mindspore":
            raise InputError("--parallel trains with MindSpore; leave out --framework torch")
        settings = settings_of(training, {**training.defaults, **self.settings})
        if self.adaptive_structure and not hasattr(settings, "structure"):
            raise InputError(f"--adaptive-structure: {self.family} has no structure term; whitebox has one")
        total = settings.total_steps
        size = self.size or part_named(family, training.parts[0]).input_shape[-1]
        return replace(self, size=size, steps=self.steps or total)


def _positive(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False


def trained_family(name: str) -> tuple[Family, Training]:
    """Return a family and how it is trained.

    Raises:
        InputError: unknown, or not trained; lists those that are.
    """
    family = family_named(name)
    if family.training is None:
        known = ", ".join(one.name for one in families() if one.training)
        raise InputError(f"{name} is not trained by itself; families that are: {known}")
    return family, family.training


def settings_of(training: Training, values: Mapping[str, Any], package: str = "torch_ref") -> Any:
    """Return the step settings of a family with some values changed; texts are converted to the default's type.

    Raises:
        InputError: an unknown name (lists the known ones), or a value of another type or of no known kind.
    """
    made = resolve(package, training.settings)
    known = {one.name: one.default for one in fields(made)}
    values = _without_synonyms(training, values)
    unknown = [name for name in values if name not in known]
    if unknown:
        raise InputError(f"unknown setting {', '.join(unknown)}; this family's settings: {', '.join(known)}")
    try:
        return made(**{name: _converted(name, value, known[name]) for name, value in values.items()})
    except ValueError as error:
        raise InputError(f"settings: {error}") from error


def _without_synonyms(training: Training, values: Mapping[str, Any]) -> dict[str, Any]:
    for name in values:
        if training.synonyms.get(name) in values:
            raise InputError(f"setting {name} is another name of {training.synonyms[name]}; give one of them")
    return {training.synonyms.get(name, name): value for name, value in values.items()}


def _converted(name: str, value: Any, default: Any) -> Any:
    if isinstance(value, str) and not isinstance(default, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise InputError(f"setting {name}={value}: should be like {json.dumps(default)}") from None
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if default is not None and type(value) is not type(default):
        raise InputError(f"setting {name}={json.dumps(value)}: should be like {json.dumps(default)}")
    return value


def network_kwargs(config: RunConfig, part_name: str, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the constructor arguments of a part: the released ones, or `like`, with the configuration's changes."""
    family, training = trained_family(config.family)
    part = part_named(family, part_name)
    base = like or part.kwargs
    changes: dict[str, Any] = {"img_size": config.size}
    if config.width:
        changes |= dict.fromkeys(WIDTHS, config.width)
    known = {name for one in training.parts for name in part_named(family, one).kwargs}
    unknown = [name for name in config.network if name not in known]
    if unknown:
        raise InputError(f"unknown network argument {', '.join(unknown)}; {family.name} has {', '.join(sorted(known))}")
    if "architecture" in config.network:
        raise InputError("--network architecture: fresh networks have the released one; start from a file with --init")
    if config.width and not known & set(WIDTHS):
        raise InputError(f"--width: the networks of {family.name} have no width to set")
    changes |= config.network
    return {name: _network_value(name, changes.get(name, value), value) for name, value in base.items()}


def _network_value(name: str, value: Any, default: Any) -> Any:
    return _converted(name, value, default)


def read_config(path: Path) -> dict[str, Any]:
    """Read a TOML file with fields of `RunConfig`.

    Raises:
        InputError: not readable, not TOML, or with unknown names.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a TOML file ({error})") from error
    known = {one.name for one in fields(RunConfig)}
    unknown = [name for name in content if name not in known]
    if unknown:
        raise InputError(f"{path}: unknown names {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    return content


def write_config(config: RunConfig, path: Path) -> None:
    """Write a configuration as TOML, so that `read_config` gives it back."""
    lines, tables = [], []
    for one in fields(config):
        value = getattr(config, one.name)
        if isinstance(value, Mapping):
            rows = [f"{name} = {json.dumps(inner)}" for name, inner in value.items()]
            tables.append("\n".join([f"\n[{one.name}]", *rows]))
        elif value is not None:
            lines.append(f"{one.name} = {json.dumps(value)}")
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join([*lines, *tables]) + "\n")


def resumed_config(saved: RunConfig, given: Mapping[str, Any]) -> RunConfig:
    """Return the saved configuration of a run with what may be given anew; --until holds for one process only.

    Raises:
        InputError: lists what is given otherwise than it was and would change the numbers.
    """
    changed = [name for name, value in given.items() if name not in FREE_ON_RESUME and value != getattr(saved, name)]
    if changed:
        texts = [f"{name} was {getattr(saved, name)!r}, now {given[name]!r}" for name in changed]
        raise InputError(f"{saved.out}: a resumed run keeps its configuration: {'; '.join(texts)}")
    free = {name: value for name, value in given.items() if name in FREE_ON_RESUME}
    return replace(saved, **{"until": None, **free})
