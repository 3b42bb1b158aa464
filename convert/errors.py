"""The one error that means "the user's input is at fault" (exit code 2)."""

from __future__ import annotations

__all__ = ["InputError"]


class InputError(Exception):
    """A file, option or value given by the user cannot be used.

    The message is complete for the user: what is wrong, where, and what to do. Programs print it on
    one line and leave with exit code 2.
    """
