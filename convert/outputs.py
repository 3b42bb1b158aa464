"""Files that a conversion writes: each complete with its ledger, several of them together, or not at all."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from convert.blocks import Buffer
from convert.disk import Written, beside, locked, put, temporary_beside, written_place
from convert.errors import InputError
from convert.formats import write_in_place
from convert.ledger import ledger_path, pending_path, require_ledger_place
from convert.tensors import TensorSpec


@dataclass(frozen=True)
class Output:
    """One file to be written."""

    path: Path  # its name
    # what `convert.formats.write_in_place` takes
    tensors: Iterable[tuple[str, Iterable[Buffer]]]
    specs: Mapping[str, TensorSpec]
    parts: tuple[str, ...]
    families: tuple[str, ...]
    crcs: Mapping[str, int]


def write_outputs(outputs: Sequence[Output], ledger: Callable[[int, Sequence[Written]], str]) -> None:
    """Write files and their ledgers; up to a moment at the end nothing of what was there before is touched.

    At that moment the new ledgers lie ready under names of their own, so that a process killed before a file was
    replaced leaves the old one with its old ledger, and killed after it a file whose ledger the next reader finds.

    Args:
        outputs: what to write.
        ledger: called with a number of an output and what was written for all of them; the text of its ledger.

    Raises InputError: one cannot be written, or another process is writing it; nothing is changed then.
    """
    with ExitStack() as stack:
        for output in outputs:
            require_ledger_place(output.path)
            stack.enter_context(locked(written_place(output.path)))
        temporaries = [stack.enter_context(temporary_beside(written_place(output.path))) for output in outputs]
        written = []
        for output, temporary in zip(outputs, temporaries, strict=True):
            with _clear(output.path):
                more = output.specs, output.parts, output.families, output.crcs
                written.append(write_in_place(output.path, temporary, output.tensors, *more))
        for number, output in enumerate(outputs):
            pending = pending_path(output.path)
            stack.callback(_remove, pending)
            with _clear(ledger_path(output.path)):
                _write_pending(pending, ledger(number, written))
        for output, temporary in zip(outputs, temporaries, strict=True):
            with _clear(output.path):
                put(temporary, written_place(output.path))
            with _clear(ledger_path(output.path)), suppress(FileNotFoundError):  # a reader may have put it in place
                put(pending_path(output.path), ledger_path(output.path))


def _write_pending(path: Path, text: str) -> None:
    draft = beside(path, "partial")
    try:
        draft.write_text(text, "utf-8")
        put(draft, path)
    finally:
        _remove(draft)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


@contextmanager
def _clear(path: Path) -> Iterator[None]:
    """Say of which file it is that the disk is full, or that its folder is read-only."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
