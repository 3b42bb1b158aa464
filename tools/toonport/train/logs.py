"""What a run writes down: metrics.jsonl, TensorBoard events, loss plots."""

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convert.disk import atomic_path
from convert.errors import InputError, guarded

Line: TypeAlias = NDArray[np.float64]  # [N]
METRICS_FILE = "metrics.jsonl"
PLOT_COLUMNS = 4
SMOOTHED_POINTS = 40  # steps are averaged over this part of a run


class RunLog:
    """Appends the numbers of a run to its folder.

    Args:
        out: the run's folder.
        first_step: the next step; lines of this and later steps, left by a killed process, are dropped.
        tensorboard: write TensorBoard events too, where the package is installed.
    """

    def __init__(self, out: Path, first_step: int, tensorboard: bool = True) -> None:
        self.out, self.path = out, out / METRICS_FILE
        with guarded(self.path, "a line is no step's; delete it to go on"):
            kept = [json.dumps(row) + "\n" for row in read_metrics(out) if row["step"] < first_step]
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(kept))
        self._file = open(self.path, "a")  # noqa: SIM115  # closed by close()
        self.has_tensorboard = tensorboard and find_spec("tensorboard") is not None
        self._events: Any = None
        if self.has_tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(out / "tensorboard"), purge_step=first_step if first_step > 1 else None)

    def numbers(self, step: int, terms: Mapping[str, float], rates: Mapping[str, float], seconds: float) -> None:
        """Write the loss terms, learning rates by phase and seconds of a step."""
        row = {"step": step, "seconds": round(seconds, 4), "lr": dict(rates), "loss": dict(terms)}
        try:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {error.strerror or error}") from error
        if self._events:
            for name, value in terms.items():
                self._events.add_scalar(f"loss/{name}", value, step)
            for phase, rate in rates.items():
                self._events.add_scalar(f"lr/{phase}", rate, step)
            self._events.add_scalar("seconds per step", seconds, step)

    def picture(self, step: int, name: str, sheet: NDArray[np.uint8]) -> None:
        """Show a sheet [H, W, 3] RGB in TensorBoard."""
        if self._events:
            self._events.add_image(name, sheet, step, dataformats="HWC")

    def close(self) -> None:
        """Flush and close the files."""
        self._file.close()
        if self._events:
            self._events.close()


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """Read the rows of a run's metrics.jsonl; a last line that a kill cut off is left out.

    Raises InputError: a damaged line before the last.
    """
    path = out / METRICS_FILE
    lines = path.read_text().splitlines() if path.is_file() else []
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            if number < len(lines):
                raise InputError(f"{path}: line {number} is damaged ({error}); delete it to go on") from error
    return rows


def plot_losses(runs: Sequence[Path], target: Path) -> bool:
    """Draw every loss term of one run, or of several beside each other, over the steps, and the learning rates.

    Where there are many steps, a mean over neighbouring ones is drawn over the faint single values.

    Args:
        runs: folders of runs.
        target: picture to write (.png).

    Returns:
        False where matplotlib is not installed or there is nothing to draw.
    """
    logs = {run.name: read_metrics(run) for run in runs}
    names = list(dict.fromkeys(name for rows in logs.values() for row in rows for name in row["loss"]))
    if find_spec("matplotlib") is None or not names:
        return False
    from matplotlib.figure import Figure

    columns = min(PLOT_COLUMNS, len(names) + 1)
    rows = -(-(len(names) + 1) // columns)
    figure = Figure(figsize=(4 * columns, 2.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, name in zip(axes, names, strict=False):
        _plot_term(axis, name, logs)
    _plot_rates(axes[len(names)], logs)
    for axis in axes[len(names) + 1 :]:
        axis.set_visible(False)
    if len(logs) > 1:
        axes[0].legend(fontsize=7)
    with atomic_path(target) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    return True


def _plot_term(axis: Any, name: str, logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    for label, log in logs.items():
        points = np.array([(row["step"], row["loss"][name]) for row in log if name in row["loss"]], np.float64)
        if len(points):
            steps, values = smoothed(*points.T)
            (line,) = axis.plot(steps, values, label=label, linewidth=1.0)
            if len(steps) < len(points):
                axis.plot(*points.T, color=line.get_color(), linewidth=0.5, alpha=0.25)
    _label(axis, name, "loss")


def smoothed(steps: Line, values: Line) -> tuple[Line, Line]:
    """Return steps and values [N], or, of many, the means of neighbouring ones, each at its middle step."""
    width = len(values) // SMOOTHED_POINTS
    if width < 2:
        return steps, values
    kernel = np.full(width, 1 / width)
    return np.convolve(steps, kernel, "valid"), np.convolve(values, kernel, "valid")


def _plot_rates(axis: Any, logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    for label, log in logs.items():
        for phase in dict.fromkeys(phase for row in log for phase in row["lr"]):
            points = [(row["step"], row["lr"][phase]) for row in log if phase in row["lr"]]
            axis.plot(*zip(*points, strict=True), label=f"{label} {phase}" if len(logs) > 1 else phase, linewidth=1.0)
    axis.legend(fontsize=7)
    _label(axis, "learning rate", "rate")


def _label(axis: Any, title: str, unit: str) -> None:
    axis.set_title(title, fontsize=9)
    axis.set_xlabel("step", fontsize=7)
    axis.set_ylabel(unit, fontsize=7)
    axis.grid(alpha=0.3, linewidth=0.5)
    axis.tick_params(labelsize=7)
