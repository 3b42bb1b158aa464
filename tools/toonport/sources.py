"""Where a published file comes from when its link is gone: mirrors, or a file of the user's, whatever it is called."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from convert.disk import PATIENCE, locked, put, sha256_of, temporary_beside, written_place
from convert.errors import InputError
from convert.identify import identify, open_source
from convert.registry import families
from toonport.download import Progress
from toonport.fetch import Release, examine, fetch, require_as_on_first_use


def fetch_any(
    release: Release, folder: Path, progress: Progress | None = None, waiting: Callable[[], None] | None = None
) -> Path:
    """Return the path of a release, from the first of its addresses that gives it, see `fetch`.

    Raises InputError: what each address said, when the file was last seen to come, and how to hand in one's own.
    """
    if (folder / release.file).is_file():
        return fetch(release, folder, progress, waiting)
    problems = []
    for address in dict.fromkeys((release.url, *release.mirrors.split())):
        try:
            return fetch(replace(release, url=address), folder, progress, waiting)
        except InputError as error:
            problems.append(str(error))
    own = f"with the file from elsewhere: toonport fetch {release.name} --from FILE"
    raise InputError(f"{'; '.join(problems)}; {release.last_seen}; {own}")


def recognise(path: Path, releases: Sequence[Release]) -> tuple[list[Release], str]:
    """Return the releases that a file may be, and in words what it is.

    Its hash decides where it is published; else the networks that its tensors are.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    digest = sha256_of(path)
    same = [release for release in releases if release.sha256 and digest.startswith(release.sha256)]
    if same:
        return same, f"by its sha256 {same[0].name}"
    try:
        networks = identify(open_source(path))
    except InputError as error:
        return [], str(error)
    held = {(network.family.name, network.part.name) for network in networks}
    found = [release for release in releases if _can_be_told(release) and _is_of(release, held)]
    return found, f"networks {', '.join(sorted(f'{family} {part}' for family, part in held))}"


def _is_of(release: Release, held: set[tuple[str, str]]) -> bool:
    """Whether a release is of the networks of a file, of which these are family and part."""
    parts = {part for _, part in held}
    whole = release.part == "all" and len(parts) > 1
    return release.family in {family for family, _ in held} and (whole or release.part in parts)


def _can_be_told(release: Release) -> bool:
    """Whether a release without a hash is a checkpoint of networks that the registry has."""
    known = {family.name: {part.name for part in family.parts} for family in families()}
    told = release.part in known.get(release.family, set()) | {"all"} and not release.file.endswith(".onnx")
    return told and not release.sha256


def place(source: Path, release: Release, folder: Path) -> Path:
    """Copy a local file to where a release belongs, checked, and return that path.

    A published hash must agree. Where none is published, a file that can be told must be the release's networks; what
    cannot be told, such as networks of no family, is taken at the user's word.

    Raises InputError: the file is another one, or another one is there or on record; nothing is copied then.
    """
    found, what = recognise(source, (release,))
    if not found and (release.sha256 or _can_be_told(release)):
        wanted = f"the sha256 {release.sha256[:16]}..." if release.sha256 else f"{release.family} {release.part}"
        raise InputError(f"{source}: not {release.name}, which is {wanted}: {what}")
    target = folder / release.file
    if source.resolve() != target.resolve():
        _copy(source, target, release)
    return target


def _copy(source: Path, target: Path, release: Release) -> None:
    """Copy a file to where none is, or the same. Raises InputError: another one is there, or was on first use."""
    digest, written = sha256_of(source), written_place(target)
    if not release.is_known:
        examine(release, source)
    with locked(written, PATIENCE):
        if target.is_file() and (there := sha256_of(target)) != digest:
            raise InputError(
                f"{target}: another file is there, its sha256 begins with {there[:16]} where that of {source} begins "
                f"with {digest[:16]}; move it away first"
            )
        if not release.is_known:
            require_as_on_first_use(target, digest)
        if not target.is_file():
            try:
                with temporary_beside(written) as partial:
                    shutil.copyfile(source, partial)
                    put(partial, written)
            except OSError as error:
                raise InputError(f"{target}: cannot be written: {error.strerror or error}") from error
