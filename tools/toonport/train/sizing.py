"""How large a run is and how long a step takes: measured on seeded pictures, nothing remembered."""

import resource
import sys
import time
from dataclasses import dataclass, replace

import numpy as np

from parity_tests.harness.inputs import image
from toonport.train.config import RunConfig
from toonport.train.engine import Engine
from toonport.train.start import starting_point
from toonport.train.state import newest_weights

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
    peak_bytes: int  # largest memory of the process so far


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
    for _ in range(steps + 1):
        started = time.perf_counter()
        engine.train(*pictures)
        seconds.append(time.perf_counter() - started)
    median = float(np.median(seconds[1:]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return engine, StepTime(config.framework, config.size, config.batch, seconds[0], median, peak)
