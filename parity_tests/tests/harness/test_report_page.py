"""The report as a page, in a real browser: it fits a phone and a screen, and its graph leads to the rows."""

import pytest

from parity_tests.harness.measurement import Mode
from parity_tests.harness.report.data import report_data
from parity_tests.harness.report.graph import MOST, graph_cards
from parity_tests.harness.report.saved import judge_again, load_report
from parity_tests.tests.cases import ROOT
from toonport.results import Results, result_of

VERSION1 = ROOT / "parity_tests" / "tests" / "harness" / "report_version1.json"


@pytest.fixture(scope="module")
def result():
    """A report with a difference in it, judged again from a file: no network runs."""
    return result_of(judge_again(load_report(VERSION1))[0], "gpu")


@pytest.fixture(scope="module")
def page(result, tmp_path_factory):
    return result.save_html(tmp_path_factory.mktemp("page") / "report.html")


@pytest.mark.quick
def test_the_graph_holds_every_layer_once_in_the_colour_of_its_verdict(result):
    (network,) = report_data([result], "cpu")["networks"]
    cards = graph_cards(network["rows"])
    layers = {row["layer"] for row in network["rows"] if row["layer"] and not row["quantity"]["phase"]}
    assert layers
    whole = "".join(cards)
    for layer in layers:
        assert whole.count(f'data-layer="{layer}"') == 1, layer
    bad = {verdict.measurement.layer for verdict in result.verdicts if not verdict.equal} - {""}
    assert whole.count('class="different"') == len({layer for layer in bad if layer in layers})


@pytest.mark.quick
def test_a_network_of_many_layers_is_cut_into_cards():
    def row(layer):
        facts = {"layer": layer, "layer_type": "Conv2d", "order": 0, "mode": Mode.ISOLATED, "quantity": {"phase": ""}}
        return {**facts, "equal": True, "not_run": "", "blind": False}

    names = [f"body.{block}.{layer}" for block in range(20) for layer in range(7)] + ["<tail>"]
    cards = graph_cards([row(name) for name in names])
    assert len(cards) > 5
    assert all(card.count('class="equal"') <= 2 * MOST for card in cards)
    assert "<tail>" not in "".join(cards)  # names are text
    assert "&lt;tail&gt;" in "".join(cards)


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_and_its_graph_leads_to_the_rows(browser, page, result, width):
    opened = browser.new_page(viewport={"width": width, "height": 900})
    problems = []
    opened.on("pageerror", lambda error: problems.append(error))
    opened.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else problems.append(request)
    )
    opened.goto(page.as_uri())
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.evaluate("[...document.querySelectorAll('.scroll')].every(e => e.scrollWidth <= e.clientWidth)")
    assert opened.locator("details.panel").first.get_attribute("open") is not None
    layer = result.blamed[0].measurement.layer
    opened.locator(f'a[data-layer="{layer}"]').click()
    shown = opened.locator("td.layer").all_inner_texts()
    assert shown
    assert all(layer in text for text in shown)
    assert problems == []
    opened.close()


@pytest.mark.quick
def test_results_write_every_report(result, tmp_path):
    both = Results([result, result], "gpu", ["training steps: not asked for"])
    assert both.save_json(tmp_path / "a.json") == tmp_path / "a.json"
    saved = load_report(tmp_path / "a.json")
    assert (len(saved["networks"]), saved["device"], saved["not_run"]) == (2, "gpu", ["training steps: not asked for"])
    assert "different" in both.save_html(tmp_path / "a.html").read_text()
    assert "<testsuites" in result.save_junit(tmp_path / "a.xml").read_text()
