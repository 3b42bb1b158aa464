"""Two environments: what differs between them is found, whatever it is, and nothing else."""

import json
import os

import numpy as np
import pytest
import torch

from convert.disk import write_json
from convert.errors import InputError
from parity_tests.tests.prove_versions import admitted
from parity_tests.tests.prove_versions import write as write_row
from toonport import environment
from toonport.cli import main
from toonport.doctor import examine
from toonport.environments import environment_differences, load_environment

WEIGHTS = {"a": np.arange(6, dtype=np.float32), "b": np.ones(2, np.float32)}


@pytest.fixture
def place(tmp_path, write):
    """A folder with weights in two formats, samples, and an order of samples."""
    write(tmp_path / "net.safetensors", WEIGHTS)
    write(tmp_path / "net.ckpt", {name.upper(): value for name, value in WEIGHTS.items()})
    (tmp_path / "faces").mkdir()
    for name in "1234":
        (tmp_path / "faces" / f"{name}.png").write_text(name)
    (tmp_path / "order.txt").write_text("".join(f"faces/{name}.png\n" for name in "1234"))
    return tmp_path


def _environment(place, **changes):
    given = {"seeds": {"torch": 1, "numpy": 2}, "weights": {"net": place / "net.safetensors"}}
    return environment(**{**given, "samples": {"order": place / "order.txt", "faces": place / "faces"}, **changes})


def _found(first, second):
    return {(each.area, each.name) for each in environment_differences(first, second)}


def test_twelve_planted_differences_are_found(place, write, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    first = _environment(place)
    assert _found(first, _environment(place, weights={"net": place / "net.ckpt"})) == set()

    installed = {**first["versions"], "torch": "9.9"}
    monkeypatch.setattr("toonport.doctor.metadata.version", installed.__getitem__)
    monkeypatch.setattr("toonport.environments.PACKAGES", tuple(installed.keys() - {"python"}))
    monkeypatch.setattr("platform.python_version", lambda: "3.99")
    monkeypatch.setattr(os, "cpu_count", lambda: 99)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    write(place / "net.safetensors", {**WEIGHTS, "b": np.zeros(2, np.float32)})
    (place / "order.txt").write_text("".join(f"faces/{name}.png\n" for name in "1324"))
    (place / "faces" / "3.png").write_text("another picture")
    (place / "faces" / "5.png").write_text("5")
    second = _environment(place, seeds={"torch": 1, "numpy": 3})
    assert _found(first, second) == {
        ("versions", "torch"),
        ("versions", "python"),
        ("machine", "cores"),
        ("variables", "OMP_NUM_THREADS"),
        ("variables", "CUBLAS_WORKSPACE_CONFIG"),
        ("settings", "torch: deterministic algorithms"),
        ("settings", "torch: cuDNN benchmark"),
        ("seeds", "numpy"),
        ("weights", "net: b"),
        ("samples", "order: order"),
        ("samples", "order: faces/3.png"),  # the same picture, in both lists
        ("samples", "faces: 3.png"),
        ("samples", "faces: 5.png"),
    }


def test_what_only_one_side_was_told_differs(place):
    assert _found(_environment(place), environment()) == {
        ("seeds", "torch"),
        ("seeds", "numpy"),
        ("weights", "net"),
        ("samples", "order"),
        ("samples", "faces"),
    }


def test_no_secret_is_kept(monkeypatch):
    monkeypatch.setenv("NVIDIA_API_KEY", "x")
    monkeypatch.setenv("MS_DEV_RUNTIME_CONF", "y")
    kept = environment()["variables"]
    assert "NVIDIA_API_KEY" not in kept
    assert kept["MS_DEV_RUNTIME_CONF"] == "y"


def test_the_commands_write_and_compare(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    told = ["--seed", "torch=1", "--weights", "net.safetensors", "--samples", "faces=order.txt"]
    assert main(["doctor", "--json", "a.json", *told]) == 0
    data = load_environment(place / "a.json")
    assert data["weights"]["net"].keys() == {"a", "b"}
    assert {found["what"] for found in data["findings"]} > {"python", "torch devices"}
    write_json(place / "b.json", {**data, "seeds": {"torch": "2"}})
    assert main(["compare", "--environment", "a.json", "a.json"]) == 0
    assert "no difference" in capsys.readouterr().out
    assert main(["compare", "--environment", "a.json", "b.json", "--json", "found.json"]) == 1
    assert "1 differences between a.json and b.json" in capsys.readouterr().out
    found = json.loads((place / "found.json").read_text())
    assert found["differences"] == [{"area": "seeds", "name": "torch", "first": "1", "second": "2"}]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["compare", "--environment", "order.txt", "order.txt"], "cannot be read"),
        (["compare", "--environment", "x.json", "x.json"], "not an environment"),
        (["compare", "--environment", "x.json"], "takes two files"),
        (["doctor", "--samples", "faces"], "go into the file of --json"),
        (["doctor", "--json", "a.json", "--samples", "none"], "neither a folder of samples nor a text file"),
        (["doctor", "--json", "a.json", "--seed", "a=1", "--seed", "a=2"], "a is given twice"),
    ],
)
def test_mistakes_are_told_in_one_line(place, monkeypatch, capsys, command, words):
    monkeypatch.chdir(place)
    (place / "x.json").write_text('{"networks": []}')
    assert main(command) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (place / "a.json").exists()


def test_a_file_of_another_version_is_refused(place):
    write_json(place / "a.json", {"form": "toonport environment", "version": 2})
    with pytest.raises(InputError, match="another version than 1"):
        load_environment(place / "a.json")


def test_every_version_that_the_ranges_admit_is_to_be_proven():
    assert admitted() == [(f"2.{minor}", f"3.{python}") for minor in (8, 9, 10) for python in (10, 11, 12)]


def test_a_proof_takes_the_place_of_an_older_one(tmp_path):
    target = tmp_path / "proven.json"
    for mindspore, python, failed in (("2.10.0", "3.11.7", ["a"]), ("2.9.0", "3.11.7", []), ("2.10.1", "3.11.8", [])):
        write_row({"mindspore": mindspore, "python": python, "failed": failed}, target)
    assert [(row["mindspore"], row["failed"]) for row in json.loads(target.read_text())] == [
        ("2.9.0", []),
        ("2.10.1", []),
    ]


@pytest.mark.parametrize(
    ("failed", "state", "said"),
    [
        ([], "ok", "the quick suite passes; proven: 2.8 on Python 3.10"),
        (["a test"], "optional", "this one is not; proven: "),
    ],
)
def test_doctor_says_whether_the_versions_are_proven(tmp_path, monkeypatch, failed, state, said):
    (tmp_path / "proven.json").write_text(json.dumps([{"mindspore": "2.8.0", "python": "3.10.1", "failed": failed}]))
    monkeypatch.setattr("toonport.doctor.PROVEN", tmp_path / "proven.json")
    monkeypatch.setattr("platform.python_version", lambda: "3.10.9")
    monkeypatch.setattr("toonport.doctor.metadata.version", lambda name: "2.8.1")
    (found,) = (each for each in examine() if each.what == "proven combinations")
    assert (found.state, found.detail.endswith(said)) == (state, True), found.detail
