"""The photo commands on Ray: the same bytes as without it, whatever was killed on the way."""

import importlib.util
import json
import subprocess
import sys
import time
from collections import Counter

import psutil
import pytest

from parity_tests.tests.cases import drawn_picture, save_torch, seeded_state
from toonport.cli import main
from toonport.commands.ray_run import _Timed, projected
from toonport.photo.picture import write_picture

HERE = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HERE, reason="Ray is not installed: pip install 'toonport[ray]'")
COUNT = 60


@pytest.fixture
def photos(tmp_path):
    for number in range(COUNT):
        write_picture(tmp_path / "photos" / f"{number}.png", drawn_picture(str(number), 64, 64))
    (tmp_path / "photos" / "7.png").write_bytes(b"no picture")
    save_torch(tmp_path / "net.pt", seeded_state("photo2cartoon", "genA2B"))
    return tmp_path


def command(folder, *more):
    words = ["cartoonize", "photos", "--weights", "net.pt", "--family", "photo2cartoon", "--frame", "whole",
             "--backend", "torch", *more]  # fmt: skip
    return subprocess.Popen([sys.executable, "-m", "toonport", *words], cwd=folder, stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True)  # fmt: skip


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def _wait_for(process, folder, count):
    while process.poll() is None and len(list(folder.glob("*.png"))) < count:
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()[1]


@needs_ray
def test_kills_lose_nothing_and_repeat_nothing(photos):
    with command(photos, "--out", "plain", "--jobs", "1") as plain:
        plain.communicate()
    on_ray, results = ("--out", "rayed", "--jobs", "2", "--ray"), photos / "rayed"
    with command(photos, *on_ray) as first:
        _wait_for(first, results, 8)
        workers = [
            one for one in psutil.Process(first.pid).children(recursive=True) if "Map" in " ".join(one.cmdline())
        ]
        workers[0].kill()
        _wait_for(first, results, 16)
        first.kill()
    with command(photos, *on_ray) as second:
        assert "photos/7.png: not a picture" in second.communicate()[1]
    assert second.returncode == 2
    assert len(files(photos / "plain")) == COUNT - 1
    assert files(results) == files(photos / "plain")
    lines = Counter(json.loads(line)["source"] for line in (results / "cartoonize.jsonl").read_text().splitlines())
    assert set(lines.values()) == {1}
    assert len(lines) == COUNT
    assert [json.loads(line)["source"] for line in (results / "failed.jsonl").read_text().splitlines()] == [
        "photos/7.png"
    ]
    assert not (results / ".units").exists()


@pytest.mark.skipif(HERE, reason="Ray is installed")
def test_without_ray_one_line_says_what_to_install(photos, monkeypatch, capsys):
    monkeypatch.chdir(photos)
    assert main(["cartoonize", "photos", "--weights", "net.pt", "--out", "out", "--ray"]) == 2
    assert "pip install 'toonport[ray]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--ray", "photos", "--out", "x"], "the following arguments are required: PHOTO"),
        (["photos", "--out", "x", "--ray", "y"], "--ray y: no address of a cluster"),
        (["photos", "--out", "x", "--tables"], "--tables and --column go with --ray"),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_line(photos, monkeypatch, capsys, words, text):
    monkeypatch.chdir(photos)
    try:
        code = main(["cartoonize", "--weights", "net.pt", "--family", "photo2cartoon", *words])
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert text in capsys.readouterr().err


def test_what_many_photos_cost_comes_from_the_time_of_units_after_each_worker_loaded():
    timed = _Timed(lambda: lambda unit: time.sleep(unit) or ["a", "b"])
    assert timed(0.01) == (["a", "b"], 0)
    assert timed(0.02)[1] > 0.02
    said = projected(10, 3.6)
    assert "a photo took 0.360 seconds of a process; at that rate 1 million: 100 hours, 5 USD" in said
    assert "100 million: 10,000 hours, 500 USD (assumed: 0.05 USD for an hour of a process" in said
