"""Mattes: refinement by colour, the reference's own network from a TensorFlow file, and what is missing."""

import struct
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from convert.errors import InputError
from toonport.fetch import load_manifest
from toonport.photo import matte as matte_module
from toonport.photo.align import Crop
from toonport.photo.landmarks import LANDMARKS, open_landmarks
from toonport.photo.matte import HEAD_SIDE, HeadMatte, open_matte, refine, to_matte


def test_refinement_decides_by_colour_and_repeats_itself():
    pixels = np.full((256, 256, 3), (20, 90, 200), np.uint8)
    pixels[:, 140:] = (210, 160, 120)
    guess = np.tile(np.clip((np.arange(256) - 78) / 100, 0, 1).astype(np.float32), (256, 1))  # uncertain 78..178
    found = refine(pixels, guess)
    assert (found[:, :135] < 0.1).all()
    assert (found[:, 145:] > 0.9).all()
    np.testing.assert_array_equal(found, refine(pixels, guess))
    speck = guess.copy()
    speck[100:110, 5:15] = 1  # an island of ten by ten pixels
    pixels[100:110, 5:15] = (210, 160, 120)
    assert (refine(pixels, speck)[:, :135] < 0.1).all()
    everyone = np.ones((256, 256), np.float32)
    np.testing.assert_array_equal(refine(pixels, everyone), everyone)
    hardly = np.zeros((256, 256), np.float32)
    hardly[60:80, 60:80] = 1  # too few pixels to learn colours from
    np.testing.assert_array_equal(refine(pixels, hardly), hardly)
    assert (to_matte(everyone, 10) == 255).all()


def _field(number, value):
    """One protobuf field: bytes and text as length-delimited, numbers as varints."""

    def varint(whole):
        found = b""
        while whole > 127:
            found, whole = found + bytes([whole & 127 | 128]), whole >> 7
        return found + bytes([whole])

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def _node(name, kind, inputs=(), **attributes):
    body = _field(1, name) + _field(2, kind) + b"".join(_field(3, one) for one in inputs)
    for key, value in {"T": _field(6, 1), **attributes}.items():
        body += _field(5, _field(1, key) + _field(2, value))
    return _field(1, body)


def _frozen_graph():
    """A TensorFlow graph with the reference's input and output names: sigmoid(red - green), made by hand."""
    shape = b"".join(_field(2, _field(1, size)) for size in (1, 1, 3, 1))
    weights = struct.pack("<3f", 40, -40, 0)
    tensor = _field(1, 1) + _field(2, shape) + _field(4, weights)
    ones = b"".join(bytes([1]) for _ in range(4))
    return b"".join(
        [
            _node("input_1", "Placeholder", dtype=_field(6, 1)),
            _node("kernel", "Const", dtype=_field(6, 1), value=_field(8, tensor)),
            _node("conv", "Conv2D", ["input_1", "kernel"], strides=_field(1, _field(3, ones)),
                  padding=_field(2, "SAME"), data_format=_field(2, "NHWC")),
            _node("sigmoid/Sigmoid", "Sigmoid", ["conv"]),
        ]
    )  # fmt: skip


def _whole(pixels):
    return Crop(pixels, np.ones(pixels.shape[:2], np.bool_))


def test_a_frozen_tensorflow_graph_is_run_without_tensorflow(tmp_path):
    path = tmp_path / "seg_model_384.pb"
    path.write_bytes(_frozen_graph())
    pixels = np.full((50, 50, 3), (0, 200, 0), np.uint8)
    pixels[:, 25:] = (200, 0, 0)
    found = HeadMatte(path)(_whole(pixels))
    assert found.shape == (50, 50)
    assert (found[:, :23] == 0).all()
    assert (found[:, 27:] >= 254).all()
    path.write_bytes(b"\x0a\x05nonsense")
    with pytest.raises(InputError, match="cannot read this graph"):
        HeadMatte(path)


def test_an_onnx_conversion_of_the_graph_is_used_first(tmp_path, monkeypatch):
    import onnx
    from onnx import TensorProto, helper

    monkeypatch.setenv("TOONPORT_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError, match="toonport fetch head-segmentation"):
        open_matte("head")
    size = [1, HEAD_SIDE, HEAD_SIDE]
    graph = helper.make_graph(
        [helper.make_node("ReduceMax", ["input_1:0", "axes"], ["sigmoid/Sigmoid:0"], keepdims=1)],
        "head",
        [helper.make_tensor_value_info("input_1:0", TensorProto.FLOAT, [*size, 3])],
        [helper.make_tensor_value_info("sigmoid/Sigmoid:0", TensorProto.FLOAT, [*size, 1])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, str(tmp_path / "seg_model_384.onnx"))
    assert (open_matte("head")(_whole(np.full((30, 30, 3), (0, 128, 64), np.uint8))) == 128).all()


def test_the_reference_s_landmarks_are_opened_without_a_download(tmp_path, monkeypatch):
    """A stand-in for the package `face-alignment` notes how it is used."""
    seen, hub = {}, torch.hub.get_dir()

    class FaceAlignment:
        def __init__(self, kind, **options):
            checkpoints = Path(torch.hub.get_dir()) / "checkpoints"
            seen.update(options, kind=kind, files=[(file.name, file.read_bytes()) for file in checkpoints.iterdir()])

        def get_landmarks_from_image(self, picture, detected_faces):
            return [np.full((68, 3), box[0]) for box in detected_faces]

    package = ModuleType("face_alignment")
    package.__spec__ = ModuleSpec("face_alignment", None)
    package.FaceAlignment, package.LandmarksType = FaceAlignment, SimpleNamespace(TWO_D="2D")
    monkeypatch.setitem(sys.modules, "face_alignment", package)
    monkeypatch.setenv("TOONPORT_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError, match="toonport fetch face-alignment-landmarks"):
        open_landmarks("face-alignment")
    name = load_manifest()["face-alignment-landmarks"].file
    (tmp_path / name).write_bytes(b"fetched")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    landmarks = open_landmarks("face-alignment", "gpu")
    assert seen["files"] == [(name, b"fetched")]
    assert (seen["kind"], seen["device"], seen["face_detector"]) == ("2D", "cuda", "folder")  # "folder" fetches nothing
    assert torch.hub.get_dir() == hub
    picture = np.zeros((9, 9, 3), np.uint8)
    assert landmarks(picture, []) == []
    assert [(points.shape, points[0, 0]) for points in landmarks(picture, [(1, 2, 3, 4), (5, 6, 7, 8)])] == [
        ((68, 2), 1), ((68, 2), 5),
    ]  # fmt: skip


def test_missing_backends_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("TOONPORT_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError, match="toonport fetch selfie_segmentation"):
        open_matte("selfie")
    monkeypatch.setattr(matte_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install ai-edge-litert"):
        open_matte("selfie")
    with pytest.raises(InputError, match="pip install dlib-bin"):
        open_landmarks("dlib")
    with pytest.raises(InputError, match="toonport\\[face\\]"):
        open_landmarks("face-alignment")
    assert not LANDMARKS["face-alignment"].examine().usable
    for opener in (open_matte, open_landmarks):
        with pytest.raises(InputError, match="known"):
            opener("haar")
