"""Pickles that ask to run something, in every format that holds pickles; each would leave a witness file if it ran.

They are written as opcodes, so that nothing here has to be able to do what they ask for.
"""

import io
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

FORMATS = ("pickle", "npy", "torch", "torch deflated", "torch legacy", "torch in the second pickle", "torchscript")


def _text(value: str) -> bytes:
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def _call(module: str, name: str, *arguments: bytes) -> bytes:
    """GLOBAL, its arguments and REDUCE."""
    return b"c" + f"{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def _stacked(module: str, name: str, *arguments: bytes) -> bytes:
    """The same by STACK_GLOBAL, as protocol 4 does."""
    short = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
    return short + b"\x93(" + b"".join(arguments) + b"tR"


def _remembered(module: str, name: str, *arguments: bytes) -> bytes:
    """The same with names that were put into the memo before."""
    put = b"".join(
        b"\x8c" + bytes([len(text)]) + text.encode() + b"q" + bytes([place]) + b"0"
        for place, text in ((7, module), (8, name))
    )
    return put + b"h\x07h\x08\x93(" + b"".join(arguments) + b"tR"


def payloads(witness: Path) -> Mapping[str, bytes]:
    """Name -> opcodes that leave one object on the stack after making the file `witness`."""
    touch, python = _text(f"touch '{witness}'"), _text(f"open({str(witness)!r}, 'w')")
    path, mode = _text(str(witness)), _text("w")
    arguments = b"(" + _text("touch") + path + b"l"
    found: dict[str, bytes] = {
        f"{module}.{name}": _call(module, name, touch)
        for module, name in (
            ("os", "system"), ("posix", "system"), ("nt", "system"), ("os", "popen"), ("commands", "getoutput"),
            ("subprocess", "getoutput"), ("pty", "spawn"), ("asyncio", "create_subprocess_shell"),
            ("multiprocessing.util", "os.system"), ("platform", "popen"),
        )
    }  # fmt: skip
    found |= {
        f"{module}.{name}": _call(module, name, python)
        for module, name in (
            ("builtins", "eval"), ("builtins", "exec"), ("__builtin__", "eval"), ("__builtin__", "execfile"),
            ("timeit", "timeit"), ("cProfile", "run"), ("profile", "run"), ("pdb", "run"), ("code", "interact"),
            ("torch.jit.unsupported_tensor_ops", "execWrapper"), ("doctest", "debug_script"),
        )
    }  # fmt: skip
    found |= {
        "builtins.open": _call("builtins", "open", path, mode),
        "io.open": _call("io", "open", path, mode),
        "_io.FileIO": _call("_io", "FileIO", path, mode),
        "pathlib.Path.touch": _call("pathlib", "Path.touch", path),
        "subprocess.Popen": _call("subprocess", "Popen", arguments),
        "subprocess.check_output": _call("subprocess", "check_output", arguments),
        "os.execvp": _call("os", "execvp", _text("touch"), arguments),
        "runpy.run_path": _call("runpy", "run_path", path),
        "importlib.import_module": _call("importlib", "import_module", _text("antigravity")),
        "builtins.getattr": _call("builtins", "getattr", b"cos\nsystem\n", _text("__call__")),
        "builtins.__import__": _call("builtins", "__import__", _text("os")),
        "operator.methodcaller": _call("operator", "methodcaller", _text("system"), touch),
        "functools.partial": _call("functools", "partial", b"cos\nsystem\n", touch),
        "functools.reduce": _call("functools", "reduce", b"cos\nsystem\n", b"(" + touch + touch + b"l"),
        "builtins.map": _call("builtins", "map", b"cos\nsystem\n", b"(" + touch + b"l"),
        "ctypes.CDLL": _call("ctypes", "CDLL", path),
        "torch.hub.load": _call("torch.hub", "load", path),
        "torch.load": _call("torch", "load", path),
        "numpy.testing": _call("numpy.testing._private.utils", "runstring", python, b"}"),
        "pickle.loads": _call("pickle", "loads", b"C\x01."),
        "shutil.rmtree": _call("shutil", "rmtree", path),
        "webbrowser.open": _call("webbrowser", "open", path),
        "types.CodeType": _call("types", "CodeType", b"K\x00"),
        "posix.system by stack": _stacked("posix", "system", touch),
        "os.system remembered": _remembered("os", "system", touch),
        "state of a function": b"cbuiltins\neval\n}" + _text("__code__") + python + b"sb",
        "instance": b"(" + touch + b"ios\nsystem\n",
        "new instance": b"\x80\x02csubprocess\nPopen\n" + arguments + b"\x85\x81",
    }
    return found


def _zip(path: Path, content: bytes, packing: int = zipfile.ZIP_STORED, *more: str) -> None:
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("archive/data.pkl", content)
        for name in ("version", *more):
            archive.writestr(f"archive/{name}", b"3\n")


def hostile_file(folder: Path, kind: str, opcodes: bytes) -> Path:
    """Write a payload as the value of one key of a dictionary, in one of `FORMATS`."""
    content = b"}" + _text("weight") + opcodes + b"s."
    path = folder / {"pickle": "a.pkl", "npy": "a.npy"}.get(kind, "a.pt")
    if kind == "pickle":
        path.write_bytes(b"\x80\x04" + content)
    elif kind == "npy":
        stream = io.BytesIO()
        np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
        path.write_bytes(stream.getvalue() + b"\x80\x04" + content)
    elif kind.startswith("torch "):
        _LEGACY[kind](path, content)
    else:
        _zip(path, b"\x80\x02" + content, zipfile.ZIP_STORED, *(["constants.pkl"] if kind == "torchscript" else []))
    return path


def _legacy(path: Path, content: bytes, second: bool = False) -> None:
    mark = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    head = [b"\x80\x02" + content] if second else [pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2)]
    path.write_bytes(b"".join([mark, *head, b"\x80\x02" + content]))


_LEGACY: Mapping[str, Callable[[Path, bytes], None]] = {
    "torch deflated": lambda path, content: _zip(path, b"\x80\x02" + content, zipfile.ZIP_DEFLATED),
    "torch legacy": _legacy,
    "torch in the second pickle": lambda path, content: _legacy(path, content, second=True),
}
