"""The memory of a training is foreseen: said before it starts, refused where it is not there."""

from dataclasses import asdict

import pytest

from convert.errors import InputError
from toonport.cli import main
from toonport.train import memory
from toonport.train.config import RunConfig
from toonport.train.memory import GIB, Cell, Forecast, benchmark, free_bytes
from toonport.train.sizing import StepTime
from toonport.train.start import larger_side

FIXED, PER_PIXEL = 400 * 2**20, 50_000


@pytest.fixture
def asked(monkeypatch):
    """A measurement that follows the law which is assumed; returns what it was asked for."""
    found = []

    def measured(config, steps=3):
        found.append((config.framework, config.size, config.batch))
        peak = FIXED + PER_PIXEL * config.size**2 * config.batch
        return Cell(StepTime(config.framework, config.size, config.batch, 1.0, 0.5, peak), {"genA2B": 1000})

    monkeypatch.setattr(memory, "measured", measured)
    return found


def _config(**changes):
    return RunConfig(**{"family": "photo2cartoon", "data": "", "out": "x", "size": 256, **changes}).checked()


def test_a_forecast_follows_area_and_batch(asked):
    forecast = Forecast(_config())
    assert all(side <= 128 and batch == 1 for _, side, batch in asked)
    assert len(asked) == 2
    for size, batch in ((256, 1), (320, 2)):
        assert forecast.bytes_of(size, batch) == pytest.approx(FIXED + PER_PIXEL * size**2 * batch, rel=1e-6)


def test_what_does_not_fit_is_refused_before_it_starts(asked, monkeypatch, capsys):
    monkeypatch.setattr(memory, "free_bytes", lambda: 2 * GIB)
    assert main(["train", "photo2cartoon", "--size", "256", "--dry-run"]) == 2
    assert "needs about 3.4 GiB, 2.0 free: a smaller --width" in capsys.readouterr().err
    asked.clear()
    with pytest.raises(InputError, match=r"341x341, batch 2: needs about 11\.2 GiB, 2\.0 free"):
        next(benchmark(_config(), (256, 341), (1, 2)))
    assert {size for _, size, _ in asked} == {96, 128}


@pytest.mark.parametrize(("size", "larger"), [(96, 128), (112, 144)])
def test_the_second_side_of_a_benchmark_fits_the_family(size, larger):
    assert larger_side(RunConfig(family="photo2cartoon", data="", out="", size=size, width=4).checked()) == larger


def test_every_cell_of_a_benchmark_is_measured_alone(asked, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 64 * GIB)
    assert len(list(benchmark(_config(), (256, 341), (1, 2)))) == 4
    assert len(asked) == 4 + 8  # two sizes of each framework first


def test_a_process_that_is_killed_is_one_line(monkeypatch):
    monkeypatch.setattr(memory.sys, "executable", "/bin/false")
    with pytest.raises(InputError, match="it said nothing"):
        memory.measured(_config())
    killed = memory.subprocess.CompletedProcess([], -9, "", "")
    monkeypatch.setattr(memory.subprocess, "run", lambda *args, **settings: killed)
    with pytest.raises(InputError, match=r"ended by SIGKILL, as the system does where memory runs out"):
        memory.measured(_config())


def test_parameters_alone_may_be_too_many(monkeypatch, tmp_path, capsys):
    from parity_tests.tests.cases import drawn_picture
    from toonport.photo.picture import write_picture

    for domain in "AB":
        write_picture(tmp_path / f"train{domain}" / "a.png", drawn_picture(domain, 40, 40))
    monkeypatch.setattr(memory, "free_bytes", lambda: 10_000)
    arguments = ["--data", str(tmp_path), "--out", str(tmp_path / "run"), "--width", "4", "--size", "32"]
    assert main(["train", "cyclegan", *arguments]) == 2
    assert "parameters, gradients and moments alone need" in capsys.readouterr().err


def test_what_is_free_is_less_than_there_is():
    assert 0 < free_bytes() < memory.psutil.virtual_memory().total


def test_a_configuration_travels_to_another_process():
    assert RunConfig(**asdict(_config())) == _config()
