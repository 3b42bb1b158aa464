"""PyTorch checkpoints (.pt, .pth): tensors only, never unpickled freely.

What `torch_archive.py` does not understand is read by PyTorch itself, with weights_only.
"""

import io
import re
import time
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from convert.devices import CPU
from convert.errors import InputError
from convert.formats import torch_archive
from convert.formats.budget import ExcessError, names_of, opened_zip, operations
from convert.formats.pickle import CALLS, HOSTILE, ArrayStub, TypeStub, hostile
from convert.formats.torch_archive import StoredTensor
from convert.tensors import Array, Checkpoint, Entry, TensorSpec

MOST_OBJECTS = 64  # kinds of Python objects that one file may hold beside its tensors
# Names that mean that a file wants to run something, or that it is a whole network.
CODE = re.compile(rf"{HOSTILE.pattern}|^(?:builtins|__builtin__|torch\.nn|__main__|__torch__)\b")
PATIENCE = 30.0  # seconds for finding out which objects stand in the way
LEGACY_PICKLES = 5  # a file of PyTorch before 1.6: a mark, its version, the machine, the content, names of its storages
DEEPEST = 32
LARGEST_SHOWN = 10**40
MOST_NAMES = 200_000  # a few dictionaries that hold each other twice and twice again have more names than memory
NOT_NUMBERS = (ValueError, TypeError, IndexError, AttributeError)  # what a stub raises for other arrays
PACKED = "_packed_params._packed_params"  # where PyTorch's quantized layers keep weight and bias


def read(path: Path) -> Checkpoint:
    """Open a PyTorch checkpoint; nested dictionaries become dotted names.

    Python objects beside the tensors are neither made nor run: something inert stands in their place.

    Raises InputError: damaged file, or one that asks to run code or holds a whole network; what to do instead.
    """
    archive = torch_archive.read(path)
    if archive:
        return replace(gathered(path, archive.content, archive.entry), checksums=archive.checksums)
    if zipfile.is_zipfile(path):
        check_archive(path)
    require_harmless(path)
    return gathered(path, load(path))


def gathered(path: Path, content: Any, stored: Callable[[StoredTensor], Entry] | None = None) -> Checkpoint:
    """The tensors that what a file holds consists of, by dotted names.

    Args:
        path: the file.
        content: what it holds.
        stored: makes a tensor that was read without PyTorch an entry.

    Raises InputError: it is no dictionary, or has tensors that cannot be converted.
    """
    content = _named(content)
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a state dict; save net.state_dict()")
    tensors: dict[str, Entry] = {}
    extras: dict[str, str] = {}
    dictionaries: set[str] = set()
    for name, value in _flatten(path, content, "", dictionaries):
        if len(tensors) + len(extras) > MOST_NAMES:
            raise InputError(f"{path}: holds more than {MOST_NAMES} names, so no network; save net.state_dict()")
        if _is_array(value):
            if name in tensors:
                raise InputError(f"{path}: two tensors are called {name}")
            tensors[name] = stored(value) if stored and isinstance(value, StoredTensor) else _entry(path, name, value)
        elif name.endswith(PACKED):
            raise quantized(path, f"{name} holds quantized weights")
        else:
            extras[name] = _described(value)
    return Checkpoint(path, "torch", tensors, extras, dictionaries=frozenset(dictionaries))


def _is_array(value: Any) -> bool:
    """Whether a value is a tensor, or an array of numpy's."""
    if isinstance(value, StoredTensor):
        return True
    return hasattr(value, "detach") or (isinstance(value, ArrayStub) and isinstance(value.value, np.ndarray))


def _named(value: Any) -> Any:
    """A list of dictionaries with tensors in them as a dictionary by number; anything else as it is."""
    if isinstance(value, list | tuple) and any(isinstance(inner, Mapping) and _holds(inner) for inner in value):
        return {str(number): inner for number, inner in enumerate(value)}
    return value


def _holds(content: Mapping[Any, Any]) -> bool:
    """Whether there is a tensor somewhere in a dictionary; what lies in several places is looked at once."""
    waiting, seen = [content], {id(content)}
    while waiting:
        for value in waiting.pop().values():
            if _is_array(value):
                return True
            if isinstance(value, Mapping) and id(value) not in seen:
                seen.add(id(value))
                waiting.append(value)
    return False


def _described(value: Any) -> str:
    kind = type(value).__name__
    if isinstance(value, ArrayStub):
        return "array, not of numbers"
    if isinstance(value, _Inert):
        return f"object {value.kind}".strip()
    if isinstance(value, Sized) and not isinstance(value, str):
        return f"{kind} of {len(value)}"
    if isinstance(value, int) and abs(value) > LARGEST_SHOWN:
        return f"{kind} of {value.bit_length()} bits"
    return f"{kind} {str(value)[:40]}"


def load(path: Path, opened: BinaryIO | None = None, modules: Iterable[str] = ()) -> Any:
    """The content of a file; what is not data in it becomes `_Inert`.

    Args:
        path: the file.
        opened: what is read in its place, where that is another form of it.
        modules: names of objects that are known to hold tensors, and to be read as dictionaries.

    Raises InputError: damaged file, or one that asks to run code or holds a whole network; what to do instead.
    """
    allowed: list[tuple[Any, str]] = [(kind, kind.__name__) for kind in (_Numbers, TypeStub, _Inert)]
    allowed += [(_Inert, name) for name in modules]
    most, until = len(allowed) + MOST_OBJECTS, time.monotonic() + PATIENCE
    while True:
        try:
            return _load_with(path, opened, allowed)
        except InputError:
            raise
        except Exception as error:  # damaged or hostile bytes make the reader fail in any way it likes
            name = _forbidden_name(str(error))
            new = name not in {known for _, known in allowed} and len(allowed) < most and time.monotonic() < until
            if name and new and not CODE.match(name):
                allowed.append((_stand_in(name), name))
                continue
            raise _unreadable(path, name, error) from error


def _load_with(path: Path, opened: BinaryIO | None, allowed: Sequence[tuple[Any, str]]) -> Any:
    import torch

    is_zip = zipfile.is_zipfile(path)  # files older than PyTorch 1.6 are not zip archives
    with torch.serialization.safe_globals([*allowed]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layouts that are in beta, and of legacy forms: nothing a user can act on
        if opened:
            opened.seek(0)
            return torch.load(opened, map_location=CPU, weights_only=True)
        if path.suffix == ".safetensors" or not _is_text(path):  # PyTorch goes by this suffix, whatever is in the file
            return torch.load(io.BytesIO(path.read_bytes()), map_location=CPU, weights_only=True)
        return torch.load(path, map_location=CPU, weights_only=True, mmap=is_zip and _is_stored(path))


def _is_text(path: Path) -> bool:
    """Whether a path can be said in UTF-8, as PyTorch says it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_stored(path: Path) -> bool:
    """Whether the tensors of an archive lie in it as they are; packed again by others, they cannot be mapped."""
    with opened_zip(path) as archive:
        return all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())


def _unreadable(path: Path, name: str, error: Exception) -> InputError:
    if name:
        return InputError(
            f"{path}: refused, the file asks to run code or holds Python objects (it names {name}); "
            "where you trust it, save only its state dict: import torch; "
            f"held = torch.load({str(path)!r}, weights_only=False); plain = lambda v: v.state_dict() if hasattr(v, "
            "'state_dict') else {k: plain(i) for k, i in v.items()} if isinstance(v, dict) else v; "
            f"torch.save(plain(held), {_plain_name(path)})"
        )
    return InputError(f"{path}: not a PyTorch checkpoint, or cut off ({type(error).__name__})")


class _Inert(dict[str, Any]):
    """What stands for a Python object: it takes what the file gives it, and does nothing."""

    kind = ""

    def __new__(cls, *arguments: Any) -> "_Inert":
        """Whatever the file calls it with, it is empty."""
        return super().__new__(cls)

    def __init__(self, *arguments: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Keep what has a name, so that tensors in it are found."""
        if isinstance(state, Mapping):
            self.update(state)


class _Numbers(ArrayStub):
    """An array of numpy's; one of anything but numbers stays without a value."""

    def __setstate__(self, state: Any) -> None:
        """See `ArrayStub.__setstate__`."""
        with suppress(*NOT_NUMBERS):
            super().__setstate__(state)


def _harmless(stub: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        """What the stub makes, and for types that are not of numbers something inert."""
        try:
            return stub(*arguments)
        except NOT_NUMBERS:
            return _Inert()

    return call


def _stand_in(name: str) -> Any:
    """What is called in place of a Python object: for numpy's arrays what holds their bytes, else what does nothing."""
    if name.endswith("multiarray._reconstruct"):
        return lambda *_: _Numbers()
    if name in CALLS:
        return _harmless(CALLS[name])
    return type("_Inert", (_Inert,), {"kind": name})


def _forbidden_name(message: str) -> str:
    """The Python object that PyTorch's safe reader refused to make, if that is what its message says."""
    found = re.search(r"(?:GLOBAL|[Cc]lass) ([\w.]+)", message)
    refused = ("Unsupported", "unsupported", "not an allowed", "blocked")
    return found[1] if found and any(word in message for word in refused) else ""


def require_harmless(path: Path) -> None:
    """Look at the pickles of a file without reading them.

    Raises:
        InputError: they name what is there to run something.
        ExcessError: they have too many operations.
    """
    size = path.stat().st_size
    for pickled in _pickles(path):
        try:
            name = next(filter(HOSTILE.match, names_of(operations(pickled, size))), "")
        except ExcessError:
            raise
        except ValueError:
            return  # damaged, which PyTorch will say, or no further pickle
        if name:
            raise InputError(hostile(path, name))


def _pickles(path: Path) -> Iterator[IO[bytes]]:
    """The pickle in an archive, or those that a file of PyTorch before 1.6 begins with, one after the other."""
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            for _ in range(LEGACY_PICKLES):
                yield file
        return
    with opened_zip(path) as archive:
        for name in archive.namelist():
            if name.rpartition("/")[2] == "data.pkl":
                with archive.open(name) as member:
                    yield member


def check_archive(path: Path) -> None:
    """Verify the checksums of the archive.

    Raises InputError: a flipped bit or a broken download.
    """
    with opened_zip(path) as archive:
        broken = archive.testzip()
    if broken is not None:
        raise InputError(f"{path}: damaged, the checksum of '{broken}' does not match; get the file again")


def _flatten(path: Path, content: Mapping[Any, Any], prefix: str, dictionaries: set[str]) -> Iterator[tuple[str, Any]]:
    if prefix.count(".") > DEEPEST:
        raise InputError(f"{path}: dictionaries lie more than {DEEPEST} deep in each other")
    if len(dictionaries) > MOST_NAMES:
        raise InputError(f"{path}: holds more than {MOST_NAMES} dictionaries, so no network; save net.state_dict()")
    for name, held in content.items():
        value = _named(held)
        if isinstance(value, Mapping) and (value or not isinstance(value, _Inert)):
            dictionaries.add(f"{prefix}{name}")
            yield from _flatten(path, value, f"{prefix}{name}.", dictionaries)
        else:
            yield f"{prefix}{name}", value


def _entry(path: Path, name: str, tensor: Any) -> Entry:
    if isinstance(tensor, ArrayStub):
        values: Array = np.ascontiguousarray(tensor.value)
        return Entry(TensorSpec(tuple(tensor.value.shape), values.dtype.name), lambda: values)
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_meta:
        raise InputError(f"{path}: {name} has a shape but no values (device 'meta'); save it again from real weights")
    if tensor.is_nested:
        raise InputError(f"{path}: {name} is a nested tensor, of rows of several lengths; no network has such weights")
    if tensor.is_quantized:
        raise quantized(path, f"{name} is a quantized tensor ({dtype})")
    if dtype.startswith("float") and tensor.element_size() == 1:
        raise scaled(path, f"{name} is {dtype}", "torch.load({file}, weights_only=True)")
    if tensor.layout is not _strided():
        return Entry(TensorSpec(tuple(tensor.shape), dtype), lambda: _to_numpy(tensor.to_dense()))
    transposed = tensor.dim() == 2 and min(tensor.shape) > 1 and not tensor.is_contiguous()
    return Entry(TensorSpec(tuple(tensor.shape), dtype), lambda: _to_numpy(tensor), transposed)


def quantized(path: Path, what: str) -> InputError:
    """The error for a quantized network: its layers are others, and some keep weight and bias in one tuple."""
    return InputError(
        f"{path}: {what}; make plain weights of it: import torch; "
        f"state = torch.load({str(path)!r}, weights_only=True); "
        "plain = {k: v.dequantize() for k, v in state.items() if torch.is_tensor(v) and not "
        "k.endswith(('scale', 'zero_point'))}; "
        "plain.update({k.replace('_packed_params._packed_params', n): v[i].dequantize() for k, v in state.items() "
        f"if isinstance(v, tuple) for i, n in enumerate(['weight', 'bias'])}}); torch.save(plain, {_plain_name(path)})"
    )


def scaled(path: Path, what: str, load: str) -> InputError:
    """The error for numbers of 8 bits, which a scale elsewhere belongs to; `load` is the Python that reads them."""
    return InputError(
        f"{path}: {what}, which means little without its scale; make plain weights of it, times their scale where "
        f"there is one: import torch; state = {load.format(file=repr(str(path)))}; "
        f"torch.save({{k: v.float() for k, v in state.items()}}, {_plain_name(path)})"
    )


def _plain_name(path: Path) -> str:
    return repr(str(path.with_name(f"{path.stem}_plain.pth")))


def _strided() -> Any:
    import torch

    return torch.strided


def _to_numpy(tensor: Any) -> Array:
    import ml_dtypes
    import torch

    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.resolve_conj().resolve_neg().numpy()
