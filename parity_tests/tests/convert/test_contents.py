"""Files told apart by what is in them: read whatever they are called, or refused with Python that mends them."""

import bz2
import gzip
import lzma
import os
import pickle
import re
import tarfile
import zipfile
from collections import OrderedDict
from functools import cache

import numpy as np
import pytest

from convert.conversion import convert_file, load_networks, torch_arrays
from convert.errors import InputError
from convert.formats import open_checkpoint
from parity_tests.tests.cases import save_torch, seeded_state, small_part
from toonport.cli import main

STATE = seeded_state("photo2cartoon", "disLA")
SUFFIXES = (".pth.tar", ".bin", ".pkl", ".model", ".ckpt", ".safetensors", ".npz", ".zip", ".weights", "")
KEY = b"0123456789abcdef"


def _tensors(state=None):
    import torch

    return {name: torch.from_numpy(np.array(value)) for name, value in (state or STATE).items()}


def _save_old(path):
    import torch

    torch.save(_tensors(), path, _use_new_zipfile_serialization=False)


def _save_lightning(path):
    import torch

    loops = {"fit_loop": {"state_dict": {}}, "epoch": np.float64(3)}
    torch.save({"state_dict": {f"net.{k}": v for k, v in _tensors().items()}, "loops": loops, "callbacks": {}}, path)


def _save_torch_arrays(path):
    import torch

    torch.save({"params": OrderedDict(STATE), "best": np.float32(3), "names": np.array(["a"])}, path)


def _save_pickle(protocol, path):
    content = OrderedDict(params=OrderedDict(STATE), best=np.float64(3.5), note="x")
    path.write_bytes(pickle.dumps(content, protocol))


def _save_npz(path):
    with open(path, "wb") as file:
        np.savez(file, **STATE)


def _save_views(path):
    import torch

    torch.save({name: torch._neg_view(-value) for name, value in _tensors().items()}, path)


def _save_packed_again(path):
    save_torch(path.with_name("whole.pth"), STATE)
    with zipfile.ZipFile(path.with_name("whole.pth")) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in whole.namelist():
            new.writestr(name, whole.read(name))


def _save_in_list(path):
    import torch

    torch.save([{"net": _tensors(), "epoch": 3}, "text"], path)


@cache
def _traced():
    import torch

    from torch_ref.build import build_torch

    net = build_torch(*small_part("photo2cartoon", "disLA"), STATE).eval()
    return torch.jit.trace(net, torch.ones(1, 3, 64, 64), check_trace=False)


WRITERS = {
    "PyTorch": lambda path, write: save_torch(path, STATE),
    "TorchScript": lambda path, write: _traced().save(str(path)),
    "TorchScript for phones": lambda path, write: _traced()._save_for_lite_interpreter(str(path)),
    "old PyTorch": lambda path, write: _save_old(path),
    "Lightning": lambda path, write: _save_lightning(path),
    "numpy in PyTorch": lambda path, write: _save_torch_arrays(path),
    "views with their sign turned": lambda path, write: _save_views(path),
    "packed again": lambda path, write: _save_packed_again(path),
    "list": lambda path, write: _save_in_list(path),
    "MindSpore": lambda path, write: write(path.with_name("a.ckpt"), STATE).rename(path),
    "safetensors": lambda path, write: write(path.with_name("a.safetensors"), STATE).rename(path),
    "npz": lambda path, write: _save_npz(path),
    **{f"pickle {n}": lambda path, write, n=n: _save_pickle(n, path) for n in range(6)},
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.filterwarnings("ignore")
def test_a_file_is_read_by_its_content_under_every_suffix(kind, tmp_path, write):
    for suffix in SUFFIXES:
        path = tmp_path / f"file{suffix}"
        WRITERS[kind](path, write)
        (network,) = load_networks(path, "photo2cartoon", "disLA")
        assert all(np.array_equal(value, STATE[name]) for name, value in torch_arrays(network).items()), suffix


def test_convert_says_what_a_file_is_when_its_suffix_says_otherwise(tmp_path, capsys):
    save_torch(tmp_path / "a.ckpt", STATE)
    assert main(["convert", str(tmp_path / "a.ckpt"), str(tmp_path / "b.ckpt")]) == 0
    assert "by its content a file of PyTorch" in " ".join(capsys.readouterr().out.split())


@pytest.mark.filterwarnings("ignore:Sparse CS:UserWarning")
def test_sparse_tensors_are_read_dense(tmp_path):
    import torch

    layouts = (torch.Tensor.to_sparse, torch.Tensor.to_sparse_csr, torch.Tensor.to_sparse_csc)
    for layout in layouts:
        state = {name: layout(value) if value.dim() == 2 else value for name, value in _tensors().items()}
        torch.save(state, tmp_path / "sparse.pth")
        arrays = torch_arrays(load_networks(tmp_path / "sparse.pth", "photo2cartoon", "disLA")[0])
        assert all(np.array_equal(value, STATE[name]) for name, value in arrays.items())


def _save_whole(path, wrapped):
    import torch

    torch.save({"net": _Net(torch), "epoch": 3} if wrapped else _Net(torch), path)


def _frozen(path):
    import torch

    torch.jit.save(torch.jit.freeze(torch.jit.script(_Net(torch).eval())), path)


def _flat(path):
    import torch

    torch.jit.save_jit_module_to_flatbuffer(torch.jit.script(_Net(torch)), str(path))


def _quantized_script(path):
    import torch

    torch.jit.save(torch.jit.script(torch.ao.quantization.quantize_dynamic(_Net(torch), {torch.nn.Linear})), path)


def _program(path):
    import torch

    torch.export.save(torch.export.export(_Net(torch), (torch.ones(1, 3),)), path)


def _Net(torch):  # noqa: N802  # builds one
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())


def _quantized_layers(path):
    import torch

    torch.save(torch.ao.quantization.quantize_dynamic(_Net(torch), {torch.nn.Linear}).state_dict(), path)


def _quantized_tensors(path):
    import torch

    weight = torch.quantize_per_tensor(torch.randn(4, 3, 1, 1), 0.1, 0, torch.qint8)
    torch.save({"c.weight": weight, "c.bias": torch.zeros(4), "c.scale": torch.tensor(0.1)}, path)


def _eight_bits(kind, path):
    import safetensors.torch
    import torch

    save = safetensors.torch.save_file if path.suffix == ".safetensors" else torch.save
    save({"a.weight": torch.randn(4, 3).to(getattr(torch, kind)), "a.bias": torch.zeros(4)}, path)


def _onnx(path):
    import onnx

    weight = onnx.numpy_helper.from_array(np.ones((4, 3), np.float32), "a.weight")
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [weight]), producer_name="x"), path)


def _tar(mode, path):
    save_torch(path.with_name("inner.pth"), {"a.weight": np.ones(3)})
    with tarfile.open(path, mode) as archive:
        archive.add(path.with_name("inner.pth"), "folder/inner.pth")


def _zip(path):
    save_torch(path.with_name("inner.pth"), {"a.weight": np.ones(3)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(path.with_name("inner.pth"), "inner.pth")


def _pack(module, path):
    path.write_bytes(module.compress(save_torch(path.with_name("inner.pth"), {"a": np.ones(3)}).read_bytes()))


FOREIGN = {
    "frozen TorchScript": ("net.pt", "constants without names", _frozen),
    "quantized TorchScript": ("net.ckpt", "TorchScript archive of a quantized network", _quantized_script),
    "flat TorchScript": ("net.ptl", "PyTorch Mobile", _flat),
    "torch.export": ("net.pt2", "torch.export", _program),
    "quantized layers": ("int8.pth", "quantized", _quantized_layers),
    "quantized tensors": ("int8.bin", "quantized", _quantized_tensors),
    "float8": ("f8.pth", "float8_e4m3fn", lambda path: _eight_bits("float8_e4m3fn", path)),
    "float8 of range": ("f8.pt", "float8_e5m2", lambda path: _eight_bits("float8_e5m2", path)),
    "float8 in safetensors": ("f8.safetensors", "F8_E4M3", lambda path: _eight_bits("float8_e4m3fn", path)),
    "ONNX": ("net.onnx", "ONNX", _onnx),
    "whole network": ("whole.pt", "asks to run code", lambda path: _save_whole(path, False)),
    "whole network in a dictionary": ("net.pth", "asks to run code", lambda path: _save_whole(path, True)),
    "pickled tensors": ("a.pkl", "a pickle of more", lambda path: path.write_bytes(pickle.dumps(_tensors()))),
    "tar": ("a.tar", "a tar archive of folder/inner.pth", lambda path: _tar("w", path)),
    "packed tar": ("a.tar.gz", "a tar archive", lambda path: _tar("w:gz", path)),
    "zip": ("a.zip", "a zip archive of inner.pth", _zip),
    "gzip": ("a.pth.gz", "packed with gzip", lambda path: _pack(gzip, path)),
    "bzip2": ("a.pth.bz2", "packed with bz2", lambda path: _pack(bz2, path)),
    "xz": ("a.pth.xz", "packed with lzma", lambda path: _pack(lzma, path)),
}


def _advice(path, *words):
    """The refusal of a file, which names what it is; and the Python in it."""
    with pytest.raises(InputError) as raised:
        open_checkpoint(path)
    text = str(raised.value)
    assert "\n" not in text
    assert all(word in text for word in (str(path), *words)), text
    found = re.search(r"import \w.*$", text)
    return found[0] if found else ""


def _made_by(code, folder):
    """The files that some Python makes, read as checkpoints."""
    before = set(folder.rglob("*"))
    exec(code, {"KEY": KEY})
    return [open_checkpoint(path) for path in set(folder.rglob("*")) - before if path.is_file()]


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.filterwarnings("ignore")
def test_what_is_not_read_is_named_and_its_advice_makes_a_readable_file(kind, tmp_path):
    name, words, make = FOREIGN[kind]
    make(tmp_path / name)
    (made,) = _made_by(_advice(tmp_path / name, words), tmp_path)
    assert made.tensors
    assert not any("float8" in entry.spec.dtype or "int8" in entry.spec.dtype for entry in made.tensors.values())


def test_mindspores_encrypted_files_and_programs_are_named_with_advice(tmp_path):
    import mindspore

    net = mindspore.nn.Dense(3, 4)
    for mode in ("AES-GCM", "AES-CBC", "SM4-CBC"):
        path = tmp_path / f"{mode}.ckpt"
        mindspore.save_checkpoint(net, str(path), enc_key=KEY, enc_mode=mode)
        (made,) = _made_by(_advice(path, "encrypted", mode), tmp_path)
        assert np.array_equal(made.tensors["weight"].read(), net.weight.asnumpy())
    mindspore.export(
        net, mindspore.Tensor(np.ones((1, 3), np.float32)), file_name=str(tmp_path / "n"), file_format="MINDIR"
    )
    (made,) = _made_by(_advice(tmp_path / "n.mindir", "MINDIR"), tmp_path)
    assert np.array_equal(made.tensors["weight"].read(), net.weight.asnumpy())


def test_nothing_that_a_torchscript_archive_names_is_run(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    for content in (Attack(), {"a.weight": np.ones(3), "x": Attack()}):
        with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
            archive.writestr("a/data.pkl", pickle.dumps(content, 2))
            archive.writestr("a/constants.pkl", pickle.dumps((), 2))
            archive.writestr("a/version", "3")
        _advice(tmp_path / "a.pt", "asks to run code")
        assert not (tmp_path / "ran").exists()


PLACEHOLDERS = {
    "graph": (b"\x0a\x10\x0a\x01a\x12\x0bPlaceholder", "a TensorFlow graph", "tf.make_ndarray"),
    "gguf": (b"GGUF" + bytes(60), "a GGUF file", "gguf.GGUFReader"),
    "matlab": (b"MATLAB 5.0 MAT-file" + bytes(99), "a MATLAB file", "scipy.io.loadmat"),
    "lz4": (b"\x04\x22\x4d\x18" + bytes(9), "packed with lz4", "lz4 -d"),
    "flax": (b"\x81\xa6params\x81\xa6conv_0\xc0", "as Flax writes", "flax.serialization"),
    "lua": (b"\4\0\0\0\1\0\0\0\3\0\0\0V 1\x0d\0\0\0nn.Sequential", "Torch in Lua", "torchfile"),
    "page": (b"\n<!DOCTYPE html><html><title>Google Drive</title>", "a web page"),
    "denied": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4711\n", "which has 4711 bytes"),
    "answer": (b'{"error": "Repository not found"}', "a text, not weights"),
    "list": (b'model_checkpoint_path: "model-33999"\n', "names TensorFlow checkpoints"),
    "shards": (b'{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}', "m-1.safetensors', 'm-2"),
    "keras": (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
    "annex": (b"/annex/objects/SHA256E-s4711--0.pth\n", "which has 4711 bytes"),
    "marked page": (b"\xef\xbb\xbf<html>", "a web page"),
    "wide page": ("<html><title>".encode("utf-16"), "a web page"),
    "picture": (b"\xff\xd8\xff\xe0" + bytes(99), "a JPEG picture"),
    "zeros": (bytes(5000), "zeros"),
    "empty": (b"", "empty"),
    "cut": (b"PK\x03\x04" + bytes(99), "cut off"),
}


@pytest.mark.parametrize("kind", PLACEHOLDERS)
def test_what_lies_in_the_place_of_weights_is_named(kind, tmp_path):
    content, *words = PLACEHOLDERS[kind]
    for suffix in (".pth", ".ckpt", ".safetensors", ".bin"):
        (tmp_path / f"a{suffix}").write_bytes(content)
        _advice(tmp_path / f"a{suffix}", *words)


def test_folders_and_parts_of_tensorflow_checkpoints_are_answered_with_the_file_to_give(tmp_path):
    index = tmp_path / "saved" / "variables" / "variables.index"
    index.parent.mkdir(parents=True)
    for path in (index, index.with_suffix(".data-00000-of-00001")):
        path.write_bytes(b"\xff\xfe")
    for given in (tmp_path / "saved", index.with_suffix(""), index.with_suffix(".data-00000-of-00001")):
        _advice(given, str(index))
    _advice(tmp_path, "a folder", "saved")


def test_every_output_of_a_conversion_converts_under_a_foreign_suffix(tmp_path):
    source = save_torch(tmp_path / "a.pth", STATE)
    for suffix in (".pt", ".ckpt", ".safetensors"):
        made = convert_file(source, tmp_path / f"b{suffix}").outputs[0].rename(tmp_path / f"{suffix[1:]}.download")
        assert len(convert_file(made, tmp_path / "c.pth").networks[0].tensors) == len(STATE)
