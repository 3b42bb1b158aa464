"""Conversion: round trips bit for bit, every spelling, strictness, ledgers."""

import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.conversion import convert_file
from convert.disk import sha256_of
from convert.errors import InputError
from convert.formats import ckpt, open_checkpoint, write_checkpoint
from convert.identify import identify
from convert.ledger import ledger_path, pending_path
from convert.registry import families, family_named
from convert.tensors import TensorSpec, blocks_of, tensor_sha256
from parity_tests.tests.cases import save_torch, seeded_family, seeded_state


def _hashes(path):
    return {name: tensor_sha256(entry.read()) for name, entry in open_checkpoint(path).tensors.items()}


@pytest.mark.quick
@pytest.mark.parametrize("family", [family.name for family in families()])
@pytest.mark.parametrize("middle", ["net.ckpt", "net.safetensors", "net_{part}.ckpt"])
def test_round_trip_is_bit_exact_and_keeps_order(family, middle, tmp_path):
    content = seeded_family(family)
    if len(content) == 1:
        (content,) = content.values()
    source = save_torch(tmp_path / "source.pt", content)
    convert_file(source, tmp_path / middle, family)
    convert_file(tmp_path / middle, tmp_path / "back.pt", family)
    assert list(_hashes(tmp_path / "back.pt").items()) == list(_hashes(source).items())


def test_ckpt_to_pt_to_ckpt_is_bit_exact(six_networks, tmp_path):
    convert_file(six_networks, tmp_path / "first.ckpt")
    convert_file(tmp_path / "first.ckpt", tmp_path / "middle.pth")
    convert_file(tmp_path / "middle.pth", tmp_path / "second.ckpt")
    assert sha256_of(tmp_path / "first.ckpt") == sha256_of(tmp_path / "second.ckpt")


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_other_floating_types_keep_their_type_and_bits(dtype, tmp_path):
    import torch

    state = {name: torch.from_numpy(value) for name, value in seeded_state("photo2cartoon", "disLA").items()}
    torch.save({name: value.to(getattr(torch, dtype)) for name, value in state.items()}, tmp_path / "a.pt")
    convert_file(tmp_path / "a.pt", tmp_path / "b.ckpt", part="disLA")
    convert_file(tmp_path / "b.ckpt", tmp_path / "c.safetensors", part="disLA")
    convert_file(tmp_path / "c.safetensors", tmp_path / "d.pt", part="disLA")
    assert _hashes(tmp_path / "d.pt") == _hashes(tmp_path / "a.pt")
    assert {spec.dtype for spec in open_checkpoint(tmp_path / "d.pt").specs.values()} == {dtype}


@pytest.mark.quick
def test_mindspore_reads_what_we_write_and_we_read_what_mindspore_writes(tmp_path):
    import mindspore

    state = seeded_state("mobilefacenet", "mobilefacenet")
    convert_file(save_torch(tmp_path / "a.pt", state), tmp_path / "b.ckpt")
    loaded = mindspore.load_checkpoint(str(tmp_path / "b.ckpt"), crc_check=True)
    assert {"conv1.bn.gamma", "conv1.prelu.w", "conv1.bn.num_batches_tracked"} <= set(loaded)
    assert np.array_equal(loaded["conv1.bn.moving_mean"].asnumpy(), state["conv1.bn.running_mean"])
    rows = [{"name": name, "data": value} for name, value in loaded.items()]
    for suffix, extra in (("plain", {}), ("crc", {"crc_check": True})):
        mindspore.save_checkpoint(rows, str(tmp_path / f"{suffix}.ckpt"), **extra)
        convert_file(tmp_path / f"{suffix}.ckpt", tmp_path / f"{suffix}.pt")
        assert _hashes(tmp_path / f"{suffix}.pt") == _hashes(tmp_path / "a.pt")


def test_large_tensors_are_cut_and_joined(tmp_path, monkeypatch):
    import mindspore

    monkeypatch.setattr(ckpt, "SLICE_BYTES", 1000)
    content = {"big": np.arange(1024, dtype=np.float32).reshape(2, 512), "scalar": np.int64(7) + np.zeros((), np.int64)}
    write_checkpoint(tmp_path / "cut.ckpt", content.items(), {})
    entries = open_checkpoint(tmp_path / "cut.ckpt").tensors
    assert np.array_equal(entries["big"].read(), content["big"])
    assert b"".join(entries["big"].blocks()) == content["big"].tobytes()
    assert entries["scalar"].read().shape == ()
    assert np.array_equal(mindspore.load_checkpoint(str(tmp_path / "cut.ckpt"))["big"].asnumpy(), content["big"])


@settings(max_examples=30, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(1, 5), max_size=4), min_size=1, max_size=6),
    dtype=st.sampled_from(["float32", "float16", "int64", "uint8", "bool"]),
)
def test_ckpt_writer_and_reader_agree_on_any_tensors(shapes, dtype, tmp_path_factory):
    path = tmp_path_factory.mktemp("any") / "x.ckpt"
    random = np.random.default_rng(len(shapes))
    tensors = {f"t{index}.ä": random.integers(0, 2, shape).astype(dtype) for index, shape in enumerate(shapes)}
    write_checkpoint(path, tensors.items(), {})
    found = open_checkpoint(path).tensors
    assert list(found) == list(tensors)
    assert all(np.array_equal(found[name].read(), value) for name, value in tensors.items())


def test_data_parallel_prefixes_are_removed(tmp_path):
    plain = seeded_state("photo2cartoon", "disLA")
    wrapped = {"disLA": {f"module.{name}": value for name, value in plain.items()}}
    done = convert_file(save_torch(tmp_path / "a.pt", wrapped), tmp_path / "b.ckpt")
    assert list(open_checkpoint(tmp_path / "b.ckpt").tensors) == list(plain)
    assert done.networks[0].part.name == "disLA"


def test_both_spellings_of_spectral_norm_are_understood(tmp_path):
    import torch
    from torch.nn.utils.parametrizations import spectral_norm

    layer = spectral_norm(torch.nn.Conv2d(3, 8, 4))
    assert {"parametrizations.weight.original", "parametrizations.weight.0._u"} <= set(layer.state_dict())
    old = seeded_state("photo2cartoon", "disLA")
    spelling = {"weight_orig": "original", "weight_u": "0._u", "weight_v": "0._v"}
    new = {}
    for name, value in old.items():
        layer_name, _, leaf = name.rpartition(".")
        new[f"{layer_name}.parametrizations.weight.{spelling[leaf]}" if leaf in spelling else name] = value
    done = convert_file(save_torch(tmp_path / "a.pt", new), tmp_path / "b.ckpt", part="disLA")
    assert done.networks[0].spelling == "PyTorch parametrizations"
    found = open_checkpoint(tmp_path / "b.ckpt").tensors
    assert all(np.array_equal(found[name].read(), value) for name, value in old.items())


def _ms_port_names(state):
    renamed = {}
    for name, value in state.items():
        for block in ("UpBlock1", "UpBlock2"):
            name = name.replace(f"{block}.2.", f"{block}.1.").replace(f"{block}.3.", f"{block}.2.")
        renamed[name] = value
    return renamed


def test_photo2cartoon_ms_names_are_mapped_where_the_tensors_mean_the_same(tmp_path, write):
    state = seeded_state("photo2cartoon", "genA2B")
    renamed = _ms_port_names(state)
    for leaf, value in (("gamma", 1.0), ("beta", 0.0), ("moving_mean", 0.0), ("moving_variance", 1.0)):
        renamed[f"ConvBlock1.2.{leaf}"] = np.full(8, value, np.float32)
    done = convert_file(write(tmp_path / "port.ckpt", renamed), tmp_path / "a.pt", part="genA2B")
    assert done.networks[0].spelling == "photo2cartoon-ms"
    assert "4 photo2cartoon-ms tensors" in done.networks[0].notes[0]
    found = open_checkpoint(tmp_path / "a.pt").tensors
    assert all(np.array_equal(found[name].read(), value) for name, value in state.items())


def test_photo2cartoon_ms_batch_norm_is_refused_with_the_reason(tmp_path, write):
    renamed = _ms_port_names(seeded_state("photo2cartoon", "genA2B"))
    renamed["ConvBlock1.2.moving_mean"] = np.full(8, 0.3, np.float32)
    with pytest.raises(InputError, match="batch-norm tensors where the reference has instance norm"):
        convert_file(write(tmp_path / "port.ckpt", renamed), tmp_path / "a.pt")


def test_photo2cartoon_ms_discriminator_is_refused_with_the_reason(tmp_path, write):
    state = seeded_state("photo2cartoon", "disLA")
    port = {
        name.replace("weight_orig", "weight"): value for name, value in state.items() if name[-2:] not in ("_u", "_v")
    }
    with pytest.raises(InputError, match="trained without spectral norm"):
        convert_file(write(tmp_path / "port.ckpt", port), tmp_path / "a.pt", "photo2cartoon")


def _drop(state):
    state.pop("conv1x1.bias")
    return "missing: conv1x1.bias"


def _add(state):
    state["conv1x1.extra"] = np.zeros(3, np.float32)
    return "unexpected: conv1x1.extra"


def _rename(state):
    state["conv1x1.offset"] = state.pop("conv1x1.bias")
    return "missing: conv1x1.bias.*unexpected: conv1x1.offset"


def _reshape(state):
    state["FC.2.weight"] = state["FC.2.weight"].reshape(16, 64)
    return r"FC.2.weight is float32\[16, 64\], should be float32\[32, 32\]"


def _integers(state):
    state["FC.2.bias"] = state["FC.2.bias"].astype(np.int64)
    return "FC.2.bias is int64"


@pytest.mark.sampled(5)
@pytest.mark.parametrize("damage", [_drop, _add, _rename, _reshape, _integers])
@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".safetensors"])
def test_tensors_that_do_not_fit_are_refused_and_named(damage, suffix, tmp_path, write):
    state = seeded_state("photo2cartoon", "genA2B")
    expected = damage(state)
    source = write(tmp_path / f"a{suffix}", state)
    with pytest.raises(InputError, match=expected):
        convert_file(source, tmp_path / "b.ckpt")
    assert not (tmp_path / "b.ckpt").exists()


@pytest.mark.quick
def test_every_problem_is_listed(tmp_path):
    state = seeded_state("photo2cartoon", "genA2B")
    gone = [name for name in state if name.startswith("DecodeBlock2")]
    for name in gone:
        state.pop(name)
    with pytest.raises(InputError) as error:
        convert_file(save_torch(tmp_path / "a.pt", state), tmp_path / "b.ckpt")
    assert all(name in str(error.value) for name in gone)


def test_two_spellings_of_one_tensor_are_refused(tmp_path, write):
    state = seeded_state("mobilefacenet", "mobilefacenet")
    state["conv1.bn.gamma"] = state["conv1.bn.weight"] * 2
    with pytest.raises(InputError, match=r"unexpected: .*conv1\.bn\.gamma"):
        convert_file(write(tmp_path / "a.ckpt", state), tmp_path / "b.pt")


def test_a_tensor_twice_in_a_ckpt_is_refused(tmp_path):
    state = seeded_state("photo2cartoon", "disLA")
    specs = {name: TensorSpec(value.shape, value.dtype.name) for name, value in state.items()}
    twice = [*state.items(), ("conv1x1.bias", state["conv1x1.bias"] + 1)]
    ckpt.write(tmp_path / "a.ckpt", ((name, blocks_of(value)) for name, value in twice), specs)
    with pytest.raises(InputError, match=r"conv1x1\.bias occurs twice"):
        convert_file(tmp_path / "a.ckpt", tmp_path / "b.pt")


def test_transposed_square_weight_is_refused_when_stored_as_a_view(tmp_path):
    import torch

    state = {name: torch.from_numpy(value) for name, value in seeded_state("photo2cartoon", "genA2B").items()}
    state["FC.2.weight"] = state["FC.2.weight"].t()
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"transposed view.*FC\.2\.weight"):
        convert_file(tmp_path / "a.pt", tmp_path / "b.ckpt")


@pytest.mark.parametrize("damage", ["transpose", "swap"])
def test_tensors_changed_after_conversion_are_refused_by_the_ledger(damage, six_networks, tmp_path, write):
    convert_file(six_networks, tmp_path / "a.ckpt")
    tensors = {name: entry.read().copy() for name, entry in open_checkpoint(tmp_path / "a.ckpt").tensors.items()}
    first, second = "genA2B.FC.2.weight", "genA2B.DecodeBlock1.norm1.s_gamma.weight"
    if damage == "transpose":
        tensors[first] = tensors[first].T.copy()
    else:
        tensors[first], tensors[second] = tensors[second], tensors[first]
    write(tmp_path / "a.ckpt", tensors)
    with pytest.raises(InputError, match=f"was changed after it was converted.*{first}"):
        convert_file(tmp_path / "a.ckpt", tmp_path / "b.pt")
    ledger_path(tmp_path / "a.ckpt").unlink()
    convert_file(tmp_path / "a.ckpt", tmp_path / "b.pt")


def test_a_set_is_not_written_onto_its_own_files(tmp_path):
    source = save_torch(tmp_path / "a.pt", {"disLA": seeded_state("photo2cartoon", "disLA")})
    convert_file(source, tmp_path / "s_{part}.ckpt")
    with pytest.raises(InputError, match=r"s_disLA\.ckpt: is one of the files that are read"):
        convert_file(tmp_path / "s_{part}.ckpt", tmp_path / "s_disLA.ckpt")
    with pytest.raises(InputError, match=r"s_disLA\.ckpt: is one of the files that are read"):
        convert_file(tmp_path / "s_disLA.ckpt", tmp_path / "s_{part}.ckpt")


@pytest.mark.parametrize("what", ["long name", "folder"])
def test_nothing_is_replaced_where_the_ledger_cannot_be_written(what, tmp_path):
    source = save_torch(tmp_path / "a.pt", {"disLA": seeded_state("photo2cartoon", "disLA")})
    target = tmp_path / ("x.ckpt" if what == "folder" else f"{'n' * 245}.ckpt")
    target.write_bytes(b"old")
    if what == "folder":
        ledger_path(target).mkdir()
    with pytest.raises(InputError, match=r"leaves no room|is no file"):
        convert_file(source, target)
    assert target.read_bytes() == b"old"


def test_a_file_written_through_a_link_has_its_ledger_beside_itself(tmp_path):
    first = save_torch(tmp_path / "a.pt", {"disLA": seeded_state("photo2cartoon", "disLA")})
    other = save_torch(tmp_path / "b.pt", {"disLA": seeded_state("photo2cartoon", "disLA", "another")})
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "x.ckpt", tmp_path / "x.ckpt"
    convert_file(first, real)
    link.symlink_to(real)
    for source in (other, first):
        assert convert_file(source, link, force=False).ledgers == (ledger_path(real),)
    convert_file(real, tmp_path / "c.pt")
    os.replace(ledger_path(real), tmp_path / "x.ckpt.ledger.json")
    convert_file(first, link, force=False)


def test_a_result_whose_ledger_is_still_pending_is_replaced(tmp_path):
    source = save_torch(tmp_path / "a.pt", {"disLA": seeded_state("photo2cartoon", "disLA")})
    convert_file(source, tmp_path / "x.ckpt")
    os.replace(ledger_path(tmp_path / "x.ckpt"), pending_path(tmp_path / "x.ckpt"))
    convert_file(source, tmp_path / "x.ckpt", force=False)
    assert ledger_path(tmp_path / "x.ckpt").is_file()
    assert not pending_path(tmp_path / "x.ckpt").exists()


@pytest.mark.quick
def test_ledger_accounts_for_every_tensor(six_networks, tmp_path):
    done = convert_file(six_networks, tmp_path / "a.ckpt")
    ledger = json.loads(done.ledgers[0].read_text())
    assert ledger["schema"] == "toonport-ledger/1"
    for side, path in (("source", six_networks), ("target", tmp_path / "a.ckpt")):
        assert ledger[side]["sha256"] == sha256_of(path)
        assert {row[side] for row in ledger["tensors"]} == set(open_checkpoint(path).tensors)
    target = open_checkpoint(tmp_path / "a.ckpt")
    assert all(row["sha256"] == tensor_sha256(target.tensors[row["target"]].read()) for row in ledger["tensors"])
    assert [one["part"] for one in ledger["networks"]] == [part.name for part in family_named("photo2cartoon").parts]


def test_same_weights_give_the_same_file(six_networks, tmp_path):
    for name in ("a.ckpt", "b.ckpt", "a.safetensors", "b.safetensors"):
        convert_file(six_networks, tmp_path / name)
    assert sha256_of(tmp_path / "a.ckpt") == sha256_of(tmp_path / "b.ckpt")
    assert sha256_of(tmp_path / "a.safetensors") == sha256_of(tmp_path / "b.safetensors")


def test_safetensors_can_carry_either_sides_names(tmp_path):
    source = save_torch(tmp_path / "a.pt", seeded_state("mobilefacenet", "mobilefacenet"))
    convert_file(source, tmp_path / "t.safetensors")
    convert_file(source, tmp_path / "m.safetensors", names="mindspore")
    assert "conv1.bn.running_mean" in open_checkpoint(tmp_path / "t.safetensors").tensors
    assert "conv1.bn.moving_mean" in open_checkpoint(tmp_path / "m.safetensors").tensors
    for name in ("t", "m"):
        convert_file(tmp_path / f"{name}.safetensors", tmp_path / f"{name}.pt")
        assert _hashes(tmp_path / f"{name}.pt") == _hashes(source)


@pytest.mark.quick
def test_family_is_found_by_the_tensors(tmp_path):
    for family in families():
        content = seeded_family(family.name)
        source = save_torch(tmp_path / "a.pt", content if len(content) > 1 else next(iter(content.values())))
        found = identify(open_checkpoint(source))
        assert {network.family.name for network in found} == {family.name}
        assert [network.part.name for network in found] == [part.name for part in family.parts]


@pytest.mark.shared
def test_real_mobilefacenet_round_trip(shared, tmp_path):
    source = shared / "weights" / "mobilefacenet_y1_128_torch.pth"
    if not source.is_file():
        pytest.skip(f"no {source.name}")
    convert_file(source, tmp_path / "a.ckpt")
    convert_file(tmp_path / "a.ckpt", tmp_path / "b.pth")
    assert _hashes(tmp_path / "b.pth") == _hashes(source)
