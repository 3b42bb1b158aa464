"""Saved reports: schema, JUnit, judging again, differences; and the pytest plugin."""

import json
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest

from parity_tests.harness.measurement import Kind, Mode, Values
from parity_tests.harness.report.saved import changes, judge_again, load_report
from parity_tests.harness.report.words import probe_words, quantity_words, type_words
from parity_tests.tests.cases import ROOT, save_torch, seeded_state
from toonport.cli import main

pytest_plugins = ["pytester"]
SCHEMA = ROOT / "parity_tests" / "harness" / "report" / "schema.json"
VERSION1 = ROOT / "parity_tests" / "tests" / "harness" / "report_version1.json"


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """A report of a correct port and one of a port with a changed weight."""
    folder = tmp_path_factory.mktemp("reports")
    state = seeded_state("photo2cartoon", "disLA")
    good = save_torch(folder / "good.pt", state)
    state["model.4.bias"][2] += 0.01
    bad = save_torch(folder / "bad.pt", state)
    common = ["compare", "photo2cartoon", "--part", "disLA", "--weights", str(good), "--size", "32", "--brief"]
    outputs = ["--json", str(folder / "good.json"), "--junit", str(folder / "good.xml")]
    assert main([*common, *outputs]) == 0
    outputs = ["--json", str(folder / "bad.json"), "--junit", str(folder / "bad.xml")]
    assert main([*common, "--ported", str(bad), "--mode", "isolated,accumulated", *outputs]) == 1
    return folder


def test_reports_follow_the_published_schema(reports):
    validator = jsonschema.validators.validator_for(schema := json.loads(SCHEMA.read_text()))(schema)
    for name in ("good.json", "bad.json"):
        assert list(validator.iter_errors(json.loads((reports / name).read_text()))) == []


@pytest.mark.quick
def test_the_published_schema_knows_every_kind_of_tensor():
    quantity = json.loads(SCHEMA.read_text())["$defs"]["row"]["properties"]["quantity"]
    assert set(quantity["properties"]["kind"]["enum"]) == {kind.value for kind in Kind}


def test_report_names_layer_and_cause(reports):
    network = json.loads((reports / "bad.json").read_text())["networks"][0]
    assert network["blamed"][0]["layer"] == "model.4"
    assert "bias" in network["causes"][0]


def test_junit_counts_layers_and_failures(reports):
    for name, failures in (("good.xml", False), ("bad.xml", True)):
        suite = ElementTree.parse(reports / name).getroot()[0]
        cases = suite.findall("testcase")
        assert int(suite.get("tests")) == len(cases)
        assert (int(suite.get("failures")) > 0) == failures
        assert int(suite.get("skipped")) == len(suite.findall("testcase/skipped"))
        assert suite.find("properties/property[@name='verdict']").get("value") == ("different" if failures else "equal")
        assert len({case.get("name") for case in cases if len(case)}) == len([c for c in cases if len(c)]) or failures


def test_saved_reports_are_judged_again_without_running(reports, capsys):
    assert main(["compare", str(reports / "good.json"), "--brief"]) == 0
    assert main(["compare", str(reports / "bad.json"), "--brief"]) == 1
    assert "model.4" in capsys.readouterr().out
    again = judge_again(load_report(reports / "bad.json"))
    assert not again[0].equal


def test_two_reports_show_what_changed(reports, capsys):
    assert main(["compare", str(reports / "good.json"), str(reports / "bad.json")]) == 1
    text = capsys.readouterr().out
    assert "model.4 output isolated" in text
    assert "equal" in text
    assert "-> different" in text
    assert main(["compare", str(reports / "good.json"), str(reports / "good.json")]) == 0
    assert "no verdict changed" in capsys.readouterr().out


def test_what_is_no_report_is_refused(tmp_path, capsys):
    (tmp_path / "x.json").write_text("{}")
    assert main(["compare", str(tmp_path / "x.json")]) == 2
    assert "not a saved report" in capsys.readouterr().err


def test_a_picture_can_be_the_input(reports, tmp_path, capsys):
    import cv2

    picture = tmp_path / "photo.png"
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 255, (50, 40, 3)).astype(np.uint8))
    common = ["compare", "photo2cartoon", "--weights", str(reports / "good.pt"), "--mode", "accumulated", "--brief"]
    assert main([*common, "--size", "32", "--input", str(picture)]) == 0
    (tmp_path / "text.png").write_text("no picture")
    assert main([*common, "--size", "32", "--input", str(tmp_path / "text.png")]) == 2
    assert "not a picture" in capsys.readouterr().err


def test_onnx_runtime_is_a_third_leg(tmp_path, capsys):
    weights = save_torch(tmp_path / "a.pt", seeded_state("ugatit", "genA2B"))
    argv = ["compare", "ugatit", "--weights", str(weights), "--size", "32", "--mode", "accumulated,onnx", "--brief"]
    assert main(argv) == 0
    assert "onnx               98 tensors, equal" in capsys.readouterr().out


def test_training_mode_compares_steps(capsys):
    assert main(["compare", "ugatit", "--mode", "train", "--steps", "1", "--brief"]) == 0
    assert "ugatit training: equal" in capsys.readouterr().out


def test_plugin_asserts_parity_in_a_users_tests(pytester):
    pytester.makepyfile(
        """
        import mindspore, numpy as np, pytest, torch

        def networks(slope):
            reference = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LeakyReLU(0.2))
            port = mindspore.nn.SequentialCell(mindspore.nn.Dense(4, 3), mindspore.nn.LeakyReLU(slope))
            port[0].weight.set_data(mindspore.Tensor(reference[0].weight.detach().numpy()))
            port[0].bias.set_data(mindspore.Tensor(reference[0].bias.detach().numpy()))
            return reference, port

        INPUTS = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)

        @pytest.mark.parity
        def test_right(parity):
            parity(*networks(0.2), INPUTS)

        @pytest.mark.parity
        def test_wrong(parity):
            parity(*networks(0.1), INPUTS)
        """
    )
    result = pytester.runpytest_subprocess("--parity-report", "parity.json", "-W", "ignore")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*first out of budget: 1 (LeakyReLU)*"])
    report = json.loads((pytester.path / "parity.json").read_text())
    assert [one["verdict"] for one in report["networks"]] == ["equal", "different"]


def test_a_report_of_the_first_version_is_read_into_typed_rows_with_its_words_unchanged():
    before, after = json.loads(VERSION1.read_text()), load_report(VERSION1)
    jsonschema.validate(
        json.loads(json.dumps(after)), json.loads((ROOT / "parity_tests/harness/report/schema.json").read_text())
    )
    for old, comparison in zip(before["networks"], judge_again(after), strict=True):
        for verdict, row in zip(comparison.verdicts, old["rows"], strict=True):
            one = verdict.measurement
            found = (
                verdict.equal,
                verdict.blind,
                probe_words(one.probe),
                quantity_words(one.quantity),
                type_words(one),
            )
            assert found == tuple(row[key] for key in ("equal", "blind", "probe", "tensor", "layer_type"))


def _measurements(comparisons):
    return [verdict.measurement for comparison in comparisons for verdict in comparison.verdicts]


@pytest.mark.quick
def test_a_report_of_the_first_version_holds_every_kind_of_row():
    found = _measurements(judge_again(load_report(VERSION1)))
    assert {one.quantity.kind for one in found} == set(Kind) - {Kind.DROPOUT, Kind.REFUSAL}
    assert {key for one in found for key in one.hints} == {"ratio", "ring", "channel"}


def test_what_feeds_a_verdict_is_read_from_a_report_of_the_first_version():
    found = _measurements(judge_again(load_report(VERSION1)))
    assert any(
        one.probe.values is Values.LOW_SPREAD and one.probe.training and one.probe.size == (24, 24) for one in found
    )
    assert any(one.undecided for one in found)
    assert any(one.effects for one in found)
    assert {one.probe.pixels for one in found if one.mode is Mode.ONNX} == {16 * 16}


def test_reports_of_both_versions_are_judged_and_compared(tmp_path, capsys):
    assert main(["compare", str(VERSION1), "--brief", "--json", str(tmp_path / "now.json")]) == 1
    assert "first out of budget: model.1 (Conv2d), output, isolated" in capsys.readouterr().out
    assert json.loads((tmp_path / "now.json").read_text())["schema"] == "toonport-report/2"
    assert changes(load_report(VERSION1), load_report(tmp_path / "now.json")) == []
    assert main(["compare", str(VERSION1), str(tmp_path / "now.json")]) == 0
