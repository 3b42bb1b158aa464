"""What was probably meant by a name that is not known."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'NAME'?)" with the known name that is spelled most like this one; "" where none is."""
    cases = {other.lower(): other for other in known}
    close = get_close_matches(name.lower(), cases, 1, 0.6)
    return f" (did you mean '{cases[close[0]]}'?)" if close else ""
