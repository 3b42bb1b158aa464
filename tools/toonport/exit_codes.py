"""The exit codes of every command; help, README and documentation say the same."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command ended with."""

    DONE = 0
    DIFFERENT = 1
    BAD_INPUT = 2
    INTERNAL_ERROR = 3
    CANNOT_TELL = 4
    STOPPED = 130


MEANINGS = {
    ExitCode.DONE: "done or equal",
    ExitCode.DIFFERENT: "different",
    ExitCode.BAD_INPUT: "bad input or usage, or a photo was skipped (the others are written)",
    ExitCode.INTERNAL_ERROR: "internal error",
    ExitCode.CANNOT_TELL: "cannot tell (too much of a comparison could not be judged)",
    ExitCode.STOPPED: "stopped by a signal (training is saved, photos go on where they ended)",
}


def exit_codes_text() -> str:
    """Return every exit code with its meaning, in one line."""
    return "Exit codes: " + " · ".join(f"{code.value} {meaning}" for code, meaning in MEANINGS.items()) + "."
