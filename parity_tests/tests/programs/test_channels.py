"""The order of colours: which one a file was made for, kept on every way, and what the publisher drew."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from convert.channels import channel_order
from convert.conversion import convert_file, load_networks
from convert.errors import InputError
from convert.ledger import ledger_path
from convert.tensors import tensor_sha256
from parity_tests.tests.cases import save_torch, seeded_state
from toonport.draw.cartoonizer import Cartoonizer, CartoonSettings
from toonport.draw.generators import open_generator
from toonport.exporters.exporter import ExportOptions, export_network
from toonport.photo.picture import read_picture

BIAS = "FirstConv.0.bias"


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A seeded White-box generator in a PyTorch file."""
    path = tmp_path_factory.mktemp("channels") / "seeded.pt"
    save_torch(path, seeded_state("whitebox", "generator"))
    return load_networks(path, "whitebox")[0]


def test_what_is_known_of_a_file_decides_and_the_user_over_all(network, tmp_path):
    assert channel_order(network) == "BGR"
    assert channel_order(network, "RGB") == "RGB"
    assert channel_order(replace(network, spelling="TensorFlow Lite")) == "RGB"
    assert channel_order(replace(network, spelling="TensorFlow")) == "BGR"
    assert channel_order(replace(network, spelling="TensorFlow Lite"), "BGR") == "BGR"
    digest = tensor_sha256(network.tensors[BIAS].read())
    known = replace(network.part, published=((BIAS, "0" * 64, "BGR"), (BIAS, digest, "RGB")))
    assert channel_order(replace(network, part=known)) == "RGB"
    with pytest.raises(InputError, match="unknown order of colours 'RBG'"):
        channel_order(network, "RBG")


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".safetensors"])
def test_the_ledger_of_a_converted_file_keeps_the_order(network, tmp_path, suffix):
    target, again = tmp_path / f"a{suffix}", tmp_path / f"{{part}}{suffix}"
    convert_file(network.path, target, "whitebox")
    path = ledger_path(target)
    content = json.loads(path.read_text())
    assert content["networks"][0]["channels"] == "BGR"
    content["networks"][0]["channels"] = "RGB"
    path.write_text(json.dumps(content))
    assert open_generator(target, "whitebox", backend="torch").how.channels == "RGB"
    convert_file(target, again, "whitebox")
    assert open_generator(again.with_stem("generator"), "whitebox", backend="torch").how.channels == "RGB"
    assert open_generator(target, "whitebox", backend="torch", channels="BGR").how.channels == "BGR"
    content["networks"][0]["channels"] = "GBR"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="gives 'GBR' as order of colours"):
        open_generator(target, "whitebox")


def test_an_exported_file_says_the_order(network, tmp_path):
    target = tmp_path / "small.onnx"
    export_network(ExportOptions(family="whitebox", weights=str(network.path), side=32), target)
    assert open_generator(target).how.channels == "BGR"
    assert open_generator(target, channels="RGB").how.channels == "RGB"
    model = onnx.load(target)
    next(entry for entry in model.metadata_props if entry.key == "toonport.channels").value = "RGB"
    onnx.save(model, target)
    assert open_generator(target).how.channels == "RGB"


@pytest.mark.shared
def test_published_files_draw_what_their_publisher_drew(shared, tmp_path):
    """Also after a conversion whose ledger was lost: the values tell the file."""
    tflite = shared / "weights" / "whitebox_cartoon_gan_fp16.tflite"
    for suffix in (".ckpt", ".safetensors"):
        convert_file(tflite, tmp_path / f"a{suffix}", "whitebox")
        ledger_path(tmp_path / f"a{suffix}").unlink()
    photo = read_picture(shared / "data" / "reference" / "whitebox_0_photo224.png")
    wanted = read_picture(shared / "data" / "reference" / "whitebox_0_tflite_fp16.png").astype(int)
    files = (tflite, shared / "weights" / "whitebox_unet_arthurin_keys_fp32.pth", *sorted(tmp_path.glob("a.*")))
    for file in files:
        (cartoon,) = Cartoonizer(CartoonSettings(str(file), "whitebox", backend="torch")).draw(photo)
        difference = np.abs(cartoon.picture - wanted)
        assert difference.max() <= 1
        assert (difference == 0).mean() > 0.998
    settings = CartoonSettings(str(tflite), "whitebox", backend="torch", channels="BGR")
    (cartoon,) = Cartoonizer(settings).draw(photo)
    assert np.abs(cartoon.picture - wanted).mean() > 5
