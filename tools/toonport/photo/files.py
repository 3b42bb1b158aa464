"""Files of pictures: which they are, and under which names their results are kept."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from convert.errors import InputError

# What is read: common photos first, then HEIC (through pillow-heif), then all else that Pillow decodes by itself.
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".avif", ".avifs", ".bmp", ".dib",
    ".tif", ".tiff", ".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c", ".heic", ".heics", ".heif", ".heifs", ".hif",
    ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tga", ".icb", ".vda", ".vst", ".qoi", ".hdr", ".pcx", ".dcx", ".psd",
    ".ico", ".cur", ".icns", ".sgi", ".rgb", ".rgba", ".bw", ".ras", ".sr", ".dds", ".ftc", ".ftu", ".fits", ".fit",
    ".xbm", ".xpm", ".im", ".msp", ".blp", ".pcd", ".pxr", ".gbr", ".fli", ".flc",
)  # fmt: skip
LITTER = ("__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini")  # what systems leave beside pictures, like hidden files
SHOWN_SUFFIXES = 4  # of files that are left out, the most frequent
WRITABLE = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF"}
DERIVED = re.compile(r"(.+)_(?:\d+|\d+_sheet|sheet)")  # names of further faces and of sheets


def picture_files(folder: Path) -> list[Path]:
    """Return the pictures below a folder, by suffix and sorted by path; hidden files and folders are left out."""
    return [path for path in _files(folder) if not _hidden(path, folder) and path.suffix.lower() in SUFFIXES]


def left_out(folder: Path, results: Path | None = None) -> str:
    """Return how many files below a folder are no photos, and why, in one line; "" where there are none.

    Args:
        folder: a folder of photos.
        results: the folder of the results; what lies in it does not count.
    """
    own = _results_within(folder, results)
    files = [path for path in _files(folder) if own is None or own not in path.resolve().parents]
    hidden = sum(_hidden(path, folder) for path in files)
    kinds = (path.suffix.lower() for path in files if not _hidden(path, folder))
    others = Counter(suffix for suffix in kinds if suffix not in SUFFIXES)
    why = [f"{others.total()} of no kind of picture that is read ({_counted(others)})"] if others else []
    why += [f"{hidden} hidden"] if hidden else []
    total = others.total() + hidden
    return f"{folder}: {total} {'file' if total == 1 else 'files'} left out: {', '.join(why)}" if why else ""


def _counted(suffixes: Counter[str]) -> str:
    """How many files have each suffix, the most frequent first."""
    shown = suffixes.most_common(SHOWN_SUFFIXES)
    more = suffixes.total() - sum(count for _, count in shown)
    words = [f"{count} {suffix or 'without suffix'}" for suffix, count in shown]
    return ", ".join([*words, f"{more} more"] if more else words)


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") or part in LITTER for part in path.relative_to(folder).parts)


def name_photos(photos: Sequence[str], results: Path | None = None) -> dict[str, Path]:
    """Return every photo named, and every picture in every folder named, under the name of its result, without suffix.

    The order is stable. A result keeps its photo's name, and its place below the folder that was named. Where two
    photos could be written to one name ("a.jpg" and "a.png", or "a.jpg" with several faces and "a_1.jpg"), they keep
    their suffix too ("a.jpg" and "a.png"); what is still alike is numbered ("a.jpg" and "a.jpg-2"). A path that does
    not exist is returned like the others, so that it does not stop them.

    Args:
        photos: photos and folders.
        results: the folder of the results; what lies in it is no photo.

    Raises InputError: no picture at all.
    """
    found: dict[Path, Path] = {}  # photo -> its name below the folder of the results
    for argument in photos:
        path = Path(argument)
        if path.is_dir():
            own = _results_within(path, results)
            inside = [photo for photo in picture_files(path) if own is None or own not in photo.resolve().parents]
            found.update((photo, photo.relative_to(path)) for photo in inside)
        else:
            found[path] = Path(path.name)
    if not found:
        others = "; ".join(filter(None, (left_out(Path(photo)) for photo in photos)))
        raise InputError(f"{', '.join(photos)}: no pictures there{f' ({others})' if others else ''}")
    return dict(zip(distinct(list(found.values())), found, strict=True))


def distinct(names: Sequence[Path]) -> list[str]:
    """Return a name without suffix for every photo, each different from the others and from what derives from them."""
    stems = [str(name.with_suffix("")) for name in names]
    counts = Counter(stem.lower() for stem in stems)
    taken, found = set[str](), list[str]()
    for stem, name in zip(stems, names, strict=True):
        derived = DERIVED.fullmatch(stem.lower())
        wanted = str(name) if counts[stem.lower()] > 1 or (derived and derived[1] in counts) else stem
        unique, number = wanted, 1
        while unique.lower() in taken:
            number += 1
            unique = f"{wanted}-{number}"
        taken.add(unique.lower())
        found.append(unique)
    return found


def _results_within(folder: Path, results: Path | None) -> Path | None:
    """Return the folder of the results if it lies in a folder of photos; what is in it is no photo."""
    return results.resolve() if results and folder.resolve() in results.resolve().parents else None


def numbered(target: str, count: int) -> tuple[str, ...]:
    """Return the target itself for one file, else "name_1.png", "name_2.png" and so on."""
    if count == 1:
        return (target,)
    path = Path(target)
    return tuple(str(path.with_name(f"{path.stem}_{number}{path.suffix}")) for number in range(1, count + 1))
