"""What a training run is drawn with: its weights, its family and the side of its pictures."""

from dataclasses import dataclass
from pathlib import Path

from convert.errors import InputError
from convert.registry import family_named
from toonport.train.config import CONFIG_FILE, RunConfig, read_config
from toonport.train.state import Checkpoints


@dataclass(frozen=True)
class Generating:
    """Weights to draw with."""

    weights: str  # their file
    family: str | None = None  # whose they are, None to tell by the tensors
    size: int | None = None  # side of the pictures, None for the family's own or any


def generating(weights: str, family: str | None = None, size: int | None = None) -> Generating:
    """Return what to draw with: a file as it is; of a run's folder the checkpoint that `toonport evaluate --select`
    picked, else the newest, with the run's family and, where the network is tied to one, its side.

    Raises InputError: neither a file nor a run's folder with a checkpoint.
    """
    path = Path(weights)
    if path.is_file():
        return Generating(weights, family, size)
    if not path.is_dir():
        raise InputError(f"{weights}: no such file")
    run = Checkpoints(path)
    step = run.selected() or run.latest()
    if step is None or not (path / CONFIG_FILE).is_file():
        raise InputError(f"{weights}: is a folder without a checkpoint; --weights takes a file, or the folder of a run")
    config = RunConfig(**read_config(path / CONFIG_FILE))
    return Generating(str(run.weights(step)), family or config.family, size or drawing_side(config))


def drawing_side(config: RunConfig) -> int | None:
    """Side of the pictures that a run's generator draws, None for networks that take any."""
    how = family_named(config.family).cartoonize
    return config.size if how and how.side else None
