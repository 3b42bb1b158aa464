"""The page of an evaluation, and what it says of numbers that mean little."""

import pytest

from parity_tests.tests.cases import ROOT
from toonport.evaluate.distances import Kernel
from toonport.evaluate.features import Features
from toonport.evaluate.metrics import _subset_warning
from toonport.evaluate.report import write_evaluation_page

pytestmark = pytest.mark.quick


def _features():
    return Features.__new__(Features)


def test_a_spread_over_subsets_that_are_the_whole_set_is_called_meaningless(monkeypatch):
    monkeypatch.setattr("toonport.evaluate.metrics._names", lambda features: ("KID", "FID"))
    whole = Kernel(0.1, 0.0, 100, 8)
    (said,) = _subset_warning(_features(), whole, {"real": 8, "generated": 8}, "standard")
    assert "± says nothing" in said
    assert _subset_warning(_features(), whole, {"real": 9, "generated": 8}, "standard") == []
    assert _subset_warning(_features(), whole, {"real": 8, "generated": 8}, "ugatit") == []


def test_the_page_shows_numbers_limits_and_sets(tmp_path):
    metric = {
        "name": "KID",
        "value": 1.5,
        "spread": None,
        "better": "lower",
        "counts": {"real": 8},
        "definition": "<b>",
    }
    missing = {"name": "FID", "reason": "no file"}
    content = {
        "evaluations": [
            {"weights": "a.pt", "metrics": [metric], "not_run": [missing], "warnings": ["± says nothing"]},
            {"step": 3, "problem": "not there"},
        ],
        "pictures": {"real": {"folder": "cartoons", "found": 8, "skipped": []}},
        "seed": 0,
        "kid": "standard",
        "toonport": "1",
        "decided_by": None,
    }
    write_evaluation_page(content, tmp_path / "e.html")
    text = (tmp_path / "e.html").read_text()
    for words in ("1.5000", "lower is better", "± says nothing", "FID: no file", "not there", "&lt;b&gt;", "cartoons"):
        assert words in text, words
    assert "http" not in text
    assert '"toonport.evaluate" = ["*.j2"]' in (ROOT / "pyproject.toml").read_text()
