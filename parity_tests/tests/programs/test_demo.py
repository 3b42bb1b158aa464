"""The main job in the released configuration, from start to end."""

import json

from toonport.cli import main


def test_demo_does_the_whole_job(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["good"]
    outcomes = {step["title"]: step["outcome"] for step in summary["steps"]}
    assert "936 tensors" in outcomes["convert to MindSpore"]
    assert outcomes["prove parity"].startswith("equal")
    assert outcomes["convert back"] == "sha256 equal for 936 of 936 tensors"
    for name in ("summary.html", "parity.html", "parity.json", "photo2cartoon.ckpt", "photo2cartoon.onnx"):
        assert (tmp_path / name).stat().st_size > 0
    for step in summary["steps"]:
        assert all((tmp_path / file).is_file() for file in step["files"])
    assert "results in" in capsys.readouterr().out
