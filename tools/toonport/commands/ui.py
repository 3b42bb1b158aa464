"""What every subcommand shares on the terminal: tables, and progress for whatever takes long."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from toonport.terminal import Terminal, cell

out = Terminal()
_err = Terminal(stderr=True, soft_wrap=False)


def print_table(headings: list[str], rows: list[list[str]], right: tuple[int, ...] = ()) -> None:
    """Print a plain table; `right` are the columns to align to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell(text)) for text in row))
    width = max(out.width, 200)
    Terminal(width=width).print(table)


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show a progress bar on stderr; yields a function (done, total, what)."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(
        *columns, TimeElapsedColumn(), console=_err, transient=True, disable=not _err.is_terminal
    ) as progress:
        task = progress.add_task(title, total=None)

        def update(done: int, total: int, what: str) -> None:
            """Move the bar, and say what is being done."""
            progress.update(task, completed=done, total=total, description=f"{title}: {cell(what)[:50]}")

        yield update


@contextmanager
def spinner(title: str) -> Iterator[Callable[[str], None]]:
    """Show on stderr that something is running, and since when; yields a function to change the text."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal) as progress:
        task = progress.add_task(title, total=None)
        yield lambda text: progress.update(task, description=cell(text))
