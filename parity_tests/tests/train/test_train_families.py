"""Training runs of the families beside U-GAT-IT: starts from one network, White-box's stages, hooks and sheets."""

import numpy as np
import pytest
from PIL import Image

from convert.conversion import load_networks
from convert.registry import family_named
from parity_tests.harness.inputs import image
from parity_tests.tests.cases import checkpoint_bytes, save_torch, seeded_family, seeded_state
from toonport.cli import main
from toonport.train.config import RunConfig
from toonport.train.engine import Engine
from toonport.train.logs import read_metrics
from toonport.train.start import starting_point

NARROW = ["--width", "4", "--network", "num_blocks=1"]
QUIET = ["--margin", "2", "--no-jit", "--no-tensorboard", "--log-every", "1", "--sheet-every", "0", "--save-every", "2"]


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    """A narrow VGG19 with seeded weights."""
    return save_torch(tmp_path_factory.mktemp("vgg") / "vgg19.pth", seeded_state("vgg19", "vgg19"))


@pytest.fixture
def face_points(monkeypatch):
    """The 68 points of a face in the middle of every picture, in place of dlib's."""

    def find(picture):
        height, width = picture.shape[:2]
        points = np.zeros((68, 2))
        places = {(36, 42): (0.35, 0.4), (42, 48): (0.65, 0.4), (30, 31): (0.5, 0.5), (48, 68): (0.5, 0.65)}
        for (first, last), place in places.items():
            points[first:last] = np.array(place) * (width, height)
        return points

    monkeypatch.setattr("toonport.train.whitebox_landmarks.dlib_points", lambda: find)


def _losses(out):
    return [(row["step"], row["lr"], row["loss"]) for row in read_metrics(out)]


@pytest.mark.parametrize("framework", ["torch", "mindspore"])
def test_whitebox_with_superpixels_and_landmarks_is_repeatable_and_resumes_exactly(
    framework, pictures, vgg, face_points, tmp_path
):
    start = ["train", "whitebox", "--data", str(pictures), "--framework", framework, "--frozen", str(vgg), *NARROW]
    flags = [*start, *QUIET, "--size", "32", "--steps", "4", "--adaptive-structure", "--set", "landmark=1000"]
    straight, again, plain = tmp_path / "straight", tmp_path / "again", tmp_path / "plain"
    assert main([*flags, "--out", str(straight)]) == 0
    assert main([*flags, "--out", str(again), "--until", "2"]) == 0
    assert main(["train", "whitebox", "--out", str(again), "--resume", "--adaptive-structure"]) == 0
    assert checkpoint_bytes(again, 4) == checkpoint_bytes(straight, 4)
    assert _losses(again) == _losses(straight)
    first = _losses(straight)[0][2]
    assert first["G.landmark"] > 0
    flags.remove("--adaptive-structure")
    assert main([*flags, "--out", str(plain), "--until", "1"]) == 0
    simple = _losses(plain)[0][2]
    assert simple["G.landmark"] == first["G.landmark"]
    assert simple["G.structure"] != first["G.structure"]


@pytest.mark.parametrize("framework", ["torch", "mindspore"])
def test_cyclegan_resumes_exactly_with_its_pools(framework, pictures, tmp_path):
    narrow = ["--width", "4", "--network", "n_blocks=1", "--network", "n_layers=1", "--set", "pool_size=2"]
    flags = ["train", "cyclegan", "--data", str(pictures), "--framework", framework, *narrow, *QUIET, "--size", "16"]
    straight, again = tmp_path / "straight", tmp_path / "again"
    assert main([*flags, "--steps", "6", "--out", str(straight)]) == 0
    assert main([*flags, "--steps", "6", "--out", str(again), "--until", "4"]) == 0
    assert main(["train", "cyclegan", "--out", str(again), "--resume"]) == 0
    assert checkpoint_bytes(again, 6) == checkpoint_bytes(straight, 6)
    assert ("optimizer", "pool.A") in checkpoint_bytes(straight, 6)
    assert _losses(again) == _losses(straight)


def test_a_finished_run_is_made_longer_by_more_steps(pictures, tmp_path, capsys):
    narrow = ["--width", "4", "--network", "n_blocks=1", "--network", "n_layers=1", "--set", "pool_size=2"]
    flags = ["train", "cyclegan", "--data", str(pictures), "--framework", "torch", *narrow, *QUIET, "--size", "16"]
    flags += ["--set", "constant_epochs=1"]
    straight, again = tmp_path / "straight", tmp_path / "again"
    assert main([*flags, "--steps", "6", "--out", str(straight)]) == 0
    assert main([*flags, "--steps", "3", "--out", str(again)]) == 0
    assert "--resume --steps MORE" in " ".join(capsys.readouterr().out.split())
    assert main(["train", "cyclegan", "--out", str(again), "--resume", "--steps", "2"]) == 2
    assert "only more --steps" in capsys.readouterr().err
    assert main(["train", "cyclegan", "--out", str(again), "--resume", "--steps", "6", "--until", "4"]) == 0
    assert "6 steps in place of 3" in " ".join(capsys.readouterr().out.split())
    assert main(["train", "cyclegan", "--out", str(again), "--resume"]) == 0
    assert checkpoint_bytes(again, 6) == checkpoint_bytes(straight, 6)
    assert _losses(again)[3:] == _losses(straight)[3:]


@pytest.mark.parametrize("framework", ["torch", "mindspore"])
def test_other_families_work_through_a_batch_in_pieces_too(framework, pictures, tmp_path):
    narrow = ["--width", "4", "--network", "n_blocks=1", "--network", "n_layers=1", "--set", "pool_size=0"]
    flags = ["train", "cyclegan", "--data", str(pictures), "--framework", framework, *narrow, *QUIET, "--size", "16"]
    losses = {}
    for pieces in ("1", "2"):
        out = tmp_path / pieces
        assert main([*flags, "--batch", "2", "--accumulate", pieces, "--steps", "1", "--out", str(out)]) == 0
        ((_, _, losses[pieces]),) = _losses(out)
    assert losses["2"] == pytest.approx(losses["1"], rel=1e-4)


def test_both_frameworks_hand_the_same_pictures_to_the_hooks(pictures, vgg, face_points):
    seen = {}
    for framework in ("torch", "mindspore"):
        config = RunConfig("whitebox", str(pictures), "", framework=framework, frozen=str(vgg), width=4, size=32,
                           settings={"landmark": 1000.0}, network={"num_blocks": 1}).checked()  # fmt: skip
        engine = Engine(config, starting_point(config, (3, 3)))
        kept = seen[framework] = {}
        for name, make in engine.step.hooks.items():
            engine.step.hooks[name] = lambda x, name=name, make=make, kept=kept: make(kept.setdefault(name, x))
        photo = image("photo", 1, 32, 32)
        kept["terms"] = np.array(list(engine.train(photo, image("cartoon", 1, 32, 32)).values()))
        assert np.array_equal(kept["landmarks"], photo)  # RGB, though the networks see BGR
    assert seen["torch"].keys() == seen["mindspore"].keys() == {"landmarks", "superpixels", "terms"}
    for name, ours in seen["torch"].items():
        assert np.allclose(ours, seen["mindspore"][name], rtol=1e-3, atol=1e-5)


def _cartoon(photo, target, *weights):
    assert main(["cartoonize", photo, "--weights", *map(str, weights), "--out", str(target)]) == 0
    with Image.open(target) as cartoon:
        return np.asarray(cartoon)


def test_whitebox_is_pretrained_then_trained_from_the_run_s_folder(pictures, vgg, tmp_path, capsys):
    before, after = tmp_path / "before", tmp_path / "after"
    common = ["--data", str(pictures), "--framework", "torch", *QUIET, "--size", "32"]
    length = ["--steps", "40", "--lr", "0.01", "--save-every", "0"]
    assert main(["train", "whitebox", "--pretrain", *common, *NARROW, *length, "--out", str(before)]) == 0
    assert "left out" not in capsys.readouterr().out
    losses = [loss["G.total"] for _, _, loss in _losses(before)]
    assert np.mean(losses[-5:]) < 0.75 * losses[0]
    more = ["--init", str(before), "--frozen", str(vgg), "--steps", "1", "--set", "w1=0.2", "--set", "w2=5"]
    assert main(["train", "whitebox", *common, *more, "--out", str(after)]) == 0
    assert "fresh weights" not in capsys.readouterr().out
    weights = after / "checkpoints/step_0000001/weights.pt"
    assert [one.part.name for one in load_networks(weights, "whitebox")] == ["generator", "disc_gray", "disc_blur"]
    photo = str(pictures / "trainA" / "0.png")
    drawn = _cartoon(photo, tmp_path / "file.png", weights, "--family", "whitebox")
    assert drawn.shape[:2] == (96, 96)  # the largest size below the photo's 100 that the network takes
    assert (drawn == _cartoon(photo, tmp_path / "run.png", after)).all()  # a run knows its family


def test_a_folder_that_is_no_run_draws_nothing(pictures, tmp_path, capsys):
    photo = str(pictures / "trainA" / "0.png")
    assert main(["cartoonize", photo, "--weights", str(pictures), "--out", str(tmp_path / "no.png")]) == 2
    assert "folder without a checkpoint" in capsys.readouterr().err


def test_whitebox_s_weights_may_be_called_w0_to_w4(tmp_path, capsys):
    from toonport.train.config import settings_of, trained_family

    _, training = trained_family("facialcartoonization")
    made = settings_of(training, {"w0": 1e5, "w1": 0.2, "w2": 5, "w3": 20, "w4": 0.6})
    assert (made.variation, made.surface, made.texture, made.content, made.structure) == (1e5, 0.2, 5.0, 20.0, 0.6)
    both = ["--set", "w3=1", "--set", "content=2"]
    assert main(["train", "whitebox", "--data", "x", "--out", str(tmp_path / "run"), *both]) == 2
    assert "w3 is another name of content; give one of them" in capsys.readouterr().err


def test_a_pretraining_is_as_long_as_the_sources_and_only_where_there_is_one(capsys):
    from toonport.cli import build_parser
    from toonport.commands.train import given_values

    for flags, steps in ((["--pretrain"], 50_000), (["--pretrain", "--steps", "7"], 7), ([], 100_000)):
        config = RunConfig(**given_values(build_parser().parse_args(["train", "whitebox", "--data", "x", *flags])))
        assert config.checked().steps == steps
        assert config.settings == ({"pretrain": True} if flags else {})
    assert main(["train", "cyclegan", "--pretrain", "--data", "x"]) == 2
    said = "--pretrain: cyclegan has no such setting; families that have it: whitebox, facialcartoonization"
    assert said in capsys.readouterr().err


def test_one_generator_is_enough_to_start_from_and_the_rest_is_fresh_and_said(pictures, tmp_path, capsys):
    one = save_torch(tmp_path / "G_A.pth", seeded_state("cyclegan", "G_A"))
    config = RunConfig("cyclegan", str(pictures), "", framework="torch", init=str(one), size=32, width=4).checked()
    start = starting_point(config, (3, 3))
    assert start.fresh == ("G_B", "D_A", "D_B")
    for name, value in seeded_state("cyclegan", "G_A").items():
        assert np.array_equal(start.weights["G_A"][name], value)
    assert start.kwargs["G_A"]["ngf"] == 8
    assert start.kwargs["G_B"] == {**start.kwargs["G_A"], "ngf": 4}  # as deep as the one given, as wide as asked for
    assert start.kwargs["D_A"]["ndf"] == 4
    flags = ["--init", str(one), "--data", str(pictures), "--framework", "torch", *QUIET, "--size", "32"]
    assert main(["train", "cyclegan", *flags, "--width", "4", "--steps", "1", "--out", str(tmp_path / "run")]) == 0
    assert f"{one} gives G_A; fresh weights from seed 0: G_B, D_A, D_B" in capsys.readouterr().out


def test_files_of_single_networks_start_a_run_together(pictures, tmp_path):
    for name in ("G_A", "G_B"):
        save_torch(tmp_path / f"own_{name}.pth", seeded_state("cyclegan", name))
    config = RunConfig("cyclegan", str(pictures), "", framework="torch", init=str(tmp_path / "own_{part}.pth"), size=32)
    start = starting_point(config, (3, 3))
    assert start.fresh == ("D_A", "D_B")
    for part in ("G_A", "G_B"):
        wanted = seeded_state("cyclegan", part)
        assert all(np.array_equal(start.weights[part][name], value) for name, value in wanted.items())


@pytest.mark.parametrize(
    ("family", "flags", "said"),
    [
        ("cyclegan", ["--set", "gan_mode=hinge"], "unknown gan_mode 'hinge'; modes: lsgan, vanilla"),
        ("cyclegan", ["--set", "decay=cosine"], "unknown decay 'cosine'; rules: junyanz, zoo, none"),
        ("cyclegan", ["--size", "70"], "sides from 24 up that are multiples of 4"),
        ("cyclegan", ["--network", "architecture=unet"], "start from a file with --init"),
        ("cyclegan", ["--adaptive-structure"], "--adaptive-structure: cyclegan has no such setting"),
        ("dtn", ["--set", "gan_mode=hinge"], "unknown gan_mode 'hinge'"),
        ("dtn", ["--size", "72"], "sides from 64 up that are multiples of 16"),
        ("whitebox", [], "needs VGG19 for its content and structure terms; --frozen FILE gives the weights of vgg19"),
        ("whitebox", ["--set", "colours=gbr"], "unknown colours 'gbr'; orders: rgb, bgr"),
        ("whitebox", ["--set", "shift=even"], "unknown shift 'even'; distributions: uniform, normal"),
        ("whitebox", ["--pretrain", "--size", "36"], "multiples of 8"),
        ("whitebox", ["--init", "FOLDER"], "is a folder without a checkpoint"),
    ],
)
def test_what_cannot_be_trained_is_one_clear_line(family, flags, said, pictures, tmp_path, capsys):
    flags = [str(pictures) if flag == "FOLDER" else flag for flag in flags]
    command = ["train", family, "--data", str(pictures), "--framework", "torch", "--out", str(tmp_path / "run"), *flags]
    assert main(command) == 2
    text = capsys.readouterr().err
    assert said in text
    assert text.count("\n") == 1


@pytest.mark.parametrize("family", ["dtn", "sagan_cyclegan"])
def test_a_schedule_counted_in_epochs_follows_the_length_of_the_run(family, tmp_path):
    file = save_torch(tmp_path / "all.pth", seeded_family("dtn")) if family == "dtn" else None
    config = RunConfig(family, "", "", init=str(file) if file else None, size=64, steps=80, width=None if file else 8)
    from toonport.train.config import settings_of, trained_family

    settings = settings_of(trained_family(family)[1], starting_point(config, (10, 8)).settings)
    rates = [settings.rate("D", step) / settings.rate("D", 1) for step in range(1, 81, 10)]
    assert rates == pytest.approx([1, 1, 1, 1, 1, 0.8, 0.6, 0.4])
    assert settings.total_steps == 80


def test_sheets_show_whitebox_pictures_finished_as_cartoonize_draws_them(pictures):
    import torch

    from torch_ref.filters import finish_whitebox

    config = RunConfig("whitebox", str(pictures), "", framework="torch", width=4, size=32, network={"num_blocks": 1},
                       settings={"pretrain": True}).checked()  # fmt: skip
    engine = Engine(config, starting_point(config, (3, 3)))
    photo = image("photo", 1, 32, 32)
    (found,) = engine.generate(("generator",), photo)
    turned = torch.from_numpy(photo[:, ::-1].copy())
    with torch.no_grad():
        wanted = finish_whitebox(turned, engine.trainer.networks["generator"](turned)).numpy()[:, ::-1]
    assert np.array_equal(found, wanted)
    assert family_named("whitebox").cartoonize.after == "filters.finish_whitebox"
