"""Runs that start from a file with Adam's moments beside the weights, as others' training programs save them."""

import numpy as np
import pytest

from convert.conversion import load_networks
from convert.formats import open_checkpoint, write_checkpoint
from convert.registry import family_named
from parity_tests.harness.trainers import TorchTrainer
from parity_tests.harness.training_setup import small_setup
from parity_tests.tests.cases import checkpoint_bytes
from toonport.cli import main
from toonport.train.moments import kept_moments

FAMILIES = ("cyclegan", "sagan_cyclegan", "dtn", "facialcartoonization", "ugatit")
STEPS = 2


@pytest.fixture(scope="module")
def trained():
    """Family -> a trainer after two steps."""
    found = {}

    def of(name):
        if name not in found:
            setup = small_setup(family_named(name), STEPS)
            found[name] = TorchTrainer(setup)
            for pictures in setup.batches:
                found[name].train(*pictures)
        return found[name]

    return of


def _save_pytorch(trainer, path, wrap=lambda content: content, old=False):
    """Networks and optimizers as dictionaries in one file, as the source systems save them."""
    import torch

    content = {part: network.state_dict() for part, network in trainer.networks.items()}
    for phase, optimizer in trainer.step.optimizers.items():
        content[f"{phase}_optim"] = optimizer.state_dict()
        for state in content[f"{phase}_optim"]["state"].values() if old else ():
            state["step"] = int(state["step"])
    torch.save(wrap({**content, "epoch": 3}), path)
    return path


def _save_mindspore(trainer, path, before="", weights="", count=STEPS, leave_out=""):
    """Weights, moments under their names, and the count of steps, as ModelCheckpoint saves them."""
    arrays = {}
    for part in trainer.networks:
        for row in trainer.start.plan(part).rows:
            if not row.carried:
                arrays[f"{weights}{part}.{row.mindspore}"] = row.to_mindspore(trainer.weights(part)[row.torch])
    moments = trainer.moments()
    for _, part, name, value, _ in trainer._states():  # nn.Adam has moments of what gets no gradient, too: zeros
        row = next(row for row in trainer.start.plan(part).rows if row.torch == name)
        for kind, word in (("exp_avg", "moment1"), ("exp_avg_sq", "moment2")):
            moment = moments.get((kind, part, name), np.zeros(tuple(value.shape), np.float32))
            if value.requires_grad:
                arrays[f"{before}{word}.{part}.{row.mindspore}"] = row.to_mindspore(moment)
    arrays["global_step"] = np.array([count], np.int32)
    arrays = {name: value for name, value in arrays.items() if not leave_out or leave_out not in name}
    write_checkpoint(path, arrays.items(), {})
    return path


def _kept(path, family):
    found = {network.part.name: network for network in load_networks(path, family)}
    return kept_moments(open_checkpoint(path), found, family_named(family).training)


def _equal(kept, trainer, phases=None):
    mine = {key: value for key, value in trainer.moments().items() if phases is None or key[1] in phases}
    assert all(np.array_equal(kept.moments[key], value) for key, value in mine.items())
    assert not any(value.any() for key, value in kept.moments.items() if key not in mine)
    return True


@pytest.mark.parametrize("family", FAMILIES)
def test_moments_of_pytorchs_optimizers_are_found_beside_the_networks(family, trained, tmp_path):
    trainer = trained(family)
    kept = _kept(_save_pytorch(trainer, tmp_path / "a.pt"), family)
    assert _equal(kept, trainer)
    assert kept.counts == trainer.counts()


@pytest.mark.parametrize("family", FAMILIES[:4])
def test_moments_of_mindspores_checkpoints_are_found_under_the_weights_names(family, trained, tmp_path):
    trainer = trained(family)
    kept = _kept(_save_mindspore(trainer, tmp_path / "a.ckpt"), family)
    assert _equal(kept, trainer)
    assert kept.counts == dict.fromkeys(trainer.counts(), STEPS)


WRAPPED = {
    "deeper": lambda content: {"state": {"model": content}},
    "old counts": lambda content: content,
    "beside an average": lambda content: {**content, "ema": {"shadow": content["G_A"], "decay": 0.9}},
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_moments_are_found_in_wrappers(kind, trained, tmp_path):
    trainer = trained("cyclegan")
    path = _save_pytorch(trainer, tmp_path / "a.pt", WRAPPED[kind], old=kind == "old counts")
    assert _equal(_kept(path, "cyclegan"), trainer)


@pytest.mark.parametrize("prefixes", [{"weights": "network."}, {"before": "optimizer."}, {"before": "network."}])
def test_moments_are_found_with_other_prefixes_than_the_weights(prefixes, trained, tmp_path):
    trainer = trained("cyclegan")
    kept = _kept(_save_mindspore(trainer, tmp_path / "a.ckpt", **prefixes), "cyclegan")
    assert kept.moments
    assert _equal(kept, trainer)


def test_moments_that_are_not_whole_or_not_sure_are_left_out(trained, tmp_path):
    trainer = trained("cyclegan")
    kept = _kept(_save_mindspore(trainer, tmp_path / "a.ckpt", leave_out="moment2.D_A.model.0.weight"), "cyclegan")
    assert _equal(kept, trainer, ("G_A", "G_B"))
    assert not _kept(_save_mindspore(trainer, tmp_path / "b.ckpt", leave_out="global_step"), "cyclegan").moments
    twice = _save_pytorch(trainer, tmp_path / "c.pt", lambda content: {**content, "again": content["G_optim"]})
    assert _equal(_kept(twice, "cyclegan"), trainer, ("D_A", "D_B"))
    alone = _save_pytorch(trainer, tmp_path / "d.pt", lambda content: {k: v for k, v in content.items() if k != "G_B"})
    assert _equal(_kept(alone, "cyclegan"), trainer, ("D_A", "D_B"))


@pytest.mark.parametrize("framework", ["torch", "mindspore"])
def test_a_run_goes_on_with_the_moments_of_its_start_and_says_so(framework, trained, pictures, tmp_path, capsys):
    trainer = trained("cyclegan")
    flags = ["--data", str(pictures), "--size", "48", "--steps", "1", "--margin", "2", "--no-jit", "--sheet-every", "0"]
    moments = {}
    for name, keep in (("with", True), ("without", False)):
        wrap = lambda content, keep=keep: {k: v for k, v in content.items() if keep or "optim" not in k}  # noqa: E731
        file = _save_pytorch(trainer, tmp_path / f"{name}.pt", wrap)
        start = ["--init", str(file), "--framework", framework, "--no-tensorboard", "--out", str(tmp_path / name)]
        assert main(["train", "cyclegan", *start, *flags]) == 0
        assert (
            "Adam's moments, too: G after 2 steps, D after 2 steps" in " ".join(capsys.readouterr().out.split())
        ) == keep
        moments[name] = {
            key: np.frombuffer(value, np.float32)
            for key, value in checkpoint_bytes(tmp_path / name, 1).items()
            if key[1].startswith("exp_avg.")
        }
    for (kind, name), fresh in moments["without"].items():
        _, part, weight = name.split(".", 2)
        before = trainer.moments()["exp_avg", part, weight].reshape(-1)
        # each mean is beta1 * before + (1 - beta1) * gradient, and both runs have the same gradient
        np.testing.assert_allclose(moments["with"][kind, name], fresh + 0.5 * before, rtol=1e-5, atol=1e-7)
