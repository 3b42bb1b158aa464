"""toonport train: train a family in MindSpore (or PyTorch), resume it, measure it."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from inspect import getdoc
from pathlib import Path
from typing import Any, get_args, get_type_hints

from convert.errors import InputError
from convert.registry import families
from toonport.commands.options import Subparsers, add_command, add_option
from toonport.commands.ui import out, print_json, print_table, spinner
from toonport.exit_codes import ExitCode
from toonport.train.config import CONFIG_FILE, RunConfig, flag_of, read_config, settings_of, switches, trained_family
from toonport.train.parallel import ALONE, WORKER_FLAG, Workers, joined, start_workers

EPILOG = """examples:
  toonport train photo2cartoon --data photos --init photo2cartoon_weights.pt --frozen mobilefacenet.pth --out run
  toonport train photo2cartoon --data photos --out run --resume        go on after whatever stopped it
  toonport train photo2cartoon --out run --resume --steps 400000       go on beyond the end of a finished run
  toonport train ugatit --data selfies --out run --cycle 20 --set rho_limit=0.9
  toonport train ugatit --settings                                    every setting with its default
  toonport train cyclegan --data photos --init G_A.pth --size 128      one network given, the others fresh
  toonport train whitebox --pretrain --data photos --out pre           White-box's first stage, without VGG19
  toonport train whitebox --init pre --frozen vgg19.pth --data photos --out run --set w0=1e4 --set w1=0.1
  toonport cartoonize me.jpg --weights run/checkpoints/step_0100000/weights.ckpt --family whitebox --out cartoon.png
  toonport train photo2cartoon --width 8 --size 96 --dry-run           parameters, memory, time per step
  toonport train photo2cartoon --width 8 --size 96 --bench             MindSpore against PyTorch
The data folder holds trainA, trainB and, for the sample sheets, testA and testB. The run's folder gets config.toml,
metrics.jsonl, losses.png, sheets/, tensorboard/ and checkpoints/; `latest` names the newest. SIGTERM or Ctrl-C ends a
run after the step in hand, saved, with exit code 130. White-box's weights w0 to w4 are variation, surface, texture,
content and structure; --set landmark=1000 adds the landmark term (dlib finds the faces)."""
NUMBERS = {
    "lr": "learning rate at the start",
    "beta1": "Adam's decay of the mean of gradients",
    "beta2": "Adam's decay of the mean of their squares",
    "weight_decay": "Adam's pull of the weights towards 0",
    "adversarial": "weight of the adversarial loss",
    "cycle": "weight of the cycle loss",
    "identity": "weight of the identity loss",
    "cam": "weight of the loss of the class activation maps",
    "face_id": "weight of the Face-ID loss",
    "rho_limit": "upper limit of rho in LIN and AdaLIN",
    "soft_limit": "upper limit of the soft weights in Soft-AdaLIN",
}
SWITCHES = {known.name: known for family in families() if family.training for known in switches(family.training)}
DEFAULT_PORT = 8118


def add_parser(subparsers: Subparsers) -> None:
    """Register the subcommand."""
    parser = add_command(subparsers, "train", run, "train a family in MindSpore or PyTorch", EPILOG)
    add_option(parser, "FAMILY")
    add = parser.add_argument
    add("--resume", action="store_true", help="continue the run in --out")
    add("--config", metavar="FILE", help="TOML file; flags win over it")
    _add_config_flags(parser)
    for name, what in NUMBERS.items():
        defaults = ", ".join(f"{family} {value:g}" for family, value in _holders(name).items())
        add(f"--{name.replace('_', '-')}", type=float, help=f"{what} (default: {defaults})")
    for known in SWITCHES.values():
        add(flag_of(known), action="store_true", default=None, help=known.metadata["help"])
    add("--settings", action="store_true", dest="list_settings", help="list the family's settings and stop")
    add("--dry-run", action="store_true", help="print parameters, memory and time per step, and stop")
    add("--bench", action="store_true", help="time MindSpore against PyTorch, and stop")
    add("--beside", metavar="RUN", help="draw the losses of --out beside those of another run, and stop")
    add(WORKER_FLAG, action="store_true", dest="worker", help=argparse.SUPPRESS)
    add("--port", type=int, default=DEFAULT_PORT, help="port at which the processes of --parallel meet")


def _holders(name: str) -> dict[str, Any]:
    """The families that have a setting, and its default in each."""
    return {
        family.name: family.training.defaults.get(name, setting.default)
        for family in families()
        if family.training
        for setting in fields(family.training.settings)
        if setting.name == name
    }


def _add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every field of `RunConfig` that tells its help; None stands for "not given"."""
    kinds = get_type_hints(RunConfig)
    for known in fields(RunConfig):
        facts, kind = known.metadata, kinds[known.name]
        if "help" not in facts:
            continue
        more: dict[str, Any] = {name: facts[name] for name in ("choices", "metavar") if name in facts}
        shown = facts.get("shown", known.default)
        if kind is bool:
            more["action"], shown = "store_false" if known.default else "store_true", None
        elif known.default_factory is dict:
            more |= {"action": "append", "metavar": "NAME=VALUE"}
        else:
            more["type"] = int if int in (kind, *get_args(kind)) else str
        text = facts["help"] + (f" (default: {shown})" if shown not in (None, MISSING) else "")
        parser.add_argument(flag_of(known), dest=known.name, default=None, help=text, **more)


def run(args: argparse.Namespace) -> int:
    """Do what the flags say; 0 when the run reached its end, 130 when a signal stopped it."""
    trained_family(args.family)
    if args.list_settings:
        return _list_settings(args)
    if args.beside:
        return _beside(args)
    given = given_values(args)
    if args.dry_run or args.bench:
        return _measure(args, RunConfig(**{"data": "", **given}).checked())
    if not args.data and not args.resume and "data" not in given:
        raise InputError("--data DIR is missing: the folder with trainA and trainB")
    saved = Path(given["out"]) / CONFIG_FILE
    known = read_config(saved) if args.resume and saved.is_file() else {}
    config = RunConfig(**{"data": "", **known, "until": None, **given}).checked()
    if args.worker:
        with joined(config.device, config.framework, Path(config.out)) as (workers, ending):
            ending["code"], ending["text"] = _train(args, given, config, workers)
            return int(ending["code"])
    if config.data_parallel > 1:
        code, text = start_workers(sys.argv[1:], config.data_parallel, Path(config.out), args.port, config.framework)
    else:
        code, text = _train(args, given, config, ALONE)
    out.print(text)
    return code


def given_values(args: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of `RunConfig` that the user gave, from the TOML file and, over it, the flags.

    Raises InputError: a pair that is not NAME=VALUE, a setting that the family lacks, or another family in the
    file.
    """
    values = read_config(Path(args.config)) if args.config else {}
    if values.get("family", args.family) != args.family:
        raise InputError(f"{args.config}: is for {values['family']}, not {args.family}")
    flags = {name: value for name, value in vars(args).items() if value is not None}
    settings = {name: flags[name] for name in (*NUMBERS, *SWITCHES) if name in flags}
    for name in settings:
        if args.family not in (able := _holders(name)):
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"{flag}: {args.family} has no such setting; families that have it: {', '.join(able)}")
    pairs = {"settings": settings | _pairs(args.settings), "network": _pairs(args.network)}
    values |= {known.name: flags[known.name] for known in fields(RunConfig) if known.name in flags.keys() - pairs}
    values |= {name: {**values.get(name, {}), **more} for name, more in pairs.items() if more}
    values.setdefault("out", f"runs/{args.family}")
    return values


def _pairs(texts: Sequence[str] | None) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"{text}: should be NAME=VALUE")
        try:
            pairs[name] = json.loads(value)
        except ValueError:
            pairs[name] = value
    return pairs


def _list_settings(args: argparse.Namespace) -> int:
    _, training = trained_family(args.family)
    made = settings_of(training, training.defaults)
    print_table(["setting", "default"], [[known.name, str(getattr(made, known.name))] for known in fields(made)])
    for described in filter(is_dataclass, type(made).__mro__):  # a family's settings may extend another's
        out.print(getdoc(described))
    print_json(args.json, {"settings": {known.name: getattr(made, known.name) for known in fields(made)}})
    return 0


def _train(args: argparse.Namespace, given: dict[str, Any], config: RunConfig, workers: Workers) -> tuple[int, str]:
    """Train in this process; returns the exit code and how the run ended, in words."""
    import ms_models  # noqa: F401  # prepares the environment before TensorBoard loads protobuf
    from toonport.train.loop import train
    from toonport.train.progress import progress

    with progress(config, quiet=workers.rank > 0 or out.quiet) as show:
        outcome = train(given, show, args.resume, workers, lambda text: out.print(text))
    if workers.rank > 0:
        return 0, ""
    facts = {name: value for name, value in asdict(outcome).items() if name in {"step", "steps", "stopped_by"}}
    checkpoint = str(outcome.checkpoint) if outcome.checkpoint else None
    print_json(args.json, {**facts, "checkpoint": checkpoint, "best": outcome.best.step if outcome.best else None})
    for path in outcome.unreadable:
        out.print(f"left out, cannot be read: {path}")
    where = f"; checkpoint {outcome.checkpoint}" if outcome.checkpoint else ""
    if outcome.stopped_by:
        text = f"stopped by {outcome.stopped_by} after step {outcome.step}{where}; --resume goes on"
        return ExitCode.STOPPED, text
    best = f"; best at step {outcome.best.step}" if outcome.best and outcome.best.step else ""
    more = "--resume --steps MORE goes on beyond the end" if outcome.step >= outcome.steps else "--resume goes on"
    return 0, f"done: step {outcome.step} of {outcome.steps}{where}{best}; {more}"


def _beside(args: argparse.Namespace) -> int:
    from toonport.train.logs import plot_losses

    own, other = Path(args.out or f"runs/{args.family}"), Path(args.beside)
    target = own / f"losses_beside_{other.name}.png"
    if not plot_losses([own, other], target):
        raise InputError(f"{own}: nothing to draw, or matplotlib is not installed (pip install 'toonport[train]')")
    out.print(f"wrote {target}")
    print_json(args.json, {"written": str(target)})
    return 0


def _measure(args: argparse.Namespace, config: RunConfig) -> int:
    from toonport.train.memory import Forecast, benchmark, measured, require_memory
    from toonport.train.sizing import PARAMETER_BYTES
    from toonport.train.start import larger_side

    if args.bench:
        with spinner("foreseeing the memory") as say:
            pairs = list(benchmark(config, (config.size, larger_side(config)), (1, 2), say))
        print_json(args.json, {"times": [{"mindspore": asdict(port), "torch": asdict(ref)} for port, ref in pairs]})
        rows = [
            [str(port.size), str(port.batch), f"{port.median:.2f}", f"{reference.median:.2f}",
             f"{port.median / reference.median:.2f}", f"{port.first:.1f}"]
            for port, reference in pairs
        ]  # fmt: skip
        headings = ["size", "batch", "MindSpore s/step", "PyTorch s/step", "ratio", "MindSpore first step s"]
        print_table(headings, rows, (0, 1, 2, 3, 4, 5))
        return 0
    with spinner("foreseeing the memory"):
        foreseen = require_memory(Forecast(config), [(config.size, config.batch)], config.framework)
    if foreseen:
        out.print(foreseen)
    with spinner("timing a few steps"):
        cell = measured(config, 2)
    sizes, seconds = cell.parts, cell.time
    print_json(args.json, {"parameters": dict(sizes), "seconds": asdict(seconds)})
    rows = [[part, f"{count:,}", f"{count * PARAMETER_BYTES / 2**20:.1f}"] for part, count in sizes.items()]
    print_table(["network", "parameters", "weights, gradients, moments MiB"], rows, (1, 2))
    count = sum(sizes.values())
    whole = seconds.first + seconds.median * (config.steps - 1)
    out.print(f"{count:,} parameters, {count * PARAMETER_BYTES / 2**20:.1f} MiB for them; ", end="")
    out.print(f"the whole process reached {seconds.peak_bytes / 2**20:.0f} MiB")
    out.print(f"{seconds.framework}, {config.size}x{config.size}, batch {config.batch}: first step ", end="")
    out.print(f"{seconds.first:.1f} s, then {seconds.median:.2f} s each; {config.steps} steps take about {whole:.0f} s")
    return 0
