"""Weights of TensorFlow, TensorFlow Lite, MXNet and numpy: read right, and refused when damaged or hostile."""

import base64
import io
import json
import pickle
import struct
import zipfile

import numpy as np
import pytest

from convert.conversion import convert_file, load_networks, torch_arrays
from convert.errors import InputError
from convert.families.whitebox import VGG_LAYERS
from convert.formats import open_checkpoint
from convert.formats.tensorflow import MAGIC, crc32c, masked
from convert.plan import build_plan
from convert.registry import family_named
from parity_tests.tests.cases import seeded_state, small_part
from parity_tests.tolerances import ULP

# Written by TensorFlow 2.21: one variable each of float32, float16, int64 and float64.
TINY_INDEX = (
    "000IE0U81b0RRjeY+-q2axZITa&Bd82mulh5&{ST5&{ST5&{SU5&{SVC>S-s+dUTy1rc9pVQgjy6A}ax0tf>j7$^oclY{7O1_cpwbY*aJ"
    "2niAd5&{SUARZ_XHFXV7%K!!qb7Ns_VR8rp5&$4BC<rx(Z7rz)0000100000!ic*l000000RR910KoF0umAxAbO3_^000000RR91090aL"
    "QHTKul>rX`000000000000000000000000000000000000000009X5fizIbN+W"
)
TINY_DATA = "00000004kL0000$002Nh004kM005vs0031rRXG3v0000100960|NsC0|NokqnVFfHxjz"


def _varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def _block(pairs):
    """A block of a LevelDB table, with shared prefixes, and its trailer."""
    body, last = b"", b""
    for key, value in pairs:
        shared = sum(last.startswith(key[:count]) for count in range(1, len(key) + 1))
        body += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        last = key
    body += struct.pack("<II", 0, 1)
    return body, body + b"\0" + struct.pack("<I", masked(crc32c(body + b"\0")))


def _write_tensorflow(folder, arrays):
    """A checkpoint as TensorFlow writes it, names in order."""
    data, pairs = b"", [(b"", b"\x08\x01\x1a\x02\x08\x01")]
    for name, value in sorted(arrays.items()):
        content = value.tobytes()
        sides = b"".join(b"\x12" + _varint(len(one)) + one for one in (b"\x08" + _varint(s) for s in value.shape))
        entry = b"\x08\x01\x12" + _varint(len(sides)) + sides + b"\x20" + _varint(len(data))
        entry += b"\x28" + _varint(len(content)) + b"\x35" + struct.pack("<I", masked(crc32c(content)))
        pairs.append((name.encode(), entry))
        data += content
    body, block = _block(pairs)
    empty, meta = _block([])
    handle = _varint(len(block)) + _varint(len(empty))
    index, index_block = _block([(b"~", _varint(0) + _varint(len(body)))])
    footer = handle + _varint(len(block) + len(meta)) + _varint(len(index))
    footer = footer.ljust(40, b"\0") + MAGIC
    (folder / "model.index").write_bytes(block + meta + index_block + footer)
    (folder / "model.data-00000-of-00001").write_bytes(data)
    return folder / "model.index"


def _tensorflow_names(state):
    """White-box's own names and order of axes for the generator's tensors."""
    scopes = {
        "FirstConv.0": "Conv",
        "DownSample1.ConvReLU_2.1": "Conv_1",
        "DownSample1.ConvReLU_2.3": "Conv_2",
        "DownSample2.ConvReLU_2.1": "Conv_3",
        "DownSample2.ConvReLU_2.3": "Conv_4",
        "UpSample1.FirstConv.0": "Conv_5",
        "UpSample1.ConvReLU.0": "Conv_6",
        "UpSample2.FirstConv.0": "Conv_7",
        "UpSample2.ConvReLU.0": "Conv_8",
        "LastConv.0": "Conv_9",
    }
    for block in range(4):
        scopes |= {f"ResBlock.ResBlock_{block}.Conv.{2 * half}": f"block_{block}/conv{half + 1}" for half in (0, 1)}
    found = {}
    for name, value in state.items():
        layer, _, leaf = name.rpartition(".")
        kernel = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
        found[f"generator/{scopes[layer]}/{'weights' if leaf == 'weight' else 'biases'}"] = np.ascontiguousarray(kernel)
    return found


def test_tensorflow_checkpoint_written_by_tensorflow_is_read(tmp_path):
    (tmp_path / "tiny.index").write_bytes(base64.b85decode(TINY_INDEX))
    (tmp_path / "tiny.data-00000-of-00001").write_bytes(base64.b85decode(TINY_DATA))
    found = {name: entry.read() for name, entry in open_checkpoint(tmp_path / "tiny.index").tensors.items()}
    assert found["layer/kernel"].tolist() == [[[[0, 1, 2], [3, 4, 5]]]]
    assert found["layer/kernel_half"].dtype == np.float16
    assert found["layer/kernel_half"].tolist() == (np.arange(3, dtype=np.float16) / 3).tolist()
    assert found["layer/steps"].tolist() == [2**40, -1]
    assert found["scalar"] == 0.1


def test_whitebox_checkpoint_converts_to_both_sides_and_back(tmp_path):
    state = seeded_state("whitebox", "generator")
    arrays = _tensorflow_names(state)
    extra = {"generator/Conv/weights/Adam": np.zeros((7, 7, 3, 8), np.float32), "beta1_power": np.float32(0.5)}
    done = convert_file(_write_tensorflow(tmp_path, {**arrays, **extra}), tmp_path / "a.ckpt")
    assert done.networks[0].spelling == "TensorFlow"
    unused = "left out, as the network does not use it: "
    assert {*done.networks[0].notes[-1].removeprefix(unused).split(", ")} == {*extra}
    convert_file(tmp_path / "a.ckpt", tmp_path / "b.pth")
    (network,) = load_networks(tmp_path / "b.pth")
    assert list(torch_arrays(network)) == list(state)
    assert all(np.array_equal(value, state[name]) for name, value in torch_arrays(network).items())


@pytest.mark.shared
def test_names_of_the_shipped_whitebox_checkpoint_fit(shared):
    names = json.loads((shared / "keys" / "wbc_tf_to_fc_map.json").read_text())
    shapes = json.loads((shared / "keys" / "wbc_tf_variables.json").read_text())
    part = family_named("whitebox").parts[0]
    arrays = {row.torch: np.zeros(row.spec.shape, np.float32) for row in build_plan(part, part.kwargs).rows}
    assert {name: list(value.shape) for name, value in _tensorflow_names(arrays).items()} == {
        name: shape for name, shape in shapes.items() if name.startswith("generator/")
    }
    assert set(names.values()) == set(arrays)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-1], "magic number"),
        (lambda data: data[: len(data) // 2] + data[len(data) // 2 + 1 :], "not the index"),
        (lambda data: data[:5] + bytes([data[5] ^ 1]) + data[6:], "checksum of a block"),
        (lambda data: b"", "the file is empty"),
    ],
)
def test_damaged_tensorflow_index_is_refused(damage, words, tmp_path):
    path = _write_tensorflow(tmp_path, {"a/weights": np.ones((2, 3), np.float32)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=words):
        open_checkpoint(path)


def test_damaged_or_missing_tensorflow_data_is_refused(tmp_path):
    path = _write_tensorflow(tmp_path, {"a/weights": np.ones((2, 3), np.float32)})
    data = tmp_path / "model.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1] + b"\1")
    with pytest.raises(InputError, match="checksum of a/weights does not match"):
        open_checkpoint(path).tensors["a/weights"].read()
    data.unlink()
    with pytest.raises(InputError, match="put it beside the index"):
        open_checkpoint(path)


@pytest.mark.shared
def test_damaged_tflite_is_refused(shared, tmp_path):
    data = (shared / "weights" / "whitebox_cartoon_gan_fp16.tflite").read_bytes()
    (tmp_path / "cut.tflite").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cut off"):
        open_checkpoint(tmp_path / "cut.tflite")
    (tmp_path / "other.tflite").write_bytes(b"\0not a model")
    with pytest.raises(InputError, match="TFL3"):
        open_checkpoint(tmp_path / "other.tflite")
    with pytest.raises(InputError, match=r"unknown suffix '\.tflite'"):
        convert_file(shared / "weights" / "whitebox_cartoon_gan_fp16.tflite", tmp_path / "out.tflite")


# --- numpy ---------------------------------------------------------------------------------------------------------


def _vgg_dictionary(state):
    names = {f"conv.{place}": name for place, name, _ in VGG_LAYERS}
    content = {}
    for layer, name in names.items():
        kernel = np.asfortranarray(state[f"{layer}.weight"].transpose(2, 3, 1, 0))
        content[name] = [kernel, state[f"{layer}.bias"]]
    return {**content, "conv5_1": [np.zeros((3, 3, 8, 8), np.float32), np.zeros(8, np.float32)]}


def _save_old(path, content, protocol):
    """An .npy file with a pickle of any protocol; old files have the second."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
    path.write_bytes(stream.getvalue() + pickle.dumps(np.array(content, dtype=object), protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_vgg19_dictionary_is_read_without_unpickling(protocol, tmp_path, monkeypatch):
    state = seeded_state("vgg19", "vgg19")
    path = _save_old(tmp_path / "vgg19_no_fc.npy", _vgg_dictionary(state), protocol)
    monkeypatch.setattr(pickle, "load", None)
    monkeypatch.setattr(pickle, "loads", None)
    (network,) = load_networks(path)
    assert network.spelling == "vgg19.npy"
    assert all(np.array_equal(value, state[name]) for name, value in torch_arrays(network).items())


@pytest.mark.parametrize("spelling", ["features", "bare", "npz"])
def test_vgg19_is_read_in_its_other_spellings(spelling, tmp_path, write):
    state = seeded_state("vgg19", "vgg19")
    indices = {f"conv.{place}": index for place, _, index in VGG_LAYERS}
    if spelling == "features":
        names = {key: f"features.{indices[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}" for key in state}
        arrays = {**{names[key]: value for key, value in state.items()}, "classifier.0.bias": np.zeros(3, np.float32)}
        path = write(tmp_path / "vgg.pth", arrays)
    elif spelling == "bare":
        path = write(tmp_path / "vgg.pth", {key.removeprefix("conv."): value for key, value in state.items()})
    else:
        path = tmp_path / "vgg.npz"
        np.savez(path, **state)
    (network,) = load_networks(path)
    assert network.family.name == "vgg19"
    assert all(np.array_equal(value, state[name]) for name, value in torch_arrays(network).items())


class _Hostile:
    def __reduce__(self):
        return (print, ("this ran",))


def test_hostile_and_foreign_numpy_files_are_refused(tmp_path, capsys):
    with pytest.raises(InputError, match=r"asks to call __builtin__\.print"):
        open_checkpoint(_save_old(tmp_path / "a.npy", {"conv1_1": _Hostile()}, 2))
    assert capsys.readouterr().out == ""
    np.save(tmp_path / "b.npy", np.zeros(3))
    with pytest.raises(InputError, match="a single array without names"):
        open_checkpoint(tmp_path / "b.npy")
    with pytest.raises(InputError, match="is not an array"):
        open_checkpoint(_save_old(tmp_path / "c.npy", {"conv1_1": "text"}, 2))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "d.npy").write_bytes(whole[:-9])
    with pytest.raises(InputError, match="not a numpy file"):
        open_checkpoint(tmp_path / "d.npy")
    np.savez(tmp_path / "e.npz", a=np.array({"x": 1}, dtype=object))
    with pytest.raises(InputError, match="not safe to read"):
        open_checkpoint(tmp_path / "e.npz")


# --- MXNet ---------------------------------------------------------------------------------------------------------


def _mxnet_names(state):
    """InsightFace's names for MobileFaceNet's tensors."""
    found = {}
    for name, value in state.items():
        layer, _, leaf = name.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        leaves = {"running_mean": "moving_mean", "running_var": "moving_var", "weight": "gamma", "bias": "beta"}
        if layer in {"linear", "bn"}:
            found[f"fc1_{leaves[leaf] if layer == 'bn' else 'weight'}"] = value
            continue
        stem, kind = layer.rsplit(".", 1)
        words = {"conv": "conv2d_weight", "bn": f"batchnorm_{leaves.get(leaf)}", "prelu": "relu_gamma"}
        found[f"{_mxnet_stem(stem)}_{words[kind]}"] = value
    return found


def _mxnet_stem(stem):
    plain = {"conv1": "conv_1", "conv2_dw": "conv_2_dw", "conv_6_sep": "conv_6sep", "conv_6_dw": "conv_6dw7_7"}
    if stem in plain:
        return plain[stem]
    head, _, kind = stem.rpartition(".")
    part = {"conv": "sep", "conv_dw": "dw", "project": "proj"}[kind]
    if ".model." in head:
        block, _, index = head.partition(".model.")
        return f"res_{block[-1]}_block{index}_conv_{part}"
    return f"dconv_{head[-2:]}_conv_{part}"


def _mxnet_bytes(arrays):
    out = struct.pack("<QQQ", 0x112, 0, len(arrays))
    for value in arrays.values():
        out += struct.pack("<IiI", 0xF993FAC9, 0, value.ndim) + struct.pack(f"<{value.ndim}q", *value.shape)
        out += struct.pack("<iii", 1, 0, 0) + value.astype("<f4").tobytes()
    out += struct.pack("<Q", len(arrays))
    for name in arrays:
        tagged = f"{'aux' if '_moving_' in name else 'arg'}:{name}".encode()
        out += struct.pack("<Q", len(tagged)) + tagged
    return out


def _symbol(arrays):
    nodes = [{"op": "null", "name": "data", "inputs": []}]
    for name in arrays:
        if name.endswith("_moving_var"):
            norm = name.removesuffix("_moving_var")
            last = {"eps": "2e-05", "fix_gamma": "True"}
            nodes.append({"op": "BatchNorm", "name": norm, "attrs": last if norm == "fc1" else {"fix_gamma": "False"}})
    return json.dumps({"nodes": nodes})


@pytest.fixture
def mxnet(tmp_path):
    """A small MobileFaceNet as InsightFace releases it, and the same weights under PyTorch names."""
    state = seeded_state("mobilefacenet", "mobilefacenet")
    arrays = {**_mxnet_names(state), "pre_fc1_bias": np.linspace(-1, 1, 64, dtype=np.float32)}
    (tmp_path / "model-0000.params").write_bytes(_mxnet_bytes(arrays))
    (tmp_path / "model-symbol.json").write_text(_symbol(arrays))
    return tmp_path, state, arrays


def test_mxnet_parameters_keep_their_function_in_pytorch(mxnet):
    folder, state, arrays = mxnet
    with zipfile.ZipFile(folder / "y1.zip", "w") as archive:
        for name in ("model-0000.params", "model-symbol.json"):
            archive.write(folder / name, f"y1/{name}")
    for source in ("model-0000.params", "y1.zip"):
        (network,) = load_networks(folder / source, "mobilefacenet")
        found = torch_arrays(network)
        assert set(found) == {name for name in state if not name.endswith("num_batches_tracked")}
        for name, value in found.items():
            layer, _, leaf = name.rpartition(".")
            wanted = state[name].astype(np.float64)
            if leaf == "running_var":
                wanted = wanted + ((2e-5 if layer == "bn" else 1e-3) - 1e-5)
            elif name == "bn.weight":
                wanted = np.ones_like(wanted)  # fix_gamma
            elif name == "bn.running_mean":
                wanted = wanted - arrays["pre_fc1_bias"]
            assert np.abs(value - wanted).max() <= ULP * max(1.0, np.abs(wanted).max()), name


def test_damaged_mxnet_parameters_are_refused(mxnet):
    folder, _, _ = mxnet
    whole = (folder / "model-0000.params").read_bytes()
    for content, words in ((whole[:1000], "cut off"), (b"\0" * 64, "mark"), (whole[:24] + b"\1" + whole[25:], "mark")):
        (folder / "model-0000.params").write_bytes(content)
        with pytest.raises(InputError, match=words):
            open_checkpoint(folder / "model-0000.params")
    (folder / "model-symbol.json").unlink()
    with pytest.raises(InputError, match="epsilon of the batch norms"):
        open_checkpoint(folder / "model-0000.params")
    (folder / "bad.zip").write_bytes(b"PK\5\6 not an archive")
    with pytest.raises(InputError, match="cut off or damaged"):
        open_checkpoint(folder / "bad.zip")


@pytest.mark.shared
def test_insightface_y1_gives_the_recorded_tensors_and_embeddings(shared, tmp_path):
    import cv2
    import mindspore

    from convert.conversion import mindspore_arrays
    from ms_models.build import build_mindspore

    convert_file(shared / "weights" / "model-y1.zip", tmp_path / "y1.pth")
    convert_file(tmp_path / "y1.pth", tmp_path / "y1.ckpt")
    (network,) = load_networks(tmp_path / "y1.ckpt")
    (known,) = load_networks(shared / "weights" / "mobilefacenet_y1_128_torch.pth")
    recorded = torch_arrays(known)
    assert all(np.array_equal(value, recorded[name]) for name, value in torch_arrays(network).items())
    cell = build_mindspore(network.part, network.kwargs, mindspore_arrays(network))
    record = np.load(shared / "weights" / "mobilefacenet_y1_lfw_embeddings.npz")
    for name, wanted in list(zip(record["names"], record["embedding"], strict=True))[:6]:
        pixels = cv2.imread(str(next((shared / "data" / "lfw112").glob(f"{name}*"))))[:, :, ::-1]
        face = ((pixels.astype(np.float32) - 127.5) / 128).transpose(2, 0, 1)[None]
        found = cell(mindspore.Tensor(np.ascontiguousarray(face))).asnumpy()[0]
        assert np.abs(found - wanted).max() < 32 * ULP


def test_small_parts_exist_for_every_new_part():
    for family in ("whitebox", "facialcartoonization"):
        for part in family_named(family).parts:
            assert small_part(family, part.name)[1]["form"] == part.kwargs["form"]
