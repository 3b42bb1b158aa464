"""How much memory a training needs, told before it is started: from one and two small pictures, each in a process.

Beside a fixed amount a training holds its weights, gradients and moments, which are counted, and a share of what its
networks make, which is measured: attention makes values for every pair of pixels, other layers for every pixel.
"""

import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from convert.errors import InputError
from toonport.train.config import RunConfig
from toonport.train.counting import count
from toonport.train.sizing import PARAMETER_BYTES, StepTime
from toonport.train.start import Start, as_fresh

GIB = 2**30
LEAST = 160  # sides from which a prediction is worth two further processes
ADVICE = "a smaller --width, --size or --batch needs less, and --accumulate takes a batch in pieces"
GRID = 32  # sides from three times this up that are multiples of it are taken by the networks of every family
CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


@dataclass(frozen=True)
class Cell:
    """What a process of its own found of a few steps."""

    time: StepTime
    parts: dict[str, int]  # trainable parameters of each


def measured(config: RunConfig, steps: int = 3) -> Cell:
    """Time training steps in a process of its own.

    Raises InputError: the configuration cannot be used, or the process was killed, as for want of memory.
    """
    request = json.dumps({"config": asdict(config), "steps": steps})
    command = [sys.executable, "-m", "toonport.train.cell"]
    result = subprocess.run(command, input=request, capture_output=True, text=True, check=False)
    where = f"{config.framework}, {config.size}x{config.size}, batch {config.batch}"
    if result.returncode < 0:
        raise InputError(
            f"{where}: ended by {signal.Signals(-result.returncode).name}, as the system does where memory runs out "
            f"({free_bytes() / GIB:.1f} GiB are free now); {ADVICE}"
        )
    if result.returncode:
        said = result.stderr.strip().splitlines() or ["it said nothing"]
        raise InputError(f"{where}: {said[-1]}")
    found = json.loads(result.stdout.strip().splitlines()[-1])
    return Cell(StepTime(**found["time"]), found["parts"])


class Forecast:
    """Predicts the memory of a configuration at larger sizes and batches.

    Args:
        config: the run; its own size is the smallest that is asked for.

    Raises InputError: the configuration cannot be used.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = as_fresh(config) if config.size >= LEAST else config
        self._points = [(count(one), measured(one, 1).time.step_bytes) for one in _small(self._config)]

    def bytes_of(self, size: int, batch: int) -> int:
        """Largest memory of a run at a size and batch; 0 where nothing is known because the sizes are small."""
        if not self._points:
            return 0
        (small, low), (large, high) = self._points
        share = max(high - low, 0) / (large.made - small.made)
        wanted = count(replace(self._config, size=size, batch=batch))
        return int(low + wanted.held - small.held + share * (wanted.made - small.made))


def _small(config: RunConfig) -> Iterator[RunConfig]:
    if config.size >= LEAST:
        half = max(config.size // 2 // GRID, 4) * GRID
        for batch in (1, 2):
            yield replace(config, size=half, batch=batch)


def free_bytes() -> int:
    """Memory that a new process may take: what is free, or less where this process may only have a share."""
    free = int(psutil.virtual_memory().available)
    for most, used in CGROUPS:
        if most.is_file() and used.is_file() and (text := most.read_text().strip()).isdigit():
            free = min(free, max(int(text) - int(used.read_text()), 0))
    return free


def require_memory(forecast: Forecast, cells: Sequence[tuple[int, int]], framework: str) -> str:
    """Say how much memory a run will need at the hungriest of some (size, batch).

    Raises InputError: more than is free.
    """
    size, batch = max(cells, key=lambda cell: cell[0] ** 2 * cell[1])
    wanted, free = forecast.bytes_of(size, batch), free_bytes()
    where = f"{framework}, {size}x{size}, batch {batch}"
    if wanted > free:
        raise InputError(f"{where}: needs about {wanted / GIB:.1f} GiB, {free / GIB:.1f} free: {ADVICE}")
    return f"{where}: needs about {wanted / GIB:.1f} GiB, {free / GIB:.1f} free" if wanted else ""


def require_room(start: Start) -> None:
    """Refuse a training whose parameters alone, with gradients and moments, are more than what is free.

    Raises InputError: they are.
    """
    numbers = sum(math.prod(row.spec.shape) for part in start.parts for row in start.plan(part).rows)
    wanted, free = numbers * PARAMETER_BYTES, free_bytes()
    if wanted > free:
        raise InputError(
            f"{start.family.name}: its parameters, gradients and moments alone need {wanted / GIB:.1f} GiB, "
            f"{free / GIB:.1f} free: {ADVICE}; --dry-run foresees the whole"
        )


def benchmark(
    config: RunConfig, sizes: Sequence[int], batches: Sequence[int], say: Callable[[str], None] = lambda text: None
) -> Iterator[tuple[StepTime, StepTime]]:
    """Yield (MindSpore, PyTorch) step times at each size and batch, same weights and pictures, in a process each.

    Raises InputError: the hungriest of them needs more memory than is free; nothing was timed then.
    """
    cells = [(size, batch) for size in sizes for batch in batches]
    both = [replace(config, framework=name) for name in ("mindspore", "torch")]
    for one in both:
        require_memory(Forecast(one), cells, one.framework)
    for size, batch in cells:
        say(f"timing {size}x{size}, batch {batch}")
        port, reference = (measured(replace(one, size=size, batch=batch)).time for one in both)
        yield port, reference
