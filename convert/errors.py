"""The one error that means "the user's input is at fault" (exit code 2)."""


class InputError(Exception):
    """A file, option or value given by the user cannot be used.

    The message is complete for the user: what is wrong, where, and what to do. Programs print it on
    one line and leave with exit code 2.
    """


def first_line(error: Exception) -> str:
    """Return the first line with words of a library's message, of at most 200 characters; else the error's class."""
    lines = (line for line in str(error).strip().splitlines() if line.strip("-= "))
    return next(lines, type(error).__name__)[:200]
