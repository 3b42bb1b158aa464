"""How large a run is and how long a step takes: measured on seeded pictures, nothing remembered."""

import resource
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from parity_tests.harness.inputs import image
from toonport.train.config import RunConfig
from toonport.train.engine import Engine
from toonport.train.start import starting_point
from toonport.train.state import newest_weights

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
PARAMETER_BYTES = 4 * 4  # of weight, gradient and both Adam moments, in float32


@dataclass(frozen=True)
class StepTime:
    """Measured steps of one framework at one size."""

    # framework, size, batch: what was run
    framework: str
    size: int
    batch: int
    first: float  # seconds of the first step, which compiles
    median: float  # median seconds of the steps after it
    peak_bytes: int  # largest memory of the process
    step_bytes: int  # largest memory since the first step ended; where the system cannot tell, of the process


def part_sizes(engine: Engine) -> dict[str, int]:
    """Return the number of trainable parameters of each part."""
    buffers = ("running_mean", "running_var", "num_batches_tracked", "weight_u", "weight_v")
    return {
        part: sum(value.size for name, value in engine.trainer.weights(part).items() if not name.endswith(buffers))
        for part in engine.start.parts
    }


def time_steps(config: RunConfig, steps: int = 3) -> tuple[Engine, StepTime]:
    """Build the networks and time training steps on seeded pictures."""
    config = replace(config, init=newest_weights(config.init))
    engine = Engine(config, starting_point(config, (1, 1)))
    shape = (config.batch, config.size, config.size)
    pictures = [image(f"bench/{domain}", *shape) for domain in "AB"]
    seconds = []
    before = 0
    for step in range(steps + 1):
        started = time.perf_counter()
        engine.train(*pictures)
        seconds.append(time.perf_counter() - started)
        if step == 0:
            before = _peak_bytes()
            _forget_peak()
    median, after = float(np.median(seconds[1:])), _peak_bytes()
    where = config.framework, config.size, config.batch
    return engine, StepTime(*where, seconds[0], median, max(before, after), after)


def _peak_bytes() -> int:
    """Largest memory of this process, since it was forgotten where the system does so."""
    if STATUS.exists():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _forget_peak() -> None:
    """Let the largest memory be counted anew, where the system can."""
    with suppress(OSError):
        FORGET.write_text("5")
