"""Folders of photos: names, sampling, processes, going on where a run ended, and the reference's own results."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from convert.errors import InputError
from parity_tests.tolerances import CROP_SIDE_SHARE, MATTE_OVERLAP
from toonport.cli import main
from toonport.photo.batch import Outcome, Record, Task, plan_tasks, run_tasks, sample
from toonport.photo.example import drawn_face
from toonport.photo.picture import read_picture, resize, write_picture
from toonport.photo.portrait import PortraitOptions, Portraits
from toonport.photo.preprocessor import numbered


def _touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def _targets(tasks):
    return {Path(task.source).name: task.target for task in tasks}


def test_targets_keep_names_and_places_and_never_collide(tmp_path):
    photos = _touch(tmp_path / "in", "b.jpg", "a.jpg", "a.png", "sub/b.jpg", "notes.txt", ".hidden.jpg")
    tasks = plan_tasks([str(photos)], Path("out"))
    assert [task.target for task in tasks] == ["out/a.jpg.png", "out/a.png.png", "out/b.png", "out/sub/b.png"]
    again = plan_tasks([str(photos), str(photos / "b.jpg")], Path("out"))
    assert len(again) == 4  # a photo named twice is one photo
    assert plan_tasks([str(photos / "a.jpg")], Path("out"))[0].target == "out/a.png"


def test_results_inside_the_photo_folder_are_not_photos(tmp_path):
    photos = _touch(tmp_path, "a.jpg", "out/a.png")
    assert _targets(plan_tasks([str(photos)], photos / "out")) == {"a.jpg": str(photos / "out" / "a.png")}


def test_names_that_could_meet_are_kept_apart(tmp_path):
    for names, wanted in (
        (("x/a.jpg", "y/a.jpg"), ["out/a.jpg.png", "out/a.jpg-2.png"]),
        (("x/a.jpg", "x/a.png", "x/a.jpg.png"), ["out/a.jpg.png", "out/a.jpg-2.png", "out/a.png.png"]),
        (("x/g.jpg", "x/g_1.jpg", "x/g_sheet.jpg"), ["out/g.png", "out/g_1.jpg.png", "out/g_sheet.jpg.png"]),
        (("x/a.jpg", "x/A.png"), ["out/A.png.png", "out/a.jpg.png"]),
    ):
        photos = _touch(tmp_path / str(len(list(tmp_path.iterdir()))), *names)
        folders = sorted(str(path) for path in photos.iterdir())
        assert sorted(task.target for task in plan_tasks(folders, Path("out"))) == sorted(wanted)


def test_a_result_never_replaces_a_photo(tmp_path, capsys):
    photos = _touch(tmp_path / "in", "a.png", "b.jpg")
    with pytest.raises(InputError, match="different folders"):
        plan_tasks([str(photos)], photos)
    with pytest.raises(InputError, match="would replace the photo"):
        plan_tasks([str(photos / "a.png")], photos)
    assert len(plan_tasks([str(photos)], tmp_path)) == 2  # results above the photos
    weights = str(_touch(tmp_path, "w.onnx") / "w.onnx")
    assert main(["cartoonize", str(photos / "a.png"), "--weights", weights, "--out", str(photos / "a.png")]) == 2
    assert "would replace the photo" in capsys.readouterr().err
    assert (photos / "a.png").read_bytes() == b"a.png"


def test_missing_photos_and_empty_folders_are_named(tmp_path, capsys, matte_network):
    write_picture(tmp_path / "in" / "face.png", drawn_face(300))
    command = ["preprocess", str(tmp_path / "none.jpg"), str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    text = capsys.readouterr()
    assert "1 of 2 photos done" in text.out
    assert "1 skipped: no such file" in text.out
    with pytest.raises(InputError, match="no pictures there"):
        plan_tasks([str(_touch(tmp_path / "texts", "a.txt"))], tmp_path)


def test_sampling_takes_equal_intervals():
    tasks = [Task(str(index), "") for index in range(10)]
    assert [task.source for task in sample(tasks, 4)] == ["0", "2", "5", "7"]
    assert [task.source for task in sample(tasks, 1)] == ["0"]
    assert sample(tasks, 99) == tasks
    assert numbered("out/a.png", 1) == ("out/a.png",)
    assert numbered("out/a.png", 2) == ("out/a_1.png", "out/a_2.png")


class Worker:
    """Stands for the loaded backends: what it does with a photo is in the photo's name."""

    def __init__(self, usable=True):
        if not usable:
            raise InputError("the matte is not installed")

    def __call__(self, task):
        if "killer" in task.source:
            os._exit(9)
        if "bad" in task.source:
            raise InputError(f"{task.source}: not a picture")
        if "odd" in task.source:
            raise ZeroDivisionError("surprise")
        return Outcome(task.source, (task.target,))


@pytest.mark.parametrize("jobs", [1, 2])
def test_bad_photos_do_not_stop_the_others(jobs):
    tasks = [Task(name, f"{name}.png") for name in ("a", "bad", "odd", "b")]
    found = {outcome.source: outcome for outcome in run_tasks(Worker, tasks, jobs)}
    assert found["a"].files == ("a.png",)
    assert found["b"].problem == ""
    assert found["bad"].problem == "not a picture"
    assert "ZeroDivisionError" in found["odd"].problem


def test_a_photo_that_kills_its_process_is_found_out_and_the_rest_is_done():
    names = ["a", "b", "killer", "c", "d", "e", "f"]
    found = {outcome.source: outcome for outcome in run_tasks(Worker, [Task(name, name) for name in names], 2)}
    assert {name for name, outcome in found.items() if outcome.problem} == {"killer"}
    assert set(found) == set(names)


@pytest.mark.parametrize("jobs", [1, 2])
def test_backends_that_cannot_be_loaded_stop_the_run(jobs):
    with pytest.raises(InputError, match="not installed"):
        list(run_tasks(partial(Worker, usable=False), [Task("a", "a"), Task("b", "b")], jobs))


def test_record_knows_what_is_done_and_forgets_what_has_changed(tmp_path):
    photos = _touch(tmp_path, "a.jpg", "b.jpg", "out/a.png")
    path, task = photos / "out" / "record.jsonl", Task(str(photos / "a.jpg"), str(photos / "out" / "a.png"))
    Record(path, {"size": 256}).add(Outcome(task.source, (task.target,), warnings=("small",)), task)
    faceless = Task(str(photos / "b.jpg"), str(photos / "out" / "b.png"))
    Record(path, {"size": 256}).add(Outcome(faceless.source, problem="no face found"), faceless)
    with open(path, "ab") as file:
        file.write(b"\xff\x00 no text\n")
        file.write(b'{"source": "c.jpg", "fil')  # the program was stopped here
    same = Record(path, {"size": 256})
    assert same.known(task) == Outcome(task.source, (task.target,), warnings=("small",))
    assert same.known(faceless).problem == "no face found"
    assert same.known(Task("c.jpg", "c.png")) is None
    assert Record(path, {"size": 128}).known(task) is None
    assert same.known(Task(task.source, str(photos / "out" / "other.png"))) is None
    same.add(Outcome(faceless.source, problem="the disk is full"), faceless)  # after the line that was cut
    again = Record(path, {"size": 256})
    assert again.known(faceless) is None  # what may have gone away is tried again
    assert again.known(task) is not None
    again.add(Outcome(faceless.source, (task.target,)), Task(faceless.source, task.target))
    assert again.known(task) is None  # its file is another photo's now
    (photos / "a.jpg").write_bytes(b"another photo")
    assert same.known(task) is None


@pytest.mark.parametrize("loss", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_result_that_was_lost_is_made_again(tmp_path, loss):
    photos = _touch(tmp_path, "a.jpg", "out/a.png")
    task = Task(str(photos / "a.jpg"), str(photos / "out" / "a.png"))
    record = Record(photos / "out" / "record.jsonl", {})
    record.add(Outcome(task.source, (task.target,)), task)
    assert record.known(task) is not None
    loss(Path(task.target))
    assert record.known(task) is None


@pytest.fixture
def album(tmp_path):
    """A face, a photo without one, and a file that is no picture."""
    folder = tmp_path / "album"
    write_picture(folder / "face.png", drawn_face(300))
    write_picture(folder / "deep" / "turned.jpg", np.ascontiguousarray(np.rot90(drawn_face(300))))
    write_picture(folder / "wall.png", np.full((200, 200, 3), 90, np.uint8))
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff torn")
    return folder


def test_preprocess_writes_the_good_and_names_the_bad(album, tmp_path, capsys, matte_network):
    out = tmp_path / "out"
    command = ["preprocess", str(album), "--out", str(out), "--size", "128", "--jobs", "1"]
    assert main(command) == 2
    text = capsys.readouterr()
    assert "2 of 4 photos done" in text.out
    assert "1 skipped: no face found" in text.out
    assert "torn.jpg: not a picture that can be read; nothing written" in " ".join(text.err.split())
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*.png"))
    assert written == ["deep/turned.png", "face.png"]
    first = read_picture(out / "face.png")
    assert first.shape == (128, 128, 3)
    assert (first[:4, :4] == 255).all()
    difference = np.abs(first.astype(int) - read_picture(out / "deep" / "turned.png"))
    assert difference.mean() < 12  # the turned photo comes out upright


def test_preprocess_does_nothing_twice_and_keeps_a_journal(album, tmp_path, capsys, matte_network):
    out = tmp_path / "out"
    command = ["preprocess", str(album), "--out", str(out), "--size", "128", "--jobs", "1"]
    assert main(command) == 2
    capsys.readouterr()
    before = (out / "face.png").stat().st_mtime_ns
    assert main(command) == 2  # nothing is done twice, what was skipped is still said
    assert (out / "face.png").stat().st_mtime_ns == before
    assert "2 of 4 photos done" in capsys.readouterr().out
    lines = [json.loads(line) for line in (out / "preprocess.jsonl").read_text().splitlines()]
    assert len({line["source"] for line in lines}) == 4
    sides = {Path(line["source"]).name: line["facts"].get("sides") for line in lines}
    assert sides["wall.png"] is None
    assert sides["face.png"][0] == pytest.approx(287, rel=0.05)


def test_preprocess_in_two_processes_writes_the_same(album, tmp_path, matte_network):
    for jobs in ("1", "2"):
        main(["preprocess", str(album), "--out", str(tmp_path / jobs), "--jobs", jobs])
    one, two = (read_picture(tmp_path / jobs / "deep" / "turned.png") for jobs in ("1", "2"))
    assert one.shape == two.shape
    assert np.abs(one.astype(int) - two).mean() < 0.1


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text here")
def test_names_that_are_not_text_are_no_obstacle(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    write_picture(tmp_path / "album" / name, drawn_face(300))
    write_picture(tmp_path / "album" / f"wall {name}", np.full((200, 200, 3), 90, np.uint8))
    command = [sys.executable, "-m", "toonport", "preprocess", str(tmp_path / "album"), "--out", str(tmp_path / "out")]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    for _ in range(2):  # the second run reads the record
        done = subprocess.run([*command, "--keep-background"], env=environment, capture_output=True, check=False)
        assert done.returncode == 2, done.stderr
        assert b"1 of 2 photos done" in done.stdout
        assert b"wall caf" in done.stderr
        assert b"no face found" in done.stderr
        assert b"Traceback" not in done.stderr
    assert (tmp_path / "out" / name).with_suffix(".png").stat().st_size > 0


def test_preprocess_options(album, tmp_path, capsys):
    out = tmp_path / "kept"
    assert main(["preprocess", str(album / "face.png"), "--out", str(out), "--keep-background", "--all-faces"]) == 0
    kept = read_picture(out / "face.png")
    assert kept[20, kept.shape[1] // 2, 2] > 150  # the drawing's blue wall
    assert main(["preprocess", str(album), "--out", str(tmp_path / "two"), "--sample", "1", "--keep-background"]) == 0
    assert "1 of 1 photos" in capsys.readouterr().out
    assert main(["preprocess", str(album), "--out", str(album / "face.png")]) == 2
    assert "must be a folder" in capsys.readouterr().err
    for bad in ("0", "-3", "x"):
        with pytest.raises(SystemExit) as stop:
            main(["preprocess", str(album), "--out", str(out), "--size", bad])
        assert stop.value.code == 2


@pytest.mark.shared
def test_crops_and_mattes_are_those_of_the_reference(shared, matte_network):
    folder = shared / "data" / "preprocess_ref"
    lines = [line.split() for line in (folder / "pairs.txt").read_text().splitlines() if not line.startswith("#")]
    portraits, overlaps = Portraits(PortraitOptions()), []
    for photo, result, side in lines:
        (portrait,) = portraits(read_picture(folder / photo))
        assert portrait.side == pytest.approx(int(side), rel=CROP_SIDE_SHARE), photo
        wanted = read_picture(folder / result)
        found = resize(portrait.white, *wanted.shape[:2])
        person, kept = wanted.min(axis=2) < 245, found.min(axis=2) < 245  # the results are JPEG: white is not exact
        overlaps.append((person & kept).sum() / (person | kept).sum())
    assert len(lines) == 20
    assert np.mean(overlaps) >= MATTE_OVERLAP


@pytest.mark.shared
def test_faces_in_the_wild(shared, tmp_path, capsys):
    photos = sorted((shared / "data" / "wild").glob("*.jpg"))
    command = ["preprocess", *map(str, photos), "--out", str(tmp_path), "--keep-background", "--jobs", "1"]
    assert main(command) == 2
    found = {path.name[:2] for path in tmp_path.glob("*.png")}
    assert found == {"01", "02", "03", "04", "05", "07", "11", "14"}
    assert "2 skipped: no face found" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "preprocess.jsonl").read_text().splitlines()]
    angles = {Path(line["source"]).name[:2]: line["facts"]["angles"][0] for line in lines if line["facts"]}
    for name, turn in (("02", 30), ("03", 90), ("04", 180)):  # the same photo, turned against the clock
        tilt = (angles["01"] - turn - angles[name] + 180) % 360 - 180
        assert abs(tilt) < 5, name
