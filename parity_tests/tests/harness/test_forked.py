import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import pytest
import torch

from convert.cores import keep_to_cores, pool_of, share_of_cores
from convert.errors import InputError
from parity_tests.harness import families
from parity_tests.harness.families import compare_family
from parity_tests.harness.forked import Failure, ProcessError, run_elsewhere, run_forked
from parity_tests.harness.request import CompareOptions
from parity_tests.harness.run import Comparison
from parity_tests.tests.cases import ROOT


def _told(number, say):
    say(f"at {number}")
    return number, os.getpid()


def _raises(error, say):
    raise error


class _UnreadableError(Exception):
    def __init__(self, one, other):
        super().__init__(f"{one} {other}")


def _raises_unreadable(say):
    raise _UnreadableError(1, 2)


def _dies(say):
    os._exit(3)


@pytest.mark.quick
def test_a_process_that_raises_or_takes_too_long_is_a_failure():
    def endless():
        while True:
            pass

    tasks = [("sum", lambda: 1 + 1), ("error", lambda: 1 // 0), ("endless", endless)]
    found = dict(run_forked(tasks, 3, 1.5))
    assert found["sum"] == 2
    assert found["error"].reason == "ZeroDivisionError: integer division or modulo by zero"
    assert isinstance(found["error"].error, ZeroDivisionError)
    assert found["endless"] == Failure("took too long")


@pytest.mark.quick
def test_tensors_outlive_the_process_that_made_them():
    def raises():
        raise ValueError(torch.ones(3))

    found = dict(run_forked([("result", lambda: torch.ones(2)), ("error", raises)], 2))
    assert found["result"].tolist() == [1, 1]
    assert found["error"].error.args[0].tolist() == [1, 1, 1]


@pytest.mark.quick
def test_tasks_elsewhere_say_how_far_they_are_and_return_in_their_order():
    said: list[str] = []
    found = run_elsewhere([partial(_told, number) for number in range(4)], 2, ("json",), said.append)
    assert [number for number, _ in found] == [0, 1, 2, 3]
    assert len({process for _, process in found} | {os.getpid()}) == 5
    assert sorted(said) == [f"at {number}" for number in range(4)]


@pytest.mark.quick
@pytest.mark.parametrize(
    ("task", "raised", "words"),
    [
        (partial(_raises, InputError("x.pt: not there")), InputError, "x.pt: not there"),
        (_raises_unreadable, ProcessError, "_UnreadableError: 1 2"),
        (_dies, ProcessError, "the process died"),
    ],
)
def test_what_fails_elsewhere_fails_here(task, raised, words):
    with pytest.raises(raised, match=words):
        run_elsewhere([task, partial(_told, 1)], 2, ("json",), lambda text: None)


LEAVE_A_LOCK = """
from functools import partial
from parity_tests.harness.forked import run_elsewhere
from parity_tests.tests.harness.test_forked import _locks
if __name__ == "__main__":
    print(run_elsewhere([partial(_locks, number) for number in range(20)], 4, ("json",), print)[-1])
"""


@pytest.mark.quick
def test_processes_give_back_their_locks(tmp_path):
    (tmp_path / "lock.py").write_text(LEAVE_A_LOCK)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tools")])
    ended = subprocess.run(
        [sys.executable, str(tmp_path / "lock.py")], env={**os.environ, "PYTHONPATH": paths}, capture_output=True
    )
    assert (ended.stdout, ended.stderr) == (b"19\n", b"")


def _locks(number, say):
    _KEPT.extend(multiprocessing.get_context("forkserver").Lock() for _ in range(200))
    return number


_KEPT = []


@pytest.mark.quick
@pytest.mark.parametrize(
    ("cores", "places", "shares"),
    [({0, 1, 2, 3}, 2, [{0, 2}, {1, 3}]), ({2, 5, 7}, 2, [{2, 7}, {5}]), ({4, 6}, 3, [{4}, {6}, {4}])],
)
def test_processes_share_the_cores_of_the_one_that_starts_them(cores, places, shares, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: cores, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert [share_of_cores(place, places) for place in range(places)] == shares


@pytest.mark.quick
def test_a_system_that_lets_no_process_choose_its_cores_is_no_error(monkeypatch):
    asked = []

    def refuse(process, cores):
        asked.append(cores)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_setaffinity", refuse, raising=False)
    keep_to_cores({0})
    keep_to_cores(set())
    assert asked == [{0}]


@pytest.mark.quick
@pytest.mark.skipif(sys.platform != "linux", reason="the system does not say which cores a process has")
def test_a_process_runs_on_its_share_and_the_next_one_takes_its_place():
    taken = [found for _, found in run_forked([(number, _cores) for number in range(4)], 2)]
    assert {frozenset(cores) for cores in taken} == {frozenset(share_of_cores(place, 2)) for place in range(2)}
    assert all(len(cores) == 1 or cores < os.sched_getaffinity(0) for cores in taken)


@pytest.mark.quick
@pytest.mark.skipif(sys.platform != "linux", reason="the system does not say which cores a process has")
def test_every_process_of_a_pool_has_its_share():
    with pool_of(2, multiprocessing.get_context("spawn")) as pool:
        taken = {future.result() for future in [pool.submit(_process_and_cores) for _ in range(6)]}
    assert len(taken) == 2
    assert {cores for _, cores in taken} == {frozenset(share_of_cores(place, 2)) for place in range(2)}


def _process_and_cores():
    return os.getpid(), frozenset(_cores())


def _cores():
    time.sleep(0.2)
    return os.sched_getaffinity(0)


def _pickled(work, units):
    for unit in units:
        yield pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(work))(unit)))


def test_a_comparison_in_several_processes_is_the_one_in_this_process():
    options = CompareOptions("dtn", quick=True, modes=("weights", "accumulated"))
    here = compare_family(options)
    assert compare_family(options, spread=_pickled) == here
    elsewhere = compare_family(replace(options, jobs=2))
    assert [_without_rounding(one) for one in elsewhere] == [_without_rounding(one) for one in here]


def _without_rounding(comparison):
    """What does not depend on how many cores a process sums on."""
    rows = [(each.measurement, each.equal) for each in comparison.verdicts]
    told = [(own.layer, own.quantity, own.probe, own.order, own.count, own.scale, equal) for own, equal in rows]
    return replace(comparison, verdicts=()), told


@pytest.mark.quick
def test_pieces_that_are_begun_in_another_order_are_reported_in_their_own(monkeypatch):
    def piece(name, network):
        return families._Piece(name, network, lambda say: Comparison(name, (), ("weights",), {}))

    pieces = [piece("network", True), piece("other network", True), piece("training", False)]
    monkeypatch.setattr(families, "_pieces", lambda options: pieces)
    begun = []

    def noting(work, units):
        begun.extend(units)
        yield from map(work, units)

    found = compare_family(CompareOptions("dtn"), spread=noting)
    assert begun == [2, 0, 1]
    assert [one.name for one in found] == ["network", "other network", "training"]


WORK = {
    "pool": """
import multiprocessing, os, time
from convert.cores import pool_of
if __name__ == "__main__":
    pool = pool_of(1, multiprocessing.get_context("spawn"))
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(600)
""",
    "task": """
import os, time
from parity_tests.harness.forked import run_forked
def task(say):
    say(os.getpid())
    time.sleep(600)
list(run_forked([(0, task)], 1, say=lambda pid: print(pid, flush=True)))
""",
}


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the process where Linux lists them")
@pytest.mark.parametrize("kind", WORK)
def test_a_process_ends_when_the_one_that_started_it_is_killed(kind, tmp_path):
    script = tmp_path / "work.py"
    script.write_text(WORK[kind])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        child = int(parent.stdout.readline())
        assert _runs(child)
        parent.kill()
    ends = time.monotonic() + 20
    while _runs(child) and time.monotonic() < ends:
        time.sleep(0.1)
    assert not _runs(child)


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
