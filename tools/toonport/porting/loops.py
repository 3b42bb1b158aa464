"""Lines that call the layers of a whole list one after the other, as one loop over the list."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from toonport.porting.expressions import Writer
from toonport.porting.values import Value

MARK = re.compile(r"«(\d+)»")
NUMBER = re.compile(r"‹(\d+)›")


@dataclass
class Statement:
    """One line: what it gives names to, and the code, with marks."""

    targets: list[Value | None]
    text: str
    loop: str = ""  # over which list the line is repeated, on its own result
    first: str = ""  # mark of what the loop begins with
    unpacked: bool = False  # whether the names are given to the parts of what the code returns
    comment: str = ""


def rolled(statements: Sequence[Statement], writer: Writer, lists: Mapping[str, int]) -> Iterator[Statement]:
    """Yield lines; those that call every layer of a list one after the other, each on what the last returned, as one.

    Args:
        statements: lines.
        writer: that wrote them.
        lists: how each list is reached -> how many layers it holds.
    """
    place = 0
    while place < len(statements):
        count, loop = _loop_at(statements, place, writer, lists)
        yield loop or statements[place]
        place += count


def _loop_at(
    statements: Sequence[Statement], place: int, writer: Writer, lists: Mapping[str, int]
) -> tuple[int, Statement | None]:
    """How many lines from a place on are one loop, and the loop; 1 and None where none begins there."""
    for cells, count in lists.items():
        run, later = statements[place : place + count], statements[place + count :]
        if count >= 2 and len(run) == count and f"{cells}[0](" in run[0].text:
            loop = _loop(run, later, cells, writer)
            if loop:
                return count, loop
    return 1, None


def _loop(run: Sequence[Statement], later: Sequence[Statement], cells: str, writer: Writer) -> Statement | None:
    """The loop that some lines are, if they are one."""
    results = [_mark(each, writer) for each in run]
    after = "".join(each.text + each.first for each in later)
    if any(mark in after for mark in results[:-1]):
        return None
    for number in dict.fromkeys(MARK.findall(run[0].text)):
        carried = [f"«{number}»", *results[:-1]]
        steps = {
            _step(each, before, f"{cells}[{index}](", writer)
            for index, (each, before) in enumerate(zip(run, carried, strict=True))
        }
        if len(steps) == 1 and None not in steps:
            text = run[0].text.replace(f"{cells}[0](", "layer(").replace(carried[0], results[-1])
            return Statement(run[-1].targets, text, cells, carried[0])
    return None


def _mark(statement: Statement, writer: Writer) -> str:
    value = statement.targets[0] if len(statement.targets) == 1 and not statement.unpacked else None
    return writer.mark(value) if value is not None else "no mark"


def _step(statement: Statement, carried: str, layer: str, writer: Writer) -> str | None:
    """One line of a loop, without what changes from one to the next."""
    if len(statement.targets) != 1 or statement.unpacked or statement.loop or layer not in statement.text:
        return None
    text = statement.text.replace(layer, "layer(").replace(carried, "carried")
    return NUMBER.sub(lambda found: repr(writer.slots[int(found[1])].value), text)
