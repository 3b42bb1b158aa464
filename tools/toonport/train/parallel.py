"""Data parallel training: this command, started once per process by MindSpore's msrun or PyTorch's torchrun.

Every process keeps a file `workers/rank_N.json` in the run's folder: who it is and, at the end, how it ended. The
command that started them watches these: when one dies the others are ended, and none outlives the command.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from convert.devices import CPU
from convert.disk import atomic_path
from convert.errors import InputError, first_line
from ms_models.environment import TARGETS
from toonport.exit_codes import ExitCode

WORKER_FLAG = "--in-msrun"  # no beginning of one of msrun's own options, which it would take for that
STARTER = "TOONPORT_STARTER"  # environment variable: the process that started the workers
POLL_SECONDS = 0.2
PATIENCE = 20.0  # seconds that a launcher may take when all its processes have ended


@dataclass(frozen=True)
class Workers:
    """This process among those that train together."""

    rank: int = 0
    # whether any of the processes says yes, asked of all at the same time; they wait for each other
    any: Callable[[bool], bool] = bool


ALONE = Workers()


def start_workers(argv: Sequence[str], count: int, out: Path, port: int, framework: str) -> tuple[int, str]:
    """Run `toonport ARGV` in `count` processes; logs lie in out/workers.

    Returns:
        Exit code and last words of the first of them.

    Raises InputError: the framework's launcher is not installed, or a process ended before the training did.
    """
    folder = out / "workers"
    for old in folder.glob("rank_*.json"):
        old.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    # msrun starts whatever "python" comes first on the path
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, STARTER: str(os.getpid())}
    environment["GLOG_v"] = min(environment.get("GLOG_v", "3"), "3")  # a failure names the logs, where errors belong
    command = [*_launcher(count, folder, port, framework), *argv, WORKER_FLAG]
    with open(folder / "launcher.log", "wb") as log:
        launcher = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        with _handed_on(folder), _ended(launcher, folder):
            return _watch(launcher, folder, count)


def _launcher(count: int, folder: Path, port: int, framework: str) -> list[str]:
    program = str(Path(__file__).parent.parent / "__main__.py")
    if framework == "torch":
        own = [f"--nproc_per_node={count}", "--master_addr=127.0.0.1", f"--master_port={port}"]
        return [sys.executable, "-m", "torch.distributed.run", *own, f"--log_dir={folder}", "--redirects=3", program]
    beside = Path(sys.executable).with_name("msrun")
    msrun = str(beside) if beside.is_file() else shutil.which("msrun")
    if msrun is None:
        raise InputError("msrun is not installed; it comes with MindSpore")
    own = [f"--worker_num={count}", f"--local_worker_num={count}", f"--master_port={port}", f"--log_dir={folder}"]
    return [msrun, *own, "--join=True", program]


def _watch(launcher: "subprocess.Popen[bytes]", folder: Path, count: int) -> tuple[int, str]:
    """Wait until every process has ended."""
    while True:
        running = launcher.poll() is None
        ranks = _ranks(folder)
        gone = [rank for rank, facts in ranks.items() if "code" not in facts and not _lives(facts)]
        failed = [rank for rank, facts in ranks.items() if facts.get("code", 0) not in (0, ExitCode.STOPPED)]
        if gone:  # the launcher ends the others soon after the first, maybe before this looks
            which = " and ".join(map(str, gone))
            raise InputError(f"process {which} of {count} was killed, and the others were ended; "
                             f"what was saved is good: --resume goes on; logs: {folder}")  # fmt: skip
        for rank in failed:
            raise InputError(f"process {rank} of {count}: {ranks[rank]['text']}; logs: {folder}")
        if len(ranks) == count and all("code" in facts for facts in ranks.values()):
            with suppress(subprocess.TimeoutExpired):
                launcher.wait(PATIENCE)
            return ranks[0]["code"], ranks[0].get("text", "")
        if not running:
            raise InputError(f"the training ended before its processes had found each other; logs: {folder}")
        time.sleep(POLL_SECONDS)


def _ranks(folder: Path) -> dict[int, dict[str, Any]]:
    """What the processes said of themselves, by rank."""
    return {int(file.stem[5:]): json.loads(file.read_text()) for file in sorted(folder.glob("rank_*.json"))}


def _process(facts: Mapping[str, Any]) -> psutil.Process | None:
    """The process that wrote these facts, None where it is gone."""
    with suppress(psutil.Error):
        process = psutil.Process(facts["pid"])
        if process.create_time() == facts["since"] and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def _lives(facts: Mapping[str, Any]) -> bool:
    return _process(facts) is not None


@contextmanager
def _handed_on(folder: Path) -> Iterator[None]:
    """Hand the first signal to stop on to the processes, which save and end; the second ends this one."""
    before: dict[int, Any] = {}

    def hand_on(number: int, _: object) -> None:
        for known, handler in before.items():
            signal.signal(known, handler)
        for process in filter(None, map(_process, _ranks(folder).values())):
            with suppress(psutil.Error):
                process.terminate()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, hand_on)
    try:
        yield
    finally:
        for known, handler in before.items():
            signal.signal(known, handler)


@contextmanager
def _ended(launcher: "subprocess.Popen[bytes]", folder: Path) -> Iterator[None]:
    """End the launcher and all its processes, however this one goes on."""
    try:
        yield
    finally:
        found = [process for process in map(_process, _ranks(folder).values()) if process]
        with suppress(psutil.Error):
            own = psutil.Process(launcher.pid)
            found += [own, *own.children(recursive=True)]
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        launcher.wait()


@contextmanager
def joined(device: str, framework: str, out: Path) -> Iterator[tuple[Workers, dict[str, Any]]]:
    """Join the other processes, and say in the end how this one ended: its exit "code", and "text" for the user.

    Yields:
        This process among the others, and a place for code and text.

    Raises InputError: not started by a launcher, or the communication cannot be set up.
    """
    try:
        workers = _join_torch(device) if framework == "torch" else _join_mindspore(device)
    except (RuntimeError, ValueError, KeyError) as error:
        raise InputError(
            f"the processes cannot find each other: {first_line(error)}; start them with --parallel N"
        ) from error
    threading.Thread(target=_end_with, args=(int(os.environ.get(STARTER, "0")),), daemon=True).start()
    process = psutil.Process()
    facts: dict[str, Any] = {"pid": process.pid, "since": process.create_time()}
    path = out / "workers" / f"rank_{workers.rank}.json"
    _say(path, facts)
    try:
        ending: dict[str, Any] = {"code": ExitCode.DONE}
        yield workers, ending
    except InputError as error:
        _say(path, {**facts, "code": ExitCode.BAD_INPUT, "text": str(error)})
        raise
    except Exception as error:
        text = f"internal error: {type(error).__name__}: {first_line(error)}"
        _say(path, {**facts, "code": ExitCode.INTERNAL_ERROR, "text": text})
        raise
    _say(path, {**facts, **ending})


def _say(path: Path, facts: Mapping[str, Any]) -> None:
    with atomic_path(path, durable=False) as temporary:
        temporary.write_text(json.dumps(facts))


def _end_with(starter: int) -> None:
    """Save and end when the command that started the processes is gone."""
    while starter and psutil.pid_exists(starter):
        time.sleep(1)
    if starter:
        os.kill(os.getpid(), signal.SIGTERM)


def _join_torch(device: str) -> Workers:
    import torch
    from torch import distributed

    from torch_ref.environment import CUDA

    where = CPU
    if device != CPU:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        where = CUDA
    distributed.init_process_group("gloo" if where == CPU else "nccl")

    def any_of(flag: bool) -> bool:
        """Add up the flags of all processes."""
        flags = torch.tensor(float(flag), device=where)
        distributed.all_reduce(flags)
        return bool(flags.item() > 0)

    return Workers(distributed.get_rank(), any_of)


def _join_mindspore(device: str) -> Workers:
    import mindspore
    from mindspore import communication, ops

    if device == CPU:
        mindspore.set_device(TARGETS[CPU])
    communication.init()
    mindspore.set_auto_parallel_context(
        parallel_mode=mindspore.ParallelMode.DATA_PARALLEL,
        gradients_mean=True,
        device_num=communication.get_group_size(),
    )
    add = ops.AllReduce()
    return Workers(
        int(communication.get_rank()),
        lambda flag: bool(add(mindspore.Tensor([float(flag)], mindspore.float32)).asnumpy()[0] > 0),
    )
