"""`toonport evaluate` as a user runs it: names that promise nothing false, clear refusals, the best checkpoint."""

import contextlib
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from parity_tests.harness.inputs import feature, image
from parity_tests.tests.cases import save_torch, seeded_state
from parity_tests.tolerances import ULP
from toonport.cli import main
from toonport.evaluate import features as feature_module
from toonport.evaluate.features import Features, batch_of, open_face, open_inception, open_vgg
from toonport.evaluate.inception import Inception
from toonport.evaluate.metrics import Looked, Networks, evaluate
from toonport.evaluate.perceptual import perceptual_distances
from toonport.fetch import load_manifest
from toonport.train.state import Checkpoints
from torch_ref.losses_ugatit import face_id_distance

TINY_RUN = ["--width", "4", "--network", "n_blocks=1", "--size", "96", "--framework", "torch", "--no-tensorboard",
            "--sheet-every", "0", "--log-every", "1"]  # fmt: skip
ROUNDING = 64 * ULP  # float32 networks whose batches differ


@pytest.fixture(autouse=True)
def _no_fetched_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("TOONPORT_WEIGHTS", str(tmp_path / "nothing fetched"))


def _picture(tag, side=64):
    return (image(tag, 1, side, side)[0].transpose(1, 2, 0) * 127.5 + 127.5).astype(np.uint8)


def _folder(path, tags, side=64):
    path.mkdir(parents=True)
    for name, tag in tags.items():
        Image.fromarray(_picture(tag, side)).save(path / f"{name}.png")
    return str(path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Options with seeded MobileFaceNet and VGG19."""
    folder = tmp_path_factory.mktemp("weights")
    face = save_torch(folder / "face.pth", seeded_state("mobilefacenet", "mobilefacenet"))
    vgg = save_torch(folder / "vgg.pth", seeded_state("vgg19", "vgg19"))
    return {"--face-weights": str(face), "--vgg-weights": str(vgg)}


@pytest.fixture(scope="module")
def options(weights):
    return [text for pair in weights.items() for text in pair]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Photos, their cartoons, and real cartoons."""
    root = tmp_path_factory.mktemp("pictures")
    names = "abc"
    return {
        "--photos": _folder(root / "photos", {name: f"photo {name}" for name in names}),
        "--fake": _folder(root / "fake", {name: f"cartoon {name}" for name in names}),
        "--real": _folder(root / "real", {str(index): f"real {index}" for index in range(4)}, side=80),
    }


def _command(*parts):
    """`evaluate` with options given as texts, lists and dictionaries."""
    command = ["evaluate"]
    for part in parts:
        one = [text for pair in part.items() for text in pair] if isinstance(part, dict) else part
        command += [one] if isinstance(one, str) else one
    return command


def _metrics(path, index=0):
    return {one["key"]: one for one in json.loads(Path(path).read_text())["evaluations"][index]["metrics"]}


@pytest.fixture(scope="module")
def evaluation(folders, options, tmp_path_factory):
    """What one evaluation prints, what it saves, and its metrics by key."""
    target = tmp_path_factory.mktemp("evaluation") / "numbers.json"
    with contextlib.redirect_stdout(io.StringIO()) as text:
        assert main(_command(folders, options, ["--json", str(target), "--kid", "ugatit", "--seed", "3"])) == 0
    return text.getvalue(), json.loads(target.read_text()), _metrics(target)


def test_what_was_measured_on_what_is_saved(evaluation, folders):
    _, saved, found = evaluation
    names = ["kernel-vgg19", "frechet-vgg19", "kernel-mobilefacenet", "frechet-mobilefacenet", "face-id", "perceptual"]
    assert list(found) == names
    assert (saved["schema"], saved["seed"], saved["kid"]) == ("toonport-evaluation/1", 3, "ugatit")
    assert saved["pictures"]["real"] == {"folder": folders["--real"], "found": 4, "skipped": []}
    assert {one["name"] for one in saved["networks"]} == {"MobileFaceNet-64", "VGG19-64"}
    assert all(len(one["sha256"]) == 64 and one["how"] for one in saved["networks"])


def test_a_distance_says_how_it_is_defined_and_of_how_many_pictures(evaluation):
    found = evaluation[2]
    kernel = found["kernel-mobilefacenet"]
    assert kernel["name"] == "kernel distance (features MobileFaceNet-64) ×100, ugatit"
    assert kernel["counts"] == {"real": 4, "generated": 3}
    for part in ("degree 3", "gamma 1/d", "coef 1", "1 blocks of at most 10", "×100", "real cartoons only"):
        assert part in kernel["definition"]
    assert kernel["spread"] is None
    assert found["face-id"]["counts"] == {"pairs": 3}


def test_every_metric_is_printed_under_a_name_that_is_not_a_published_one(evaluation):
    text, _, found = evaluation
    for one in found.values():
        assert one["name"] in text
        assert one["definition"] in text
        assert not [name for name in ("FID", "KID", "LPIPS") if name in one["name"]]
    assert "FID, KID: not run (no Inception weights: toonport fetch inception" in text
    assert "3 generated pictures: the covariances have rank 3 and 2 of 64" in text


def test_every_number_is_the_same_again(folders, options, tmp_path, capsys):
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    for path in files:
        assert main(_command(folders, options, ["--json", str(path)])) == 0
    one, two = (json.loads(path.read_text()) for path in files)
    assert one == two


def test_only_the_published_inception_gives_fid_and_kid():
    sets = [Looked(12, {"inception": feature(name, (12, 16), 1.0)}) for name in ("real", "fake")]
    other = Features("inception", "Inception-2048", 16, False, "", Path("x"), "0", torch.nn.Identity(), list)
    for features, wanted in (
        (replace(other, standard=True), ["KID ×100, standard", "FID"]),
        (other, ["kernel distance (features Inception-2048) ×100, standard",
                 "Fréchet distance (features Inception-2048)"]),
    ):  # fmt: skip
        found = evaluate(*sets, Networks((features,), None, None, ()), "standard", 0)
        assert [one.name for one in found.metrics] == wanted
    assert found.metrics[0].spread is not None


def test_inception_weights_are_known_by_their_hash(tmp_path, capsys, monkeypatch):
    torch.manual_seed(0)
    path = tmp_path / "pt_inception-2015-12-05-6726825d.pth"
    torch.save({name: value for name, value in Inception().state_dict().items() if "num_batches" not in name}, path)
    target = tmp_path / "numbers.json"
    options = {"--inception-weights": str(path), "--json": str(target)}
    two = _folder(tmp_path / "two", {"a": "cartoon a", "b": "cartoon b"})
    assert main(_command({"--real": two, "--fake": two}, options)) == 0
    text, found = capsys.readouterr().out, _metrics(target)
    features = open_inception(path)
    assert f"FID, KID: not run ({path} is not the published Inception file, its sha256 begins with" in text
    assert found["frechet-inception"]["name"].startswith("Fréchet distance (features Inception-2048 with weights ")
    assert found["frechet-inception"]["value"] == pytest.approx(0, abs=1e-6)
    release = load_manifest()["inception"]
    assert release.sha256.startswith("6726825d")
    assert "6726825d" in release.url
    monkeypatch.setattr(
        feature_module, "load_manifest", lambda: {"inception": replace(release, sha256=features.sha256)}
    )
    assert open_inception(path).standard


def test_the_face_similarity_is_one_less_the_loss(folders, options, weights, tmp_path):
    target = tmp_path / "numbers.json"
    assert main(_command(folders, options, ["--json", str(target)])) == 0
    face = open_face(Path(weights["--face-weights"]))
    photos, fakes = (batch_of([_picture(f"{what} {name}") for name in "abc"]) for what in ("photo", "cartoon"))
    loss = float(face_id_distance(face.network, photos, fakes))
    assert _metrics(target)["face-id"]["value"] == pytest.approx(1 - loss, abs=ROUNDING)


def test_the_perceptual_distance_is_that_of_unit_vectors(weights):
    vgg = open_vgg(Path(weights["--vgg-weights"]))
    photo, cartoon = _picture("photo a"), _picture("cartoon a", 80)
    assert perceptual_distances(vgg, [photo], [photo]) == [0.0]
    pictures = batch_of([photo, cartoon]).double()
    network, layers = vgg.network.double(), []
    x = (pictures + 1).flip(1) * 127.5 - torch.tensor([103.939, 116.779, 123.68]).double().reshape(1, 3, 1, 1)
    with torch.no_grad():
        for index, layer in enumerate(network.conv):
            if index in (2, 5, 10):
                layers.append(x.numpy())
            x = layer(x)
    layers.append(np.maximum(x.numpy(), 0))
    assert [layer.shape[2] for layer in layers] == [256, 128, 64, 32]
    each = []
    for layer in layers:
        one, two = layer / np.linalg.norm(layer, axis=1, keepdims=True)
        each.append(((one - two) ** 2).sum(0).mean())
    found = perceptual_distances(open_vgg(vgg.path), [photo], [cartoon])
    assert found == pytest.approx([np.mean(each)], rel=ROUNDING)
    assert 0 < found[0] < 2


def test_unpaired_names_are_refused(folders, options, tmp_path, capsys):
    _folder(tmp_path / "more", {name: f"cartoon {name}" for name in "abcz"})
    assert main(_command({**folders, "--fake": str(tmp_path / "more")}, options)) == 2
    assert f"{folders['--photos']}: has no photo named like {tmp_path}/more/z.png" in capsys.readouterr().err
    _folder(tmp_path / "fewer", {"a": "cartoon a"})
    assert main(_command({**folders, "--fake": str(tmp_path / "fewer")}, options)) == 2
    assert "has no cartoon named like" in capsys.readouterr().err


def test_pictures_that_cannot_be_read_are_left_out_and_counted(folders, options, tmp_path, capsys):
    _folder(tmp_path / "fake", {name: f"cartoon {name}" for name in "ab"})
    (tmp_path / "fake" / "c.png").write_bytes(b"not a picture")
    target = tmp_path / "numbers.json"
    command = _command({**folders, "--fake": str(tmp_path / "fake")}, options, ["--json", str(target)])
    assert main(command) == 0
    assert f"left out, cannot be read: {tmp_path}/fake/c.png" in capsys.readouterr().out
    saved = json.loads(target.read_text())["pictures"]["generated"]
    assert saved == {"folder": f"{tmp_path}/fake", "found": 3, "skipped": [f"{tmp_path}/fake/c.png"]}
    assert _metrics(target)["face-id"]["counts"] == {"pairs": 2}
    assert _metrics(target)["frechet-vgg19"]["counts"] == {"real": 4, "generated": 2}
    for name in "ab":
        (tmp_path / "fake" / f"{name}.png").write_bytes(b"")
    assert main(command) == 2
    assert "fake: none of the 3 pictures can be read" in capsys.readouterr().err


def test_a_single_picture_has_no_distance_but_pairs_have_numbers(folders, options, tmp_path, capsys):
    for kind in ("photo", "cartoon"):
        _folder(tmp_path / kind, {"a": f"{kind} a"})
    single = {"--photos": f"{tmp_path}/photo", "--fake": f"{tmp_path}/cartoon", "--real": folders["--real"]}
    target = tmp_path / "numbers.json"
    assert main(_command(single, options, ["--json", str(target)])) == 0
    assert list(_metrics(target)) == ["face-id", "perceptual"]
    assert "4 real and 1 generated pictures, at least 2 of each are needed" in capsys.readouterr().out
    del single["--photos"]
    assert main(_command(single, options)) == 2
    text = capsys.readouterr().err
    assert "nothing could be computed" in text
    assert text.count("\n") == 1


def test_what_cannot_be_evaluated_is_one_clear_line(folders, options, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    real = {"--real": folders["--real"]}
    for parts, said in (
        ([folders], "nothing to measure with: toonport fetch inception"),
        ([{**folders, "--fake": str(tmp_path / "empty")}, options], "no pictures there"),
        ([{**folders, "--real": str(tmp_path / "none")}, options], "none: no such folder"),
        ([{"--fake": folders["--fake"]}, options], "--real DIR is needed"),
        ([real, {"--weights": str(tmp_path / "none.pt")}, options], "none.pt: no such file"),
        ([real, {"--weights": options[1]}, options], "--photos DIR is needed"),
        ([folders, {"--face-weights": str(tmp_path / "none.pth")}], "none.pth: no such file"),
        ([folders, {"--face-weights": options[3]}], "do not belong to mobilefacenet"),
        ([folders, {"--by": "fid"}, options], "--by goes with --select"),
        ([{"--select": str(tmp_path)}, options], "no run of toonport train there"),
    ):
        assert main(_command(*parts)) == 2
        text = capsys.readouterr().err
        assert said in text
        assert text.count("\n") == 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on seeded pictures that reached step 2 of 6, with checkpoints after 1 and 2, beside its data."""
    root = tmp_path_factory.mktemp("trained")
    for name in ("trainA", "trainB", "testA", "testB"):
        _folder(root / "data" / name, {str(index): f"{name} {index}" for index in range(3)}, side=100)
    steps = ["--steps", "6", "--until", "2", "--save-every", "1", "--lr", "0.002"]
    command = ["train", "ugatit", "--data", str(root / "data"), "--out", str(root / "run"), *TINY_RUN, *steps]
    assert main(command) == 0
    return root


@pytest.fixture
def run(trained, tmp_path):
    """A copy of that run, for one test to change."""
    return Path(shutil.copytree(trained / "run", tmp_path / "run"))


def test_the_best_checkpoint_is_selected(run, options, tmp_path, capsys):
    best_before = (run / "best").read_text()
    target = tmp_path / "numbers.json"
    assert main(_command({"--select": str(run), "--by": "face-id", "--json": str(target)}, options)) == 0
    text, saved = capsys.readouterr().out, json.loads(target.read_text())
    values = {
        one["step"]: _metrics(target, index)["face-id"]["value"] for index, one in enumerate(saved["evaluations"])
    }
    assert sorted(values) == [1, 2]
    assert values[1] != values[2]
    best = max(values, key=values.get)  # more likeness is better
    assert (saved["decided_by"], saved["selected"]) == ("face-id", best)
    assert f"best by face-id: step {best}; {run}/selected names it" in text
    assert (run / "selected").read_text() == f"step_{best:07d}\n"
    assert (run / "best").read_text() == best_before


def test_a_selected_checkpoint_outlives_further_training_until_another_is_selected(run):
    checkpoints = Checkpoints(run, keep=1)
    checkpoints.select(1)
    assert checkpoints.selected() == 1
    assert main(["train", "ugatit", "--out", str(run), "--resume", "--until", "3", "--keep", "1"]) == 0
    assert {1, 3} <= set(checkpoints.steps())
    checkpoints.select(3)
    checkpoints.clean(3)
    assert checkpoints.steps() == [3]


def test_a_selected_checkpoint_that_is_made_anew_is_selected_no_more(run):
    checkpoints = Checkpoints(run, keep=1)
    checkpoints.select(2)
    checkpoints.forget_after(1)
    assert (checkpoints.steps(), checkpoints.selected()) == ([1], None)
    assert not (run / "selected").exists()


def test_a_damaged_checkpoint_is_left_out_and_other_numbers_are_refused(run, options, capsys, tmp_path):
    weights = run / "checkpoints" / "step_0000001" / "weights.pt"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    target = tmp_path / "numbers.json"
    assert main(_command({"--select": str(run), "--json": str(target)}, options)) == 0
    assert "failed: " in capsys.readouterr().out
    first, second = json.loads(target.read_text())["evaluations"]
    assert "damaged or changed" in first["problem"]
    assert second["metrics"]
    assert Checkpoints(run).selected() == 2
    assert main(_command({"--select": str(run), "--by": "fid"}, options)) == 2
    assert "--by fid: was not measured; measured: kernel-vgg19" in capsys.readouterr().err


def test_cartoons_drawn_beforehand_get_the_same_numbers(run, trained, options, tmp_path):
    select, drawn, other = tmp_path / "select.json", tmp_path / "drawn", tmp_path / "other.json"
    assert main(_command({"--select": str(run), "--json": str(select)}, options)) == 0
    saved = json.loads(select.read_text())
    assert saved["decided_by"] == "kernel-vgg19"
    values = [one["metrics"][0]["value"] for one in saved["evaluations"]]
    assert saved["selected"] == saved["evaluations"][int(np.argmin(values))]["step"]
    weights = str(run / "checkpoints" / "step_0000002" / "weights.pt")
    draw = ["--weights", weights, "--frame", "whole", "--size", "96", "--out", str(drawn), "--jobs", "1"]
    assert main(["cartoonize", str(trained / "data" / "testA"), *draw]) == 0
    sets = {"--photos": f"{trained}/data/testA", "--real": f"{trained}/data/testB", "--json": str(other)}
    for source in ({"--fake": str(drawn)}, {"--weights": weights, "--size": "96"}):
        assert main(_command(sets, source, options)) == 0
        for key, one in _metrics(select, 1).items():
            assert _metrics(other)[key]["value"] == pytest.approx(one["value"], rel=ROUNDING, abs=ROUNDING)


@pytest.mark.shared
def test_real_faces_are_like_themselves_and_unlike_cartoons(shared, tmp_path):
    face = {"--face-weights": str(shared / "weights" / "mobilefacenet_y1_128_torch.pth")}
    photos, cartoons = str(shared / "data" / "testA"), str(shared / "data" / "testB")
    same, other = tmp_path / "same.json", tmp_path / "other.json"
    assert main(_command({"--fake": photos, "--photos": photos, "--real": photos, "--json": str(same)}, face)) == 0
    assert main(_command({"--fake": photos, "--real": cartoons, "--json": str(other)}, face)) == 0
    same_numbers, other_numbers = _metrics(same), _metrics(other)
    assert same_numbers["face-id"]["value"] == pytest.approx(1)
    assert same_numbers["frechet-mobilefacenet"]["value"] < 1e-6
    assert same_numbers["kernel-mobilefacenet"]["value"] < 0  # unbiased: a set is nearer to itself than by chance
    assert other_numbers["frechet-mobilefacenet"]["value"] > 0.5
    assert other_numbers["kernel-mobilefacenet"]["value"] > 5 * other_numbers["kernel-mobilefacenet"]["spread"]
