"""The checker itself: numbers, verdicts, blame, and a user's own pair of networks."""

import json
from dataclasses import replace

import numpy as np
import pytest

from convert.disk import write_json
from parity_tests.harness.compare import measure, rms, ulp_neighbour
from parity_tests.harness.judge import MOVES, Kinks, Verdict, blamed, judge
from parity_tests.harness.measurement import Kind, Measurement, Mode, Probe, Quantity
from parity_tests.harness.report.console import summary_lines
from parity_tests.harness.report.data import report_data
from parity_tests.harness.report.html import difference_pictures, write_html
from parity_tests.harness.run import compare
from parity_tests.harness.sensitivity import bug_effects
from parity_tests.tests.cases import OWN_INPUTS, own_pair
from parity_tests.tolerances import BUDGETS, ULP, Budget

pytestmark = pytest.mark.quick

HEAD = Measurement(Mode.ISOLATED, Probe((8, 8)), "layer", "Conv2d", Quantity(Kind.OUTPUT), 0)


def test_measure_reports_distances_from_the_truth():
    truth = np.array([3.0, 4.0])
    reference = np.array([3.0, 4.1], np.float32)
    port = np.array([3.2, 4.1], np.float32)
    found = measure(HEAD, truth, [reference], port)
    assert found.noise == pytest.approx(0.1 / np.sqrt(2), rel=1e-5)
    assert found.error == pytest.approx(np.sqrt((0.04 + 0.01) / 2), rel=1e-5)
    assert found.difference == pytest.approx(0.2, rel=1e-5)
    assert found.scale == pytest.approx(rms(truth))
    assert measure(HEAD, truth, [reference], port, term_scale=9.0).scale == 9.0


def test_what_cannot_be_compared_is_a_problem_and_never_equal():
    truth = np.ones((2, 3))
    cases = {"no such tensor": None, "shape": np.ones((3, 2), np.float32), "NaN": np.full((2, 3), np.nan, np.float32)}
    for word, port in cases.items():
        found = measure(HEAD, truth, [truth.astype(np.float32)], port)
        assert word in found.problem
        assert not judge(found).equal
        assert judge(found).multiple == float("inf")


def test_ulp_neighbour_moves_by_whole_units_in_either_direction():
    values = np.array([1.0, -2.5, 0.0, 1e-30], np.float32)
    assert ulp_neighbour(values, 0) is values
    moved = np.concatenate([ulp_neighbour(values, seed)[None] for seed in range(1, 20)])
    assert (np.abs(moved - values) <= np.spacing(np.abs(values))).all()
    assert (moved != values).any(0).all()
    values = np.linspace(1.25, 1.75, 50, dtype=np.float32)
    there, back = (ulp_neighbour(values, 5, units=units) for units in (4, -4))
    assert (there + back == 2 * values).all()
    assert set(np.abs(there - values) / np.spacing(values)) == {0.0, 4.0}


def test_budget_is_noise_times_factor_plus_floor():
    found = replace(HEAD, noise=1e-7, error=5e-7, scale=2.0)
    row = BUDGETS[Mode.ISOLATED]
    verdict = judge(found)
    assert verdict.budget == pytest.approx(row.factor * 1e-7 + row.floor * ULP * 2.0)
    assert verdict.equal == (verdict.budget >= 5e-7)
    strict = judge(found, {Mode.ISOLATED: Budget(0.0, 0.0, "strict")})
    assert not strict.equal
    assert judge(replace(found, error=0.0), {Mode.ISOLATED: Budget(0.0, 0.0, "strict")}).equal


def _verdict(layer, equal, order, mode=Mode.ISOLATED):
    return Verdict(replace(HEAD, layer=layer, order=order, mode=mode, error=1.0), 2.0 if equal else 0.1, equal)


def test_a_gradient_that_jumps_at_a_kink_is_equal_where_moved_numbers_do_not_jump():
    right = Measurement(
        Mode.BLOCK_GRADIENTS, Probe(), "a", "Block", Quantity(Kind.GRADIENT, "w"), 1, 9, 1.0, 1e-6, 1e-6
    )
    jumps, wrong = replace(right, error=0.02), replace(right, error=0.9)
    asked = []

    def moved(found):
        """Measure the moved runs; those that are not named stay where they were."""
        asked.clear()
        return lambda move: (asked.append(move), found.get(move, jumps))[1]

    assert Kinks().judged_again(right, moved({})) is right
    assert not asked
    assert Kinks().judged_again(jumps, moved({MOVES[2]: right})) is right
    assert asked == list(MOVES[:3])
    assert Kinks().judged_again(wrong, moved({MOVES[0]: right})) is wrong
    assert not asked
    output = replace(jumps, quantity=Quantity(Kind.OUTPUT))
    assert Kinks().judged_again(output, moved({MOVES[0]: right})) is output
    assert not asked
    kinks = Kinks()
    assert kinks.judged_again(jumps, moved({})) is jumps
    assert asked == list(MOVES)
    assert kinks.judged_again(jumps, moved({MOVES[0]: right})) is jumps
    assert not asked


def test_blame_goes_to_the_innermost_layer_in_order_of_computation():
    verdicts = [
        _verdict("a.0", True, 0),
        _verdict("a.1", False, 1),
        _verdict("a", False, 2),
        _verdict("b", False, 3),
        _verdict("", False, 4),
        _verdict("z", False, 0, Mode.ACCUMULATED),
    ]
    assert [one.measurement.layer for one in blamed(verdicts)] == ["a.1", "b"]
    assert [one.measurement.layer for one in blamed(verdicts[5:])] == ["z"]
    weights = _verdict("b", False, 9, Mode.WEIGHTS)
    assert blamed([*verdicts, weights]) == [weights]
    assert blamed(verdicts[:1]) == []


def test_what_a_probe_cannot_see_is_said_and_small_probes_see_it():
    import torch

    from parity_tests.harness.judge import blind_spots
    from torch_ref.layers import LIN

    def verdicts(side, budget_factor):
        inputs = np.random.default_rng(0).standard_normal((1, 8, side, side)).astype(np.float32)
        with torch.no_grad():
            output = LIN(8)(torch.from_numpy(inputs)).numpy()
        head = replace(HEAD, layer_type="LIN", effects=bug_effects("LIN", [inputs], output))
        return [replace(judge(replace(head, noise=1e-7, scale=1.0)), budget=budget_factor * 1e-7)]

    assert blind_spots(verdicts(8, 10)) == {}
    assert blind_spots(verdicts(256, 100)) == {"biased variance": ["layer"]}
    assert bug_effects("Conv2d", [np.ones((1, 1, 4, 4))], np.ones((1, 1, 4, 4))) == {}


def test_every_tolerance_has_a_reason():
    assert BUDGETS.keys() == set(Mode)
    for mode, row in BUDGETS.items():
        assert len(row.reason) > 20, mode


def test_a_users_own_pair_is_equal():
    result = compare(*own_pair(), OWN_INPUTS)
    assert result.equal
    assert result.blamed == []


@pytest.mark.parametrize(("bug", "layer"), [("slope", "act"), ("weight", "head"), ("pooling", "")])
def test_a_bug_in_a_users_own_pair_is_named(bug, layer):
    result = compare(*own_pair(bug), OWN_INPUTS)
    assert not result.equal
    assert result.blamed[0].measurement.layer == layer


def test_amplification_tells_who_makes_an_error_from_who_passes_it_on():
    result = compare(*own_pair("slope"), OWN_INPUTS)
    along = {
        one.measurement.layer: one.measurement for one in result.verdicts if one.measurement.mode is Mode.ACCUMULATED
    }
    assert along["act"].input_error < 5
    assert along["act"].error > 1000 * along["act"].noise
    assert along["head"].input_error > 1000
    assert any("error at the input of act" in text for text in summary_lines(result))


def test_reports_say_where_and_survive_json_and_html(tmp_path):
    result = compare(*own_pair("slope"), OWN_INPUTS, name="own <net>")
    data = report_data([result], "cpu", ["gpu: absent"])
    write_json(tmp_path / "r.json", data)
    loaded = json.loads((tmp_path / "r.json").read_text())
    assert loaded["verdict"] == "different"
    assert loaded["networks"][0]["blamed"][0]["layer"] == "act"
    assert "first out of budget: act (LeakyReLU)" in "\n".join(summary_lines(result))
    picture = np.zeros((1, 3, 4, 4), np.float32)
    write_html(tmp_path / "r.html", data, {"own <net>": difference_pictures(picture, picture, picture + 0.1)})
    page = (tmp_path / "r.html").read_text()
    assert "own &lt;net&gt;" in page
    assert page.count("data:image/png;base64,") == 4
    assert "http://" not in page
    assert "https://" not in page
