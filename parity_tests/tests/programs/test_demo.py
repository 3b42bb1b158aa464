"""The main job in the released configuration, from start to end."""

import json

import pytest

from convert.errors import InputError
from toonport.cli import build_parser, main
from toonport.demo_files import NAMES, RECORD, demo_folder, note_files

MADE = {"summary.html", "parity.html", "parity.json", "photo2cartoon.ckpt", "photo2cartoon.onnx"}


def test_demo_does_the_whole_job(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["good"]
    outcomes = {step["title"]: step["outcome"] for step in summary["steps"]}
    assert "936 tensors" in outcomes["convert to MindSpore"]
    assert outcomes["prove parity"].startswith("equal")
    assert outcomes["convert back"] == "sha256 equal for 936 of 936 tensors"
    made = {path.name for path in tmp_path.iterdir() if path.stat().st_size}
    assert {*MADE, *(file for step in summary["steps"] for file in step["files"])} <= made <= {*NAMES, RECORD}
    states = {step["title"]: step["state"] for step in summary["steps"]}
    assert all((state == "not run") == outcomes[title].startswith("not run") for title, state in states.items())
    page, printed = (tmp_path / "summary.html").read_text(), capsys.readouterr().out
    assert page.count("✓") == list(states.values()).count("ok")
    assert "results in" in printed
    assert summary["seeded"] == (tmp_path / "photo2cartoon_seeded.pt").is_file()
    if summary["seeded"]:
        assert "seeded" in page
        assert "seeded weights" in printed
        import onnx

        props = onnx.load(tmp_path / "photo2cartoon.onnx", load_external_data=False).metadata_props
        assert any(prop.value == "seeded, untrained" for prop in props)
    for command in summary["next"]:
        assert command in " ".join(printed.split())
        build_parser().parse_args(command.split()[1:])


@pytest.mark.parametrize("name", ["photo2cartoon.ckpt", "photo2cartoon_seeded.pt", "summary.html"])
def test_a_file_that_no_demo_wrote_is_not_touched(name, tmp_path, capsys):
    (tmp_path / name).write_text("mine")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / name}: is not the unchanged result of a demo" in said
    assert "choose another --out" in said
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_what_a_demo_wrote_may_be_replaced_until_it_is_changed(tmp_path):
    with demo_folder(tmp_path):
        (tmp_path / "parity.json").write_text("a demo's")
        note_files(tmp_path)
    with demo_folder(tmp_path):
        (tmp_path / "parity.html").write_text("a demo's")
    for name in ("parity.json", "parity.html"):
        (tmp_path / name).write_text("changed")
        with pytest.raises(InputError, match=f"{name}: is not the unchanged result of a demo"), demo_folder(tmp_path):
            pass
        (tmp_path / name).write_text("a demo's")
    (tmp_path / RECORD).write_text("[" * 100_000)
    with pytest.raises(InputError, match="is not the unchanged result of a demo"), demo_folder(tmp_path):
        pass


def test_a_broken_off_demo_leaves_what_the_next_one_replaces(tmp_path):
    def broken_off():
        with demo_folder(tmp_path):
            (tmp_path / "photo2cartoon.ckpt").write_text("half of the work")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    with demo_folder(tmp_path), pytest.raises(InputError, match="another process"), demo_folder(tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"photo2cartoon.ckpt", RECORD}
