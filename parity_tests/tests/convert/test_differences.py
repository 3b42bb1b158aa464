"""Two checkpoint files compared tensor by tensor: the same weights are the same in every format, nothing else is."""

import json

import numpy as np
import pytest

from convert.conversion import convert_file
from convert.differences import Result, differences
from convert.formats import open_checkpoint
from parity_tests.tests.cases import save_torch, seeded_state
from toonport.cli import main


def _found(first, second):
    """Names of both, how they were found, and the result, of everything that two files hold."""
    checkpoints = open_checkpoint(first), open_checkpoint(second)
    return {(each.first, each.second): each for each in differences(*checkpoints)}


def test_the_same_weights_in_every_format_have_no_difference(tmp_path, capsys):
    source = save_torch(tmp_path / "a.pt", {"disLA": seeded_state("photo2cartoon", "disLA")})
    files = [source]
    for name, names in (("b.ckpt", None), ("c.safetensors", "torch"), ("d.safetensors", "mindspore")):
        files.append(tmp_path / name)
        convert_file(source, files[-1], names=names)
    for first, second in zip(files, files[1:] + files[:1], strict=True):
        assert main(["inspect", str(first), str(second)]) == 0
        assert " tensors, 0 differences" in capsys.readouterr().out


OWN = {
    "stem.weight": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4),
    "bn.weight": np.array([1, 2, 3], np.float32),
    "bn.running_var": np.array([4, 5, 6], np.float32),
    "out.bias": np.array([7, np.nan, np.inf], np.float32),
}


@pytest.fixture
def changed(tmp_path, write):
    """Compare a file of a network that nobody registered with a changed copy, here as MindSpore writes it."""

    def compare(suffix=".ckpt", **changes):
        first = write(tmp_path / "a.safetensors", OWN)
        values = {name.replace("__", "."): value for name, value in changes.items()}
        second = {name: value for name, value in {**OWN, **values}.items() if value is not None}
        return _found(first, write(tmp_path / f"b{suffix}", second))

    return compare


def test_what_is_equal_is_equal_though_not_finite(changed):
    found = changed()
    assert {each.result for each in found.values()} == {Result.EQUAL}
    assert {each.found_by for each in found.values()} == {"name"}


@pytest.mark.parametrize(
    ("changes", "names", "result", "found_by"),
    [
        ({"stem__weight": OWN["stem.weight"] * 2}, ("stem.weight", "stem.weight"), Result.VALUES, "name"),
        ({"stem__weight": OWN["stem.weight"].T.copy()}, ("stem.weight", "stem.weight"), Result.SHAPE, "name"),
        ({"bn__weight": OWN["bn.weight"].astype(np.float16)}, ("bn.weight", "bn.weight"), Result.TYPE, "name"),
        ({"bn__weight": None}, ("bn.weight", ""), Result.ONLY_FIRST, ""),
        ({"more": np.zeros(2, np.float32)}, ("", "more"), Result.ONLY_SECOND, ""),
        ({"out__bias": np.array([7, 0, np.inf], np.float32)}, ("out.bias", "out.bias"), Result.VALUES, "name"),
        (
            {"bn__weight": None, "bn__gamma": OWN["bn.weight"] + 1},
            ("bn.weight", "bn.gamma"),
            Result.VALUES,
            "MindSpore's usual name",
        ),
        (
            {"stem__weight": None, "net__stem__weight": OWN["stem.weight"] + 1},
            ("stem.weight", "net.stem.weight"),
            Result.VALUES,
            "end of the name",
        ),
        ({"stem__weight": None, "conv1__w": OWN["stem.weight"]}, ("stem.weight", "conv1.w"), Result.EQUAL, "values"),
    ],
)
def test_each_difference_is_named(changed, changes, names, result, found_by):
    found = changed(suffix=".safetensors", **changes)
    assert (found[names].result, found[names].found_by) == (result, found_by)
    assert {each.result for key, each in found.items() if key != names} == {Result.EQUAL}


def test_numbers_say_how_far_apart_two_tensors_are(changed):
    found = changed(stem__weight=OWN["stem.weight"] * -2, out__bias=np.array([7, 0, np.inf], np.float32))
    assert found["stem.weight", "stem.weight"].largest == 3
    assert found["stem.weight", "stem.weight"].cosine == pytest.approx(-1)
    assert found["out.bias", "out.bias"].largest == np.inf


def test_the_command_says_what_differs(tmp_path, write, capsys):
    first, second = (
        write(tmp_path / "a.safetensors", OWN),
        write(tmp_path / "b.ckpt", {**OWN, "out.bias": np.zeros(3, np.float32)}),
    )
    assert main(["inspect", str(first), str(second)]) == 1
    said = capsys.readouterr().out
    assert "values differ" in said
    assert "4 tensors, 1 differences; 0 under another name" in said
    assert main(["inspect", str(first), str(second), "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert not data["equal"]
    assert data["tensors"][3]["largest_difference"] == "infinite"
    assert main(["inspect", str(first), str(second), "--torch", "a.py:Net"]) == 2
