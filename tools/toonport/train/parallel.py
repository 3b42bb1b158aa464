"""Data parallel training: this command, started once per process by MindSpore's msrun."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from convert.devices import CPU
from convert.errors import InputError, first_line
from ms_models.environment import TARGETS

WORKER_FLAG = "--in-msrun"  # no beginning of one of msrun's own options, which it would take for that


def start_workers(argv: Sequence[str], count: int, out: Path, port: int) -> int:
    """Run `toonport ARGV --worker` in `count` processes and return msrun's exit code; logs lie in out/workers.

    Raises InputError: msrun is not installed.
    """
    folder = Path(sys.executable).parent
    msrun = folder / "msrun"
    program = str(msrun) if msrun.is_file() else shutil.which("msrun")
    if program is None:
        raise InputError("msrun is not installed; it comes with MindSpore")
    command = [
        program,
        f"--worker_num={count}",
        f"--local_worker_num={count}",
        f"--master_port={port}",
        f"--log_dir={out / 'workers'}",
        "--join=True",
        str(Path(__file__).parent.parent / "__main__.py"),
        *argv,
        WORKER_FLAG,
    ]
    # msrun starts whatever "python" comes first on the path
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}
    return subprocess.run(command, env=environment, check=False).returncode


def join_workers(device: str) -> int:
    """Join the other processes and return this one's number.

    Raises InputError: not started by msrun, or the communication cannot be set up.
    """
    import mindspore
    from mindspore import communication

    try:
        if device == CPU:
            mindspore.set_device(TARGETS[CPU])
        communication.init()
        size = communication.get_group_size()
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"the processes cannot find each other: {first_line(error)}; start them with --parallel N"
        ) from error
    mindspore.set_auto_parallel_context(
        parallel_mode=mindspore.ParallelMode.DATA_PARALLEL, gradients_mean=True, device_num=size
    )
    return int(communication.get_rank())
