"""Opens and runs ONNX files in ONNX Runtime, everywhere with the same settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.devices import GPU
from convert.errors import InputError
from parity_tests.harness.legs import legs_in_use, provider
from parity_tests.harness.sides.base import Array

ERRORS = 3  # the lowest level that is shown; ONNX Runtime raises errors as exceptions as well


def open_session(source: Path | bytes, threads: int | None = None, device: str | None = None) -> Any:
    """Return an `onnxruntime.InferenceSession` of a file, or of the content of one.

    Args:
        source: the file.
        threads: threads of its operators; None: one per core.
        device: what runs it, of `DEVICES`; None: what the legs of a comparison say, outside of one the CPU.

    Raises:
        InputError: ONNX Runtime cannot use the device here.
        Exception: it cannot run the file; it has an exception class of its own for each reason.
    """
    import onnxruntime

    legs = legs_in_use()
    place = device or legs.runtime
    runner, settings = provider(place, legs.tf32)
    options = onnxruntime.SessionOptions()
    options.use_deterministic_compute = place == GPU
    options.intra_op_num_threads = threads or 0  # 0: one per core
    options.log_severity_level = ERRORS
    # Planning which tensors share memory takes time that grows with the square of the nodes, seconds for photo2cartoon;
    # the runs are as fast without it, and take no more memory, because the arena reuses what was freed.
    options.enable_mem_reuse = False
    # Threads that wait for the next picture would keep a core busy that the photo's other steps need.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    content = source if isinstance(source, bytes) else str(source)
    session = onnxruntime.InferenceSession(content, options, [(runner, settings)])
    if runner not in session.get_providers():  # it falls back to the CPU where a library is missing, and says so only
        raise InputError(f"ONNX Runtime's {runner} does not start here; are CUDA and cuDNN of its version installed?")
    return session


def run_onnx(source: Path | bytes, inputs: Array) -> dict[str, Array]:
    """Run an ONNX file (its path, or its content); returns its outputs by name, in order."""
    session = open_session(source)
    return _run(session, {session.get_inputs()[0].name: inputs})


def run_named(source: Path | bytes, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The same for a file with several inputs, by name."""
    return _run(open_session(source), inputs)


def _run(session: Any, inputs: Mapping[str, Array]) -> dict[str, Array]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))
