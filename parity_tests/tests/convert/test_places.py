"""Networks found inside whatever people save: wrappers, prefixes and training state made by rule, never loosely."""

import argparse
import pathlib
import re
from collections import OrderedDict
from functools import cache

import numpy as np
import pytest

from convert.conversion import convert_file, load_networks, torch_arrays
from convert.errors import InputError
from convert.ledger import ledger_path
from parity_tests.tests.cases import save_torch, seeded_state

STATE, OTHER = seeded_state("ugatit", "genA2B"), seeded_state("ugatit", "genA2B", "other")
WORDS = (
    "model", "params", "params_ema", "g_ema", "netG", "state_dict", "module", "generator", "_orig_mod", "network",
    "backbone", "_backbone", "net",
)  # fmt: skip
SEEDS = range(8)  # of each, the last two are of letters drawn at random


def _path(seed: int) -> list[str]:
    """One to four names to lay around a network, in any order."""
    random = np.random.default_rng(seed)
    if seed in SEEDS[-2:]:
        return ["".join(random.choice([*"abcdefghijkXYZ_"], 7)) for _ in range(random.integers(2, 5))]
    return list(random.choice(WORDS, random.integers(1, 5), replace=False))


def _taken(path, *, key=None):
    (network,) = load_networks(path, key=key)
    return {name: np.asarray(value) for name, value in torch_arrays(network).items()}


def _same(found, state=STATE):
    return found.keys() == state.keys() and all(np.array_equal(found[name], state[name]) for name in state)


@pytest.mark.quick
@pytest.mark.parametrize("seed", SEEDS)
def test_dictionaries_of_any_depth_and_name_are_opened(seed, tmp_path):
    content = STATE
    for name in reversed(_path(seed)):
        content = {"epoch": 3, name: content, "note": "x"}
    assert _same(_taken(save_torch(tmp_path / "a.pth", content)))


@pytest.mark.quick
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("suffix", ["pth", "ckpt", "safetensors"])
def test_prefixes_in_any_order_are_taken_off_and_said(seed, suffix, tmp_path, write):
    prefix = ".".join(_path(seed))
    state = {f"{prefix}.{name}": value for name, value in STATE.items()}
    path = save_torch(tmp_path / "a.pth", state) if suffix == "pth" else write(tmp_path / f"a.{suffix}", state)
    assert _same(_taken(path))
    assert convert_file(path, tmp_path / "b.pt").networks[0].notes == (f"found below '{prefix}'",)


@pytest.mark.quick
@pytest.mark.parametrize("seed", SEEDS)
def test_two_sets_that_fit_are_refused_by_name_until_one_is_chosen(seed, tmp_path):
    first, second = ".".join(_path(seed)), ".".join([*_path(seed + 100), "second"])
    both = {f"{place}.{name}": v for place, state in ((first, STATE), (second, OTHER)) for name, v in state.items()}
    path = save_torch(tmp_path / "a.pth", both)
    with pytest.raises(InputError, match="2 sets of weights fit ugatit genA2B") as raised:
        load_networks(path)
    shown = re.search(r"genA2B: (.*), (.*); choose one with --key NAME", str(raised.value))
    assert shown
    assert [_same(_taken(path, key=key), state) for key, state in zip(shown.groups(), (STATE, OTHER), strict=True)]


def _optimizer(kind):
    import torch

    parameters = [torch.nn.Parameter(torch.from_numpy(np.array(value))) for value in STATE.values()]
    made = kind(parameters, lr=1e-3)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    made.step()
    return made.state_dict()


def _around():
    """What training keeps beside weights: every optimizer of PyTorch, and what scripts add of their own."""
    import torch

    kinds = [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad]
    kinds += [torch.optim.NAdam, torch.optim.Adamax, torch.optim.ASGD, torch.optim.Rprop]
    shadows = [torch.from_numpy(np.array(value)) for value in OTHER.values()]
    return {
        **{kind.__name__: lambda kind=kind: {"optimizer": _optimizer(kind)} for kind in kinds},
        "schedulers": lambda: {"lr_schedulers": [{"last_epoch": 3, "_last_lr": [np.float64(0.1)], "base_lrs": (1,)}]},
        "average": lambda: {"ema": {"decay": 0.999, "num_updates": 3, "shadow_params": shadows}},
        "scaler": lambda: {"scaler": {"scale": 65536.0, "_growth_tracker": 1}, "rng": torch.get_rng_state()},
        "losses": lambda: {"best": np.float64(31.5), "losses": [np.float32(2)], "curve": np.arange(5.0)},
        "objects": lambda: {"args": argparse.Namespace(lr=1), "out": pathlib.PurePosixPath("x"), "seen": OrderedDict()},
    }


@pytest.mark.filterwarnings("ignore")
def test_what_training_keeps_beside_weights_is_left_out_and_listed(tmp_path):
    import torch

    weights = {name: torch.from_numpy(np.array(value)) for name, value in STATE.items()}
    for kind, around in _around().items():
        beside = around()
        torch.save({"weights": weights, **beside}, tmp_path / "a.pth")
        done = convert_file(tmp_path / "a.pth", tmp_path / "b.pth")
        assert _same(_taken(tmp_path / "b.pth")), kind
        listed = {name.partition(".")[0] for name in (*done.left_out, *done.ignored)}
        assert listed == {*beside} - {"seen"}, kind  # which is empty
        ledger = ledger_path(tmp_path / "b.pth").read_text()
        assert all(f'"{name}"' in ledger for name in (*done.left_out, *done.ignored)), kind


def test_what_thop_counts_is_left_out(tmp_path):
    layers = {name.rpartition(".")[0] for name in STATE} | {""}
    counts = {f"{layer}.{word}".strip("."): np.zeros(1) for layer in layers for word in ("total_ops", "total_params")}
    done = convert_file(save_torch(tmp_path / "a.pth", {**STATE, **counts}), tmp_path / "b.pth")
    assert _same(_taken(tmp_path / "b.pth"))
    assert set(done.left_out) == set(counts)


@cache
def _optimizers_of_mindspore():
    """Every optimizer that the installed MindSpore offers and that takes parameters alone."""
    from mindspore import nn

    kinds = {name: kind for name, kind in vars(nn).items() if isinstance(kind, type) and issubclass(kind, nn.Optimizer)}
    settings = {"Momentum": {"learning_rate": 0.1, "momentum": 0.9}, "Lamb": {"learning_rate": 0.1}}
    return {
        name: (kind, settings.get(name, {}))
        for name, kind in kinds.items()
        if name not in {"Optimizer", "LARS", "OptTFTWrapper", "AdamOffload"}
    }


def test_every_optimizer_of_mindspore_is_left_out_and_listed(tmp_path):
    import mindspore

    convert_file(save_torch(tmp_path / "a.pth", STATE), tmp_path / "a.ckpt")
    weights = mindspore.load_checkpoint(str(tmp_path / "a.ckpt"))
    own = set(weights)
    for name, (kind, settings) in _optimizers_of_mindspore().items():
        parameters = [mindspore.Parameter(value.asnumpy(), name=key) for key, value in weights.items()]
        optimizer = kind(parameters, **settings)
        kept = {value.name: value for value in (*parameters, *optimizer.get_parameters())}
        mindspore.save_checkpoint(
            [{"name": key, "data": value} for key, value in kept.items()],
            str(tmp_path / "b.ckpt"),
            append_dict={"epoch_num": 3, "step_num": 7, "best_loss": 0.5},
        )
        done = convert_file(tmp_path / "b.ckpt", tmp_path / "c.pth")
        assert _same(_taken(tmp_path / "c.pth")), name
        assert {*done.left_out} == {*kept, "epoch_num", "step_num", "best_loss"} - own, name


@pytest.mark.parametrize("prefix", ["", "module.", "netG.net."])
@pytest.mark.parametrize("number", [0, 5, 11, 20, len(STATE) - 1])
def test_the_one_missing_tensor_is_named(prefix, number, tmp_path):
    state = {f"{prefix}{name}": value for name, value in STATE.items()}
    missing = list(state)[number]
    del state[missing]
    with pytest.raises(InputError, match=f"does not fit ugatit genA2B: 1 missing: {re.escape(missing)}$"):
        load_networks(save_torch(tmp_path / "a.pth", state))
