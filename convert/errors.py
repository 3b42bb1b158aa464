"""The one error that means "the user's input is at fault" (exit code 2)."""

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike


class InputError(Exception):
    """A file, option or value given by the user cannot be used.

    The message is complete for the user: what is wrong, where, and what to do. Programs print it on
    one line and leave with exit code 2.
    """


def first_line(error: Exception) -> str:
    """Return the first line with words of a library's message, of at most 200 characters; else the error's class."""
    lines = (line for line in str(error).strip().splitlines() if line.strip("-= "))
    return next(lines, type(error).__name__)[:200]


def short(name: str, longest: int = 80) -> str:
    """Return a name as a message shows it: the beginning of one that is longer than names are."""
    return name if len(name) <= longest else f"{name[: longest - 3]}..."


@contextmanager
def guarded(path: str | PathLike[str], problem: str) -> Iterator[None]:
    """Make whatever a strange file does to code that reads it the one error that programs print.

    Args:
        path: the file.
        problem: what is known of the file when an error comes up, e.g. "not a numpy file, or cut off".

    Raises InputError: in place of any other error; with "because of" the other.
    """
    try:
        yield
    except (InputError, NameError, ImportError):  # the last two are no file's fault
        raise
    except OSError as error:
        if error.errno is None:
            raise InputError(f"{path}: {problem} ({first_line(error)})") from error
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise InputError(f"{path}: {problem} (it asks for more memory than there is)") from error
    except RecursionError as error:
        raise InputError(f"{path}: {problem} (things in it lie too deep in each other)") from error
    except Exception as error:
        raise InputError(f"{path}: {problem} ({first_line(error)})") from error
