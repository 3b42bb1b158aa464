"""Whose networks a file holds: what it says of itself decides; where nothing does, nothing is guessed."""

import shutil

import pytest

from convert.conversion import convert_file, load_networks, torch_arrays
from convert.formats import open_checkpoint
from convert.identify import identify, open_source
from convert.ledger import ledger_path
from convert.registry import families
from parity_tests.tests.cases import save_torch, seeded_family, seeded_state
from toonport.cli import main

WAYS = (("a.safetensors",), ("a.ckpt",), ("a.pth", "b.ckpt"), ("a.ckpt", "b.safetensors"), ("a.safetensors", "b.ckpt"))


@pytest.mark.quick
@pytest.mark.parametrize("family", [family.name for family in families()])
@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_names_of_every_family_come_back_without_a_hint(family, way, tmp_path):
    content = seeded_family(family)
    source = save_torch(tmp_path / "source.pt", content if len(content) > 1 else next(iter(content.values())))
    made = source
    for name in (*way, "back.pt"):
        convert_file(made, tmp_path / name)
        made = tmp_path / name
    assert list(open_checkpoint(made).specs.items()) == list(open_checkpoint(source).specs.items())


@pytest.mark.parametrize("part", ["generator", "disc_gray", "disc_blur"])
@pytest.mark.parametrize("family", ["whitebox", "facialcartoonization"])
def test_a_ledger_or_a_safetensors_file_says_the_family_and_is_believed(family, part, tmp_path):
    source = save_torch(tmp_path / "source.pth", seeded_state(family, part))
    for name in ("a.ckpt", "a.safetensors", "a.pth"):
        convert_file(source, tmp_path / name, family, part)
        (found,) = identify(open_source(tmp_path / name))
        assert (found.family.name, found.alternatives) == (family, ())
        assert torch_arrays(found).keys() == seeded_state(family, part).keys()
    ledger_path(tmp_path / "a.safetensors").unlink()
    (alone,) = load_networks(tmp_path / "a.safetensors")
    assert alone.family.name == family


def test_tensors_that_two_families_draw_otherwise_are_not_guessed_from(tmp_path, capsys):
    source = save_torch(tmp_path / "source.pth", seeded_state("facialcartoonization", "generator"))
    made = tmp_path / "a.safetensors"
    assert main(["convert", str(source), str(made)]) == 0
    assert "fits facialcartoonization as well" in " ".join(capsys.readouterr().out.split())
    shutil.copy(made, tmp_path / "alone.safetensors")
    for path in (source, made, tmp_path / "alone.safetensors"):
        assert main(["cartoonize", "a.jpg", "--weights", str(path), "--out", str(tmp_path / "a.png")]) == 2
        assert "whitebox, facialcartoonization; say which with --family" in " ".join(capsys.readouterr().err.split())
