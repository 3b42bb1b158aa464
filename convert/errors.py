"""The one error that means "the user's input is at fault" (exit code 2)."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(Exception):
    """A file, option or value given by the user cannot be used.

    The message is complete for the user: what is wrong, where, and what to do. Programs print it on
    one line and leave with exit code 2.
    """


def first_line(error: Exception) -> str:
    """Return the first line with words of a library's message, of at most 200 characters; else the error's class."""
    lines = (line for line in str(error).strip().splitlines() if line.strip("-= "))
    return next(lines, type(error).__name__)[:200]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'NAME'?" with the known name that is spelled most like this one; "" where none is."""
    cases = {other.lower(): other for other in known}
    close = get_close_matches(name.lower(), cases, 1, 0.6)
    return f"; did you mean '{cases[close[0]]}'?" if close else ""
