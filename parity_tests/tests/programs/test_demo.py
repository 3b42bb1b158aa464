"""The main job in the released configuration, from start to end."""

import json

from toonport.cli import build_parser, main

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
    assert {*MADE, *(file for step in summary["steps"] for file in step["files"])} <= made
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
        assert any("nobody trained" in prop.value for prop in props)
    for command in summary["next"]:
        assert command in " ".join(printed.split())
        build_parser().parse_args(command.split()[1:])
