"""What every subcommand shares on the terminal: text, tables, JSON and progress, and how much of it is shown."""

import json
import logging
import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from convert.disk import write_json
from convert.errors import InputError
from toonport.terminal import Terminal, cell, plain, write

STANDARD_OUTPUT = "-"
OTHER_NAMES = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
STREAMS = ("/dev/fd/", "/dev/std", "/proc/")
UNLIMITED = 10**6
GAP = 2  # between the columns of a table
COUNTED_EVERY = 1.0  # seconds between steps that differ in numbers alone
_said = logging.getLogger("toonport.said")
_doing = logging.getLogger("toonport.doing")
logging.getLogger("toonport").addHandler(logging.NullHandler())


class Output(Terminal):
    """Standard output: on a terminal lines wrap at words; elsewhere they stay whole, for programs to read."""

    @property
    def columns(self) -> int:
        """Width that tables and trees keep to: the terminal's or $COLUMNS; without end where there is neither."""
        return self._fitting(self.is_terminal or "COLUMNS" in os.environ)

    def _fitting(self, limited: bool) -> int:
        return self.width if limited and self.width > 0 else UNLIMITED  # COLUMNS=0 counts as unset

    def print(self, *objects: Any, **more: Any) -> None:
        """See `Terminal.print`; text is wrapped before, and kept for --log-file."""
        width = self._fitting(self.is_terminal)
        fitted = [fit(each, width) if isinstance(each, str) else each for each in objects]
        for each in objects:
            _said.info("%s", each)
        super().print(*fitted, **more)


out = Output()
_err = Terminal(stderr=True, soft_wrap=False)


def fit(text: str, width: int) -> str:
    """Return text with the lines that are longer than `width` wrapped at words; what follows is indented further."""
    return "\n".join(_wrapped(line, width) for line in text.split("\n"))


def _wrapped(line: str, width: int) -> str:
    if cell_len(line) <= width:
        return line
    leading = len(line) - len(line.lstrip())
    indent = " " * min(leading + 2, width // 2) if leading else ""
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Print a plain table; `right` are the columns to align to the right.

    Where the width does not suffice, cells wrap at words; where not even every word fits, each row becomes a block.
    """
    columns = list(zip(headings, *([cell(text) for text in row] for row in rows), strict=False))
    whole = [max(map(cell_len, column)) for column in columns]
    words = [max(map(cell_len, " ".join(column).split()), default=0) for column in columns]
    least = [whole[index] if index in right else words[index] for index in range(len(headings))]
    room = out.columns - GAP * (len(headings) - 1)
    if sum(least) > room:
        _print_blocks(headings, rows)
        return
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    widths = _narrowed(whole, least, room)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index in right else "left", width=widths[index], overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(text)) for text in row))
        _said.info("%s", "  ".join(row))
    Terminal(soft_wrap=False, width=sum(widths) + GAP * len(widths), quiet=out.quiet).print(table, crop=False)


def _narrowed(whole: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Return widths of columns that fit into `room`: the widest that can give way do so first."""
    widths = list(whole)
    while sum(widths) > room:
        giving = [index for index, width in enumerate(widths) if width > least[index]]
        widths[max(giving, key=lambda index: widths[index])] -= 1
    return widths


def _print_blocks(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print each row as its first cell, and below it the others with their headings."""
    for first, *others in rows:
        facts = [f"{name} {cell(text)}".strip() for name, text in zip(headings[1:], others, strict=True) if text]
        out.print(cell(first), style="bold")
        out.print(fit(f"  {' · '.join(facts)}", out.columns))


def print_json(target: str | None, data: Mapping[str, Any]) -> None:
    """Do what --json asks for: print to standard output, write to a file, or nothing."""
    if target == STANDARD_OUTPUT:
        write(json.dumps(data, indent=1))
    elif target and is_stream(target):
        with open(target, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(data, indent=1) + "\n")
    elif target:
        write_json(Path(target), data)


def json_target(name: str) -> str:
    """Return what --json names; names of standard output that the system has are "-", which adds to a file there."""
    return STANDARD_OUTPUT if name in OTHER_NAMES else name


def is_stream(name: str) -> bool:
    """Whether a name is that of an open file, a pipe or a device: nothing that may be replaced by a new file."""
    there = os.path.exists(name) and not os.path.isfile(name) and not os.path.isdir(name)
    return there or name.startswith(STREAMS)


@contextmanager
def shown(quiet: bool, verbose: bool, log_file: str | None) -> Iterator[None]:
    """Show less or more while a command runs, and keep what is said and done in a file.

    Args:
        quiet: no text and no progress.
        verbose: every step of what takes long as a line on standard error.
        log_file: text, steps and errors are added to it, with times.

    Raises InputError: the file cannot be written, or could not in the end.
    """
    log = logging.getLogger("toonport")
    handlers = _handlers(verbose, log_file)
    before, level = out.quiet, log.level
    out.quiet = quiet
    log.setLevel(logging.DEBUG if handlers else level)
    for owner, handler in handlers:
        owner.addHandler(handler)
    try:
        yield
    finally:
        out.quiet = before
        log.setLevel(level)
        for owner, handler in handlers:
            owner.removeHandler(handler)
            handler.close()
    for _, handler in handlers:
        if isinstance(handler, _LogFile) and handler.problem:
            raise InputError(f"--log-file {log_file}: cannot be written: {handler.problem.strerror}")


class _LogFile(logging.FileHandler):
    """Notes that the file can no longer be written, e.g. because the disk is full; the command goes on."""

    problem: OSError | None = None

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """See `logging.Handler.handleError`."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self.problem = error
        else:
            super().handleError(record)

    def close(self) -> None:
        """See `logging.FileHandler.close`."""
        try:
            super().close()
        except OSError as error:
            self.problem = error


class _PlainFormatter(logging.Formatter):
    """Shows names as text, see `plain`."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        return plain(super().format(record))


def _handlers(verbose: bool, log_file: str | None) -> list[tuple[logging.Logger, logging.Handler]]:
    found: list[tuple[logging.Logger, logging.Handler]] = []
    if verbose:
        found.append((_doing, logging.StreamHandler()))
    if log_file:
        try:
            file = _LogFile(log_file, encoding="utf-8", errors="backslashreplace")  # names of files need not be text
            found.append((logging.getLogger("toonport"), file))
        except OSError as error:
            raise InputError(f"--log-file {log_file}: cannot be written: {error.strerror}") from error
    for _, handler in found:
        handler.setFormatter(_PlainFormatter("%(asctime)s %(message)s"))
    return found


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show a progress bar on stderr; yields a function (done, total, what)."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=_err, transient=True, disable=_hidden()) as progress:
        task = progress.add_task(title, total=None)

        def update(done: int, total: int, what: str) -> None:
            """Move the bar, and say what is being done."""
            _doing.debug("%s: %s of %s: %s", title, done, total, what)
            progress.update(task, completed=done, total=total, description=f"{title}: {cell(what)[:50]}")

        yield update


@contextmanager
def spinner(title: str) -> Iterator[Callable[[str], None]]:
    """Show on stderr that something is running, and since when; yields a function to change the text.

    Texts that differ from the last in numbers alone are kept among the steps once a second.
    """
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=_err, transient=True, disable=_hidden()) as progress:
        task, last, at = progress.add_task(title, total=None), "", 0.0

        def update(text: str) -> None:
            """Say what is being done."""
            nonlocal last, at
            words, now = re.sub(r"\d+", "", text), time.monotonic()
            if words != last or now - at >= COUNTED_EVERY:
                _doing.debug("%s", text)
                last, at = words, now
            progress.update(task, description=cell(text))

        yield update


def _hidden() -> bool:
    return out.quiet or bool(_doing.handlers) or not _err.is_terminal
