"""A pytest plugin: assert parity of your own networks in your own tests.

    def test_my_port(parity):
        parity(torch_module, ms_cell, inputs)

Options: --parity-report FILE writes every comparison of the session as JSON. Marker: @pytest.mark.parity selects
or deselects such tests (-m parity).
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from convert.devices import CPU


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --parity-report."""
    parser.getgroup("toonport").addoption("--parity-report", metavar="FILE", help="write all comparisons as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", "parity: compares a PyTorch network with its MindSpore port")


@pytest.fixture(scope="session")
def _parity_session(request: pytest.FixtureRequest) -> Iterator[list[Any]]:
    comparisons: list[Any] = []
    yield comparisons
    path = request.config.getoption("--parity-report")
    if path:
        from convert.disk import write_json
        from parity_tests.harness.report.data import report_data

        write_json(Path(path), report_data(comparisons, CPU))


@pytest.fixture
def parity(_parity_session: list[Any], request: pytest.FixtureRequest) -> Callable[..., Any]:
    """A function (torch_module, ms_cell, inputs, **options of `harness.run.compare`) that fails the test if unequal."""

    def check(torch_module: Any, ms_cell: Any, inputs: Any, **options: Sequence[Any]) -> Any:
        """Compare the two and fail the test if they are unequal."""
        from parity_tests.harness.report.console import summary_lines
        from parity_tests.harness.run import compare

        comparison = compare(torch_module, ms_cell, inputs, name=request.node.name, **options)  # type: ignore[arg-type]
        _parity_session.append(comparison)
        if not comparison.equal:
            pytest.fail("\n".join(summary_lines(comparison)), pytrace=False)
        return comparison

    return check
