"""What a file is, told by its content: a format that is read, or another thing and the Python that makes it one.

A suffix is only looked at where the content tells nothing.
"""

import io
import json
import lzma
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from convert.errors import InputError
from convert.formats.budget import opened_zip

HEAD, TAIL = 512, 48
LEVELDB_MAGIC = bytes.fromhex("57fb808b247547db")  # ends the index of a TensorFlow checkpoint
TORCH_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # begins files of PyTorch before 1.6, a pickle of a number
MXNET_MAGIC = (0x112).to_bytes(8, "little")
TAR_MAGIC, TAR_PLACE = b"ustar", 257
PACKERS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\0": "lzma"}  # and the module of Python that unpacks it
TEXT_PICKLE = re.compile(rb"\((?:dp|lp|d|l)\d*\n|c\w[\w.]*\n")  # a pickle of protocol 0
MODES = {b"\xd8\x5e\x3a\x7f": "AES-GCM", b"\xd9\x5e\x3a\x7f": "AES-CBC", b"\xda\x5e\x3a\x7f": "SM4-CBC"}
SHOWN = 8
UNPACKED_HEAD = 1 << 20  # bytes that are unpacked to see what a packed file holds
LONGEST_INDEX = 1 << 26  # bytes of a text that may be an index
READ = "PyTorch, MindSpore, safetensors, TensorFlow, TensorFlow Lite, MXNet and numpy files"

HDF5 = (
    "take its arrays out: import h5py, numpy; found = {{}}; h5py.File({file}).visititems(lambda name, item: "
    "found.update({{name: item[()]}}) if isinstance(item, h5py.Dataset) else None); numpy.savez({npz}, **found)"
)
ONNX = (
    "take its weights out: import numpy, onnx; model = onnx.load({file}); "
    "numpy.savez({npz}, **{{t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}})"
)
FROZEN = (
    "take its constants out: import numpy, tensorflow as tf; "
    "graph = tf.compat.v1.GraphDef.FromString(open({file}, 'rb').read()); "
    "numpy.savez({npz}, **{{n.name: tf.make_ndarray(n.attr['value'].tensor) for n in graph.node if n.op == 'Const'}})"
)


@dataclass(frozen=True)
class Foreign:
    """Something that is not read, and what to do; {file} and its names with other suffixes are put in."""

    what: str
    advice: str

    def refusal(self, path: Path, **words: str) -> InputError:
        """The error that says so of a file."""
        names = {"file": path.name, "bare": path.stem, "folder": f"{path.stem}_unpacked"}
        names["plain"] = f"{path.stem}_plain.ckpt"
        names |= {suffix: f"{path.stem}.{suffix}" for suffix in ("pth", "ckpt", "npz", "safetensors")}
        quoted = {name: repr(str(path.parent / text)) for name, text in names.items()}
        return InputError(f"{path}: " + f"{self.what}; {self.advice}".format(**quoted, **words))


OLDEST_TORCHSCRIPT = Foreign(
    "a TorchScript archive of PyTorch before 1.4, a program with its weights",
    "where you trust it, save the weights alone: import torch; "
    "net = torch.jit.load({file}, 'cpu'); torch.save(net.state_dict(), {pth})",
)
QUANTIZED_SCRIPT = Foreign(
    "a TorchScript archive of a quantized network",
    "where you trust it, make plain weights of it: import torch; net = torch.jit.load({file}, 'cpu'); "
    "packs = {{n.removesuffix('._packed_params'): p for n, m in net.named_modules() "
    "for p in [getattr(m, '_packed_params', None)] if isinstance(p, torch.ScriptObject)}}; "
    "plain = {{n + k: t.dequantize() for n, p in packs.items() for k, t in zip(('.weight', '.bias'), p.unpack()) "
    "if t is not None}}; torch.save(dict(net.state_dict(), **plain), {pth})",
)
FROZEN_SCRIPT = Foreign(
    "a TorchScript archive whose weights are numbered constants without names, as torch.jit.freeze leaves them",
    "get the file from before that; the constants alone: import torch; "
    "graph = torch.jit.load({file}, 'cpu').inlined_graph; torch.save({{str(i): n.t('value') "
    "for i, n in enumerate(graph.findAllNodes('prim::Constant')) "
    "if 'value' in n.attributeNames() and n.kindOf('value') == 't'}}, {pth})",
)
EXPORTED = Foreign(
    "a program of torch.export with its weights",
    "save the weights alone: import torch; program = torch.export.load({file}); torch.save(program.state_dict, {pth})",
)
MOBILE = Foreign(
    "a program of PyTorch Mobile with its weights",
    "save the weights alone: import torch; net = torch.jit.jit_module_from_flatbuffer({file}); "
    "torch.save(net.state_dict(), {pth})",
)
FLAX = Foreign(
    "a msgpack file, as Flax writes",
    "take its arrays out: import flax, numpy; "
    "tree = flax.serialization.msgpack_restore(open({file}, 'rb').read()); "
    "numpy.savez({npz}, **flax.traverse_util.flatten_dict(tree, sep='.'))",
)
LUA = Foreign(
    "a file of Torch in Lua",
    "take its arrays out: import numpy, torchfile; pairs = lambda v: enumerate(v) if isinstance(v, list) else "
    "getattr(v, '_obj', v).items() if isinstance(v, (dict, torchfile.TorchObject)) else (); "
    "walk = lambda v, n: {{n: v}} if isinstance(v, numpy.ndarray) else {{k: a for key, inner in pairs(v) "
    "for k, a in walk(inner, f'{{n}}.{{str(key, \"utf8\") if isinstance(key, bytes) else key}}').items()}}; "
    "numpy.savez({npz}, **walk(torchfile.load({file}), 'net'))",
)
KERAS = Foreign(
    "a Keras model",
    "take its weights out: import keras, numpy; model = keras.saving.load_model({file}); "
    "numpy.savez({npz}, **{{w.path: w.numpy() for w in model.weights}})",
)
ARCHIVE = Foreign("a zip archive of {held}", "unpack it: import zipfile; zipfile.ZipFile({file}).extractall({folder})")
TAR = Foreign(
    "a tar archive of {held}", "unpack it: import tarfile; tarfile.open({file}).extractall({folder}, filter='data')"
)
PACKED = Foreign(
    "packed with {module}",
    "unpack it: import {module}, shutil; shutil.copyfileobj({module}.open({file}), open({bare}, 'wb'))",
)
OLDEST_TORCH = Foreign(
    "a file of PyTorch before 0.2, which is read by running what it says",
    "where you trust it, save it anew: import torch; torch.save(torch.load({file}, weights_only=False), {pth})",
)
ENCRYPTED = Foreign(
    "an encrypted MindSpore checkpoint ({mode})",
    "with its key: import mindspore; state = mindspore.load_checkpoint({file}, dec_key=KEY, dec_mode='{mode}'); "
    "mindspore.save_checkpoint([dict(name=n, data=v) for n, v in state.items()], {plain})",
)
MINDIR = Foreign(
    "a MINDIR, a MindSpore program with its weights",
    "save the weights alone: import mindspore; net = mindspore.nn.GraphCell(mindspore.load({file})); "
    "mindspore.save_checkpoint(net, {ckpt})",
)
POINTER = Foreign(
    "a pointer of Git LFS or git-annex to the file, which has {size} bytes",
    "get the file itself: git lfs pull, git annex get, or download it",
)
PAGE = Foreign(
    "a web page in place of the file", "the link leads to a page about the file, or asks to log in; get the file itself"
)
SHARDS = Foreign(
    "the index of a checkpoint in several files",
    "put them together: import {module}; state = {{}}; [state.update({load}(f)) for f in {files}]; {save}",
)
POINTS = Foreign("text that names TensorFlow checkpoints", "give the .index file of the one that is meant")
TEXT = Foreign("a text, not weights", "it begins with {begins}")
TENSORFLOW_VALUES = Foreign("one file of a TensorFlow checkpoint", "give the index beside it: {index}")
GRAPH = Foreign("a TensorFlow graph", FROZEN)
SAVED_MODEL = Foreign("a TensorFlow SavedModel", "its weights are read as a checkpoint, give {index}")
DISTRIBUTED = Foreign(
    "a distributed checkpoint of PyTorch",
    "make one file of it: import torch.distributed.checkpoint.format_utils as tools; "
    "tools.dcp_to_torch_save({file}, {pth})",
)
FOLDER = Foreign("a folder", "give one file; in it are {held}")
UNKNOWN = Foreign(
    "neither its content nor its suffix is a checkpoint's", f"it begins with {{begins}}; {READ} are read, if whole"
)

OTHERS = {
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG\r\n": "a PNG picture",
    b"GIF8": "a GIF picture",
    b"%PDF-": "a PDF document",
    b"\x7fELF": "a program",
    b"SQLite format 3\0": "an SQLite database",
    bytes(HEAD): "zeros, as an unfinished download leaves them",
}
BEGINNINGS: Mapping[bytes, str | Foreign] = {
    TORCH_MAGIC: "torch",
    b"\x93NUMPY": "numpy",
    MXNET_MAGIC: "mxnet",
    b"\x89HDF\r\n\x1a\n": Foreign("an HDF5 file, as Keras writes", HDF5),
    b"GGUF": Foreign(
        "a GGUF file",
        "take its tensors out: import gguf, numpy; reader = gguf.GGUFReader({file}); "
        "numpy.savez({npz}, **{{t.name: t.data for t in reader.tensors}})",
    ),
    **{
        beginning: Foreign(what, "there are no weights in it; give the file itself")
        for beginning, what in OTHERS.items()
    },
    b"MATLAB 5.0 MAT-file": Foreign(
        "a MATLAB file",
        "take its arrays out: import numpy, scipy.io; found = scipy.io.loadmat({file}); "
        "numpy.savez({npz}, **{{k: v for k, v in found.items() if not k.startswith('__')}})",
    ),
    b"\x28\xb5\x2f\xfd": Foreign("packed with zstd", "unpack it: zstd -d {file}"),
    b"\x04\x22\x4d\x18": Foreign("packed with lz4", "unpack it: lz4 -d {file}"),
    b"7z\xbc\xaf\x27\x1c": Foreign("a 7z archive", "unpack it: 7z x {file}"),
    b"Rar!\x1a\x07": Foreign("a rar archive", "unpack it: unrar x {file}"),
}
# Files that are told by more than their first bytes.
MARKS: Mapping[bytes, Foreign] = {
    rb".{4}PTMF": MOBILE,
    rb"[\x03\x04]\0{3}\x01\0{3}": LUA,
    rb"[\x81-\x8f][\xa1-\xbf][ -~]": FLAX,  # a dictionary of up to 15 keys, and a first key of up to 31 letters
    rb"\x08[\x01-\x20]\x12": Foreign("an ONNX model", ONNX),
}


@dataclass(frozen=True)
class _Ends:
    """A file by its first and last bytes."""

    path: Path
    head: bytes
    tail: bytes
    size: int


def recognised(path: Path) -> str | None:
    """The format of a file that is read ("torch", "ckpt", "pickle", ...), None where its content does not tell.

    Raises InputError: it is known to be something else; what, and what turns it into something that is read.
    """
    ends = _ends(path)
    known = next((kind for beginning, kind in BEGINNINGS.items() if ends.head.startswith(beginning)), None)
    if isinstance(known, Foreign):
        raise known.refusal(path)
    return known or next((kind for look in LOOKS if (kind := look(ends))), None)


def _ends(path: Path) -> _Ends:
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(HEAD)
        file.seek(max(0, size - TAIL))
        return _Ends(path, head, file.read(), size)


def _zip(ends: _Ends) -> str | None:
    if not ends.head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return None
    try:
        with opened_zip(ends.path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        raise InputError(f"{ends.path}: a zip archive that is cut off or damaged; get the file again") from None
    return _archive_of(ends.path, names)


def _archive_of(path: Path, names: list[str]) -> str:
    last = {name.rpartition("/")[2] for name in names}
    suffixes = {Path(name).suffix for name in last}
    if any(name.endswith("/model.json") and name.count("/") == 1 for name in names):
        raise OLDEST_TORCHSCRIPT.refusal(path)
    if "data.pkl" in last:
        return "torchscript" if "constants.pkl" in last else "torch"
    if last & {"serialized_exported_program.json", "archive_format"}:
        raise EXPORTED.refusal(path)
    if "model.weights.h5" in last:
        raise KERAS.refusal(path)
    if ".params" in suffixes:
        return "mxnet"
    if suffixes == {".npy"}:
        return "numpy"
    raise ARCHIVE.refusal(path, held=_shown(names))


def _packed(ends: _Ends) -> str | None:
    module = next((name for beginning, name in PACKERS.items() if ends.head.startswith(beginning)), None)
    if module is None and ends.head[TAR_PLACE : TAR_PLACE + len(TAR_MAGIC)] != TAR_MAGIC:
        return None
    names = _tar_names(ends.path, module)
    if not names:
        if module:
            raise PACKED.refusal(ends.path, module=module)
        raise InputError(f"{ends.path}: a tar archive that is cut off or damaged; get the file again")
    raise (OLDEST_TORCH if "sys_info" in names else TAR).refusal(ends.path, held=_shown(names))


def _tar_names(path: Path, module: str | None) -> list[str]:
    """Names of the first members of a tar archive, packed or not; of a packed one, those near its beginning."""
    names: list[str] = []
    opener: Callable[..., Any] = import_module(module).open if module else io.FileIO
    with suppress(tarfile.TarError, OSError, EOFError, ValueError, zlib.error, lzma.LZMAError), opener(path) as packed:
        file = io.BytesIO(packed.read(UNPACKED_HEAD)) if module else packed
        with tarfile.open(fileobj=file) as archive:
            for member in islice(archive, SHOWN + 1):
                names.append(member.name)
    return names


def _shown(names: list[str]) -> str:
    more = " and more" if len(names) > SHOWN else ""
    return (", ".join(names[:SHOWN]) or "nothing") + more


def _mindspore(ends: _Ends) -> str | None:
    """A MindSpore file: messages of a length and a name, encrypted or not, or a MINDIR, which begins with a version."""
    mode = MODES.get(ends.head[:4])
    if mode:
        raise ENCRYPTED.refusal(ends.path, mode=mode)
    if re.match(rb"\x0a[\x03-\x0f]\d+(?:\.\d+)+\x12", ends.head):
        raise MINDIR.refusal(ends.path)
    begins = re.match(rb"\x0a(?:[\x80-\xff]*[\x00-\x7f])\x0a(.)", ends.head, re.DOTALL)
    if begins and re.match(rb"\x12.[A-Z]", ends.head[begins.end() + begins[1][0] :], re.DOTALL):
        raise GRAPH.refusal(ends.path)  # its messages are of a name and of an operation's name
    return "ckpt" if begins else None


def _binary(ends: _Ends) -> str | None:
    """Formats that are told by a mark within, by a length, or by both ends."""
    if ends.head[4:8] == b"TFL3":
        return "tflite"
    foreign = next((found for mark, found in MARKS.items() if re.match(mark, ends.head, re.DOTALL)), None)
    if foreign:
        raise foreign.refusal(ends.path)
    if ends.tail.endswith(LEVELDB_MAGIC):
        return "tensorflow"
    if ends.head[8:9] == b"{" and int.from_bytes(ends.head[:8], "little") <= ends.size - 8:
        return "safetensors"
    return "pickle" if re.match(rb"\x80[\x02-\x05]", ends.head) else None


def _text(ends: _Ends) -> str | None:
    """Text that lies in the place of weights, or a pickle in text."""
    start = ends.head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        start = start.decode("utf-16", errors="ignore").lstrip().encode()
    if TEXT_PICKLE.match(ends.head) and ends.tail.rstrip().endswith(b"."):
        return "pickle"
    if start.startswith((b"version https://git-lfs", b"/annex/objects/")):
        size = re.search(rb"size (\d+)|-s(\d+)-", start)
        raise POINTER.refusal(ends.path, size=(size[1] or size[2]).decode() if size else "unknown")
    if re.match(rb"(?i)<(?:!doctype|html|head|\?xml|!--)", start):
        raise PAGE.refusal(ends.path)
    if start.startswith(b"model_checkpoint_path"):
        raise POINTS.refusal(ends.path)
    if not _is_text(ends.head):
        return None
    raise _shards(ends) or TEXT.refusal(ends.path, begins=repr(start[:40].decode(errors="replace")))


def _is_text(head: bytes) -> bool:
    return all(byte >= 0x20 or byte in b"\t\r\n" for byte in head) and 0x7F not in head and head.isascii()


def _shards(ends: _Ends) -> InputError | None:
    """The error for an index of shards, None for any other text."""
    if ends.size > LONGEST_INDEX:
        return None
    try:
        files = sorted(set(json.loads(ends.path.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    safe = all(file.endswith(".safetensors") for file in files)
    load = "safetensors.torch.load_file" if safe else "torch.load"
    save = "safetensors.torch.save_file(state, {})" if safe else "torch.save(state, {})"
    target = repr("whole.safetensors" if safe else "whole.pth")
    module = "safetensors.torch" if safe else "torch"
    return SHARDS.refusal(ends.path, module=module, load=load, files=repr(files), save=save.format(target))


LOOKS: tuple[Callable[[_Ends], str | None], ...] = (_zip, _packed, _mindspore, _binary, _text)


def unknown(path: Path) -> InputError:
    """The error for a file of which neither content nor suffix tells what it is."""
    if path.with_suffix(".index").is_file():
        return TENSORFLOW_VALUES.refusal(path, index=str(path.with_suffix(".index")))
    if path.suffix.lower() == ".pb":
        return GRAPH.refusal(path)
    return UNKNOWN.refusal(path, begins=_ends(path).head[:SHOWN].hex(" "))


def absent(path: Path) -> InputError:
    """The error for a path that is no file: nothing is there, a folder, or what several files begin with."""
    if os.path.isfile(f"{path}.index"):
        return TENSORFLOW_VALUES.refusal(path, index=f"{path}.index")
    if not path.is_dir():
        return InputError(f"{path}: no such file")
    if (path / "variables" / "variables.index").is_file():
        return SAVED_MODEL.refusal(path, index=str(path / "variables" / "variables.index"))
    if (path / ".metadata").is_file():
        return DISTRIBUTED.refusal(path)
    return FOLDER.refusal(path, held=_shown(sorted(os.listdir(path))))
