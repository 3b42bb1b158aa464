"""Small files that stand for much: each would take gigabytes or never end in a reader that believes it."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from convert.formats.ckpt import _delimited, _encode
from convert.formats.tensorflow import MAGIC, crc32c, masked

MIB = 2**20


def _laughs(depth: int = 30) -> bytes:
    """Dictionaries that hold the one before twice."""
    steps = b"".join(
        b"}(X\x01\0\0\0ah" + bytes([k]) + b"X\x01\0\0\0bh" + bytes([k]) + b"uq" + bytes([k + 1]) for k in range(depth)
    )
    return b"}q\x00" + steps + b"."


def _lists(depth: int = 30) -> bytes:
    """Lists that hold the one before twice."""
    return b"]q\x00" + b"".join(b"](h" + bytes([k]) + b"h" + bytes([k]) + b"eq" + bytes([k + 1]) for k in range(depth))


def _torch(path: Path, pickled: bytes, members: Mapping[str, bytes] | None = None, packing: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + pickled)
        archive.writestr("archive/version", b"3\n")
        for name, content in (members or {}).items():
            archive.writestr(f"archive/{name}", content)
    return path


def _npy(path: Path, pickled: bytes) -> Path:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
    path.write_bytes(stream.getvalue() + pickled)
    return path


def torch_laughs(folder: Path) -> Path:
    """Dictionaries in a PyTorch file."""
    return _torch(folder / "a.pt", _laughs())


def torch_laughs_in_a_list(folder: Path) -> Path:
    """The same within a list, beside a name."""
    return _torch(folder / "a.pt", b"}X\x01\0\0\0w](" + _laughs()[:-1] + b"es.")


def torch_lists(folder: Path) -> Path:
    """Lists as a value."""
    return _torch(folder / "a.pt", b"}X\x01\0\0\0w" + _lists() + b"s.")


def npy_laughs(folder: Path) -> Path:
    """Dictionaries in a numpy file."""
    return _npy(folder / "a.npy", _laughs())


def npy_shape(folder: Path) -> Path:
    """An array of a hundred thousand axes, whose product is a number of megabytes."""
    kind = b"cnumpy\ndtype\nX\x02\0\0\0f4\x85R"
    axes = b"(" + b"J\xff\xff\xff\x7f" * 100_000 + b"t"
    state = b"(K\x01" + axes + kind + b"\x89U\x00tb"
    return _npy(folder / "a.npy", b"}X\x01\0\0\0wcnumpy.core.multiarray\n_reconstruct\n)R" + state + b"s.")


def torch_pickle_bomb(folder: Path) -> Path:
    """A few hundred kilobytes that unpack to a pickle of a hundred and sixty million empty dictionaries."""
    return _torch(folder / "a.pt", b"(" + b"}" * (160 * MIB) + b"l.", packing=zipfile.ZIP_DEFLATED)


def torch_many_objects(folder: Path) -> Path:
    """A pickle of four million empty dictionaries."""
    return _torch(folder / "a.pt", b"(" + b"}" * (4 * MIB) + b"l.")


def torch_junk_member(folder: Path) -> Path:
    """A member beside the weights that unpacks to two hundred megabytes."""
    path = _torch(folder / "a.pt", b"}.")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("archive/junk", "w") as member:
        for _ in range(12):
            member.write(bytes(16 * MIB))
    return path


def torch_overlap(folder: Path) -> Path:
    """A thousand members of one megabyte that are the same bytes of the file."""
    path = _torch(folder / "a.pt", b"}.", {"data/0": bytes(MIB)})
    with zipfile.ZipFile(path, "a") as archive:
        (member,) = (one for one in archive.infolist() if one.filename.endswith("data/0"))
        for number in range(1, 1000):
            copy = zipfile.ZipInfo(f"archive/data/{number}")
            copy.header_offset, copy.CRC = member.header_offset, member.CRC
            copy.file_size = copy.compress_size = member.file_size
            archive.filelist.append(copy)
        archive._didModify = True
    return path


def torch_expanded(folder: Path) -> Path:
    """One number that a tensor of a million million numbers repeats."""
    import torch

    torch.save({"weight": torch.zeros(1).expand(10**6, 10**6)}, folder / "a.pt")
    return folder / "a.pt"


def torch_deep(folder: Path) -> Path:
    """Dictionaries two thousand deep in each other."""
    return _torch(folder / "a.pt", b"}X\x01\0\0\0a" * 2400 + b"}" + b"s" * 2400 + b".")


def torch_itself(folder: Path) -> Path:
    """A dictionary that holds itself."""
    return _torch(folder / "a.pt", b"}q\x00X\x01\0\0\0ah\x00s.")


def torch_many_kinds(folder: Path) -> Path:
    """A thousand kinds of Python objects."""
    calls = b"".join(b"X\x04\0\0\0%04dcmine\nk%04d\n)R" % (number, number) for number in range(1000))
    return _torch(folder / "a.pt", b"}(" + calls + b"u.")


def torch_large_number(folder: Path) -> Path:
    """A number of a hundred thousand digits, which Python refuses to print."""
    return _torch(folder / "a.pt", b"}X\x01\0\0\0e\x8b" + struct.pack("<i", 40_000) + b"\x7f" * 40_000 + b"s.")


def npz_bomb(folder: Path) -> Path:
    """An array of two hundred megabytes in two hundred kilobytes."""
    with zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (48 * MIB,)})
        with archive.open("w.npy", "w") as member:
            member.write(head.getvalue())
            for _ in range(12):
                member.write(bytes(16 * MIB))
    return folder / "a.npz"


def npz_shape(folder: Path) -> Path:
    """An array whose header promises eighty terabytes."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**13,)})
    with zipfile.ZipFile(folder / "a.npz", "w") as archive:
        archive.writestr("w.npy", head.getvalue())
    return folder / "a.npz"


def mxnet_bomb(folder: Path) -> Path:
    """Two hundred megabytes of parameters in two hundred kilobytes."""
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a-symbol.json", b'{"nodes": []}')
        with archive.open("a-0000.params", "w") as member:
            member.write(struct.pack("<QQQ", 0x112, 0, 1))
            for _ in range(12):
                member.write(bytes(16 * MIB))
    return folder / "a.zip"


def mxnet_deep_symbol(folder: Path) -> Path:
    """A symbol of a hundred thousand brackets."""
    (folder / "a-0000.params").write_bytes(struct.pack("<QQQQ", 0x112, 0, 0, 0))
    (folder / "a-symbol.json").write_bytes(b"[" * 100_000)
    return folder / "a-0000.params"


def safetensors_names(folder: Path) -> Path:
    """Three hundred thousand tensors of no number."""
    rows = {f"t{k}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for k in range(300_000)}
    text = json.dumps(rows).encode()
    (folder / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    return folder / "a.safetensors"


def safetensors_dots(folder: Path) -> Path:
    """A name of two thousand steps."""
    text = json.dumps({"a." * 2000 + "b": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}).encode()
    (folder / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    return folder / "a.safetensors"


def safetensors_long_name(folder: Path) -> Path:
    """A name of ten megabytes."""
    text = json.dumps({"a" * (10 * MIB): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}).encode()
    (folder / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    return folder / "a.safetensors"


def _parameter(tag: bytes, dims: bytes = b"\x08\x01", content: bytes = bytes(4)) -> bytes:
    tensor = dims + _delimited(2, b"Float32") + _delimited(3, content)
    return _delimited(1, _delimited(1, tag) + _delimited(2, tensor))


def ckpt_axes(folder: Path) -> Path:
    """A tensor of two hundred thousand axes of two."""
    (folder / "a.ckpt").write_bytes(_parameter(b"weight", b"\x08\x7f" * 200_000))
    return folder / "a.ckpt"


def ckpt_slices(folder: Path) -> Path:
    """A tensor in eighty thousand empty slices."""
    (folder / "a.ckpt").write_bytes(_parameter(b"weight", b"\x08\x01", b"") * 80_000)
    return folder / "a.ckpt"


def ckpt_names(folder: Path) -> Path:
    """Two hundred thousand tensors."""
    (folder / "a.ckpt").write_bytes(b"".join(_parameter(b"%07d" % k) for k in range(200_000)))
    return folder / "a.ckpt"


def _block(content: bytes) -> bytes:
    content += struct.pack("<II", 0, 1)
    return content + b"\0" + struct.pack("<I", masked(crc32c(content + b"\0")))


def _index(path: Path, block: bytes, times: int = 1) -> Path:
    """A TensorFlow index whose list of blocks names one block some times."""
    handle = b"\0" + _encode(len(block) - 5)
    rows = b"".join(b"\0\x01" + _encode(len(handle)) + b"k" + handle for _ in range(times))
    listed = _block(rows)
    footer = b"\0\0" + _encode(len(block)) + _encode(len(listed) - 5)
    path.write_bytes(block + listed + footer + bytes(40 - len(footer)) + MAGIC)
    return path


def tensorflow_prefixes(folder: Path) -> Path:
    """Keys that each hold the one before: gigabytes of names in three hundred kilobytes."""
    rows, length = [], 0
    for _ in range(60_000):
        rows.append(_encode(length) + b"\x02\0ab")
        length += 2
    return _index(folder / "a.index", _block(b"".join(rows)))


def tensorflow_blocks(folder: Path) -> Path:
    """One block of a hundred kilobytes that is named ten thousand times."""
    return _index(folder / "a.index", _block(b"\0\x01\0a" * 25_000), 10_000)


def tflite_shared(folder: Path, numbers: int = MIB, tensors: int = 400) -> Path:
    """Four hundred tensors over one buffer of a million numbers."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    data = builder.CreateByteVector(bytes(4 * numbers))
    buffers = [_table(builder, {}), _table(builder, {0: data})]
    shape = builder.CreateNumpyVector(np.array([numbers], "<i4"))
    names = [builder.CreateString(f"t{number}") for number in range(tensors)]
    tables = [_table(builder, {0: shape, 3: name}, 1) for name in names]
    graph = _table(builder, {0: _vector(builder, tables)})
    model = _table(builder, {2: _vector(builder, [graph]), 4: _vector(builder, buffers)})
    builder.Finish(model, b"TFL3")
    (folder / "a.tflite").write_bytes(bytes(builder.Output()))
    return folder / "a.tflite"


def _table(builder, fields, buffer=None):
    builder.StartObject(6)
    for number, offset in fields.items():
        builder.PrependUOffsetTRelativeSlot(number, offset, 0)
    if buffer is not None:
        builder.PrependUint32Slot(2, buffer, 0)
    return builder.EndObject()


def _vector(builder, offsets):
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def blocks(folder: Path) -> Path:
    """Ten thousand residual blocks of a network that has nine."""
    import torch

    one = torch.zeros(1)
    rows = {f"model.{number}.conv_block.{k}.weight": one for number in range(10, 10_010) for k in (1, 5)}
    torch.save({"model.1.weight": torch.zeros(8, 3, 7, 7), **rows}, folder / "a.pt")
    return folder / "a.pt"


def many_places(folder: Path) -> Path:
    """Eight thousand groups of ten tensors, each of which might be a network."""
    rows = {
        f"g{number}.{k}.weight": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
        for number in range(8_000)
        for k in range(10)
    }
    text = json.dumps(rows).encode()
    (folder / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    return folder / "a.safetensors"


def few_places(folder: Path) -> Path:
    """As many groups as are looked at."""
    import torch

    rows = {f"g{number}.model.{k}.weight": torch.zeros(2, 3, 7, 7) for number in range(145) for k in range(1, 20, 3)}
    torch.save(rows, folder / "a.pt")
    return folder / "a.pt"


def large_block_number(folder: Path) -> Path:
    """A block with the number of a thousand million."""
    import torch

    rows = {f"model.{number}.bias": torch.zeros(1) for number in (1, 4, 7, 10, 10**9)}
    torch.save({"model.1.weight": torch.zeros(8, 3, 7, 7), **rows}, folder / "a.pt")
    return folder / "a.pt"


def packed_tar(folder: Path) -> Path:
    """A packed tar archive whose first member has a quarter of a gigabyte."""
    import gzip
    import tarfile

    with gzip.open(folder / "a.tar.gz", "wb", compresslevel=1) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo("large")
        member.size = 256 * MIB
        tar.addfile(member, _Zeros())
    return folder / "a.tar.gz"


class _Zeros(io.RawIOBase):
    """A file of zeros without an end."""

    def read(self, size: int = -1) -> bytes:
        return bytes(size)


def pickle_nested(folder: Path) -> Path:
    """Lists a hundred thousand deep."""
    (folder / "a.pkl").write_bytes(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")
    return folder / "a.pkl"


def pickle_names(folder: Path) -> Path:
    """Two hundred thousand arrays of no number."""
    (folder / "a.pkl").write_bytes(pickle.dumps({str(number): number for number in range(200_000)}))
    return folder / "a.pkl"


BOMBS: Mapping[str, Callable[[Path], Path]] = {
    name: made
    for name, made in list(globals().items())
    if callable(made) and getattr(made, "__module__", "") == __name__ and not name.startswith("_")
}
