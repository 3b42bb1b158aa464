"""Fixtures of several wings: a small checkpoint, the optional folder of real data, recorded numbers."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import parity_tests  # noqa: F401  # prepares the environment before any framework is imported
from convert.cores import keep_to_cores, share_of_cores
from convert.formats import write_checkpoint
from convert.tensors import Array
from parity_tests.tests.cases import ROOT, save_torch, seeded_family
from parity_tests.tests.sampling import cases_of_the_day

os.environ.setdefault("GLOG_v", "3")
os.environ["OMP_NUM_THREADS"] = "1"  # here and in the processes that tests start: sums are the same bit for bit
for name in ("COLUMNS", "LINES"):  # set by a parent's readline; what tests print is as wide as it is
    os.environ.pop(name, None)
SEED = "TOONPORT_TEST_SEED"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --all."""
    parser.addoption("--all", action="store_true", help="run every case of the tests that are marked `sampled`")


def pytest_configure(config: pytest.Config) -> None:
    """Settle the day's seed, here and in the workers that are started later; give each of these cores of its own."""
    os.environ.setdefault(SEED, str(date.today().toordinal()))
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        keep_to_cores(share_of_cores(int(worker.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])))


def _everything(config: pytest.Config) -> bool:
    """Whether no case is left out: asked for, or tests are named one by one."""
    named = bool(config.option.keyword) or any("::" in argument for argument in config.args)
    return named or config.getoption("--all")


def pytest_report_header(config: pytest.Config) -> str:
    """Say which cases run."""
    if _everything(config):
        return "sampled tests: every case"
    return f"sampled tests: {SEED}={os.environ[SEED]} chooses the cases (the day's number; --all runs every case)"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep of each test marked `sampled(n)` the n cases of the day."""
    if _everything(config):
        return
    tests: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for item in items:
        if marker := item.get_closest_marker("sampled"):
            name = item.nodeid.partition("[")[0]
            tests.setdefault(name, []).append(item.nodeid)
            (counts[name],) = marker.args
    seed = int(os.environ[SEED])
    left_out = {
        case for name, cases in tests.items() for case in set(cases) - cases_of_the_day(name, cases, counts[name], seed)
    }
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
    items[:] = [item for item in items if item.nodeid not in left_out]


@pytest.fixture(scope="session", autouse=True)
def _one_core() -> None:
    """PyTorch with one thread, and comparisons in one process; pytest-xdist keeps the other cores busy."""
    import torch

    from toonport.commands import compare

    torch.set_num_threads(1)
    compare.jobs_here = lambda device: 1


@pytest.fixture(scope="session")
def six_networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small photo2cartoon checkpoint in the released file's layout."""
    return save_torch(tmp_path_factory.mktemp("six") / "six.pt", seeded_family("photo2cartoon"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real pictures, weights and recorded numbers; skips where it is absent."""
    folder = Path(os.environ.get("TOONPORT_SHARED") or ROOT.parent / "shared")
    if not (folder / "golden").is_dir():
        pytest.skip(f"no shared folder at {folder} (set TOONPORT_SHARED)")
    return folder


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Any]:
    """Read one of the project's own golden files."""

    def read(name: str) -> Any:
        return json.loads((ROOT / "parity_tests" / "tests" / "golden" / name).read_text())

    return read


@pytest.fixture
def write() -> Callable[..., Path]:
    """Write arrays as a checkpoint in any format: write(path, {name: array}, parts=())."""

    def writer(path: Path, arrays: Mapping[str, Array], parts: tuple[str, ...] = ()) -> Path:
        from convert.tensors import TensorSpec

        specs = {name: TensorSpec(tuple(value.shape), value.dtype.name) for name, value in arrays.items()}
        write_checkpoint(path, arrays.items(), specs, parts)
        return path

    return writer


@pytest.fixture(scope="session")
def matte_network() -> Path:
    """The default matte network's file; fetched where it is missing, skips offline."""
    from convert.errors import InputError
    from toonport.fetch import fetch, load_manifest, weights_folder

    try:
        return fetch(load_manifest()["selfie_segmentation"], weights_folder())
    except InputError as error:
        pytest.skip(f"no matte network: {error}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium; skips where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()
