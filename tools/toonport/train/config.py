"""The configuration of a training run: defaults of the source system, a TOML file, flags; saved beside the results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import tomli_w

from convert.devices import CPU, DEVICES
from convert.disk import atomic_path, read_toml
from convert.errors import InputError
from convert.family import Family, Training
from convert.registry import families, family_named, part_named

CONFIG_FILE = "config.toml"  # beside a run's results


def option(default: Any, help: str, **facts: Any) -> Any:
    """Return a field of `RunConfig` that `toonport train` makes a flag of.

    Args:
        default: its value when nothing is given; a type stands for an empty value of it.
        help: what the flag's help says.
        facts: "flag", its name where that is not the field's; "shown", the default in words, where the value does not
            tell it; "choices", "metavar", as for argparse; "at_least", the smallest value; "free", True where it may
            be given anew when a run is resumed, because nothing of it changes a number.
    """
    kind = "default_factory" if isinstance(default, type) else "default"
    return field(**{kind: default}, metadata={"help": help, **facts})


@dataclass(frozen=True)
class RunConfig:
    """What a run does; the field names are those of the TOML file and, with dashes, of the flags if not said otherwise.

    Sizes are in pixels, lengths in steps; the help texts say what each field is.
    """

    family: str
    data: str = field(metadata={"help": "folder with trainA and trainB", "metavar": "DIR", "free": True})
    out: str = field(metadata={"help": "folder of the run", "shown": "runs/FAMILY", "metavar": "DIR", "free": True})
    init: str | None = option(
        None,
        "checkpoint of any format, or the folder of a run, to start from; networks that it lacks get fresh weights; "
        "{part} in the name stands for one file each, e.g. cyclegan_{part}.ckpt",
        shown="all fresh",
        metavar="FILE",
    )
    frozen: str | None = option(None, "weights of the network used without training it (Face-ID, VGG)", metavar="FILE")
    framework: str = option("mindspore", "what trains", choices=("mindspore", "torch"))
    device: str = option(CPU, "where; gpu is CUDA", choices=DEVICES, free=True)
    steps: int = option(
        0,
        "length of the training; the learning rate falls over its second half (White-box: --set decay=true); with "
        "--resume a larger number makes the run longer",
        shown="as in the source",
    )
    until: int | None = option(None, "stop, saved, after this step", metavar="STEP", free=True)
    size: int = option(0, "side of the training pictures", shown="as released")
    margin: int = option(30, "enlarge to size + this before the random crop")
    flip: bool = option(True, "never mirror; otherwise half of the pictures are", flag="--no-flip")
    as_reference: bool = option(
        False,
        "read pictures as torchvision does: no EXIF data, no profiles, transparent pixels show their hidden colour",
        flag="--reference-exact",
    )
    batch: int = option(1, "pictures of each domain in a step, of one process", at_least=1)
    width: int | None = option(None, "channels of the first layers", shown="as released")
    network: Mapping[str, Any] = option(dict, "another constructor argument, e.g. light=false")
    seed: int = option(0, "of fresh weights, data order, augmentation and the step's own draws")
    save_every: int = option(1000, "steps between checkpoints, 0 for never", metavar="STEPS", free=True)
    log_every: int = option(10, "steps between log lines, 0 for never", metavar="STEPS", free=True)
    sheet_every: int = option(1000, "steps between sample sheets, 0 for never", metavar="STEPS", free=True)
    keep: int = option(3, "keep the newest N checkpoints and the best", metavar="N", at_least=1, free=True)
    best_by: str = option("G.total", "loss term whose mean since the last checkpoint tells the best", metavar="TERM")
    workers: int = option(2, "threads that read pictures", free=True)
    tensorboard: bool = option(True, "no event files", flag="--no-tensorboard", free=True)
    settings: Mapping[str, Any] = option(dict, "any other setting of the family", flag="--set")
    accumulate: int = option(1, "work through each batch in N pieces", metavar="N", at_least=1)
    precision: str = option("float32", "float16 on GPU and Ascend only", choices=("float32", "float16"))
    loss_scale: str = option("1", "for float16", metavar="N|dynamic")
    compiled: bool = option(True, "run MindSpore operation by operation, not as graphs", flag="--no-jit")
    data_parallel: int = option(1, "train in N processes (msrun, torchrun)", flag="--parallel", metavar="N", at_least=1)

    @property
    def last_step(self) -> int:
        """The step after which this process stops."""
        return min(self.steps, self.until or self.steps)

    def checked(self) -> RunConfig:
        """Return the configuration with the family's own values where none was given.

        Raises InputError: a value that cannot be.
        """
        family, training = trained_family(self.family)
        settings = settings_of(training, {**training.defaults, **self.settings})
        _check_fields(self)
        _check_arithmetic(self)
        size = self.size or part_named(family, training.parts[0]).input_shape[-1]
        lengths = [known.metadata["steps"] for known in switches(training) if getattr(settings, known.name)]
        steps = next(filter(None, lengths), settings.total_steps)
        return replace(self, size=size, steps=self.steps or steps)


def switches(training: Training) -> list[Field[Any]]:
    """The settings of a family that have a flag which switches them on."""
    return [known for known in fields(training.settings) if "help" in known.metadata]


def flag_of(known: Field[Any]) -> str:
    """The flag that gives a field of `RunConfig`, or a setting."""
    return str(known.metadata.get("flag", "--" + known.name.replace("_", "-")))


def _check_fields(config: RunConfig) -> None:
    """Refuse values that a field's own facts exclude."""
    for known in fields(config):
        value, facts, flag = getattr(config, known.name), known.metadata, flag_of(known)
        if "choices" in facts and value not in facts["choices"]:
            raise InputError(f"{flag} {value}: use {' or '.join(facts['choices'])}")
        if "at_least" in facts and value < facts["at_least"]:
            raise InputError(f"{flag} {value}: must be at least {facts['at_least']}")


def _check_arithmetic(config: RunConfig) -> None:
    if config.batch % config.accumulate:
        raise InputError(f"--batch {config.batch}: must be a multiple of --accumulate {config.accumulate}")
    if config.device == CPU and (config.precision != "float32" or config.loss_scale != "1"):
        raise InputError("half precision and loss scaling need --device gpu or ascend; the CPU trains in float32")
    try:
        positive = config.loss_scale == "dynamic" or float(config.loss_scale) > 0
    except ValueError:
        positive = False
    if not positive:
        raise InputError(f"--loss-scale {config.loss_scale}: use a positive number or dynamic")


def trained_family(name: str) -> tuple[Family, Training]:
    """Return a family and how it is trained. Raises InputError: unknown, or not trained; lists those that are."""
    family = family_named(name)
    if family.training is None:
        known = ", ".join(other.name for other in families() if other.training)
        raise InputError(f"{name} is not trained by itself; families that are: {known}")
    return family, family.training


def settings_of(training: Training, values: Mapping[str, Any]) -> Any:
    """Return the step settings of a family with some values changed; texts are converted to the default's type.

    Raises InputError: an unknown name (lists the known ones), or a value of another type or of no known kind.
    """
    made = training.settings
    known = {setting.name: setting.default for setting in fields(made)}
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
    changes: dict[str, Any] = {training.side_argument or "": config.size}
    if config.width:
        changes |= dict.fromkeys(training.widths, config.width)
    known = {name for trained in training.parts for name in part_named(family, trained).kwargs}
    unknown = [name for name in config.network if name not in known]
    if unknown:
        raise InputError(f"unknown network argument {', '.join(unknown)}; {family.name} has {', '.join(sorted(known))}")
    if "architecture" in config.network:
        raise InputError("--network architecture: fresh networks have the released one; start from a file with --init")
    if config.width and not known & set(training.widths):
        raise InputError(f"--width: the networks of {family.name} have no width to set")
    changes |= config.network
    return {name: _converted(name, changes.get(name, value), value) for name, value in base.items()}


def read_config(path: Path) -> dict[str, Any]:
    """Read a TOML file with fields of `RunConfig`. Raises InputError: not readable, not TOML, or with unknown names."""
    content = read_toml(path)
    if content.pop("adaptive_structure", False):  # of runs that began when it was no setting yet
        content["settings"] = {**content.get("settings", {}), "adaptive_structure": True}
    known = {known.name for known in fields(RunConfig)}
    unknown = [name for name in content if name not in known]
    if unknown:
        raise InputError(f"{path}: unknown names {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    return content


def write_config(config: RunConfig, path: Path) -> None:
    """Write a configuration as TOML, so that `read_config` gives it back; what is None is left out."""
    content = {name: value for name, value in asdict(config).items() if value is not None}
    with atomic_path(path) as temporary:
        temporary.write_bytes(tomli_w.dumps(content).encode())


def resumed_config(saved: RunConfig, given: Mapping[str, Any]) -> RunConfig:
    """Return the saved configuration of a run with what may be given anew; --until holds for one process only.

    More steps than before make a run longer: its learning rate goes on as in a run of that length.

    Raises InputError: lists what is given otherwise than it was and would change the numbers.
    """
    may_change = {known.name for known in fields(RunConfig) if known.metadata.get("free")}
    if given.get("steps", 0) > saved.steps:
        may_change.add("steps")
    before = asdict(saved)
    whole = {name: {**before[name], **value} if isinstance(value, dict) else value for name, value in given.items()}
    changed = [name for name, value in whole.items() if name not in may_change and value != before[name]]
    if changed:
        texts = [f"{name} was {before[name]!r}, now {given[name]!r}" for name in changed]
        advice = "; only more --steps make it longer" if "steps" in changed else ""
        raise InputError(f"{saved.out}: a resumed run keeps its configuration: {'; '.join(texts)}{advice}")
    free = {name: value for name, value in given.items() if name in may_change}
    return replace(saved, **{"until": None, **free})
