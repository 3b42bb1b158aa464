"""The wire format of protocol buffers, as far as checkpoint files use it.

Fields are yielded as (number, start, end) for bytes and as (number, value, -1) for numbers. Damaged input raises
ValueError, never anything else.
"""

import mmap
from collections.abc import Iterator

VARINT, LENGTH_DELIMITED, FIXED32 = 0, 2, 5
Buffer = bytes | mmap.mmap


def fields(data: Buffer, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield every field of a message. Raises ValueError: the message is cut off or not one."""
    position = start
    while position < end:
        key, position = varint(data, position, end)
        if key & 7 == LENGTH_DELIMITED:
            length, position = varint(data, position, end)
            if position + length > end:
                raise ValueError(f"a field of {length} bytes runs past the end")
            yield key >> 3, position, position + length
            position += length
        elif key & 7 == VARINT:
            value, position = varint(data, position, end)
            yield key >> 3, value, -1
        elif key & 7 == FIXED32 and position + 4 <= end:
            yield key >> 3, int.from_bytes(data[position : position + 4], "little"), -1
            position += 4
        else:
            raise ValueError(f"unknown wire type {key & 7} at byte {position}")


def varint(data: Buffer, position: int, end: int) -> tuple[int, int]:
    """Return the number that starts at `position`, and where the next thing starts.

    Raises ValueError: the number is cut off or too long.
    """
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise ValueError("the file ends inside a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"a number is too long at byte {position}")
