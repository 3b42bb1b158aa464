"""How much a file may ask for, in proportion to its own size; looked at before the work is done.

A file of weights is read in time and memory that grow with its bytes. Where a few bytes stand for much (zip members,
prefixes that keys share, objects that hold each other, tensors over the same numbers) the bounds here hold.
"""

import math
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from convert.tensors import Checkpoint

MIB = 2**20
MOST_NAMES = 50_000  # tensors and other things with a name in one file; the largest published networks have a tenth
LONGEST_KEY = 4096  # characters of a name
DEEPEST = 64  # dots in a name
MOST_AXES = 32
SHARED = 4  # how often the numbers of a file may be used, on average; two or three networks share an encoder
SPARE = 256 * MIB  # of every bound that is a multiple of the file
UNPACKED, UNPACKED_SPARE = 2, 128 * MIB  # how much an archive may unpack to
DIRECTORY_SPARE = 4 * MIB  # bytes of a zip archive's list of members, beside a 32nd of the file
OPERATIONS_SPARE = 1_000_000  # operations of a pickle, beside one for every 64 bytes of the file
EOCD, EOCD_BYTES = b"PK\x05\x06", 22  # the end of a zip archive's list of members
EOCD64_PLACE, EOCD64_BYTES = b"PK\x06\x07", 20  # before it, in large archives: where a longer one lies

T = TypeVar("T")
Operation = tuple[pickletools.OpcodeInfo, object]  # of a pickle, and its argument


class ExcessError(ValueError):
    """A file asks for more than its size can mean."""


def require_count(count: int, what: str = "names", most: int = MOST_NAMES) -> None:
    """Raise ExcessError where there are more of something than a file of weights has."""
    if count > most:
        raise ExcessError(f"it has {count:,} {what}, more than {most:,}, as no file of weights has")


def require_axes(axes: int) -> None:
    """Raise ExcessError for an array of more axes than networks have."""
    require_count(axes, "axes in one tensor", MOST_AXES)


def require_key(key: str | bytes) -> None:
    """Raise ExcessError for a name that is longer than names are."""
    require_count(len(key), "characters in one name", LONGEST_KEY)


def unique(pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Collect tensors by name. Raises ValueError: two have the same, so that one would be lost."""
    found: dict[str, T] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"two tensors are called {name}")
        found[name] = value
        require_count(len(found))
    return found


def require_within(checkpoint: Checkpoint, size: int) -> None:
    """Check what an opened file says of its tensors against its bytes.

    Raises ExcessError: too many names, too deep or too long ones, or tensors that stand for more than is there.
    """
    require_count(len(checkpoint.tensors) + len(checkpoint.extras))
    total = 0
    for name, entry in checkpoint.tensors.items():
        require_key(name)
        require_count(name.count("."), "dots in one name", DEEPEST)
        require_axes(len(entry.spec.shape))
        total += math.prod(entry.spec.shape) * _itemsize(entry.spec.dtype)
    if total > SHARED * size + SPARE:
        raise ExcessError(f"its tensors stand for {total:,} bytes, and the file has {size:,}")


def _itemsize(dtype: str) -> int:
    bits = re.search(r"\d+$", dtype)
    return max(int(bits[0]) // 8, 1) if bits else 1


@contextmanager
def opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive whose members lie side by side in it, and unpack to no more than a multiple of it.

    Raises:
        ExcessError: they do not.
        zipfile.BadZipFile: damaged.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        directory = _directory_bytes(file, size)
        most = DIRECTORY_SPARE + size // 32
        if directory > most:
            raise ExcessError(f"its list of members takes {directory:,} bytes, more than {most:,}")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        require_count(len(members), "members")
        if len({member.filename for member in members}) < len(members):
            raise ValueError("two members of the archive have the same name")
        if sum(member.compress_size for member in members) > size:
            raise ExcessError("its members lie over each other")
        total, most = sum(member.file_size for member in members), UNPACKED * size + UNPACKED_SPARE
        if total > most:
            raise ExcessError(f"it unpacks to {total:,} bytes, more than {most:,}")
        yield archive


def _directory_bytes(file: IO[bytes], size: int) -> int:
    """Bytes of a zip archive's list of members, as it says itself; 0 where it has none."""
    start = max(0, size - 0x10000 - EOCD_BYTES)
    file.seek(start)
    tail = file.read()
    place = tail.rfind(EOCD)
    if place < 0 or len(tail) - place < EOCD_BYTES:
        return 0
    (length,) = struct.unpack_from("<I", tail, place + 12)
    longer = place - EOCD64_BYTES
    if longer >= 0 and tail[longer:].startswith(EOCD64_PLACE):
        file.seek(min(struct.unpack_from("<Q", tail, longer + 8)[0], size))
        record = file.read(56)
        length = max(struct.unpack_from("<Q", record, 40)[0] if len(record) == 56 else 0, 0)
    return int(length)


def operations(stream: IO[bytes] | bytes, size: int) -> Iterator[Operation]:
    """Yield the operations of a pickle, up to as many as a file of that size may have; none is carried out.

    Args:
        stream: the pickle.
        size: bytes of the file.

    Raises:
        ExcessError: there are more.
        ValueError: not a pickle, or cut off.
    """
    most = OPERATIONS_SPARE + size // 64
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count >= most:
            raise ExcessError(f"its pickle has more than {most:,} operations")
        yield opcode, argument


def names_of(steps: Iterable[Operation]) -> Iterator[str]:
    """The dotted names of the Python objects that a pickle asks for, each as often as it does.

    A name that is put together on the stack is told by the last two texts before it, also where they are remembered.
    """
    texts: list[str] = []
    memory: dict[int, str] = {}
    for opcode, argument in steps:
        if opcode.name in {"GLOBAL", "INST"}:
            yield str(argument).replace(" ", ".", 1)
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(texts[-2:])
        elif "PUT" in opcode.name or opcode.name == "MEMOIZE":
            memory[argument if isinstance(argument, int) else len(memory)] = texts[-1] if texts else ""
        elif "GET" in opcode.name:
            _remember(texts, memory.get(argument if isinstance(argument, int) else -1, ""))
        elif isinstance(argument, str):
            _remember(texts, argument)


def _remember(texts: list[str], text: str) -> None:
    texts.append(text)
    del texts[:-2]
