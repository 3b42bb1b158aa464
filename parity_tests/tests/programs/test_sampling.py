"""Long tests run a few cases a day: the same ones all day, every one within the promised days."""

import pytest

from parity_tests.tests.sampling import cases_of_the_day

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.quick
CASES = [f"case {number}" for number in range(133)]


@pytest.mark.parametrize("count", [1, 24, 133, 200])
def test_every_case_has_its_turn_within_the_promised_days(count):
    days = -(-len(CASES) // count)
    for first in (0, 739_946):
        seen = [cases_of_the_day("test", CASES, count, first + day) for day in range(days)]
        assert set().union(*seen) == set(CASES)
        assert {len(cases) for cases in seen} == {min(count, len(CASES))}


def test_a_day_has_its_own_cases_and_keeps_them():
    assert cases_of_the_day("test", CASES, 24, 5) == cases_of_the_day("test", CASES, 24, 5)
    assert cases_of_the_day("test", CASES, 24, 5) != cases_of_the_day("test", CASES, 24, 6)
    assert cases_of_the_day("test", CASES, 24, 5) != cases_of_the_day("other", CASES, 24, 5)


OUTER = 'pytest_plugins = ["parity_tests.tests.conftest"]'
INNER = """
import pytest
@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", range(10))
def test_long(case): pass
def test_short(): pass
"""


@pytest.mark.parametrize(("options", "count"), [((), 3), (("--all",), 11), (("-k", "long"), 10)])
def test_the_seed_is_printed_and_all_cases_can_be_asked_for(options, count, pytester, monkeypatch):
    monkeypatch.setenv("TOONPORT_TEST_SEED", "7")
    pytester.makeconftest(OUTER)
    pytester.makepyfile(test_inner=INNER)
    result = pytester.runpytest_inprocess("--strict-markers", "-o", "markers=sampled(n): n cases a day", *options)
    result.assert_outcomes(passed=count, deselected=11 - count if options != ("-k", "long") else 1)
    result.stdout.fnmatch_lines(["*TOONPORT_TEST_SEED=7*" if not options else "*every case*"])
