"""What a run shows while it trains: a bar with every loss term on a terminal, lines with the totals elsewhere."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from toonport.terminal import Terminal
from toonport.train.config import RunConfig

PLAIN_EVERY = 10
Show = Callable[[int, Mapping[str, float], float], None]


@contextmanager
def progress(config: RunConfig, quiet: bool = False) -> Iterator[Show]:
    """Yield the function that shows a step of a run: (step, loss terms, seconds); nothing when `quiet`."""
    console = Terminal(stderr=True)
    if quiet:
        yield lambda step, terms, seconds: None
    elif console.is_terminal:
        with _live(console, config.last_step) as show:
            yield show
    else:
        every = config.log_every or PLAIN_EVERY

        def line(step: int, terms: Mapping[str, float], seconds: float) -> None:
            """Print the totals of every `every`-th step."""
            if step % every == 0:
                totals = {name: value for name, value in terms.items() if name.endswith(".total")} or terms
                losses = ", ".join(f"{name} {value:.4g}" for name, value in totals.items())
                console.print(f"step {step}: {seconds:.2f} s, {losses}")

        yield line


@contextmanager
def _live(console: Console, total: int) -> Iterator[Show]:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)
    task = bar.add_task("starting", total=total)
    with Live(bar, console=console, transient=True, refresh_per_second=4) as live:

        def show(step: int, terms: Mapping[str, float], seconds: float) -> None:
            """Move the bar and show every loss term."""
            bar.update(task, completed=step, description=f"{seconds:.2f} s per step")
            losses = [Text(f"{name} {value:.4g}") for name, value in terms.items()]
            live.update(Group(bar, Columns(losses, equal=True, expand=True)))

        yield show
