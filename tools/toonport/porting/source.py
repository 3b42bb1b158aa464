"""The files of a ported network: its classes, what MindSpore lacks, and constants."""

import ast
import io
import subprocess
import sys
from collections.abc import Collection, Mapping

import numpy as np

from convert.errors import first_line
from toonport.porting.names import definitions
from toonport.porting.network import Ported
from toonport.porting.values import UnportableError

# what a module imports where it uses it: the standard library, others, of MindSpore
IMPORTS = (
    (("OrderedDict(", "from collections import OrderedDict"), ("constant(", "from pathlib import Path")),
    (("ms.", "import mindspore as ms"), ("constant(", "import numpy as np")),
    (("Parameter", "Parameter"), ("Tensor", "Tensor"), ("", "nn"), ("ops.", "ops")),
)
SETTINGS = ("--line-length", "120", "--target-version", "py310")


def network_source(ported: Ported, stem: str, origin: str) -> str:
    """Return the module of a ported network, for a file of this stem; `origin`: what it was ported from."""
    classes = [cell.text() for cell in ported.classes]
    code = "\n\n\n".join(classes)
    needs = sorted(set().union(*(cell.needs for cell in ported.classes)))
    standard, others, names = ([text for use, text in group if use in code] for group in IMPORTS)
    lines = [f'"""{ported.name}, ported from {origin}."""', "", *standard, *([""] if standard else []), *others]
    lines.append(f"from mindspore import {', '.join(names)}")
    if needs:
        lines += ["", f"from {stem}_layers import {', '.join(needs)}"]
    if "constant(" in code:
        lines += ["", f'CONSTANTS = np.load(Path(__file__).with_name("{stem}.npz"))', "", "", *CONSTANT]
    for cell, text in zip(ported.classes, classes, strict=True):
        require_python(text, f"class {cell.name}, of {type(cell.instances[0].module).__qualname__}")
    return formatted("\n".join([*lines, "", "", code]) + "\n")


def require_python(code: str, what: str) -> None:
    """Raise UnportableError where something that was written is not Python; says what it is, and the line."""
    try:
        ast.parse(code)
    except SyntaxError as error:
        raise UnportableError(
            f"{what}: what was written is not Python: {error.msg}: {(error.text or '').strip()}"
        ) from None


CONSTANT = (
    "def constant(name: str) -> Tensor:",
    '    """Return a tensor that is no part of the state."""',
    "    return Tensor(CONSTANTS[name])",
)


def layers_source(needs: Collection[str]) -> str:
    """Return the module of what MindSpore lacks: the classes and functions named, and what those need."""
    known = definitions()
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
