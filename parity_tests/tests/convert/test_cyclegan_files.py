"""CycleGAN files: every spelling, conversion between junyanz's and the model zoo's networks, refusals with reasons."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from convert.conversion import convert_file, in_style, load_networks, mindspore_arrays, torch_arrays
from convert.disk import sha256_of
from convert.errors import InputError
from convert.formats import open_checkpoint
from convert.plan import build_plan
from convert.registry import family_named, part_named
from convert.tensors import tensor_sha256
from ms_models.build import build_mindspore
from parity_tests.harness.inputs import formula_state, image
from parity_tests.harness.sides.mindspore import MindSporeSide
from parity_tests.harness.sides.torch import TorchSide
from parity_tests.tests.cases import ROOT, save_torch, seeded_state
from parity_tests.tolerances import FLOAT64_RELATIVE
from torch_ref.build import build_torch

VINTAGIFY = "c502cd44ca720d004f89775f593fc403acc6b36d27d65390cbe2f476f771e560"
RESNET = {"architecture": "resnet", "input_nc": 3, "output_nc": 3, "ngf": 4, "n_blocks": 2, "dropout": False}
UNET = {"architecture": "unet", "input_nc": 3, "output_nc": 3, "num_downs": 6, "ngf": 4, "dropout": False}
PATCH = {"architecture": "patch", "input_nc": 3, "ndf": 4, "n_layers": 3}
ZOO_PATCH = {"architecture": "zoo_patch", "ndf": 4, "n_layers": 3, "slope": 0.2}
ZOO_UNET = {"architecture": "zoo_unet", "num_downs": 5, "ngf": 4, "dropout": False}


def _state(part, kwargs, tag="files"):
    found = part_named(family_named("cyclegan"), part)
    rows = build_plan(found, kwargs).rows
    state = formula_state(tag, {row.torch: row.spec.shape for row in rows})
    return {row.torch: state[row.torch] for row in rows}


def _mindspore(part, kwargs, prefix="", neutral=False):
    """A file as MindSpore writes it: parameter names with a prefix, no batch counters."""
    rows = build_plan(part_named(family_named("cyclegan"), part), kwargs).rows
    state = _state(part, kwargs)
    values = {"gamma": 1.0, "beta": 0.0, "moving_mean": 0.0, "moving_variance": 1.0}
    arrays = {prefix + row.mindspore: state[row.torch] for row in rows if not row.carried}
    for name, value in arrays.items() if neutral else ():
        if name.rpartition(".")[2] in values:
            arrays[name] = np.full_like(value, values[name.rpartition(".")[2]])
    return arrays


def _hashes(path):
    return {name: tensor_sha256(entry.read()) for name, entry in open_checkpoint(path).tensors.items()}


def _outputs(network, inputs):
    """Float64 output of a network read from a file."""
    side = TorchSide(build_torch(network.part, network.kwargs, torch_arrays(network)), "float64")
    return side.call("", [inputs])[0]


@pytest.mark.parametrize(
    ("part", "kwargs"),
    [
        ("G_A", {**RESNET, "norm": "affine instance"}),
        ("G_A", {**RESNET, "norm": "batch", "dropout": True}),
        ("G_A", {**UNET, "norm": "batch"}),
        ("G_A", {**UNET, "norm": "affine instance"}),
        ("D_A", {**PATCH, "norm": "batch"}),
        ("D_A", {**PATCH, "norm": "affine instance", "n_layers": 2}),
        ("G_A", {**ZOO_UNET, "norm": "instance"}),
        ("G_A", {**ZOO_UNET, "norm": "batch"}),
        ("D_A", {**ZOO_PATCH, "norm": "batch"}),
        *(
            ("G_A", {"architecture": kind, "ngf": 4, "n_blocks": 9, "slope": 0.2, "norm": norm, "pad_mode": pad})
            for kind in ("zoo_resnet", "zoo_depth_resnet")
            for norm, pad in (("instance", "CONSTANT"), ("batch", "REFLECT"))
        ),
    ],
)
def test_every_architecture_makes_the_round_trip_and_is_recognised(part, kwargs, tmp_path):
    source = save_torch(tmp_path / "latest_net.pth", _state(part, kwargs))
    done = convert_file(source, tmp_path / "a.ckpt")
    assert (done.networks[0].family.name, done.networks[0].part.name) == ("cyclegan", part)
    assert dict(done.networks[0].kwargs) == kwargs
    again = convert_file(tmp_path / "a.ckpt", tmp_path / "b.pth")
    assert dict(again.networks[0].kwargs) == kwargs
    assert list(_hashes(tmp_path / "b.pth").items()) == list(_hashes(source).items())


def test_four_junyanz_files_become_one_file_and_back(tmp_path):
    for part in ("G_A", "G_B", "D_A", "D_B"):
        save_torch(tmp_path / f"latest_net_{part}.pth", seeded_state("cyclegan", part))
    convert_file(tmp_path / "latest_net_{part}.pth", tmp_path / "all.ckpt")
    convert_file(tmp_path / "all.ckpt", tmp_path / "back_{part}.pth")
    for part in ("G_A", "G_B", "D_A", "D_B"):
        assert _hashes(tmp_path / f"back_{part}.pth") == _hashes(tmp_path / f"latest_net_{part}.pth")


def test_data_parallel_prefix_is_removed(tmp_path):
    state = seeded_state("cyclegan", "G_A")
    source = save_torch(tmp_path / "latest_net_G.pth", {f"module.{name}": value for name, value in state.items()})
    convert_file(source, tmp_path / "a.ckpt")
    assert list(open_checkpoint(tmp_path / "a.ckpt").tensors) == list(state)


@pytest.mark.shared
def test_old_files_lose_the_statistics_that_nothing_reads(shared, tmp_path):
    keys = json.loads((shared / "keys" / "jz_resnet_9blocks_instance_old_running_stats.json").read_text())
    narrow = {name: [max(1, side // 8) if side % 8 == 0 else side for side in shape] for name, shape in keys.items()}
    random = np.random.default_rng(0)
    state = {
        name: random.standard_normal(shape).astype(np.float32) if shape else np.array(3, np.int64)
        for name, shape in narrow.items()
    }
    done = convert_file(save_torch(tmp_path / "old.pth", state), tmp_path / "a.ckpt")
    assert len(state) == 117
    assert len(open_checkpoint(tmp_path / "a.ckpt").tensors) == 48
    assert dict(done.networks[0].kwargs) == {**RESNET, "ngf": 8, "n_blocks": 9, "norm": "instance"}
    assert "left out 69 junyanz before PyTorch 0.4 tensors" in done.networks[0].notes[0]


def test_running_statistics_of_batch_norm_are_not_dropped(tmp_path):
    state = _state("D_A", {**PATCH, "norm": "batch"})
    convert_file(save_torch(tmp_path / "a.pth", state), tmp_path / "a.ckpt")
    found = open_checkpoint(tmp_path / "a.ckpt").tensors
    assert np.array_equal(found["model.3.moving_mean"].read(), state["model.3.running_mean"])


@pytest.mark.parametrize("domain", ["A", "B"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_prefixes_of_the_model_zoos_files_name_the_network(domain, norm, tmp_path, write):
    resnet = {"architecture": "zoo_depth_resnet", "ngf": 4, "n_blocks": 9, "slope": 0.2, "pad_mode": "CONSTANT"}
    for part, kwargs, prefix in (
        (f"G_{domain}", {**resnet, "norm": norm}, f"generator.G_{domain}."),
        (f"D_{domain}", {**ZOO_PATCH, "norm": norm}, f"D_{domain}."),
    ):
        arrays = _mindspore(part, kwargs, prefix)
        source = write(tmp_path / f"{part}_200.ckpt", arrays)
        (network,) = load_networks(source)
        assert (network.part.name, dict(network.kwargs)) == (part, kwargs)
        assert set(map(tensor_sha256, mindspore_arrays(network).values())) == set(map(tensor_sha256, arrays.values()))
    both = load_networks(tmp_path / "{part}_200.ckpt")
    assert [network.part.name for network in both] == [f"G_{domain}", f"D_{domain}"]


@pytest.mark.shared
def test_names_of_trained_model_zoo_files_are_understood(shared, tmp_path, write):
    random = np.random.default_rng(0)
    files = json.loads((shared / "keys" / "ms_cyclegan_trained_ckpt_names.json").read_text())
    for number, (file, shapes) in enumerate(files.items()):
        narrow = {name: [side // 16 if side % 16 == 0 else side for side in shape] for name, shape in shapes.items()}
        arrays = {name: random.standard_normal(shape).astype(np.float32) for name, shape in narrow.items()}
        (network,) = load_networks(write(tmp_path / f"{number}.ckpt", arrays))
        assert network.part.name == file[:3]
        assert network.kwargs["architecture"].startswith("zoo_")
        assert len(network.tensors) == len(shapes)


@pytest.mark.parametrize("norm", ["instance", "affine instance", "batch"])
def test_discriminators_go_to_the_model_zoo_and_back_as_the_same_function(norm, tmp_path):
    kwargs = {**PATCH, "norm": norm}
    state = _state("D_A", kwargs)
    for name in ("model.0.bias", "model.11.bias"):
        state[name][:] = 0
    source = save_torch(tmp_path / "latest_net_D_A.pth", state)
    done = convert_file(source, tmp_path / "zoo.ckpt", part="D_A", style="zoo")
    (zoo,) = done.networks
    assert (zoo.part.name, zoo.kwargs["architecture"]) == ("D_B", "zoo_patch")
    assert "judges the domain that the model zoo's D_B judges" in " ".join(zoo.notes)
    inputs = image("style", 2, 32, 40)
    (given,) = load_networks(source, part="D_A")
    (read,) = load_networks(tmp_path / "zoo.ckpt", part="D_B")
    assert np.abs(_outputs(given, inputs) - _outputs(read, inputs)).max() < FLOAT64_RELATIVE
    convert_file(tmp_path / "zoo.ckpt", tmp_path / "back.pth", part="D_B", style="junyanz")
    assert _hashes(tmp_path / "back.pth") == _hashes(source)
    ledger = json.loads(done.ledgers[0].read_text())
    assert any(row["source"] == "model.0.weight" and row["target"] == "features.0.weight" for row in ledger["tensors"])


@pytest.mark.parametrize("norm", ["instance", "affine instance", "batch"])
@pytest.mark.parametrize("num_downs", [5, 6])
def test_unets_go_to_the_model_zoo_and_back_as_the_same_function(norm, num_downs, tmp_path):
    state = _state("G_A", {**UNET, "norm": norm, "num_downs": num_downs})
    state["model.model.3.bias"][:] = 0
    source = save_torch(tmp_path / "latest_net_G_A.pth", state)
    convert_file(source, tmp_path / "zoo.ckpt", style="zoo")
    (given,), (read,) = load_networks(source), load_networks(tmp_path / "zoo.ckpt")
    assert read.kwargs["architecture"] == "zoo_unet"
    inputs = image("style", 1, 2**num_downs, 2**num_downs)
    assert np.abs(_outputs(given, inputs) - _outputs(read, inputs)).max() < FLOAT64_RELATIVE
    convert_file(tmp_path / "zoo.ckpt", tmp_path / "back.pth", style="junyanz")
    assert _hashes(tmp_path / "back.pth") == _hashes(source)


@pytest.mark.shared
def test_the_recorded_name_map_of_discriminators_is_the_one_used(shared, tmp_path):
    wanted = json.loads((shared / "keys" / "jz_to_ms_name_map.json").read_text())["nlayer_D_to_Discriminator"]
    state = _state("D_A", {**PATCH, "norm": "instance"})
    state["model.0.bias"][:] = state["model.11.bias"][:] = 0
    (network,) = load_networks(save_torch(tmp_path / "a.pth", state), part="D_A")
    names = in_style(network, "zoo").file_names
    found = {source: name for name, source in names.items() if source in state}
    assert found == {name: value for name, value in wanted.items() if name not in {"model.0.bias", "model.11.bias"}}


def test_what_the_model_zoo_has_no_place_for_is_refused_with_every_reason(tmp_path):
    source = save_torch(tmp_path / "latest_net_G_A.pth", _state("G_A", {**RESNET, "norm": "instance"}))
    with pytest.raises(InputError) as error:
        convert_file(source, tmp_path / "a.ckpt", style="zoo")
    for reason in (
        "model.19.bias is not zero",
        "shifted by one pixel",
        "1 of its 2 residual blocks differ from the first",
        "one slope for generators, which need 0 here, and discriminators, which need 0.2",
    ):
        assert reason in str(error.value)
    source = save_torch(tmp_path / "latest_net_D_A.pth", _state("D_A", {**PATCH, "norm": "instance"}))
    with pytest.raises(InputError, match=r"model\.0\.bias is not zero.*model\.11\.bias is not zero"):
        convert_file(source, tmp_path / "a.ckpt", style="zoo")
    assert not (tmp_path / "a.ckpt").exists()


@pytest.mark.parametrize(
    ("kind", "reason"), [("zoo_resnet", "slope 0.2 where junyanz"), ("zoo_depth_resnet", "three down-sampling steps")]
)
def test_model_zoo_resnets_are_refused_as_junyanz_networks(kind, reason, tmp_path, write):
    kwargs = {"architecture": kind, "ngf": 4, "n_blocks": 9, "slope": 0.2, "norm": "instance", "pad_mode": "REFLECT"}
    source = write(tmp_path / "G_A_200.ckpt", _mindspore("G_A", kwargs, "generator.G_A."))
    with pytest.raises(InputError, match=f"shifted by one pixel.*{reason}"):
        convert_file(source, tmp_path / "a.pth", style="junyanz")


def test_trained_moving_values_of_the_model_zoo_are_left_out_and_said_so(tmp_path, write):
    arrays = _mindspore("D_A", {**ZOO_PATCH, "norm": "instance"}, "D_A.", neutral=True)
    arrays["D_A.features.2.features.1.moving_mean"] += 0.5
    done = convert_file(write(tmp_path / "D_A_200.ckpt", arrays), tmp_path / "a.pth", style="junyanz")
    (network,) = done.networks
    assert (network.part.name, network.kwargs["norm"]) == ("D_B", "instance")
    assert "moving values" in network.notes[0]
    assert not open_checkpoint(tmp_path / "a.pth").tensors["model.0.bias"].read().any()


def test_styles_of_families_without_any_are_refused(tmp_path):
    source = save_torch(tmp_path / "a.pth", seeded_state("mobilefacenet", "mobilefacenet"))
    with pytest.raises(InputError, match="mobilefacenet has no style 'zoo'; its styles: none"):
        convert_file(source, tmp_path / "a.ckpt", style="zoo")


def test_a_style_that_a_network_has_already_changes_nothing(tmp_path, write):
    arrays = _mindspore("D_A", {**ZOO_PATCH, "norm": "instance"})
    convert_file(write(tmp_path / "a.ckpt", arrays), tmp_path / "b.ckpt", part="D_A", style="zoo")
    assert _hashes(tmp_path / "b.ckpt") == _hashes(tmp_path / "a.ckpt")


def _vintagify():
    """The trained generator of the PyPI package vintagify, where `toonport fetch vintagify` put it."""
    path = Path(os.environ.get("TOONPORT_WEIGHTS") or ROOT / "weights") / "G_A2B_epoch33.pth"
    if not path.is_file():
        pytest.skip(f"no {path.name} (toonport fetch vintagify)")
    assert sha256_of(path) == VINTAGIFY
    return path


def test_a_trained_generator_converts_and_gives_the_same_picture(tmp_path):
    source = _vintagify()
    done = convert_file(source, tmp_path / "a.ckpt")
    (network,) = done.networks
    assert (network.spelling, len(network.tensors)) == ("vintagify", 94)
    assert dict(network.kwargs) == {**RESNET, "ngf": 64, "n_blocks": 9, "norm": "affine instance"}
    (ported,) = load_networks(tmp_path / "a.ckpt", part="G_A")
    inputs = image("vintagify", 1, 64, 64)
    port = MindSporeSide(build_mindspore(ported.part, ported.kwargs, mindspore_arrays(ported)))
    reference = TorchSide(build_torch(network.part, network.kwargs, torch_arrays(network)))
    truth, noise, found = _outputs(network, inputs), reference.call("", [inputs])[0], port.call("", [inputs])[0]
    assert np.abs(found - truth).max() < 10 * np.abs(noise - truth).max()
