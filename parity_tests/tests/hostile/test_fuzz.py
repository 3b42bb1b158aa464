"""Files made strange by chance, a few hundred of them every day; `make fuzz` reads tens of thousands."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parity_tests.tests.hostile.fuzzing import SEEDS, fault_of, run, seed_files
from parity_tests.tests.hostile.reading import read

EDIT = st.tuples(st.sampled_from(("set", "cut", "add", "end")), st.floats(0, 1), st.binary(min_size=1, max_size=8))


def test_bytes_changed_by_chance(capsys):
    said = []
    seed = int(os.environ["TOONPORT_TEST_SEED"])
    assert run(120, 300, seed, say=said.append) == 0, said
    assert said[-1].startswith("300 files")


@settings(max_examples=220, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(name=st.sampled_from(sorted(SEEDS)), edits=st.lists(EDIT, min_size=1, max_size=4))
def test_edits_of_every_format(tmp_path, name, edits):
    for other, content in seed_files()[name].items():
        (tmp_path / other).write_bytes(content)
    data = bytearray(seed_files()[name][name])
    for what, where, content in edits:
        place = int(where * len(data))
        if what == "set":
            data[place : place + len(content)] = content
        elif what == "cut":
            del data[place : place + len(content)]
        elif what == "add":
            data[place:place] = content
        else:
            del data[place:]
    path = tmp_path / name
    path.write_bytes(data)
    assert fault_of(path, read(path)) == ""


@pytest.mark.parametrize("name", SEEDS)
def test_the_files_that_are_changed_are_good(name, tmp_path):
    for other, content in seed_files()[name].items():
        (tmp_path / other).write_bytes(content)
    found = read(tmp_path / name)
    assert not found.fault
    assert "do not belong" in found.problem or "known network" in found.problem or "does not fit" in found.problem
