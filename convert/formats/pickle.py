"""Arrays out of a pickle in which nothing that the file names is imported or called.

Only what numpy writes for arrays in dictionaries and lists is understood; anything else is refused.
"""

import io
import math
import pickle
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from convert.errors import InputError
from convert.formats.budget import Operation, names_of, operations, require_axes

# What numpy's pickles consist of. Not among them: what looks up objects elsewhere (extension codes, persistent ids,
# buffers), makes instances without a call (NEWOBJ, INST, OBJ), or only repeats (DUP).
NUMPYS = """
    PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8
    BYTEARRAY8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS
    PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD
"""
OPCODES = frozenset(NUMPYS.split())
DAMAGE = (pickle.UnpicklingError, EOFError, IndexError, KeyError, TypeError, AttributeError, OverflowError)


def read_pickle(data: bytes) -> Any:
    """Return dictionaries, lists, numbers, text and arrays.

    Raises ValueError: the pickle is damaged or asks for anything but arrays.
    """
    for _ in checked(operations(data, len(data)), len(data), OPCODES):  # checks every length against the data, too
        pass
    try:
        return _value(_Unpickler(io.BytesIO(data), fix_imports=False, encoding="latin1").load(), set())
    except (*DAMAGE, RecursionError) as error:
        raise ValueError(f"damaged ({type(error).__name__})") from error


def checked(steps: Iterable[Operation], size: int, allowed: Collection[str]) -> Iterator[Operation]:
    """Yield the operations of a pickle of `size` bytes. Raises ValueError: one is not among those that are allowed."""
    for opcode, argument in steps:
        if opcode.name not in allowed:
            raise ValueError(f"asks for more than arrays ({opcode.name})")
        if opcode.name.endswith("PUT") and isinstance(argument, int) and argument > size:
            raise ValueError("remembers more values than it has bytes")
        yield opcode, argument


# Modules whose names in a file mean that it wants to run something; what only makes data is not among them.
HOSTILE = re.compile(
    r"^(?:(?:builtins|__builtin__)\.(?!(?:bool|bytearray|bytes|complex|dict|float|frozenset|int|list|object|range|set|"
    r"slice|str|tuple)$)|(?:_?posix(?:subprocess)?|nt|os|sys|subprocess|runpy|importlib|imp|pkgutil|socket|shutil|pty|"
    r"ctypes|code|codeop|commands|webbrowser|multiprocessing|_?pickle|dill|cloudpickle|marshal|pdb|bdb|timeit|cProfile|"
    r"profile|platform|urllib|http|ftplib|smtplib|requests|pip|site|signal|_?thread|threading|atexit|doctest|distutils|"
    r"setuptools|asyncio|inspect|gc|_?io|tempfile|torch\.hub|torch\.utils\.cpp_extension|torch\.serialization\.load|"
    r"torch\.jit\.unsupported_tensor_ops|"
    r"numpy\.testing|numpy\.f2py|numpy\.distutils)\.|types\.(?:CodeType|FunctionType)$|operator\.|_operator\.|"
    r"torch\.load$|numpy\.load$|joblib\.)"
)


def require_harmless(path: Path, pickled: bytes, problem: str) -> None:
    """Look at a pickle that cannot be read, because of `problem`, for what is there to run something.

    Raises InputError: it names such a thing.
    """
    with suppress(ValueError):
        name = next(filter(HOSTILE.match, names_of(operations(pickled, len(pickled)))), "")
        if name:
            raise InputError(f"{hostile(path, name)}; not a numpy file either ({problem})")


def hostile(path: Path, name: str) -> str:
    """The message about a file that wants to run something."""
    return f"{path}: refused, do not trust this file: it asks to run code, it names the forbidden global {name}"


class Stub:
    """What stands for an object, and may be given a state."""


def _require_keys(keys: list[Any]) -> None:
    if not all(type(key) in {str, int} for key in keys):
        raise ValueError("has a key that is neither text nor a number")


def _require_stub(owner: Any) -> None:
    if not isinstance(owner, Stub):
        raise pickle.UnpicklingError("changes what has no state")


CHECKS: Mapping[bytes, Callable[[list[Any]], None]] = {
    pickle.SETITEM: lambda stack: _require_keys(stack[-2:-1]),
    pickle.SETITEMS: lambda stack: _require_keys(stack[::2]),
    pickle.DICT: lambda stack: _require_keys(stack[::2]),
    pickle.BUILD: lambda stack: _require_stub(stack[-2]),
}


def _checked(code: int, load: Callable[[Any], None]) -> Callable[[Any], None]:
    check = CHECKS.get(bytes([code]))

    def load_checked(unpickler: Any) -> None:
        """Look at the stack, then do what the opcode says."""
        if check:
            check(unpickler.stack)
        load(unpickler)

    return load_checked


class Unpickler(pickle._Unpickler):
    """Python's unpickler in Python, as the one in C hashes a key before anyone can look at it.

    Hashing a tuple in a tuple, a hundred thousand times, ends the process; hashing one doubled forty times never ends.
    """

    dispatch: ClassVar = {code: _checked(code, load) for code, load in pickle._Unpickler.dispatch.items()}


class _Unpickler(Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name; nothing is imported."""
        return _Name(f"{module}.{name}")


class _Name(Stub):
    """What a pickle names, in place of the thing itself; a call gives what the few known names would make."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, *arguments: Any) -> Any:
        if self.text not in CALLS:
            raise ValueError(f"asks to call {self.text}")
        return CALLS[self.text](*arguments)

    def __setstate__(self, state: Any) -> None:
        raise ValueError(f"asks to change {self.text}")


class TypeStub(Stub):
    """The type of an array, once its byte order is known."""

    def __init__(self, code: str) -> None:
        if not isinstance(code, str):
            raise ValueError("an array of a type without a name")
        self.is_object = code in {"O", "O8", "O4"}
        self.is_text = re.fullmatch(r"U\d+", code) is not None
        if not (self.is_object or self.is_text) and (code[:1] not in tuple("fiub") or not code[1:].isdigit()):
            raise ValueError(f"an array of type {code}")
        self.code, self.order = code, "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if not isinstance(state[1], str) or state[1] not in tuple("<>=|"):
            raise ValueError("an array of an unknown byte order")
        self.order = state[1]


def _require_shape(shape: Any) -> None:
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError("an array has no shape")  # and no product of it may be anything but a number
    require_axes(len(shape))


class ArrayStub(Stub):
    """An array of numpy's, or the one object in an array of shape ()."""

    value: Any = None

    def __init__(self, state: tuple[Any, ...] | None = None) -> None:
        if state:
            self.__setstate__(state)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take numpy's state: version, shape, type, Fortran order, values."""
        _, shape, kind, fortran, content = state
        if not isinstance(kind, TypeStub):
            raise ValueError("an array has no type")
        if kind.is_text:
            raise ValueError("an array of text")
        _require_shape(shape)
        if kind.is_object:
            if shape != () or len(content) != 1:
                raise ValueError("holds an array of objects")
            self.value = content[0]
            return
        data = content.encode("latin1") if isinstance(content, str) else content
        dtype = np.dtype(kind.order + kind.code)
        if math.prod(shape) * dtype.itemsize != len(data):
            raise ValueError("an array holds another number of bytes than its shape needs")
        self.value = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _from_buffer(data: bytes, kind: TypeStub, shape: tuple[int, ...], order: str) -> ArrayStub:
    return ArrayStub((1, shape, kind, order == "F", bytes(data)))


def _scalar(kind: TypeStub, data: bytes) -> Any:
    if kind.is_text:
        return data.decode("utf-32-be" if kind.order == ">" else "utf-32-le").rstrip("\0")
    value = ArrayStub((1, (), kind, False, data)).value
    return value.item() if isinstance(value, np.ndarray) else value


def _encoded(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"asks to encode text as {encoding}")
    return text.encode("latin1")


def _ordered(*pairs: Any) -> dict[Any, Any]:
    if pairs:
        raise ValueError("asks to make a dictionary of pairs")
    return {}


# What stands for the few functions that numpy's pickles name.
CALLS: Mapping[str, Callable[..., Any]] = {
    **{
        f"numpy.{core}.{name}": stub
        for core in ("core", "_core")
        for name, stub in (
            ("multiarray._reconstruct", lambda *_: ArrayStub()),
            ("numeric._frombuffer", _from_buffer),
            ("multiarray.scalar", _scalar),
        )
    },
    "numpy.dtype": lambda code, *_: TypeStub(code),
    "_codecs.encode": _encoded,
    "collections.OrderedDict": _ordered,
}


def _value(node: Any, seen: set[int]) -> Any:
    """Put arrays in place of what stands for them, in depth; `seen` are the containers that were met."""
    if isinstance(node, dict | list | tuple | ArrayStub) and node != ():
        if id(node) in seen:
            raise ValueError("holds the same thing twice")
        seen.add(id(node))
    if isinstance(node, dict):
        return {key: _value(value, seen) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_value(value, seen) for value in node]
    if isinstance(node, ArrayStub):
        return node.value if isinstance(node.value, np.ndarray) else _value(node.value, seen)
    if isinstance(node, _Name | TypeStub):
        raise ValueError("holds something that is not data")
    return node
