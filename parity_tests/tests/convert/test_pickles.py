"""Pickles inside numpy files: whatever they ask for, nothing is imported, called, changed or blown up."""

import copyreg
import io

import numpy as np
import pytest

from convert.errors import InputError
from convert.formats import open_checkpoint


def _raw(path, opcodes):
    """An .npy file whose pickle consists of these bytes."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
    path.write_bytes(stream.getvalue() + opcodes)
    return path


EVAL = b"cbuiltins\neval\n"
DTYPE = b"cnumpy\ndtype\n"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n)R"
FLOATS = DTYPE + b"X\x02\x00\x00\x00f4\x85R"
DEEP = b"\x80\x02)" + b"\x85" * 200_000
DOUBLED = b"".join(b"q%ch%c\x86" % (k, k) for k in range(40))


@pytest.mark.parametrize(
    ("opcodes", "reason"),
    [
        pytest.param(EVAL + b"(X\x03\x00\x00\x001/0tR.", r"asks to call builtins\.eval", id="call"),
        pytest.param(
            b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93)R.", r"asks to call builtins\.eval", id="call by stack"
        ),
        pytest.param(EVAL + b"}b.", r"asks to change builtins\.eval", id="state of a name"),
        pytest.param(EVAL + b".", "not data", id="name alone"),
        pytest.param(b"\x80\x02" + EVAL + b")\x81.", "NEWOBJ", id="instance"),
        pytest.param(b"\x80\x04" + EVAL + b")}\x92.", "NEWOBJ_EX", id="instance with keywords"),
        pytest.param(b"(ibuiltins\neval\n.", "INST", id="old instance"),
        pytest.param(b"(" + EVAL + b"o.", "OBJ", id="old object"),
        pytest.param(b"\x80\x02\x82\x01.", "EXT1", id="extension registry"),
        pytest.param(b"Pid\n.", "PERSID", id="persistent id"),
        pytest.param(b"\x80\x05\x97.", "NEXT_BUFFER", id="buffer from outside"),
        pytest.param(b"}}b.", "damaged", id="state of a dictionary"),
        pytest.param(b"]r\xff\xff\xff\x7f.", "remembers more values", id="memo that takes gigabytes"),
        pytest.param(b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0f.", "not a numpy file", id="bytes that take exabytes"),
        pytest.param(b"(" * 9, "not a numpy file", id="cut off"),
        pytest.param(b"]q\x00h\x00a.", "holds the same thing twice", id="list in itself"),
        pytest.param(
            b"]q\x00" + b"".join(b"](h%ch%ceq%c" % (k, k, k + 1) for k in range(40)) + b".",
            "holds the same thing twice",
            id="doubled forty times",
        ),
        pytest.param(b"}" + DEEP[2:] + b"Ns.", "neither text nor a number", id="key too deep to hash"),
        pytest.param(b"}(" + DEEP[2:] + b"Nu.", "neither text nor a number", id="key too deep to hash, of several"),
        pytest.param(b"(" + DEEP[2:] + b"Nd.", "neither text nor a number", id="key too deep to hash, at once"),
        pytest.param(b"\x80\x02})" + DOUBLED + b"Ns.", "neither text nor a number", id="key too wide to hash"),
        pytest.param(DTYPE + DEEP[2:] + b"\x85R.", "type without a name", id="type too deep to hash"),
        pytest.param(FLOATS + b"(K\x03X\x02\x00\x00\x00(1tb.", "byte order", id="byte order that is Python"),
        pytest.param(FLOATS + b"(K\x03X\x03\x00\x00\x00i4,tb.", "byte order", id="byte order that makes records"),
        pytest.param(
            ARRAY + b"(K\x01J\x00\xca\x9a;X\x01\x00\x00\x00a\x86" + FLOATS + b"\x89U\x00tb.",
            "has no shape",
            id="shape that repeats a text a thousand million times",
        ),
        pytest.param(b"]" * 5000 + b"a" * 4999 + b".", "damaged", id="deeper than the interpreter's stack"),
    ],
)
def test_nothing_that_a_pickle_asks_for_is_done(opcodes, reason, tmp_path, monkeypatch):
    monkeypatch.setitem(copyreg._inverted_registry, 1, ("builtins", "eval"))
    monkeypatch.setitem(copyreg._extension_cache, 1, eval)
    with pytest.raises(InputError, match=reason):
        open_checkpoint(_raw(tmp_path / "a.npy", opcodes))
