"""The files of a ported network: its classes, what MindSpore lacks, and constants."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from convert.errors import first_line
from toonport.porting.network import Ported
from toonport.porting.values import UnportableError

SETTINGS = ("--line-length", "120", "--target-version", "py310")
LAYER_FILES = (Path(__file__).with_name("cells.py"), Path(__file__).parents[3] / "ms_models" / "layers.py")


def network_source(ported: Ported, stem: str, origin: str) -> str:
    """Return the module of a ported network.

    Args:
        ported: its classes.
        stem: name of the file, without its suffix.
        origin: what it was ported from.
    """
    classes = [cell.text() for cell in ported.classes]
    code = "\n\n\n".join(classes)
    needs = sorted(set().union(*(cell.needs for cell in ported.classes)))
    lines = [f'"""{ported.name}, ported from {origin}."""', ""]
    if "OrderedDict(" in code:
        lines.append("from collections import OrderedDict")
    if "constant(" in code:
        lines.append("from pathlib import Path")
    lines += [""] if len(lines) > 2 else []
    if "ms." in code:
        lines.append("import mindspore as ms")
    if "constant(" in code:
        lines.append("import numpy as np")
    names = [name for name in ("Parameter", "Tensor") if name in code]
    lines.append(f"from mindspore import {', '.join([*names, 'nn', *(['ops'] if 'ops.' in code else [])])}")
    if needs:
        lines += ["", f"from {stem}_layers import {', '.join(needs)}"]
    if "constant(" in code:
        lines += ["", f'CONSTANTS = np.load(Path(__file__).with_name("{stem}.npz"))', "", "", *CONSTANT]
    return formatted("\n".join([*lines, "", "", code]) + "\n")


CONSTANT = (
    "def constant(name: str) -> Tensor:",
    '    """Return a tensor that is no part of the state."""',
    "    return Tensor(CONSTANTS[name])",
)


def layers_source(needs: Collection[str]) -> str:
    """Return the module of what MindSpore lacks: the classes and functions named, and what those need."""
    known = _definitions()
    wanted: dict[str, None] = {}

    def add(name: str) -> None:
        """Take a definition, after those that it uses."""
        if name in wanted:
            return
        for used in known[name][1]:
            if used != name:
                add(used)
        wanted[name] = None

    for name in sorted(needs):
        add(name)
    order = [name for name in known if name in wanted]
    constants = [known[name][0] for name in order if name.isupper()]
    code = "\n\n\n".join(known[name][0] for name in order if not name.isupper())
    lines = ['"""What MindSpore lacks, or computes otherwise than PyTorch."""', ""]
    lines += ["import math", ""] if "math." in code else []
    lines += ["import mindspore as ms"] if "ms." in code else []
    lines += ["import numpy as np"] if "np." in code else []
    names = [name for name in ("Parameter", "Tensor") if name in code]
    lines.append(f"from mindspore import {', '.join([*names, 'nn', 'ops'])}")
    if "initializer(" in code:
        lines.append("from mindspore.common.initializer import HeUniform, Uniform, initializer")
    return formatted("\n".join([*lines, "", *constants, "", "", code]) + "\n")


@lru_cache(maxsize=1)
def _definitions() -> Mapping[str, tuple[str, tuple[str, ...]]]:
    """Name -> code and the other names that it uses, of everything that files of layers may hold."""
    found: dict[str, tuple[str, ast.stmt]] = {}
    for path in reversed(LAYER_FILES):
        text = path.read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            code = ast.get_source_segment(text, node) or ""
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[node.name] = code, node
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found[node.targets[0].id] = code, node
    names = set(found)
    return {name: (code, tuple(sorted(_used(node) & names))) for name, (code, node) in found.items()}


def _used(node: ast.stmt) -> set[str]:
    """Names that a definition takes from outside it."""
    names = [each for each in ast.walk(node) if isinstance(each, ast.Name)]
    return {each.id for each in names} - {each.id for each in names if isinstance(each.ctx, ast.Store)}


def constants_file(constants: Mapping[str, np.ndarray]) -> bytes:
    """Return the file of a network's constants, .npz."""
    file = io.BytesIO()
    np.savez(file, **constants)
    return file.getvalue()


def formatted(code: str) -> str:
    """Return code as ruff formats it."""
    run = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--isolated", *SETTINGS, "-"],
        input=code,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise UnportableError(f"what was written is not Python: {first_line(ValueError(run.stderr))}")
    return run.stdout
