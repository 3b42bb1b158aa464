"""PyTorch's files are read and written without PyTorch as PyTorch itself reads and writes them."""

import tracemalloc
import zipfile
import zlib
from collections import OrderedDict

import numpy as np
import pytest
import torch

from convert.blocks import BLOCK, crc32_combined
from convert.conversion import convert_file
from convert.errors import InputError
from convert.formats import open_checkpoint, torch_archive, write_checkpoint
from convert.formats.torch import gathered, load
from convert.tensors import TensorSpec

BASE = torch.arange(24.0).reshape(2, 3, 4)
TYPES = [
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
    "uint16",
    "uint32",
    "uint64",
]


def _files(folder):
    """Files of many kinds that are read without PyTorch."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.PReLU())
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    contents = {
        "state": network.state_dict(),
        "training": {
            "net": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "epoch": 3,
            "note": "ä",
            "w": None,
        },
        "types": {name: torch.arange(6).reshape(2, 3).to(getattr(torch, name)) for name in TYPES},
        "views": {"part": BASE[1:, 1:], "turned": BASE[0].T, "rows": BASE[:, 0], "wide": BASE[:1].expand(5, 3, 4)},
        "shapes": {"scalar": torch.tensor(2.5), "none": torch.zeros(0, 3), "one": torch.ones(1, 1, 1).transpose(0, 2)},
        "shared": {"a": BASE, "b": BASE, "p": torch.nn.Parameter(BASE.clone()), "list": [BASE], "pair": (1, "x")},
        "ordered": OrderedDict(a=OrderedDict(b=BASE), empty={}, flag=True, long=10**30),
    }
    for name, content in contents.items():
        torch.save(content, folder / f"{name}.pt")
        yield folder / f"{name}.pt"


def test_files_are_read_as_pytorch_reads_them(tmp_path):
    for path in _files(tmp_path):
        found = torch_archive.read(path)
        assert found is not None, path
        own, wanted = gathered(path, found.content, found.entry), gathered(path, load(path))
        assert own.specs == wanted.specs, path
        assert (own.extras, own.dictionaries) == (wanted.extras, wanted.dictionaries)
        for name, entry in wanted.tensors.items():
            assert own.tensors[name].transposed == entry.transposed
            np.testing.assert_array_equal(own.tensors[name].read(), entry.read())
            assert b"".join(own.tensors[name].blocks()) == entry.read().tobytes()


@pytest.mark.parametrize(
    "content",
    [
        {"a": torch.ones(2, dtype=torch.complex64)},
        {"a": torch.ones(2).to_sparse()},
        {"a": {1, 2}, "b": torch.ones(2)},
        {"a": torch.float32, "b": torch.ones(2)},
        {"a": np.ones(2), "b": torch.ones(2)},
        {(1, 2): torch.ones(2)},
        [torch.ones(2)],
    ],
)
def test_what_is_not_understood_is_left_to_pytorch(content, tmp_path):
    torch.save(content, tmp_path / "a.pt", pickle_protocol=2)
    assert torch_archive.read(tmp_path / "a.pt") is None


def test_archives_that_cannot_be_mapped_are_left_to_pytorch(tmp_path):
    torch.save({"a": torch.ones(100)}, tmp_path / "a.pt")
    torch.save({"a": torch.ones(100)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as old,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    for name in ("b.pt", "old.pt"):
        assert torch_archive.read(tmp_path / name) is None
        assert open_checkpoint(tmp_path / name).tensors["a"].read().tolist() == [1.0] * 100


def _pickle_with(path, old, new, target):
    """A copy of an archive with some bytes of its pickle replaced."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("data.pkl"):
                assert old in data
                data = data.replace(old, new)
            copy.writestr(name, data)
    return target


def test_a_tensor_never_reaches_beyond_its_storage(tmp_path):
    torch.save({"a": torch.ones(200)}, tmp_path / "a.pt")
    for old, new in ((b"K\xc8\x85", b"K\xc9\x85"), (b"K\x00K\xc8", b"K\x01K\xc8")):  # its shape, its offset
        path = _pickle_with(tmp_path / "a.pt", old, new, tmp_path / "b.pt")
        assert torch_archive.read(path) is None
        with pytest.raises(InputError):
            open_checkpoint(path)


def test_pytorch_reads_what_is_written(tmp_path):
    arrays = {f"net.{name}": np.arange(6).reshape(2, 3).astype(name) for name in TYPES if name != "bfloat16"}
    arrays |= {
        "other.half": open_checkpoint(next(f for f in _files(tmp_path) if f.stem == "types")).tensors["bfloat16"].read()
    }
    arrays |= {"net.scalar": np.array(2.5), "net.none": np.zeros((0, 3), np.float32), "loose": np.ones(3)}
    specs = {name: TensorSpec(array.shape, array.dtype.name) for name, array in arrays.items()}
    write_checkpoint(tmp_path / "a.pt", arrays.items(), specs, ("net", "other"))
    for mapped in (False, True):
        found = torch.load(tmp_path / "a.pt", weights_only=True, mmap=mapped)
        assert list(found) == ["net", "other", "loose"]
        assert {name for name, value in found.items() if isinstance(value, dict)} == {"net", "other"}
        for name, array in arrays.items():
            part, _, key = name.partition(".")
            tensor = found[part][key] if key else found[part]
            assert tuple(tensor.shape) == array.shape
            assert str(tensor.dtype).removeprefix("torch.") == array.dtype.name
            assert tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes() == array.tobytes()
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        assert archive.testzip() is None
    assert all(start % 64 == 0 for start in torch_archive.read(tmp_path / "a.pt").starts.values())


def _wide(path, fill=None):
    """A MobileFaceNet of which one tensor is many blocks long; `fill` changes it."""
    from convert.plan import build_plan
    from convert.registry import family_named, part_named

    part = part_named(family_named("mobilefacenet"), "mobilefacenet")
    rows = build_plan(part, {"embedding_size": 16384}).rows
    state = {row.torch: torch.zeros(row.spec.shape, dtype=getattr(torch, row.spec.dtype)) for row in rows}
    if fill:
        fill(state["linear.weight"].view(-1))
    torch.save(state, path)
    return path


def test_memory_does_not_grow_with_the_largest_tensor(tmp_path):
    source = _wide(tmp_path / "a.pt")
    for target in ("a.ckpt", "a.safetensors", "b.pt"):
        tracemalloc.start()
        convert_file(source, tmp_path / target)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 * BLOCK < 16384 * 512 * 4 / 3
        source = tmp_path / target


@pytest.mark.parametrize(
    ("places", "said"), [({-1: np.nan}, "NaN"), ({0: np.inf, -1: np.nan}, "NaN"), ({BLOCK // 4: -np.inf}, "infinite")]
)
def test_values_that_are_not_finite_are_found_in_every_block(places, said, tmp_path):
    def fill(values):
        for place, value in places.items():
            values[place] = value

    with pytest.raises(InputError, match=rf"1 tensors .* linear\.weight \({said}\)"):
        convert_file(_wide(tmp_path / "a.pt", fill), tmp_path / "a.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.parametrize("length", [0, 1, 3, 4096, BLOCK + 5])
def test_checksums_are_combined(length):
    first, second = b"before", np.random.default_rng(0).bytes(length)
    assert crc32_combined(zlib.crc32(first), zlib.crc32(second), length) == zlib.crc32(first + second)
