"""Refuses to start where another package hides one that Toonport is made of.

The wheel installs `convert`, `ms_models`, `torch_ref` and `parity_tests` beside `toonport`, as the project's folders
are called. A folder or file of such a name beside the user's script comes first, and would end in an import error deep
inside.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

# A file that each of our packages has, and others of the same name hardly have.
MARKS = {
    "convert": "ledger.py",
    "ms_models": "environment.py",
    "torch_ref": "gradient_penalty.py",
    "parity_tests": "tolerances.py",
}


def hidden_package() -> str:
    """Say in one line which of our packages is hidden and by what; "" where none is."""
    for name, mark in MARKS.items():
        spec = find_spec(name)
        origin = Path(spec.origin) if spec and spec.origin else None
        if origin is None or not (origin.parent / mark).is_file():
            place = origin or (f"{name}, which is not there" if spec is None else f"a folder {name} without code")
            return (
                f"toonport needs its own package '{name}', but {place} comes first; "
                "start from another folder, or rename that one"
            )
    return ""


def require_own_packages() -> None:
    """Stop where one of our packages is hidden.

    Raises:
        SystemExit: the program is starting; the line is printed, and the exit code is 2.
        ImportError: with the line, in a script of the user's.
    """
    problem = hidden_package()
    if not problem:
        return
    as_program = Path(sys.argv[0]).stem == "toonport" or sys.orig_argv[1:3] == ["-m", "toonport"]
    if as_program:
        print(problem, file=sys.stderr)
        raise SystemExit(2)
    raise ImportError(problem)
