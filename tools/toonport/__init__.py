"""Carries photo-to-cartoon GANs between PyTorch and MindSpore and proves that nothing was lost.

    network = toonport.load("photo2cartoon_weights.pt", framework="mindspore")  # or "torch"
    toonport.convert("photo2cartoon_weights.pt", "photo2cartoon.ckpt")
    toonport.compare("photo2cartoon", weights="photo2cartoon_weights.pt")       # or your own module, cell and inputs
    toonport.compare_steps(torch_step, ms_step, batches)                        # a training step of your own
    toonport.port("mynet.py:build", "3x256x256", "ported/")                     # write the port, and prove it
    toonport.export("photo2cartoon.ckpt", "photo2cartoon.onnx")
    toonport.cartoonize("me.jpg", "photo2cartoon.ckpt", "cartoon.png")

A mistake of the caller's is an `InputError`, in one line. The same can be had from the command line, `toonport --help`.
"""

from toonport.own_packages import require_own_packages as _require_own_packages

_require_own_packages()  # before the first of them is imported

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

import ms_models as _prepared_environment  # noqa: F401  # sets variables that must precede every framework
from convert.errors import InputError

if TYPE_CHECKING:
    from parity_tests.harness.capturing import capture
    from parity_tests.harness.own_step_runs import TrainingStep
    from toonport.environments import environment
    from toonport.face import cartoonize, compare, compare_steps, convert, export, load, port

__all__ = [
    "InputError",
    "TrainingStep",
    "__version__",
    "capture",
    "cartoonize",
    "compare",
    "compare_steps",
    "convert",
    "environment",
    "export",
    "load",
    "port",
]

__version__ = "0.1.0rc1"

_HOMES = {
    "TrainingStep": "parity_tests.harness.own_step_runs",
    "capture": "parity_tests.harness.capturing",
    "environment": "toonport.environments",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import what is offered where it is first asked for."""
        if name not in __all__:
            raise AttributeError(f"module 'toonport' has no attribute '{name}'")
        found = getattr(_import_module(_HOMES.get(name, "toonport.face")), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
