"""The benchmarks run and add up; how fast anything is, is not tested."""

import os

import pytest

from parity_tests.tests.cases import save_torch, seeded_state
from toonport.bench import cases
from toonport.bench.timing import Times, peak_mebibytes, ratio, take_turns
from toonport.cli import main
from toonport.exporters.exporter import ExportOptions, export_network
from toonport.photo.matte import MATTES


def test_contenders_take_turns_and_warm_up_does_not_count():
    order = []
    times = take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, warm_up=1)
    assert order == ["a", "b"] * 4
    assert [len(one.wall) for one in times.values()] == [3, 3]
    assert all(value >= 0 for one in times.values() for value in one.wall + one.cpu)


def test_a_ratio_is_the_median_of_neighbouring_runs():
    above, below = Times((2.0, 30.0, 4.0), (2.0, 2.0, 2.0)), Times((1.0, 10.0, 1.0), (1.0, 1.0, 1.0))
    one = ratio("x", above, below, "", at_least=3)
    assert (one.value, one.cpu, one.good) == (3.0, 2.0, True)
    assert (one.low, one.high) == (2.5, 3.5)
    assert ratio("x", above, below, "", at_least=4).good is False
    assert ratio("x", above, below, "", at_most=3).good
    assert peak_mebibytes() > 10


@pytest.mark.skipif(not (matte := MATTES["selfie"].examine()).usable, reason=f"matte: {matte.detail}")
def test_the_command_prints_every_ratio_with_its_goal(tmp_path, monkeypatch, capsys):
    weights = save_torch(tmp_path / "small.pt", {"genA2B": seeded_state("ugatit", "genA2B")})
    exported = tmp_path / "small.onnx"
    export_network(ExportOptions("ugatit", str(weights), part="genA2B"), exported)

    def prepare(folder, _, rounds, photos, threads):
        return cases.Bench(folder, weights, exported, rounds, photos, threads)

    monkeypatch.setattr(cases, "prepare", prepare)
    monkeypatch.setattr(cases, "alone", lambda work, *args: work(*args))
    assert main(["bench", "--case", "whole", "--case", "folder", "--rounds", "1", "--photos", "1"]) == 0
    text = capsys.readouterr().out
    assert "photo to cartoon / its generator" in text
    assert "<= 1.15" in text
    assert "1 photos: one process" in text
    assert "the generator alone" in text
    assert text.count("peak memory") == 2


def test_a_benchmark_runs_in_a_process_of_its_own():
    assert cases.alone(os.getpid) not in (os.getpid(), os.getppid())
