"""Where networks run, by the names that users say; what a framework calls a device is known in its own package."""

from collections.abc import Iterable

from convert.errors import InputError

CPU, GPU, ASCEND = DEVICES = ("cpu", "gpu", "ascend")


def refusal(device: str, framework: str) -> InputError:
    """Return the error that a framework, with what is known of it, cannot use a device here."""
    return InputError(f"{_begin(device)}{framework}")


def nobody(device: str, refusals: Iterable[InputError]) -> InputError:
    """Return the error that no framework can use a device here."""
    return InputError(f"{_begin(device)}{'; '.join(str(each).removeprefix(_begin(device)) for each in refusals)}")


def _begin(device: str) -> str:
    return f"device {device} is not usable here by "
