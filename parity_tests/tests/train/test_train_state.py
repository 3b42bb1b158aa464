"""Checkpoints of a training run under real kills, a full disk and damage; no framework needed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from convert.errors import InputError
from toonport.train.state import Best, Checkpoints, read_state, run_lock

# A stand-in for a trainer whose every number is its step, and a program that saves it again and again.
STAND_IN = """
import numpy as np
from types import SimpleNamespace as Space
from toonport.train.state import Best, Checkpoints, read_state, run_lock

def trainer(step, framework="mindspore"):
    values = {"layer.weight": np.full((300, 1000), step, np.float32)}
    plan = Space(rows=[Space(torch=name, mindspore=name) for name in values])
    start = Space(family=Space(name="stand-in"), parts={"net": None}, plan=lambda part: plan)
    moments = {("exp_avg", "net", "layer.weight"): values["layer.weight"]}
    return Space(
        framework=framework, start=start, weights=lambda part: values, moments=lambda: moments,
        counts=lambda: {"G": step}, step=Space(step_number=step, state=lambda: ({}, {})))
"""
SAVER = """
import sys
from pathlib import Path
checkpoints = Checkpoints(Path(sys.argv[1]), keep=2)
with run_lock(checkpoints.out):
    step = checkpoints.latest() or 0
    print("ready", flush=True)
    while True:
        step += 1
        checkpoints.save(trainer(step), Best())
"""
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from convert.errors import InputError
checkpoints = Checkpoints(Path(sys.argv[1]))
checkpoints.save(trainer(1), Best())
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
for framework in ("torch", "mindspore"):
    try:
        checkpoints.save(trainer(2, framework), Best())
    except InputError as error:
        print(error)
"""


def _numpy_trainer():
    names = {}
    exec(STAND_IN, names)
    return names["trainer"]


def _program(text, folder, **options):
    command = [sys.executable, "-c", STAND_IN + text, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


def test_latest_is_whole_after_kills_at_any_moment(tmp_path):
    reached = 0
    for delay in (0.02, 0.11, 0.19, 0.26, 0.33):
        process = _program(SAVER, tmp_path)
        assert process.stdout.readline() == "ready\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        checkpoints = Checkpoints(tmp_path)
        step = checkpoints.latest()
        if step is not None:
            assert read_state(checkpoints.path(step))["step"] == step
            assert step >= reached
            reached = step
    assert reached > 0
    checkpoints.clean(0)
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_the_newest_and_the_best_are_kept(tmp_path):
    trainer, checkpoints = _numpy_trainer(), Checkpoints(tmp_path, keep=2)
    for step, best in ((1, 1), (2, 2), (3, 2), (4, 2), (5, 2)):
        checkpoints.save(trainer(step), Best(best, 1.0))
    assert checkpoints.steps() == [2, 4, 5]
    assert (tmp_path / "best").read_text().strip() == "step_0000002"
    assert checkpoints.latest() == 5
    checkpoints.forget_after(4)
    assert checkpoints.steps() == [2, 4]


def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path):
    process = _program(FULL_DISK, tmp_path)
    text = process.communicate()[0]
    assert text.count("cannot be written") == 2, text
    assert process.returncode == 0
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest() == 1
    assert read_state(checkpoints.path(1))["step"] == 1
    assert os.listdir(tmp_path / "checkpoints") == ["step_0000001"]


def test_damage_is_found(tmp_path):
    trainer, checkpoints = _numpy_trainer(), Checkpoints(tmp_path)
    folder = checkpoints.save(trainer(3), Best())
    data = bytearray((folder / "optimizer.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "optimizer.safetensors").write_bytes(data)
    with pytest.raises(InputError, match="damaged or changed"):
        read_state(folder)
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**state, "schema": "toonport-training/9"}))
    with pytest.raises(InputError, match="toonport-training/9"):
        read_state(folder)
    (tmp_path / "latest").write_text("step_0000009\n")
    with pytest.raises(InputError, match="which is not there"):
        checkpoints.latest()


def test_values_that_are_not_finite_are_not_saved(tmp_path):
    trainer, checkpoints = _numpy_trainer(), Checkpoints(tmp_path)
    checkpoints.save(trainer(1), Best())
    with pytest.raises(InputError, match=r"net\.layer\.weight is not finite"):
        checkpoints.save(_with_nan(trainer(2)), Best())
    assert checkpoints.latest() == 1


def _with_nan(trainer):
    trainer.weights("net")["layer.weight"][0] = float("nan")
    return trainer


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    with run_lock(tmp_path), pytest.raises(InputError, match="another process"), run_lock(tmp_path):
        pass


def test_a_run_is_drawn_with_its_selected_or_newest_checkpoint_at_its_own_size(tmp_path):
    from toonport.train.config import RunConfig, write_config
    from toonport.train.finished import Generating, generating

    write_config(RunConfig("ugatit", "photos", str(tmp_path), size=96), tmp_path / "config.toml")
    checkpoints = Checkpoints(tmp_path)
    for step in (20, 40):
        checkpoints.path(step).mkdir(parents=True)
        for name in ("state.json", "weights.ckpt"):
            (checkpoints.path(step) / name).write_text("")
    with pytest.raises(InputError, match="folder without a checkpoint"):
        generating(str(tmp_path))
    (tmp_path / "latest").write_text("step_0000040\n")
    newest, selected = (str(checkpoints.path(step) / "weights.ckpt") for step in (40, 20))
    assert generating(str(tmp_path)) == Generating(newest, "ugatit", 96)
    checkpoints.select(20)
    assert generating(str(tmp_path), size=128) == Generating(selected, "ugatit", 128)
    assert generating(newest, "photo2cartoon") == Generating(newest, "photo2cartoon", None)


def test_leftovers_of_killed_processes_are_swept_from_a_runs_folder(tmp_path):
    for name in (".losses.png.lock", ".latest.partial", ".lock", "latest", "metrics.jsonl"):
        (tmp_path / name).write_text("")
    Checkpoints(tmp_path).sweep()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "latest", "metrics.jsonl"]
