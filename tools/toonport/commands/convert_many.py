"""Many checkpoints converted by one command, in several processes, none able to stop the others."""

import argparse
import glob
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from convert.conversion import Conversion
from convert.cores import cores
from convert.errors import InputError
from convert.formats import FORMATS
from convert.ledger import ENDING
from toonport.commands.ui import bar, out, print_json
from toonport.exit_codes import ExitCode
from toonport.photo.batch import Outcome, Task, run_tasks
from toonport.terminal import Terminal

SMALL = 64 * 2**20  # bytes of all files together for which further processes would cost more time than they save
Convert = Callable[[argparse.Namespace, str, str], tuple[Conversion, dict[str, Any]]]
err = Terminal(stderr=True)


def planned(sources: list[str], target: str) -> list[Task]:
    """Return what is to be converted into what.

    Args:
        sources: files, and patterns such as "runs/*.pt" where no file is called so.
        target: a file; or a folder, or a name in which "*" stands for the source's without suffix.

    Raises InputError: a pattern that nothing matches, or results that would replace each other or a source.
    """
    files = [file for source in sources for file in _matching(source)]
    pattern = _pattern(target)
    if "*" not in pattern:
        if len(files) > 1:
            raise InputError(
                f"{target}: {len(files)} files need a folder, written with / at its end, or a name with * for theirs"
            )
        return [Task(files[0], target)]
    tasks = [Task(file, _named(file, pattern)) for file in dict.fromkeys(files)]
    places = Counter(task.target for task in tasks)
    sources_there = {os.path.realpath(task.source) for task in tasks}
    for task in tasks:
        if places[task.target] > 1:
            raise InputError(f"{task.target}: several files would be written there, {task.source} among them")
        if os.path.realpath(task.target) in sources_there:
            raise InputError(f"{task.target}: is one of the files that are read; choose another folder")
    return tasks


def _matching(source: str) -> list[str]:
    if os.path.exists(source) or not glob.has_magic(source):
        return [source]
    found = [path for path in sorted(glob.glob(source, recursive=True)) if os.path.isfile(path)]
    found = [path for path in found if not path.endswith(ENDING)]
    if not found:
        raise InputError(f"{source}: no file matches this pattern")
    return found


def _pattern(target: str) -> str:
    """The target with "*" for the name of the source; a folder called like a checkpoint is a mistake, not a folder."""
    meant = os.path.isdir(target) and Path(target).suffix.lower() not in FORMATS
    return os.path.join(target, "*") if meant or target.endswith((os.sep, "/")) else target


def _named(source: str, pattern: str) -> str:
    path = Path(source)
    suffix = "" if Path(pattern).suffix else ".pt" if path.suffix.lower() == ".ckpt" else ".ckpt"
    return pattern.replace("*", path.stem) + suffix


def run_many(args: argparse.Namespace, tasks: list[Task], convert: Convert) -> int:
    """Convert every file, say what was not done and why, and a summary; 0 when all were, else 2.

    Args:
        args: of the command.
        tasks: what is to be done.
        convert: does one of them; a function of a module.
    """
    size = sum(os.path.getsize(task.source) for task in tasks if os.path.isfile(task.source))
    jobs = args.jobs or (1 if size < SMALL else cores())
    plain = {name: value for name, value in vars(args).items() if name not in {"run", "parser", "root"}}
    outcomes = []
    with bar("converting") as progress:
        make = partial(_Converter, argparse.Namespace(**plain), convert)
        for outcome in run_tasks(make, tasks, min(jobs, len(tasks))):
            outcomes.append(outcome)
            progress(len(outcomes), len(tasks), Path(outcome.source).name)
            if outcome.problem:
                err.print(f"{outcome.source}: {outcome.problem}; nothing written", style="red")
            else:
                out.print(f"{outcome.source}: {_in_short(outcome)}; wrote {', '.join(outcome.files)}")
    failed = sum(bool(outcome.problem) for outcome in outcomes)
    out.print(f"{len(outcomes) - failed} of {len(outcomes)} files converted" + (f", {failed} not" if failed else ""))
    rows = [{"source": one.source, "problem": one.problem, **one.facts} for one in outcomes]
    print_json(args.json, {"files": rows})
    return ExitCode.BAD_INPUT if failed else ExitCode.DONE


def _in_short(outcome: Outcome) -> str:
    return ", ".join(f"{network['family']} {network['part']}" for network in outcome.facts["networks"])


class _Converter:
    """Converts one file after the other."""

    def __init__(self, args: argparse.Namespace, convert: Convert) -> None:
        self._args, self._convert = args, convert

    def __call__(self, task: Task) -> Outcome:
        """Do one file."""
        done, facts = self._convert(self._args, task.source, task.target)
        return Outcome(task.source, tuple(map(str, done.outputs)), facts=facts)
