"""Data parallel: gradients of two processes equal those of one with both pictures, and none outlives the others."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from parity_tests.tests.cases import checkpoint_bytes
from parity_tests.tolerances import ULP
from toonport.train.state import Checkpoints

STEPS = 16

PROGRAM = """
import sys
from contextlib import nullcontext
from pathlib import Path
import ms_models  # prepares the environment first
import numpy as np
from convert.recipes.descent import Execution
from toonport.train.parallel import ALONE, joined

framework, folder, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
random = np.random.default_rng(0)
shapes = ((4, 3, 3, 3), (4,), (2, 4, 3, 3))
values = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
pictures = random.standard_normal((2, 3, 8, 8)).astype(np.float32)

def with_mindspore(rank):
    import mindspore as ms
    from mindspore import nn
    from ms_models.descent import Descent
    from ms_models.optim import Adam

    layers = (nn.Conv2d(3, 4, 3, pad_mode="valid", has_bias=True), nn.ReLU(), nn.Conv2d(4, 2, 3, pad_mode="valid"))
    network = nn.SequentialCell(*layers)
    for value, (name, parameter) in zip(values, network.parameters_and_names()):
        parameter.set_data(ms.Tensor(value))
        parameter.name = name
    descent = Descent({"G": Adam(list(network.get_parameters()), 1e-2)})
    return network, descent, ms.Tensor, lambda: [
        value.asnumpy() for one in descent.optimizers.values() for value in (*one.parameters, *one.exp_avg)
    ]

def with_torch(rank):
    import torch
    from torch import nn
    from torch_ref.descent import Descent

    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3, bias=False))
    for value, parameter in zip(values, network.parameters()):
        parameter.data = torch.from_numpy(value.copy())
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    descent = Descent({"G": optimizer})
    return network, descent, torch.from_numpy, lambda: [
        value.detach().numpy() for one in network.parameters() for value in (one, optimizer.state[one]["exp_avg"])
    ]

with joined("cpu", framework, Path(folder)) if count > 1 else nullcontext((ALONE, {})) as (workers, _):
    assert workers.any(workers.rank == count - 1) and not workers.any(False)
    network, descent, tensor, results = {"mindspore": with_mindspore, "torch": with_torch}[framework](workers.rank)
    own = pictures if count == 1 else pictures[workers.rank : workers.rank + 1]

    def objective(x):
        loss = (network(x) ** 2).mean()
        return loss, {"G.square": loss}, ()

    for compiled in (False, True):
        descent.use(Execution(workers=count, compiled=compiled, watch=True))
        for _ in range(2):
            descent("G", objective, tensor(own))
    np.savez(f"{folder}/{count}_{workers.rank}.npz", *results())
"""


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


COMMANDS = {
    "dtn": "--width 8",
    "cyclegan": "--size 32",
    "sagan_cyclegan": "--width 8",
    "whitebox": "--pretrain --size 32",
}


def _skip_without_launcher(framework):
    if framework == "mindspore" and not Path(sys.executable).with_name("msrun").is_file():
        pytest.skip("msrun is not installed beside this Python")


def _data(folder):
    for domain in "AB":
        for number in range(2):
            path = folder / f"train{domain}" / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (64, 64), (60 * number, 90, 120)).save(path)
    return folder


def _command(family, data, out, *more):
    flags = ["--data", data, "--out", out, "--parallel", "2", "--port", _free_port(), *more]
    return [sys.executable, "-m", "toonport", "train", family, *map(str, flags)]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("framework", ["mindspore", "torch"])
@pytest.mark.parametrize("family", COMMANDS)
def test_the_command_trains_in_two_processes(tmp_path, family, framework):
    _skip_without_launcher(framework)
    more = ["--framework", framework, "--batch", "2", "--steps", "2", *COMMANDS[family].split()]
    command = _command(family, _data(tmp_path), tmp_path / "run", *more)
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    assert done.stdout.startswith("done: step 2 of 2; checkpoint")
    assert (tmp_path / "run" / "latest").read_text().strip() == "step_0000002"


@pytest.mark.sampled(1)
@pytest.mark.parametrize("framework", ["mindspore", "torch"])
def test_a_killed_process_ends_the_others_in_one_line_and_the_run_resumes(tmp_path, framework):
    _skip_without_launcher(framework)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    more = ["--framework", framework, "--steps", str(STEPS), "--size", "32", "--width", "4", "--no-tensorboard",
            "--network", "n_blocks=1", "--save-every", "2", "--sheet-every", "0", "--no-jit"]  # fmt: skip
    with subprocess.Popen(_command("cyclegan", _data(tmp_path), whole, *more), stdout=subprocess.DEVNULL) as other:
        command = _command("cyclegan", tmp_path, killed, *more)
        quiet = {**os.environ, "GLOG_v": "4"}  # as the command is where nobody sets it
        with subprocess.Popen(command, env=quiet, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            while not (killed / "latest").is_file() and process.poll() is None:
                time.sleep(0.02)
            launched = psutil.Process(process.pid).children(recursive=True)
            worker = psutil.Process(json.loads((killed / "workers" / "rank_1.json").read_text())["pid"])
            assert worker.environ()["GLOG_v"] == "3"  # its log, which a failure names, is a file
            worker.kill()
            said = process.communicate(timeout=400)[1]
        assert process.returncode == 2
        assert said.count("\n") == 1
        assert re.search("process (0 and )?1 of 2 was killed", said)
        assert len(launched) >= 3
        assert not psutil.wait_procs(launched, timeout=60)[1]
        assert Checkpoints(killed).latest() < STEPS
        command = [sys.executable, "-m", "toonport", "train", "cyclegan", "--out", str(killed), "--resume"]
        subprocess.run([*command, "--port", str(_free_port())], stdout=subprocess.DEVNULL, timeout=900, check=True)
    assert other.returncode == 0
    assert checkpoint_bytes(killed, STEPS) == checkpoint_bytes(whole, STEPS)


@pytest.mark.parametrize("framework", ["mindspore", "torch"])
def test_two_processes_train_as_one_with_the_batch_of_both(tmp_path, framework):
    _skip_without_launcher(framework)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    folder = Path(sys.executable).parent
    root = Path(__file__).resolve().parents[3]
    environment = {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": os.pathsep.join([str(root), *(path for path in sys.path if path)]),
        "GLOG_v": "3",
    }
    port = f"--master_port={_free_port()}"
    launcher = {
        "mindspore": [str(folder / "msrun"), "--worker_num=2", "--local_worker_num=2", port, "--join=True",
                      f"--log_dir={tmp_path / 'log'}", "--cluster_time_out=120"],
        "torch": [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", port],
    }[framework]  # fmt: skip
    for command, workers in (([sys.executable], 1), (launcher, 2)):
        full = [*command, str(program), framework, str(tmp_path), str(workers)]
        done = subprocess.run(full, env=environment, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    alone, first, second = (np.load(tmp_path / f"{name}.npz") for name in ("1_0", "2_0", "2_1"))
    assert len(alone.files) == 6
    for name in alone.files:
        assert np.array_equal(first[name], second[name])
        assert np.abs(first[name] - alone[name]).max() <= 16 * ULP * max(1.0, np.abs(alone[name]).max())
