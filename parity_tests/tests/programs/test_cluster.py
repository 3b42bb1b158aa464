"""Work in several processes: in order, and with every error."""

import os
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
