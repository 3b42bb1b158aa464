"""Many files by one command: none stops the others, and the exit code says that one was not done."""

import json
import shutil

import pytest

from convert.formats import open_checkpoint
from parity_tests.tests.cases import save_torch, seeded_state
from toonport.cli import main


@pytest.fixture
def folder(tmp_path):
    source = save_torch(tmp_path / "a.pt", seeded_state("vgg19", "vgg19"))
    for name in ("b.pt", "c.pt"):
        shutil.copy(source, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_one_bad_file_does_not_stop_the_others(folder, jobs, capsys):
    (folder / "b.pt").write_bytes(b"nonsense")
    code = main(["convert", str(folder / "*.pt"), f"{folder}/out/", "--jobs", jobs, "--json", str(folder / "s.json")])
    said = capsys.readouterr()
    assert code == 2
    assert "2 of 3 files converted, 1 not" in said.out
    assert said.err.count("\n") == 1
    assert "b.pt" in said.err
    assert sorted(path.name for path in (folder / "out").glob("*.ckpt")) == ["a.ckpt", "c.ckpt"]
    rows = {row["source"][-4:]: row for row in json.loads((folder / "s.json").read_text())["files"]}
    assert [bool(rows[name]["problem"]) for name in ("a.pt", "b.pt", "c.pt")] == [False, True, False]
    assert rows["a.pt"]["networks"][0]["family"] == "vgg19"


def test_files_may_be_named_and_keep_their_names_in_a_pattern(folder):
    names = [str(folder / name) for name in ("a.pt", "b.pt")]
    assert main(["convert", *names, str(folder / "x_*.safetensors"), "-q"]) == 0
    assert main(["convert", str(folder / "x_*.safetensors"), str(folder / "back_*.pt"), "-q"]) == 0
    first, back = (open_checkpoint(folder / name).tensors for name in ("a.pt", "back_x_a.pt"))
    assert all((back[name].read() == entry.read()).all() for name, entry in first.items())


def test_one_file_goes_into_a_folder_under_its_name(folder):
    assert main(["convert", str(folder / "a.pt"), f"{folder}/new/", "-q"]) == 0
    assert main(["convert", str(folder / "new" / "a.ckpt"), f"{folder}/new/", "-q"]) == 0
    assert (folder / "new" / "a.pt").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["*.pt", "out.ckpt"], "3 files need a folder"),
        (["*.none", "out/"], "no file matches"),
        (["a.pt", "a.pth", "out/"], "several files would be written there"),
        (["a.pt", "b.pt", "./*.pt"], "is one of the files that are read"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(words, said, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    assert main(["convert", *words]) == 2
    assert said in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before
