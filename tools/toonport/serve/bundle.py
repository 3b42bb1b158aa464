"""Several cartoons as one file to download."""

import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkstemp

from toonport.photo.picture import Picture, encode


def bundle(pictures: Sequence[Picture], folder: Path, keep_seconds: float) -> Path:
    """Write pictures as PNG into a new .zip file in a folder, and return its path; bundles older than that go."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("cartoons_*.zip"):
        if old.stat().st_mtime < time.time() - keep_seconds:
            old.unlink(missing_ok=True)
    handle, name = mkstemp(prefix="cartoons_", suffix=".zip", dir=folder)
    with open(handle, "wb") as file, zipfile.ZipFile(file, "w") as archive:  # PNG is compressed already
        for number, picture in enumerate(pictures, 1):
            archive.writestr(f"cartoon_{number:02}.png", encode(picture))
    return Path(name)
