"""The memory of a training is foreseen: said before it starts, refused where it is not there."""

from dataclasses import asdict

import pytest

from convert.errors import InputError
from convert.registry import family_named, part_named
from parity_tests.harness.inputs import seeded_weights
from parity_tests.tests.cases import save_torch
from toonport.cli import main
from toonport.train import memory
from toonport.train.config import RunConfig
from toonport.train.counting import count
from toonport.train.memory import GIB, Cell, Forecast, benchmark, free_bytes
from toonport.train.sizing import StepTime
from toonport.train.start import larger_side

FIXED, SHARE = 400 * 2**20, 2.5


@pytest.fixture
def asked(monkeypatch):
    """A measurement that follows the law which is assumed; returns what it was asked for."""
    found = []

    def measured(config, steps=3):
        found.append((config.framework, config.size, config.batch))
        counted = count(config)
        peak = FIXED + counted.held + SHARE * counted.made
        return Cell(StepTime(config.framework, config.size, config.batch, 1.0, 0.5, peak, peak), {"genA2B": 1000})

    monkeypatch.setattr(memory, "measured", measured)
    return found


def _config(**changes):
    return RunConfig(**{"family": "photo2cartoon", "data": "", "out": "x", "size": 256, **changes}).checked()


def test_a_forecast_follows_what_is_made_and_held(asked):
    forecast = Forecast(_config())
    assert asked == [("mindspore", 128, 1), ("mindspore", 128, 2)]
    for size, batch in ((256, 1), (320, 2)):
        counted = count(_config(size=size, batch=batch))
        assert forecast.bytes_of(size, batch) == pytest.approx(FIXED + counted.held + SHARE * counted.made, rel=1e-6)


def test_what_is_made_grows_as_the_layers_do():
    made = {
        (name, size): count(RunConfig(family=name, data="", out="x", size=size, width=4).checked()).made
        for name in ("cyclegan", "sagan_cyclegan")
        for size in (96, 192)
    }
    assert made["cyclegan", 192] / made["cyclegan", 96] == pytest.approx(4, rel=0.03)  # with the area
    assert 14 < made["sagan_cyclegan", 192] / made["sagan_cyclegan", 96] < 16  # attention: nearly with its square
    network = {"light": False}
    full = [count(_config(family="ugatit", size=size, network=network)).held for size in (96, 192)]
    assert full[1] > 2 * full[0]  # a weight for every pixel, beside the convolutions


def test_a_given_network_of_one_side_is_foreseen_by_smaller_ones_like_it(asked, tmp_path):
    part = part_named(family_named("ugatit"), "genA2B")
    kwargs = {**part.kwargs, "ngf": 4, "light": False, "img_size": 160}
    file = save_torch(tmp_path / "full.pt", {"genA2B": seeded_weights(part, kwargs, "full")})
    config = _config(family="ugatit", size=160, init=str(file))
    forecast, counted = Forecast(config), count(config)
    assert asked == [("mindspore", 128, 1), ("mindspore", 128, 2)]
    assert forecast.bytes_of(160, 1) == pytest.approx(FIXED + counted.held + SHARE * counted.made, rel=1e-6)


def test_what_does_not_fit_is_refused_before_it_starts(asked, monkeypatch, capsys):
    monkeypatch.setattr(memory, "free_bytes", lambda: 2 * GIB)
    assert main(["train", "photo2cartoon", "--size", "256", "--dry-run"]) == 2
    counted = count(_config(size=256, batch=1))
    wanted = (FIXED + counted.held + SHARE * counted.made) / GIB
    assert f"needs about {wanted:.1f} GiB, 2.0 free: a smaller --width" in capsys.readouterr().err
    asked.clear()
    with pytest.raises(InputError, match=r"352x352, batch 2: needs about \d\d\.\d GiB, 2\.0 free"):
        next(benchmark(_config(), (256, 352), (1, 2)))
    assert {(size, batch) for _, size, batch in asked} == {(128, 1), (128, 2)}


@pytest.mark.parametrize(("size", "larger"), [(96, 128), (112, 144)])
def test_the_second_side_of_a_benchmark_fits_the_family(size, larger):
    assert larger_side(RunConfig(family="photo2cartoon", data="", out="", size=size, width=4).checked()) == larger


def test_every_cell_of_a_benchmark_is_measured_alone(asked, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 64 * GIB)
    assert len(list(benchmark(_config(), (256, 352), (1, 2)))) == 4
    assert len(asked) == 4 + 8  # two batches of each framework first


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
