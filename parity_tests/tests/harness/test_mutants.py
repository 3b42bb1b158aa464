"""The checker catches every planted bug, blames the right place, and stays silent on correct ports."""

import json
from collections import Counter

import pytest

from parity_tests.harness.judge import judge
from parity_tests.harness.measurement import Kind, Measurement, Mode, Probe, Quantity
from parity_tests.harness.mutants import run as suite
from parity_tests.harness.mutants.bugs import OnnxBug
from parity_tests.harness.mutants.judging import Outcome, compare_subject, judge_bug
from parity_tests.harness.mutants.run import BUGS, correct_exports, correct_ports, false_alarms
from parity_tests.harness.mutants.systematic.table import START
from parity_tests.tests.cases import ROOT
from toonport.cli import main
from toonport.commands.mutants import markdown_lines

QUICK = (("ugatit", "genA2B"), ("photo2cartoon", "disLA"), ("cyclegan", "D_A"))
CAUSES = {
    "biased-variance": "variance: n instead of n - 1",
    "adalin-eps-x10": "epsilon: × 10",
    "instance-norm-eps-/10": "epsilon: × 0.1",
    "norm-without-gradient": "detached",
    "pad-zero": "padding mode: constant",
    "pad-replicate": "padding mode: replicate",
    "bilinear": "upsampling: bilinear",
    "missing-bias": "weight: zero (conv1x1.bias)",
    "transposed-square": "axes 0 and 1 exchanged",
    "spectral-norm-eval": "mode: train mode",
    "spectral-norm-twice": "state moved twice",
    "leaky-slope": "slope: 0.01",
    "discriminator-mean-for-max": "mean for maximum",
    "batch-norm-momentum": "1 - momentum",
    "weight-decay-missing": "weight decay",
    "rate-off-by-one": "learning-rate",
    "attention-axis": "axis of the softmax",
    "wrapper-output-axis": "cause not identified",
}


@pytest.mark.sampled(12)
@pytest.mark.parametrize("bug", [bug for bug in BUGS if not isinstance(bug, OnnxBug)], ids=lambda bug: bug.name)
def test_planted_bug_is_caught_and_blamed(bug):
    outcome = judge_bug(bug, training_causes=bug.name in CAUSES)
    assert outcome.caught_by, bug.what
    assert outcome.right, f"blamed {outcome.blamed}"
    assert CAUSES.get(bug.name, "") in outcome.cause


@pytest.mark.quick
def test_every_bug_has_a_name_of_its_own_and_a_place():
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 150
    assert len({(bug.place, bug.what) for bug in BUGS}) == len(BUGS)
    assert all(bug.what and bug.blame for bug in BUGS)
    assert CAUSES.keys() <= {bug.name for bug in BUGS}


@pytest.mark.quick
def test_correct_ports_are_networks_and_steps_and_correct_exports_networks_alone():
    ports = [name for name, _ in correct_ports(2)]
    assert len(set(ports)) == len(ports)
    assert {"dtn training, seed 2", "dtn training, gan_mode lsgan, seed 1", "whitebox generator, seed 1"} <= set(ports)
    exports = [name for name, _ in correct_exports(2)]
    assert "photo2cartoon genA2B ONNX, seed 1" in exports
    assert "photo2cartoon genA2B ONNX, seed 2" not in exports
    assert not any("training" in name for name in exports)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("check", list(correct_ports(20, QUICK)), ids=lambda check: check[0])
def test_no_alarm_on_correct_ports_over_twenty_seeds(check):
    assert list(false_alarms([check])) == [(check[0], 0)]


@pytest.mark.parametrize("subject", [("photo2cartoon", "genA2B"), ("mobilefacenet", "mobilefacenet")])
def test_no_alarm_on_the_large_networks(subject):
    verdicts, published = compare_subject(subject, seed=1)
    assert [one.measurement.layer for one in verdicts if not one.equal] == []
    assert published["mindone 5e-3"]


def test_the_table_is_printed_and_written(tmp_path, capsys):
    name, table, data = "transposed-shifted", tmp_path / "table.md", tmp_path / "table.json"
    assert main(["mutants", name, "--markdown", str(table), "--json", str(data)]) == 0
    assert "caught 1/1, blamed correctly 1/1" in capsys.readouterr().out
    rows = [line for line in table.read_text().splitlines() if line.startswith("| cyclegan G_A |")]
    assert len(rows) == 1
    assert "by one pixel | isolated" in rows[0]
    (bug,) = json.loads(data.read_text())["mutants"]
    assert bug["name"] == name
    assert bug["right"]


def test_an_error_of_the_checker_itself_is_a_bug_missed_or_an_alarm_and_the_rest_is_judged(monkeypatch, capsys):
    judge = suite.judge_bug

    def failing(bug, **rest):
        if bug.name == "whitebox-tanh":
            raise KeyError("lost")
        return judge(bug, **rest)

    def lost():
        raise KeyError("lost")

    monkeypatch.setattr(suite, "judge_bug", failing)
    assert main(["mutants", "whitebox-tanh", "whitebox-judge-padding"]) == 1
    said = capsys.readouterr().out
    assert "internal error: KeyError: 'lost'" in said
    assert "caught 1/2, blamed correctly 1/2" in said
    assert list(suite.false_alarms([("a", lost)])) == [("a: internal error: KeyError: 'lost'", 1)]


def test_a_right_port_of_which_the_checker_cannot_tell_is_an_alarm():
    blind = Measurement(Mode.TRAINING, Probe(), "conv", "", Quantity(Kind.MEAN), 0, scale=1.0, undecided=1.0)
    assert list(suite.false_alarms([("a", lambda: ([judge(blind)], {}))])) == [("a: cannot tell", 1)]


@pytest.mark.quick
@pytest.mark.parametrize(("name", "close"), [("epsilon", "adalin-eps-x10"), ("bilinea", "bilinear-corners"), ("?", "")])
def test_a_name_that_no_bug_has_is_refused_with_close_ones(name, close, capsys):
    assert main(["mutants", "pad-zero", name]) == 2
    said = capsys.readouterr().err
    assert f"no planted bug is called '{name}'" in said
    assert close in said
    assert said.endswith("toonport mutants --list shows all\n")


@pytest.mark.quick
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--sample", "5"], "--sample: only with --systematic"),
        (["--family", "dtn"], "--family: only with --systematic"),
        (["--systematic", "--seeds", "2"], "--seeds: not with --systematic"),
        (["--systematic", "pad-zero"], "NAME: not with --systematic"),
    ],
)
def test_options_of_the_other_kind_of_mutants_are_refused(given, message, capsys):
    assert main(["mutants", *given]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.quick
def test_list_names_every_bug_or_those_asked_for(capsys):
    assert main(["mutants", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [bug.name for bug in BUGS]
    assert main(["mutants", "--list", "pad-zero"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["pad-zero", "ugatit", "genA2B"]


@pytest.mark.quick
def test_the_page_of_the_docs_has_the_form_that_the_command_writes():
    page = (ROOT / "docs" / "mutants.md").read_text().partition(START)[0].rstrip()
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.count(" | ") == 5][1:]
    assert Counter((row[0], row[1]) for row in rows) == Counter((bug.place, bug.what) for bug in BUGS)
    outcomes = [_outcome(bug.name, row) for bug, row in zip(BUGS, rows, strict=True)]
    versions = {"mindspore": "2.8.0", "torch": "2.13.0+cpu"}
    written = list(markdown_lines(outcomes, versions))
    facts = ("* alarms", "* of the 105 bugs planted in networks")  # hold what the table does not
    assert [line for line in page.splitlines() if not line.startswith(facts)] == [
        line for line in written if not line.startswith(facts)
    ]
    alarms = [("ugatit genA2B, seed 1", 0), ("ugatit genA2B ONNX, seed 1", 3)]
    (line,) = [line for line in markdown_lines(outcomes, versions, alarms, 20) if line.startswith("* alarms")]
    assert line == "* alarms on correct ports and exports: 1 in 2 comparisons (20 seeds)"


def _outcome(name: str, row: list[str]) -> Outcome:
    """What the checker made of a bug, as far as a row of the table says."""
    place, what, modes, blamed, multiple, rules = row
    published = {}
    if rules != "–":
        missed, asked = (int(number) for number in rules.split(" of "))
        published = {str(rule): rule < missed for rule in range(asked)}
    return Outcome(name, what, place, tuple(modes.split(", ")), blamed, True, float(multiple), "", published)
