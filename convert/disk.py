"""Writing that never leaves half a file, by one process at a time; hashes of whole files, JSON and TOML."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from convert.blocks import LAG, Buffer, Hashing, read_blocks
from convert.errors import InputError, first_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LONGEST_NAME = 255  # bytes
PATIENCE = 10.0  # seconds that a file in the making is waited for
NO_FILES = ("/proc/", "/sys/", "/dev/fd/", "/dev/std")  # beginnings of names of what the system has open
POLL_SECONDS = 0.02
HANDED = 1 << 24  # bytes that are put on the disk at once


def beside(path: Path, ending: str) -> Path:
    """Return the hidden file beside `path` that serves it for a while, e.g. "partial"; the same in every process."""
    name = f".{path.name}.{ending}"
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]}.{ending}"
    return path.with_name(name)


def written_place(path: Path) -> Path:
    """Return the file that is replaced when `path` is written: a link's own target, for anything else the path.

    Raises InputError: its name is too long, links lead in a circle, or it stands for an open file or a device.
    """
    if os.path.abspath(path).startswith(NO_FILES):
        raise InputError(f"{path}: cannot be written: no file can be made there")
    try:
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        if target.exists() and not target.is_file():
            raise InputError(f"{path}: cannot be written: something is there that is no file")
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: cannot be written: {first_line(error)}") from error
    return target


@contextmanager
def locked(
    path: Path, patience: float = 0.0, waiting: Callable[[], None] | None = None, place: Path | None = None
) -> Iterator[None]:
    """Keep other processes from writing a file or folder meanwhile; a killed process lets go by itself.

    Args:
        path: what is written.
        patience: seconds to wait for another process, or -1 for as long as it takes.
        waiting: called once where another process is waited for.
        place: the file that serves as the lock, and is removed at the end; its folder is made. By default one beside
            `path`.

    Raises InputError: another process is writing it, or nothing can be written there.
    """
    place = place or beside(Path(os.path.realpath(path)), "lock")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{place.parent}: cannot make this folder: {error.strerror}") from error
    try:
        lock = _acquired(place, 0.0 if waiting else patience)
        if lock is None and waiting:
            waiting()
            lock = _acquired(place, patience)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    if lock is None:
        raise InputError(f"{path}: another process is writing there; wait for it or choose another name")
    try:
        yield
    finally:
        with suppress(OSError):
            place.unlink(missing_ok=True)
        lock.release()


def _acquired(place: Path, patience: float) -> FileLock | None:
    """The lock of a file, None when another process kept it too long; one that was removed meanwhile does not count."""
    while True:
        held: list[int] = []
        lock = FileLock(place, timeout=patience, poll_interval=POLL_SECONDS, on_acquired=held.append)
        try:
            lock.acquire()
        except Timeout:
            return None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held[0]), os.stat(place)):
                return lock
        lock.release()


def folder_locked(folder: Path) -> AbstractContextManager[None]:
    """Keep other processes from writing into a folder meanwhile; see `locked`."""
    return locked(folder, place=folder / ".lock")


@contextmanager
def atomic_path(path: Path, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success rename it, else remove it.

    A link is written through, and a file that is replaced keeps its permissions. What a killed process left of the
    temporary file is overwritten by the next one.

    Args:
        path: the file to write; its folder is made.
        durable: wait until the file is on the disk before it gets its name, so that it outlives a power cut. Not
            needed for what can be made again in a moment, and takes longer than a small picture takes to draw.

    Raises InputError: the file cannot be written, or another process keeps writing it.
    """
    target = written_place(path)
    with locked(target, PATIENCE), temporary_beside(target) as temporary:
        try:
            yield temporary
            put(temporary, target, durable)
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Give the temporary path of a file that is locked; what is there at the end is removed."""
    temporary = beside(path, "partial")
    try:
        yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def put(temporary: Path, target: Path, durable: bool = True) -> None:
    """Give a complete file its name; see `atomic_path`. Raises OSError: it cannot be written."""
    with suppress(FileNotFoundError):
        shutil.copymode(target, temporary)
    if durable:
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
    os.replace(temporary, target)
    if durable:
        sync_folder(target.parent)


@dataclass(frozen=True)
class Written:
    """What was written: bytes, and the sha256 of what was handed to the disk, taken on the way."""

    bytes: int
    sha256: str


class HashedFile:
    """A new file that is written from its beginning to its end, and hashed on the way.

    The system is asked to put a large one on the disk at once and to keep no more of it in memory than LAG: who waits
    for it at the end has nothing to wait for, and memory that was used before is faster than fresh memory.
    """

    def __init__(self, path: Path) -> None:
        self._file, self._digest, self._hashing = open(path, "wb"), hashlib.sha256(), Hashing()  # noqa: SIM115
        self.size = 0  # bytes written so far
        self._handed = 0  # of these, bytes that the system was asked to put on the disk

    def __enter__(self) -> "HashedFile":
        return self

    def __exit__(self, *error: object) -> None:
        self._hashing.__exit__()
        self._file.close()

    def write(self, content: Buffer) -> int:
        """Write the next bytes, which must stay as they are. Raises OSError: it cannot be, e.g. the disk is full."""
        self._file.write(content)
        self._hashing.update(self._digest, content)
        self.size += len(content)
        if self.size - self._handed >= HANDED and sys.platform == "linux":
            first = max(self._handed - LAG, 0)  # what went to the disk meanwhile is let go
            with suppress(OSError):  # a file system that cannot be advised does as it likes
                os.posix_fadvise(self._file.fileno(), first, self.size - first, os.POSIX_FADV_DONTNEED)
            self._handed = self.size
        return len(content)

    def flush(self) -> None:
        """Hand on what is held back."""
        self._file.flush()

    @property
    def written(self) -> Written:
        """What was written so far."""
        self._hashing.finish()
        return Written(self.size, self._digest.hexdigest())


def sync_folder(folder: Path) -> None:
    """Wait until what was renamed in a folder is on the disk."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, as hexadecimal text."""
    with open(path, "rb") as file:
        return file_digest(file)


def file_digest(file: BinaryIO) -> str:
    """Return the sha256 of what a file holds from where it stands."""
    digest = hashlib.sha256()
    for block in read_blocks(file):
        digest.update(block)
    return digest.hexdigest()


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write data as JSON; an existing file is replaced only by a complete one. Raises InputError: it cannot be."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n")


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file. Raises InputError: it cannot be read, or is none."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not a TOML file ({error})") from error
