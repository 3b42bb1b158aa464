"""`toonport compare` of a whole generator, every layer in every mode: what a change of weights does to the outcome."""

import json

from parity_tests.tests.cases import save_torch, seeded_family, seeded_state
from toonport.cli import main


def test_compare_is_0_when_equal_and_1_after_a_weight_changed_by_a_thousandth(tmp_path, capsys):
    content = seeded_family("photo2cartoon")
    weights = save_torch(tmp_path / "a.pt", content)
    common = ["compare", "photo2cartoon", "--weights", str(weights), "--size", "48", "--brief"]
    assert main([*common, "--part", "genA2B", "--mode", "weights", "--json", str(tmp_path / "r.json")]) == 0
    assert "photo2cartoon genA2B: equal" in capsys.readouterr().out
    assert json.loads((tmp_path / "r.json").read_text())["verdict"] == "equal"

    key = "HourGlass2.HG.0.ConvBlock5.ConvBlock2.3.weight"
    content["genA2B"][key][0, 0, 0, 0] += 1e-3
    ported = save_torch(tmp_path / "b.pt", content)
    report = tmp_path / "r.html"
    argv = [*common, "--part", "genA2B", "--ported", str(ported), "--mode", "isolated", "--html", str(report)]
    assert main(argv) == 1
    text = capsys.readouterr().out
    assert "first out of budget: HourGlass2.HG.0.ConvBlock5.ConvBlock2.3 (Conv2d)" in text
    assert key.removesuffix(".weight") in report.read_text()


def test_swapped_equal_shaped_tensors_are_caught_and_named(tmp_path, capsys):
    state = seeded_state("photo2cartoon", "genA2B")
    weights = save_torch(tmp_path / "a.pt", state)
    first, second = "EncodeBlock2.conv_block.1.weight", "EncodeBlock2.conv_block.5.weight"
    state[first], state[second] = state[second], state[first]
    ported = save_torch(tmp_path / "b.pt", state)
    argv = [
        "compare",
        "photo2cartoon",
        "--weights",
        str(weights),
        "--ported",
        str(ported),
        "--mode",
        "isolated",
        "--brief",
    ]
    assert main(argv) == 1
    assert "first out of budget: EncodeBlock2.conv_block.1 (Conv2d)" in capsys.readouterr().out
