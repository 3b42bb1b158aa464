"""Data parallel in MindSpore: the gradients of two processes equal those of one with both pictures."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from parity_tests.tolerances import ULP

PROGRAM = """
import sys
import ms_models  # prepares the environment first
import mindspore as ms
import numpy as np
from mindspore import nn
from convert.recipes.descent import Execution
from ms_models.descent import Descent
from ms_models.optim import Adam
from toonport.train.parallel import join_workers

folder, workers = sys.argv[1], int(sys.argv[2])
rank = join_workers("cpu") if workers > 1 else 0
random = np.random.default_rng(0)
layers = (nn.Conv2d(3, 4, 3, pad_mode="valid", has_bias=True), nn.ReLU(), nn.Conv2d(4, 2, 3, pad_mode="valid"))
network = nn.SequentialCell(*layers)
for name, value in network.parameters_and_names():
    value.set_data(ms.Tensor(random.standard_normal(value.shape).astype(np.float32)))
    value.name = name
pictures = random.standard_normal((2, 3, 8, 8)).astype(np.float32)
own = pictures if workers == 1 else pictures[rank : rank + 1]
descent = Descent({"G": Adam(list(network.get_parameters()), 1e-2)})

def objective(x):
    loss = (network(x) ** 2).mean()
    return loss, {"G.square": loss}, ()

for compiled in (False, True):
    descent.use(Execution(workers=workers, compiled=compiled, watch=True))
    for _ in range(2):
        descent("G", objective, ms.Tensor(own))
results = [value.asnumpy() for one in descent.optimizers.values() for value in (*one.parameters, *one.exp_avg)]
np.savez(f"{folder}/{workers}_{rank}.npz", *results)
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


@pytest.mark.sampled(1)
@pytest.mark.parametrize("family", COMMANDS)
def test_the_command_trains_in_two_processes(tmp_path, family):
    if not Path(sys.executable).with_name("msrun").is_file():
        pytest.skip("msrun is not installed beside this Python")
    for domain in "AB":
        (tmp_path / f"train{domain}").mkdir()
        for number in range(2):
            Image.new("RGB", (64, 64), (60 * number, 90, 120)).save(tmp_path / f"train{domain}" / f"{number}.png")
    out, more = tmp_path / "run", [*COMMANDS[family].split(), "--port", str(_free_port())]
    flags = ["--data", tmp_path, "--out", out, "--parallel", "2", "--batch", "2", "--steps", "2", *more]
    command = [sys.executable, "-m", "toonport", "train", family, *map(str, flags)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    assert (out / "latest").read_text().strip() == "step_0000002"


def test_two_processes_train_as_one_with_the_batch_of_both(tmp_path):
    msrun = Path(sys.executable).with_name("msrun")
    if not msrun.is_file():
        pytest.skip("msrun is not installed beside this Python")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    root = Path(__file__).resolve().parents[3]
    paths = [str(root), *(path for path in sys.path if path)]
    environment = {
        **os.environ,
        "PATH": f"{msrun.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": os.pathsep.join(paths),
        "GLOG_v": "3",
    }
    launcher = [str(msrun), "--worker_num=2", "--local_worker_num=2", f"--master_port={_free_port()}", "--join=True",
                f"--log_dir={tmp_path / 'log'}", "--cluster_time_out=120"]  # fmt: skip
    for command, workers in (([sys.executable], 1), (launcher, 2)):
        full = [*command, str(program), str(tmp_path), str(workers)]
        done = subprocess.run(full, env=environment, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    alone, first, second = (np.load(tmp_path / f"{name}.npz") for name in ("1_0", "2_0", "2_1"))
    assert len(alone.files) == 6
    for name in alone.files:
        assert np.array_equal(first[name], second[name])
        assert np.abs(first[name] - alone[name]).max() <= 16 * ULP * max(1.0, np.abs(alone[name]).max())
