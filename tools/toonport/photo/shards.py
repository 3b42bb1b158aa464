"""Photos in Parquet tables and in WebDataset archives, read a few at a time, and results as Parquet tables."""

import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from glob import glob, has_magic
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from convert.disk import atomic_path
from convert.errors import InputError, guarded
from toonport.photo.files import SUFFIXES, distinct

TABLE, ARCHIVES = ".parquet", (".tar", ".tar.gz", ".tgz")
NAMES = ("__key__", "key", "name", "file_name", "path")  # columns that name a photo, the first that is there
DAMAGED = "cut off or damaged, or no table or archive"
ROWS = 32  # of a table that are in memory at once
FACTS = b"toonport"  # where a table keeps what is known of it

Photo = tuple[str, bytes]  # name without suffix, different from every other of its shard, and the photo's content


def is_shard(path: Path) -> bool:
    """Whether a file's name is that of a table or an archive of photos."""
    return path.name.lower().endswith((TABLE, *ARCHIVES))


def stem(path: Path) -> str:
    """Name of a shard without what says its kind."""
    return next(path.name[: -len(end)] for end in (TABLE, *ARCHIVES) if path.name.lower().endswith(end))


def expanded(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with every pattern (*, ?, [...], ** for folders) in place of which files are there.

    Raises InputError: a pattern that nothing fits.
    """
    found: list[str] = []
    for argument in arguments:
        fitting = [argument] if os.path.exists(argument) else sorted(glob(argument, recursive=True))
        if not fitting and has_magic(argument):
            raise InputError(f"{argument}: no file fits this pattern")
        found += fitting or [argument]
    return found


def name_shards(arguments: Sequence[str], results: Path | None = None) -> dict[str, Path]:
    """Return every shard that is named, or lies in a folder that is named, under the name of its results.

    Raises InputError: there are shards and photos; each needs results of their own.
    """
    found: dict[Path, Path] = {}  # shard -> its place below the folder that was named
    photos, own = False, results.resolve() if results else None
    for argument in map(Path, arguments):
        inside = [path for path in sorted(argument.rglob("*")) if own not in path.resolve().parents]
        files = {path: path.relative_to(argument) for path in inside} or {argument: Path(argument.name)}
        found |= {path: place for path, place in files.items() if is_shard(path)}
        photos |= any(path.suffix.lower() in SUFFIXES for path in files)
    if found and photos:
        raise InputError(f"{next(iter(found))}: tables or archives, and photos beside them; run one at a time")
    return dict(zip(distinct([place.with_name(stem(place)) for place in found.values()]), found, strict=True))


def photos_in(path: Path, column: str | None = None, start: int = 0) -> Iterator[Photo]:
    """Yield the photos of a shard in its order.

    Args:
        path: a Parquet table with a column of binary files, or of structures with `bytes` and `path`; or a tar archive,
            of which every file with a picture's suffix is a photo.
        column: of a table, that of the photos; None where there is but one that could be.
        start: how many are left out at the beginning.

    Raises InputError: it cannot be read, or a table's columns do not tell which holds the photos.
    """
    with guarded(path, DAMAGED):
        yield from _table_photos(path, column, start) if _is_table(path) else _archive_photos(path, start)


def names_in(path: Path, column: str | None = None) -> list[str]:
    """Return the names of the photos of a shard, in its order; see `photos_in`."""
    with guarded(path, DAMAGED):
        if not _is_table(path):
            with tarfile.open(path) as archive:
                return _names([member.name for member in _members(archive)])
        with _opened_table(path) as table:
            return _table_names(table, _columns(path, table.schema_arrow, column)[1])


def _is_table(path: Path) -> bool:
    return path.name.lower().endswith(TABLE)


def _members(archive: tarfile.TarFile) -> list[tarfile.TarInfo]:
    return [member for member in archive if member.isfile() and member.name.lower().endswith(SUFFIXES)]


def _archive_photos(path: Path, start: int) -> Iterator[Photo]:
    with tarfile.open(path) as archive:
        members = _members(archive)
        named = zip(_names([member.name for member in members]), members, strict=True)
        for name, member in islice(named, start, None):
            file = archive.extractfile(member)
            yield name, file.read() if file else b""


def _opened_table(path: Path) -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(f"{path}: Parquet tables need pyarrow: pip install 'toonport[ray]'") from error
    return parquet.ParquetFile(path)


def _table_photos(path: Path, column: str | None, start: int) -> Iterator[Photo]:
    with _opened_table(path) as table:
        photos, names = _columns(path, table.schema_arrow, column)
        left = islice(_table_names(table, names), start, None)
        groups = list(range(table.num_row_groups))
        while groups and table.metadata.row_group(groups[0]).num_rows <= start:
            start -= table.metadata.row_group(groups.pop(0)).num_rows
        for batch in table.iter_batches(ROWS, row_groups=groups, columns=[photos]):
            values = batch.column(0)
            for field in photos.split(".")[1:]:
                values = values.field(field)
            yield from ((next(left), value.as_py() or b"") for value in values[start:])
            start = max(start - len(values), 0)


def _table_names(table: Any, names: str | None) -> list[str]:
    """The photos' names: those in a column, else their numbers."""
    named = [str(number) for number in range(table.metadata.num_rows)]
    if names:
        given = table.read([names]).column(0)
        for field in names.split(".")[1:]:
            given = given.combine_chunks().field(field)
        named = [name or number for name, number in zip(given.to_pylist(), named, strict=True)]
    return _names(named)


def _columns(path: Path, schema: Any, column: str | None) -> tuple[str, str | None]:
    """Where a table holds the photos and, if it does, their names; "a.b" is field b of structure a."""
    from pyarrow import types

    def is_binary(kind: Any) -> bool:
        return kind is not None and bool(types.is_binary(kind) or types.is_large_binary(kind))

    def inner(kind: Any) -> dict[str, Any]:
        return {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)} if types.is_struct(kind) else {}

    found = {field.name: field.name for field in schema if is_binary(field.type)}
    found |= {field.name: f"{field.name}.bytes" for field in schema if is_binary(inner(field.type).get("bytes"))}
    chosen = [column] if column else list(found)
    if len(chosen) != 1 or chosen[0] not in found:
        raise InputError(f"{path}: columns of binary files: {', '.join(found) or 'none'}; --column NAME says which")
    if found[chosen[0]] != chosen[0] and "path" in inner(schema.field(chosen[0]).type):
        return found[chosen[0]], f"{chosen[0]}.path"
    texts = {field.name for field in schema if types.is_string(field.type) or types.is_large_string(field.type)}
    return found[chosen[0]], next((name for name in NAMES if name in texts), None)


def _names(given: Sequence[str]) -> list[str]:
    """Names of results, below any folder: no way leads out of it."""
    inside = ([part for part in PurePosixPath(name).parts if part.strip("./")] for name in given)
    return distinct([Path(*parts) if parts else Path(str(number)) for number, parts in enumerate(inside)])


def write_table(path: Path, rows: Iterable[dict[str, Any]], facts: dict[str, Any]) -> None:
    """Write results as a Parquet table, in one piece.

    Args:
        path: the table.
        rows: each with name, source, picture (a file's content), warnings and facts (JSON).
        facts: kept in the table, see `table_facts`.
    """
    import pyarrow
    from pyarrow import parquet

    text = pyarrow.string()
    kinds = {"name": text, "source": text, "picture": pyarrow.binary(), "warnings": pyarrow.list_(text), "facts": text}
    schema = pyarrow.schema(kinds, {FACTS: json.dumps(facts, sort_keys=True)})
    with atomic_path(path) as temporary, parquet.ParquetWriter(temporary, schema, compression="none") as writer:
        for batch in _batches(rows):
            writer.write_table(pyarrow.Table.from_pylist(batch, schema))


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def table_facts(path: Path) -> dict[str, Any]:
    """What `write_table` kept in a table; nothing where there is no such table."""
    if not path.is_file():
        return {}
    from pyarrow import ArrowException, parquet

    try:
        kept: dict[str, Any] = json.loads((parquet.read_schema(path).metadata or {}).get(FACTS, b"{}"))
    except (ArrowException, OSError, ValueError):
        return {}
    return kept


def table_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every file that `write_table` put into a table; none where there is no such table."""
    if not table_facts(path):
        return
    from pyarrow import parquet

    with parquet.ParquetFile(path) as table:
        for batch in table.iter_batches(ROWS, columns=["name", "picture"]):
            yield from ((row["name"], row["picture"]) for row in batch.to_pylist())
