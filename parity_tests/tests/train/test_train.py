"""Training runs as a user makes them: resume is exact, ends are clean, errors say what happened."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
from PIL import Image

from convert.conversion import load_networks
from convert.registry import family_named
from parity_tests.harness.inputs import image
from parity_tests.harness.judge import judge_all
from parity_tests.harness.trainers import MindSporeTrainer
from parity_tests.harness.training import measure_training
from parity_tests.harness.training_setup import small_setup
from parity_tests.tests.cases import checkpoint_bytes
from parity_tests.tolerances import FLOAT64_RELATIVE
from toonport.cli import main
from toonport.train.config import RunConfig, flag_of, read_config, settings_of, trained_family, write_config
from toonport.train.logs import RunLog, read_metrics
from toonport.train.loop import _stop_signals
from toonport.train.state import Checkpoints

SMALL = ["--width", "4", "--network", "n_blocks=1", "--size", "96", "--framework", "torch", "--no-tensorboard",
         "--log-every", "1", "--sheet-every", "0", "--save-every", "2"]  # fmt: skip


def _command(pictures, out, *more):
    return ["train", "ugatit", "--data", str(pictures), "--out", str(out), *SMALL, *more]


def _start(pictures, out, *more):
    command = [sys.executable, "-m", "toonport", *_command(pictures, out, *more)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.fixture(scope="module")
def straight(pictures, tmp_path_factory):
    """A run of four steps without a break."""
    out = tmp_path_factory.mktemp("straight") / "run"
    assert main(_command(pictures, out, "--steps", "4")) == 0
    return out


def test_a_killed_and_resumed_run_equals_the_unbroken_one_bit_for_bit(pictures, straight, tmp_path):
    out = tmp_path / "run"
    process = _start(pictures, out, "--steps", "4")
    for text in process.stderr:
        if text.startswith("step 3"):
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert Checkpoints(out).latest() == 2
    assert main(["train", "ugatit", "--out", str(out), "--resume", "--until", "3"]) == 0
    assert Checkpoints(out).latest() == 3
    assert main(["train", "ugatit", "--out", str(out), "--resume", "--until", "4"]) == 0
    assert checkpoint_bytes(out, 4) == checkpoint_bytes(straight, 4)
    kept = [{**row, "seconds": 0} for row in read_metrics(out)]
    assert kept == [{**row, "seconds": 0} for row in read_metrics(straight)]


def test_sigterm_saves_and_says_how_to_go_on(pictures, tmp_path):
    out = tmp_path / "run"
    process = _start(pictures, out, "--steps", "4", "--save-every", "100")
    for text in process.stderr:
        if text.startswith("step 1"):
            process.send_signal(signal.SIGTERM)
            break
    said = process.communicate()[0]
    assert process.returncode == 130
    step = Checkpoints(out).latest()
    assert step in (1, 2)
    assert f"stopped by SIGTERM after step {step}" in said


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _stop_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_between_a_step_and_the_next_still_saves(pictures, tmp_path, monkeypatch):
    log_numbers = RunLog.numbers

    def interrupted(*arguments):
        log_numbers(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(RunLog, "numbers", interrupted)
    out = tmp_path / "run"
    assert main(_command(pictures, out, "--steps", "4", "--save-every", "100")) == 130
    assert Checkpoints(out).latest() == 1


@pytest.mark.quick
def test_a_run_leaves_weights_and_configuration(straight):
    networks = load_networks(straight / "checkpoints/step_0000004/weights.pt")
    assert [one.part.name for one in networks] == [part.name for part in family_named("ugatit").parts]
    assert networks[0].kwargs["ngf"] == 4
    assert RunConfig(**read_config(straight / "config.toml")).network == {"n_blocks": 1}
    assert (straight / "best").read_text().startswith("step_000000")


def test_a_run_leaves_its_losses_and_rates_as_lines_and_as_a_plot(straight):
    rows = read_metrics(straight)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["loss"].keys() >= {"D.total", "G.total", "G.recon_A", "D.LB.fake_cam"}
    assert [row["lr"]["G"] for row in rows] == pytest.approx([1e-4, 1e-4, 5e-5, 0])
    with Image.open(straight / "losses.png") as plot:
        assert plot.size[0] > 500


def test_sheets_have_seven_rows_and_are_written_from_a_converted_checkpoint(pictures, straight, tmp_path):
    out = tmp_path / "run"
    init = str(straight / "checkpoints/step_0000004/weights.pt")
    more = ["--init", init, "--framework", "torch", "--size", "96", "--steps", "1", "--sheet-every", "1"]
    assert main(["train", "ugatit", "--data", str(pictures), "--out", str(out), *more]) == 0
    for name in ("A2B", "B2A"):
        with Image.open(out / "sheets" / f"{name}_0000001.png") as file:
            sheet = file.convert("RGB")
        assert sheet.size == (96 * 6, 96 * 7)
        assert np.asarray(sheet).std() > 10
    assert list((out / "tensorboard").glob("events.*"))


def test_a_number_that_is_not_finite_stops_the_run_and_names_term_and_layer(pictures, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(_command(pictures, out, "--steps", "5", "--lr", "1e30", "--no-flip")) == 2
    text = capsys.readouterr().err
    assert "training stopped: loss term" in text
    assert "step 1:" in text
    assert "first layer whose output is not finite: disGA." in text
    assert "Traceback" not in text


def test_resume_keeps_the_configuration_and_a_run_is_not_overwritten(pictures, straight, capsys):
    assert main(_command(pictures, straight, "--steps", "4")) == 2
    assert "--resume continues it" in capsys.readouterr().err
    assert main(["train", "ugatit", "--out", str(straight), "--resume", "--lr", "0.1"]) == 2
    assert "keeps its configuration: settings was" in capsys.readouterr().err
    assert main(["train", "ugatit", "--out", str(straight / "none"), "--data", str(pictures), "--resume"]) == 2
    assert "no checkpoint to resume from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--set", "cylce=3"], "unknown setting cylce"),
        (["--set", "cycle"], "should be NAME=VALUE"),
        (["--set", "decay=3"], "should be like true"),
        (["--precision", "float16"], "the CPU trains in float32"),
        (["--loss-scale", "dynamic"], "the CPU trains in float32"),
        (["--batch", "3", "--accumulate", "2"], "multiple of --accumulate"),
        (["--network", "depth=3"], "unknown network argument depth"),
        (["--frozen", "some.pth"], "uses no frozen network"),
        (["--keep", "0"], "--keep 0: must be at least 1"),
        (["--parallel", "0"], "--parallel 0: must be at least 1"),
    ],
)
def test_bad_configuration_is_one_clear_line(pictures, tmp_path, capsys, flags, said):
    assert main(_command(pictures, tmp_path / "run", *flags)) == 2
    text = capsys.readouterr().err
    assert said in text
    assert text.count("\n") == 1
    assert not (tmp_path / "run" / "config.toml").exists()


def test_flags_win_over_the_file_and_families_keep_their_source_s_defaults(tmp_path, capsys):
    (tmp_path / "run.toml").write_text('family = "ugatit"\nbatch = 2\n[settings]\ncycle = 3.0\nlr = 0.5\n')
    from toonport.cli import build_parser
    from toonport.commands.train import given_values

    flags = ["train", "ugatit", "--config", str(tmp_path / "run.toml"), "--lr", "0.25", "--seed", "7"]
    given = given_values(build_parser().parse_args(flags))
    assert given["settings"] == {"cycle": 3.0, "lr": 0.25}
    assert (given["batch"], given["seed"]) == (2, 7)
    for family, cycle in (("ugatit", 10.0), ("photo2cartoon", 50.0)):
        _, training = trained_family(family)
        assert settings_of(training, training.defaults).cycle == cycle
    (tmp_path / "run.toml").write_text("btach = 2\n")
    assert main(flags) == 2
    assert "unknown names btach" in capsys.readouterr().err
    assert main(["train", "mobilefacenet", "--data", "x"]) == 2
    assert "is not trained by itself" in capsys.readouterr().err
    assert main(["train", "ugatit", "--settings"]) == 0


def test_a_configuration_is_read_back_as_it_was_written(tmp_path):
    changed = {
        "family": 'pörträit "quoted" \\ 漢字',
        "data": "a\nb\tc",
        "init": "{part}.pt",
        "frozen": "f'ace",
        "until": 7,
        "width": 8,
        "flip": False,
        "as_reference": True,
        "network": {"light": False, "n_blocks": 2, "nested": {"a key": [1, 2.5, "x"], "ключ": {"deep": 1e-300}}},
        "settings": {"lr": 1e-05, "beta1": 0.1 + 0.2, "cycle": 1e22, "colours": 'b"g"r', "total_steps": 10**15},
    }
    others = {known.name: known.name for known in fields(RunConfig) if known.type == "str"} | changed
    whole = {**{known.name: index for index, known in enumerate(fields(RunConfig)) if known.type == "int"}, **others}
    assert whole.keys() == {known.name for known in fields(RunConfig)} - {"tensorboard", "compiled"}
    for config in (RunConfig(**whole), RunConfig("ugatit", "", "")):
        write_config(config, tmp_path / "config.toml")
        assert RunConfig(**read_config(tmp_path / "config.toml")) == config


@pytest.mark.parametrize(
    ("old", "settings"), [("true", {"lr": 0.1, "adaptive_structure": True}), ("false", {"lr": 0.1})]
)
def test_a_run_begun_when_the_adaptive_structure_was_no_setting_is_read(tmp_path, old, settings):
    file = tmp_path / "config.toml"
    file.write_text(f'family = "whitebox"\nadaptive_structure = {old}\n[settings]\nlr = 0.1\n')
    assert read_config(file) == {"family": "whitebox", "settings": settings}


def test_every_field_of_a_run_has_a_flag_whose_help_tells_its_default(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for known in fields(RunConfig)[1:]:
        said = f"{flag_of(known)} "
        assert said in text
        if known.type in ("int", "str") and known.name not in ("data", "out", "size", "steps"):
            assert f"{known.metadata['help']} (default: {known.default})" in text


@pytest.mark.parametrize("framework", ["torch", "mindspore"])
def test_the_reconstruction_loss_halves_on_one_pair_of_pictures(framework):
    from toonport.train.engine import Engine
    from toonport.train.start import starting_point

    settings = {"lr": 2e-3, "cam": 1.0, "adversarial": 0.1}
    size = {"width": 4, "network": {"n_blocks": 1}, "size": 96}
    config = RunConfig("ugatit", "", "", framework=framework, settings=settings, **size)
    engine = Engine(config.checked(), starting_point(config.checked(), (1, 1)))
    y, x = np.mgrid[:96, :96] / 96.0
    real_a = np.stack([np.sin(6 * x + k) * np.cos(4 * y) for k in range(3)])[None].astype(np.float32)
    real_b = np.stack([np.cos(5 * x * y + k) for k in range(3)])[None].astype(np.float32)
    losses = [engine.train(real_a, real_b) for _ in range(25)]
    for name in ("G.recon_A", "G.recon_B"):
        assert losses[-1][name] < losses[0][name] / 2


def test_accumulated_pieces_give_the_gradient_of_the_whole_batch():
    import torch

    from convert.recipes.descent import Execution
    from torch_ref.descent import Descent

    results = []
    for pieces, scale in ((1, 1.0), (4, 1.0), (1, 1024.0)):
        layer = torch.nn.Linear(3, 2).double()
        with torch.no_grad():
            layer.weight.copy_(torch.arange(6.0).reshape(2, 3))
            layer.bias.zero_()
        descent = Descent({"G": torch.optim.SGD(layer.parameters(), 0.1)})
        descent.use(Execution(accumulate=pieces, loss_scale=scale, watch=True))

        def objective(x, layer=layer):
            loss = (layer(x) ** 2).mean()
            return loss, {"G.square": loss}, ()

        images = torch.from_numpy(image("pieces", 4, 1, 3, 1).reshape(4, 3)).double()
        terms, _ = descent("G", objective, images)
        results.append((layer.weight.detach().numpy(), float(terms["G.total"])))
    for weight, total in results[1:]:
        assert np.abs(weight - results[0][0]).max() < FLOAT64_RELATIVE
        assert total == pytest.approx(results[0][1])


def test_a_dynamic_loss_scale_leaves_out_overflowing_updates():
    import torch

    from convert.recipes.descent import Execution
    from torch_ref.descent import Descent

    layer = torch.nn.Linear(1, 1)
    descent = Descent({"G": torch.optim.SGD(layer.parameters(), 0.1)})
    descent.use(Execution(loss_scale=2.0**16, dynamic_scale=True))
    before = layer.weight.item()
    descent("G", lambda x: ((layer(x) * 1e35).sum(), {}, ()), torch.ones(1, 1))
    assert layer.weight.item() == before
    assert descent.scale == 2.0**15


def test_a_compiled_mindspore_step_equals_the_reference_and_resumes_exactly(tmp_path):
    """One compiled trainer: judged against float64 PyTorch, saved, moved on, put back, moved on again."""
    from convert.recipes.descent import Execution
    from ms_models.steps.ugatit import UgatitStep
    from toonport.train.state import Best, restore_run

    steps = []

    def compiled(networks, settings, frozen):
        steps.append(UgatitStep(networks, settings, frozen))
        steps[0].descent.use(Execution(compiled=True, watch=True))
        return steps[0]

    setup = small_setup(family_named("ugatit"), steps=2)
    verdicts = judge_all(measure_training(setup, compiled))
    assert [(one.measurement.layer, one.measurement.quantity) for one in verdicts if not one.equal] == []

    trainer = MindSporeTrainer(setup, lambda *_: steps[0])
    trainer.networks = steps[0].networks
    folder = Checkpoints(tmp_path).save(trainer, Best())
    saved = {part: trainer.weights(part) for part in trainer.start.parts}
    after = [_moved_on(trainer, setup.batches[0])]
    for part, weights in saved.items():
        _load(trainer, part, weights)
    restore_run(trainer, folder)
    after.append(_moved_on(trainer, setup.batches[0]))
    assert after[0] == after[1]
    assert json.loads((folder / "state.json").read_text())["updates"] == {"D": 2, "G": 2}


def _load(trainer, part, weights):
    import mindspore

    names = {row.mindspore: row.torch for row in trainer.start.plan(part).rows}
    for name, value in trainer.networks[part].parameters_and_names():
        mindspore.ops.assign(value, mindspore.Tensor(weights[names[name]]))


def _moved_on(trainer, batch):
    terms = trainer.train(*batch)
    weights = {
        (part, name): value.tobytes() for part in trainer.start.parts for name, value in trainer.weights(part).items()
    }
    moments = {name: value.tobytes() for name, value in trainer.moments().items()}
    return terms, weights, moments
