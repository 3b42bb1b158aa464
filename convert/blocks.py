"""Large files in blocks: mapped into memory for a moment, read into one buffer, hashed by a thread of their own."""

import hashlib
import mmap
import sys
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any, BinaryIO

from convert.errors import InputError

Buffer = bytes | bytearray | memoryview
BLOCK = 1 << 22  # bytes of a tensor that are handled at once
LAG = 1 << 25  # bytes that a mapped file keeps in memory behind what is being read
AHEAD = 4  # blocks that may wait for being hashed
SMALL = 1 << 14  # bytes that are hashed faster than they are handed on
READ = 1 << 20  # bytes that are read of a file at once
# CRC-32's polynomial, 1 and x^8: bits from the highest power on
POLYNOMIAL, ONE, BYTE = 0xEDB88320, 1 << 31, 1 << 23


@dataclass(frozen=True)
class Checksum:
    """What a file says of some of its bytes."""

    # start, end: which
    start: int
    end: int
    crc32: int
    problem: str  # what is wrong when it does not match, and what to do


class MappedFile:
    """A file that is read as memory; what was read of it in blocks does not stay there."""

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file:
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._read: deque[tuple[int, int]] = deque()  # first and last byte of blocks that may still be in memory
        self._held = 0  # bytes of these

    def blocks(self, start: int, end: int) -> Iterator[memoryview]:
        """Yield the bytes from `start` up to `end` in blocks of at most BLOCK."""
        whole = memoryview(self.data)
        for first in range(start, end, BLOCK):
            last = min(first + BLOCK, end)
            yield whole[first:last]
            self._read.append((first, last))
            self._held += last - first
            while self._held > LAG:
                self._give_back()

    def _give_back(self) -> None:
        """Free the memory of the oldest block; who still reads it gets it anew from the system."""
        first, last = self._read.popleft()
        self._held -= last - first
        first -= first % mmap.PAGESIZE
        if sys.platform == "linux":
            self.data.madvise(mmap.MADV_DONTNEED, first, last - first)


class Hashing:
    """A thread that hashes what it is handed, in order, a few blocks behind who does it."""

    def __init__(self) -> None:
        self._waiting: Queue[tuple[Any, Buffer] | None] = Queue(AHEAD)
        Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while (task := self._waiting.get()) is not None:
            try:
                task[0].update(task[1])
            finally:
                self._waiting.task_done()

    def update(self, digest: "hashlib._Hash", block: Buffer) -> None:
        """Add a block, which must stay as it is, to a digest."""
        if len(block) < SMALL and not self._waiting.unfinished_tasks:
            digest.update(block)
        else:
            self._waiting.put((digest, block))

    def finish(self) -> None:
        """Wait until everything is hashed."""
        self._waiting.join()

    def __enter__(self) -> "Hashing":
        return self

    def __exit__(self, *error: object) -> None:
        self._waiting.put(None)


def read_blocks(file: BinaryIO, size: int | None = None) -> Iterator[memoryview]:
    """Yield the next `size` bytes of a file, or all, in blocks; each is overwritten by the next one."""
    buffer = memoryview(bytearray(READ if size is None else min(READ, size)))
    left = size
    while left != 0 and (count := file.readinto(buffer if left is None else buffer[:left])):  # type: ignore[attr-defined]
        yield buffer[:count]
        left = None if left is None else left - count


def crc32_combined(first: int, second: int, length: int) -> int:
    """Return the CRC-32 of some bytes and `length` further ones behind them, of which each CRC-32 is known."""
    return _product(first, _behind(length)) ^ second


@lru_cache
def _behind(length: int) -> int:
    """What a CRC-32 is multiplied with when so many bytes follow: x^(8 length)."""
    factor, square = ONE, BYTE
    while length:
        if length & 1:
            factor = _product(factor, square)
        square, length = _product(square, square), length >> 1
    return factor


def _product(first: int, second: int) -> int:
    """The product of two polynomials modulo CRC-32's."""
    total = 0
    for power in range(31, -1, -1):
        if first >> power & 1:
            total ^= second
        second = second >> 1 ^ (POLYNOMIAL if second & 1 else 0)
    return total


def scanned(path: Path, checksums: Iterable[Checksum], hashed: bool = False) -> str:
    """Read a file once from its beginning to its end, and check what it says of its bytes.

    Args:
        path: the file.
        checksums: of parts of it that do not overlap.
        hashed: whether its sha256 is wanted.

    Returns:
        The sha256, or "".

    Raises InputError: a checksum does not match, by a flipped bit or a broken download.
    """
    digest, position = hashlib.sha256(), 0
    ordered = sorted(checksums, key=lambda checksum: checksum.start)
    with open(path, "rb") as file:
        for checksum in ordered:
            for block in read_blocks(file, max(checksum.start - position, 0)) if hashed else ():
                digest.update(block)
            file.seek(checksum.start)
            crc = 0
            for block in read_blocks(file, checksum.end - checksum.start):
                crc = zlib.crc32(block, crc)
                if hashed:
                    digest.update(block)
            if crc != checksum.crc32:
                raise InputError(f"{path}: damaged, {checksum.problem}")
            position = checksum.end
        for block in read_blocks(file) if hashed else ():
            digest.update(block)
    return digest.hexdigest() if hashed else ""
