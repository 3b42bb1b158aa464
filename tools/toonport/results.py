"""What comparisons return to a script: the comparison itself, and the reports that can be written of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from convert.devices import CPU
from convert.disk import write_json
from ms_models.environment import device_in_use
from parity_tests.harness.report.data import report_data
from parity_tests.harness.report.html import difference_pictures, write_html
from parity_tests.harness.report.junit import write_junit
from parity_tests.harness.run import Comparison

P = ParamSpec("P")


class _Saved(ABC):
    """Writes reports of one comparison, or of several."""

    device: str = CPU  # on which the port ran
    left_out: Sequence[str] = ()  # what was not run and why, in words

    @abstractmethod
    def _comparisons(self) -> Sequence[Comparison]:
        """What the reports are of."""

    def save_html(self, path: str | Path) -> Path:
        """Write the report as one page that needs no network, and return its path.

        Raises InputError: the file cannot be written.
        """
        pictures = {each.name: difference_pictures(*each.pictures) for each in self._comparisons() if each.pictures}
        write_html(Path(path), self._data(), pictures)
        return Path(path)

    def save_json(self, path: str | Path) -> Path:
        """Write the report as JSON, which `toonport compare FILE.json` judges again, and return its path.

        Raises InputError: the file cannot be written.
        """
        write_json(Path(path), self._data())
        return Path(path)

    def save_junit(self, path: str | Path) -> Path:
        """Write the report as JUnit XML, and return its path.

        Raises InputError: the file cannot be written.
        """
        write_junit(Path(path), self._data())
        return Path(path)

    def _data(self) -> dict[str, Any]:
        return report_data(self._comparisons(), self.device, self.left_out)


@dataclass(frozen=True)
class Result(Comparison, _Saved):
    """The comparison of one network, with its reports: `.equal`, `.blamed`, `.verdicts`, `.save_html(path)`."""

    device: str = CPU

    def _comparisons(self) -> Sequence[Comparison]:
        return [self]


class Results(list[Result], _Saved):
    """The comparisons of a family's networks, and one report of all of them.

    Args:
        comparisons: one of each network.
        device: on which the port ran.
        left_out: what was not run and why, in words.
    """

    def __init__(self, comparisons: Iterable[Comparison], device: str = CPU, left_out: Sequence[str] = ()) -> None:
        super().__init__(result_of(comparison, device) for comparison in comparisons)
        self.device, self.left_out = device, left_out

    def _comparisons(self) -> Sequence[Comparison]:
        return self


def result_of(comparison: Comparison, device: str) -> Result:
    """Return a comparison of a port that ran on a device as a result."""
    return Result(**{**vars(comparison), "device": device})


def with_result(function: Callable[P, Comparison]) -> Callable[P, Result]:
    """Return a function that returns a result where this one returns a comparison."""

    @wraps(function)
    def returning(*args: P.args, **kwargs: P.kwargs) -> Result:
        return result_of(function(*args, **kwargs), device_in_use())

    return returning
