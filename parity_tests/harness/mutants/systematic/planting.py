"""A mutated file in the place of the right one, and a record of the lines that run."""

import importlib.abc
import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any
from unittest import mock

from parity_tests.harness.mutants.systematic.scope import LEFT_OUT, PACKAGE

ROOT = Path(__file__).parents[4]


class _Overlay(importlib.abc.MetaPathFinder):
    """Finds one module in another file than its own; graph mode reads its source there, too."""

    def __init__(self, name: str, path: Path) -> None:
        self._name, self._path = name, path

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """See importlib."""
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path)


@contextmanager
def planted(file: str, source: str) -> Iterator[None]:
    """Let everything that imports the port meanwhile find `source` in the place of a file, "ms_models/layers.py"."""
    module = file.removesuffix(".py").replace("/", ".")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(file).name
        path.write_text(source)
        finder = _Overlay(module, path)
        sys.meta_path.insert(0, finder)
        try:
            with imported_anew():
                yield
        finally:
            sys.meta_path.remove(finder)


@contextmanager
def imported_anew() -> Iterator[None]:
    """Let the port's modules be imported again meanwhile."""
    before = _forget()
    try:
        yield
    finally:
        for name in _forget():
            parent, _, leaf = name.rpartition(".")
            if parent in sys.modules:
                vars(sys.modules[parent]).pop(leaf, None)
        sys.modules.update(before)
        for name, module in before.items():  # packages hold their modules, too
            parent, _, leaf = name.rpartition(".")
            setattr(sys.modules[parent], leaf, module)


def _forget() -> dict[str, ModuleType]:
    """Take the port's modules out of the imported ones, and return them."""
    kept = {file.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for file in LEFT_OUT}
    names = [name for name in sys.modules if name.startswith(f"{PACKAGE}.") and name not in kept]
    return {name: sys.modules.pop(name) for name in names}


@contextmanager
def traced(lines: dict[str, dict[int, set[str]]]) -> Iterator[None]:
    """Note which lines of the port run, and in which phases of a training step ("" outside of them).

    What modules do when they are imported is noted of those alone that are not imported yet, see `imported_anew`.
    """
    prefix, phase = f"{ROOT / PACKAGE}/", [""]

    def run_phase(self: Any, name: str, *arguments: Any, **options: Any) -> Any:
        """Run a phase, whose letter is noted meanwhile."""
        phase[0] = name
        try:
            return original(self, name, *arguments, **options)
        finally:
            phase[0] = ""

    def local(frame: FrameType, event: str, argument: Any) -> Any:
        """Note a line."""
        file = frame.f_code.co_filename.removeprefix(f"{ROOT}/")
        lines.setdefault(file, {}).setdefault(frame.f_lineno, set()).add(phase[0])
        return local

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        """Follow the functions of the port, and no others."""
        return local(frame, event, argument) if frame.f_code.co_filename.startswith(prefix) else None

    sys.settrace(enter)
    try:
        from ms_models.step import Step  # once the caller has `imported_anew`

        original = Step.run_phase
        with mock.patch.object(Step, "run_phase", run_phase):
            yield
    finally:
        sys.settrace(None)
