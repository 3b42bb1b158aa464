"""Fixtures of several wings: a small checkpoint, the optional folder of real data, recorded numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import parity_tests  # noqa: F401  # prepares the environment before any framework is imported
from convert.files import Array, write_checkpoint
from parity_tests.tests.cases import ROOT, save_torch, seeded_family

os.environ.setdefault("GLOG_v", "3")
os.environ["OMP_NUM_THREADS"] = "1"  # here and in the processes that tests start: sums are the same bit for bit


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """PyTorch with one thread; pytest-xdist keeps the other cores busy."""
    import torch

    torch.set_num_threads(1)


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
        from convert.plan import TensorSpec

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
