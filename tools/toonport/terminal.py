"""Text on a terminal: names out of files are shown as text, never as markup or as orders to the terminal."""

import os
import sys
from typing import Any

from rich.console import Console

# What moves, colours or turns round text, or is not seen in it: control characters but line ends and tabs, marks of
# direction, separators, characters without width, tags.
_ORDERS = (*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0), 0xAD, 0x061C, 0x180E, *range(0x200B, 0x2010),
           *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFC),
           *range(0xE0000, 0xE0080))  # fmt: skip
_SHOWN = {code: chr(code).encode("unicode_escape").decode() for code in _ORDERS}
LONGEST_NAME = 160  # characters of one cell of a table
LONGEST_TEXT = 6000


def plain(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return text with what would command a terminal spelt out, and the middle of a long one left out."""
    if len(text) > longest:
        text = f"{text[: longest * 2 // 3]} ... {len(text) - longest:,} characters ... {text[-(longest // 3) :]}"
    return text.translate(_SHOWN)


def cell(text: str) -> str:
    """Return text for one cell of a table, in one line."""
    return plain(text, LONGEST_NAME).replace("\n", "\\n").replace("\t", "\\t")


class Terminal(Console):
    """A console to which every text is text. What is printed after the reader has gone is lost, and no error."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"soft_wrap": True, "highlight": False, "markup": False, "emoji": False, **settings})

    def print(self, *objects: Any, **settings: Any) -> None:
        """See `rich.console.Console.print`."""
        super().print(*(plain(each) if isinstance(each, str) else each for each in objects), **settings)

    def on_broken_pipe(self) -> None:
        """Go on without a reader, so that the exit code says what was found."""
        discard_output()


def write(text: str) -> None:
    """Print text as it is, for programs to read; what a reader that has gone would get is lost, and no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        discard_output()


def open_closed_streams() -> None:
    """Let standard streams that were closed lead nowhere, before a file that is opened takes their place."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def flush_output() -> None:
    """Hand on what was printed. Raises OSError: it cannot be, e.g. because the disk is full."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()


def discard_output() -> None:
    """Let standard output lead nowhere from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
