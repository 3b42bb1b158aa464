"""The main job in the released configuration, from start to end."""

import json

from toonport.cli import main

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
    assert "results in" in capsys.readouterr().out
