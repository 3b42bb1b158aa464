"""Work in several processes: in order, and with every error."""

import importlib.util
import json
import os
import subprocess
import sys
from functools import partial

import pytest

from convert.errors import InputError
from toonport.cli import main
from toonport.cluster import in_order, spread


def test_what_comes_in_any_order_leaves_in_order():
    assert list(in_order(iter([(2, "c"), (0, "a"), (3, "d"), (1, "b")]))) == ["a", "b", "c", "d"]


def work(here, unit):
    if unit == 3:
        raise InputError("3 is bad")
    if unit == 4 and os.getpid() != here:
        os._exit(9)
    return unit, os.getpid() == here


def test_processes_keep_the_order_and_hand_on_errors():
    here = os.getpid()
    assert list(spread(partial(work, here), [2, 1, 0], 1, None)) == [(2, True), (1, True), (0, True)]
    found = spread(partial(work, here), [2, 1, 0, 3], 2, None)
    assert [next(found) for _ in range(3)] == [(2, False), (1, False), (0, False)]
    with pytest.raises(InputError, match="3 is bad"):
        next(found)
    with pytest.raises(InputError, match="a process was killed"):
        list(spread(partial(work, here), [4, 1], 2, None))


def test_ray_is_not_for_systematic_mutants(capsys):
    assert main(["mutants", "--systematic", "--ray"]) == 2
    assert "--ray: not with --systematic" in capsys.readouterr().err


def test_ray_is_for_comparisons_of_families(tmp_path, capsys):
    assert main(["compare", str(tmp_path), str(tmp_path), "--ray"]) == 2
    assert "--ray: only where networks of a family are compared" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'toonport[ray]'")
def test_a_comparison_on_ray_reports_what_one_process_does(tmp_path):
    reports = []
    for name, where in {"ray.json": ["--ray", "--jobs", "2"], "here.json": ["--jobs", "1"]}.items():
        words = ["compare", "dtn", "--quick", "--mode", "weights,accumulated", "--json", name, *where]
        subprocess.run([sys.executable, "-m", "toonport", *words], cwd=tmp_path, check=True)
        reports.append(json.loads((tmp_path / name).read_text()))
    assert reports[0] | {"created": ""} == reports[1] | {"created": ""}
