"""The checker catches every planted bug, blames the right place, and stays silent on correct ports."""

import json

import pytest

from parity_tests.harness.mutants.run import ALL_MUTATIONS, compare_subject, false_alarms, run_mutants
from toonport.cli import main

QUICK = (("ugatit", "genA2B"), ("photo2cartoon", "disLA"), ("cyclegan", "D_A"))
CAUSES = {
    "biased-variance": "biased variance",
    "adalin-eps-x10": "epsilon",
    "instance-norm-eps-/10": "epsilon",
    "norm-without-gradient": "detached",
    "pad-zero": "padding mode",
    "pad-replicate": "padding mode",
    "bilinear": "interpolation",
    "missing-bias": "bias",
    "transposed-square": "transposed",
    "spectral-norm-eval": "iterates in eval",
    "spectral-norm-twice": "power iterations",
    "leaky-slope": "slope",
    "discriminator-mean-for-max": "wiring",
    "batch-norm-momentum": "momentum",
    "weight-decay-missing": "weight decay",
    "rate-off-by-one": "learning-rate",
    "attention-axis": "attention",
    "wrapper-output-axis": "axis of the flattened weight",
    "wrapper-rests": "when it moves",
}


@pytest.mark.sampled(24)
@pytest.mark.parametrize("mutation", ALL_MUTATIONS, ids=lambda one: one.name)
def test_planted_bug_is_caught_and_blamed(mutation):
    (outcome,) = run_mutants([mutation.name])
    assert outcome.caught_by, mutation.what
    assert outcome.right, f"blamed {outcome.blamed}"
    assert CAUSES.get(mutation.name, "") in outcome.cause


@pytest.mark.quick
def test_suite_is_large_and_names_are_unique():
    names = [one.name for one in ALL_MUTATIONS]
    assert len(names) == len(set(names)) >= 40


def test_no_alarm_on_correct_ports_over_twenty_seeds():
    alarms = list(false_alarms(20, subjects=QUICK))
    assert len(alarms) == 20 * len(QUICK)
    assert [name for name, count in alarms if count] == []


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
