"""Where a traced run is in the user's own code, and who answers for calls of its modules."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from linecache import getline
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

TORCH = str(Path(torch.__file__).parent)
HERE = str(Path(__file__).parent)


def frames() -> Iterator[FrameType]:
    """The frames of the user's own code that are running, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not frame.f_code.co_filename.startswith((TORCH, HERE)):
            yield frame
        frame = frame.f_back


def in_torch() -> bool:
    """Whether what runs outside of this package is PyTorch's own code."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(HERE):
        frame = frame.f_back
    return frame is None or frame.f_code.co_filename.startswith(TORCH)


def line() -> str:
    """File and line of the user's code that is running."""
    frame = next(frames(), None)
    if frame is None:
        return ""
    code = getline(frame.f_code.co_filename, frame.f_lineno).strip()
    return f"{Path(frame.f_code.co_filename).name}, line {frame.f_lineno}" + (f": {code}" if code else "")


def at() -> str:
    """The same in parentheses, for the end of a message."""
    found = line()
    return f" ({found})" if found else ""


@contextmanager
def calls_answered_by(answer: Callable[..., Any]) -> Iterator[None]:
    """Have calls of modules answered by a function of PyTorch's own call, the module, and its arguments."""
    run = nn.Module.__call__

    def called(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """The call of a module."""
        return answer(run, module, args, kwargs)

    nn.Module.__call__ = called  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__call__ = run  # type: ignore[method-assign]
