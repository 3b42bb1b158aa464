"""Conversion: read networks from a file, write them under the names of the other side, keep a ledger."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from convert.blocks import Buffer, Hashing
from convert.channels import channel_order
from convert.disk import Written
from convert.errors import InputError
from convert.formats import file_format
from convert.identify import Network, files_of, identify, left_out, open_source, opened_source, require_one_family
from convert.ledger import LedgerEntry, ledger_path, ledger_text
from convert.outputs import Output, write_outputs
from convert.plan import Row, build_plan
from convert.registry import family_named, part_named
from convert.replacing import require_replaceable
from convert.tensors import Array, Checkpoint, Entry, TensorSpec, blocks_of, dtype_named, tensor_digest

WORSE = ("", "infinite", "NaN")  # what may be wrong with numbers
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Conversion:
    """What a conversion did."""

    outputs: tuple[Path, ...]  # the files written
    ledgers: tuple[Path, ...]  # the ledger of each
    networks: tuple[Network, ...]  # what was found in the source
    ignored: Mapping[str, str]  # things in the source that are not tensors, as name -> text
    left_out: tuple[str, ...] = ()  # tensors of the source that are in none of the networks
    format: str = ""  # what the source is, by its content


def load_networks(
    source: str | Path, family: str | None = None, part: str | None = None, key: str | None = None
) -> list[Network]:
    """Open a checkpoint of any format and return its networks.

    Raises InputError: see `convert.identify`: `open_source`, `identify` and `require_one_family`.
    """
    networks = identify(open_source(source), family, part, key)
    for network in networks:
        require_finite(network)
    require_one_family(networks)
    return networks


@contextmanager
def checked_first(check: Callable[[bool], str]) -> Iterator[None]:
    """Say that a file is damaged or was changed, where it is, rather than what follows from that."""
    try:
        yield
    except InputError:
        check(False)
        raise


def torch_arrays(network: Network) -> dict[str, Array]:
    """Return PyTorch name -> values, in state-dict order."""
    return {row.torch: network.tensors[row.torch].read() for row in _present(network)}


def mindspore_arrays(network: Network) -> dict[str, Array]:
    """Return MindSpore name -> values, without the tensors that the MindSpore network lacks."""
    rows = (row for row in _present(network) if not row.carried)
    return {row.mindspore: row.to_mindspore(network.tensors[row.torch].read()) for row in rows}


def convert_file(
    source: str | Path,
    target: str | Path,
    family: str | None = None,
    part: str | None = None,
    names: str | None = None,
    progress: Progress | None = None,
    style: str | None = None,
    key: str | None = None,
    force: bool = True,
) -> Conversion:
    """Convert a checkpoint; the direction follows from the suffixes.

    Args:
        source: file to read; "{part}" in the name stands for each network's name (one file per network).
        target: file to write; "{part}" writes one file per network, otherwise several networks share it.
        family: family of the source, or None to find it by the tensors.
        part: convert only this network, or None for all.
        names: "torch" or "mindspore" for a .safetensors target; default: as the source has them.
        progress: called as (tensors done, tensors in all, name).
        style: system of the family whose networks are to be written, see `in_style`; default: as in the source.
        key: dictionary or prefix of the source to look in, where several sets of weights fit.
        force: whether a file is replaced that is no unchanged result of an earlier conversion.

    Returns:
        The files written and what they hold.

    Raises InputError: the source cannot be used; nothing is written then.
    """
    require_another_file(source, target)
    checkpoint, check = opened_source(source)
    with checked_first(check):
        networks = identify(checkpoint, family, part, key)
        unused = left_out(checkpoint, networks)
        if any(_names_differ(network) for network in networks):
            require_one_family(networks)
        if style:
            for network in networks:
                require_finite(network)
            networks = [in_style(network, style) for network in networks]
        return write_networks(checkpoint, check, networks, Path(target), names, progress, unused, force)


def require_another_file(source: str | Path, target: str | Path) -> None:
    """Raise InputError unless the target is a file of a known format other than the source."""
    if os.path.realpath(source) == os.path.realpath(target):
        raise InputError(f"{target}: source and target are the same file")
    file_format(Path(target))


def write_networks(
    checkpoint: Checkpoint,
    check: Callable[[bool], str],
    networks: list[Network],
    target: Path,
    names: str | None = None,
    progress: Progress | None = None,
    unused: tuple[str, ...] = (),
    force: bool = True,
) -> Conversion:
    """Write networks that were found in a checkpoint, and their ledgers.

    Everything is read once; that it is damaged, was changed or is not finite shows before a file is put in place.

    Args:
        checkpoint: where they come from.
        check: what checks it, in the meantime, as `convert.identify.opened_source` gives it.
        networks: what to write.
        target, names, progress, force: as in `convert_file`.
        unused: tensors of the checkpoint that are in none of the networks.

    Raises InputError: the target's suffix and `names` contradict each other, or what lies there is not to be replaced,
        such as a file of the checkpoint itself.
    """
    side = _side(target, checkpoint.format, networks, names)
    if not force:
        require_replaceable(target, (network.part.name for network in networks))
    beside = {"not_tensors": dict(checkpoint.extras)} if checkpoint.extras else {}
    total = sum(len(network.tensors) for network in networks)
    report = _Counter(total, progress)
    apart = "{part}" in target.name
    groups = [[network] for network in networks] if apart else [networks]
    paths = [target.with_name(target.name.replace("{part}", group[0].part.name)) for group in groups]
    _require_no_source(checkpoint.path, paths)
    crcs = {(known.start, known.end): known.crc32 for known in checkpoint.checksums}
    streams = [_Stream(group, side, report, crcs) for group in groups]
    outputs = [stream.output(path) for path, stream in zip(paths, streams, strict=True)]

    def ledger(number: int, written: Sequence[Written]) -> str:
        """The text of the ledger of one file; the first time, everything has been read."""
        facts = {**_source_facts(checkpoint.path, checkpoint.format, digest.result()), **beside}
        _require_none([problem for stream in streams for problem in stream.not_finite], checkpoint.path)
        own = {"file": paths[number].name, **asdict(written[number])}
        parts = {one.part.name: done.sha256 for (one, *_), done in zip(groups, written, strict=True)} if apart else {}
        described = [_described(network) for network in groups[number]]
        return ledger_text(own, facts, described, streams[number].entries, unused, parts)

    with ThreadPoolExecutor(1) as reader:
        digest = reader.submit(check, True)
        write_outputs(outputs, ledger)
    ledgers = tuple(ledger_path(path) for path in paths)
    return Conversion(tuple(paths), ledgers, tuple(networks), checkpoint.extras, unused, checkpoint.format)


def _require_no_source(source: Path, paths: Sequence[Path]) -> None:
    """Raise InputError where a file to be written is one of those that are read."""
    read = {os.path.realpath(path) for path in (source, *files_of(source).values())}
    for path in paths:
        if os.path.realpath(path) in read:
            raise InputError(f"{path}: is one of the files that are read; choose another name")


def _names_differ(network: Network) -> bool:
    """Whether another family that the tensors fit as well would write them under other names."""
    own = [(row.torch, row.mindspore) for row in network.plan.rows]
    for name in network.alternatives:
        part = part_named(family_named(name), network.part.name)
        kwargs = part.infer(network.plan.shapes)
        if kwargs is None or [(row.torch, row.mindspore) for row in build_plan(part, kwargs).rows] != own:
            return True
    return False


def _side(target: Path, source_format: str, networks: list[Network], names: str | None) -> str:
    by_suffix = {"torch": "torch", "ckpt": "mindspore"}.get(file_format(target))
    if by_suffix and names and names != by_suffix:
        raise InputError(f"{target}: a {target.suffix} file has {by_suffix} names; drop --names {names}")
    from_mindspore = source_format == "ckpt" or any(network.spelling == "MindSpore" for network in networks)
    return by_suffix or names or ("mindspore" if from_mindspore else "torch")


def _source_facts(path: Path, kind: str, digest: str) -> dict[str, Any]:
    if not path.is_file():
        return {"file": path.name, "format": kind}
    return {"file": path.name, "format": kind, "bytes": path.stat().st_size, "sha256": digest}


def in_style(network: Network, style: str) -> Network:
    """Return the network as one of another system of its family, e.g. a junyanz CycleGAN as the model zoo's.

    Raises InputError: the family has no such system, or the network is not the same function there.
    """
    translate = network.family.styles.get(style)
    if translate is None:
        known = ", ".join(network.family.styles) or "none"
        raise InputError(f"{network.family.name} has no style '{style}'; its styles: {known}")
    done = translate(network.part.name, network.kwargs, torch_arrays(network))
    part = part_named(network.family, done.part)
    plan = build_plan(part, done.kwargs)
    arrays = {name: value for name, (_, value) in done.tensors.items()}
    sources = {name: network.file_names[source] for name, (source, _) in done.tensors.items()}
    for row in plan.rows:
        value = done.filled.get(row.torch, done.filled.get(row.torch.rpartition(".")[2]))
        if row.torch not in arrays and value is not None:
            arrays[row.torch] = np.full(row.spec.shape, value, row.spec.dtype)
            sources[row.torch] = "(none: has no effect)"
    entries = {
        name: Entry(TensorSpec(value.shape, value.dtype.name), partial(_as_is, value)) for name, value in arrays.items()
    }
    plan.require({name: entry.spec for name, entry in entries.items()}, f"{network.path}: as {style}")
    return replace(
        network,
        part=part,
        kwargs=done.kwargs,
        plan=plan,
        tensors={row.torch: entries[row.torch] for row in plan.rows if row.torch in entries},
        file_names=sources,
        notes=(*network.notes, *done.notes),
    )


def _as_is(value: Array) -> Array:
    return value


class _Counter:
    """Counts tensors for the progress display."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total, self.progress, self.done = total, progress, 0

    def __call__(self, name: str) -> None:
        self.done += 1
        if self.progress:
            self.progress(self.done, self.total, name)


def _present(network: Network) -> Iterator[Row]:
    return (row for row in network.plan.rows if row.torch in network.tensors)


def require_finite(network: Network) -> None:
    """Raise InputError that lists every tensor with NaN or infinite values, if there is any."""
    bad = []
    for row in _present(network):
        entry = network.tensors[row.torch]
        if "float" in entry.spec.dtype:
            dtype = dtype_named(entry.spec.dtype)
            problem = max(
                (not_finite(np.frombuffer(block, dtype)) for block in entry.blocks()), key=WORSE.index, default=""
            )
            bad += [f"{network.file_names[row.torch]} ({problem})"] if problem else []
    _require_none(bad, network.path)


def _require_none(bad: Sequence[str], path: Path) -> None:
    if bad:
        raise InputError(f"{path}: {len(bad)} tensors hold values that are not finite: {', '.join(bad)}")


def _target_spec(row: Row, spec: TensorSpec, side: str) -> TensorSpec:
    return TensorSpec(row.mindspore_shape, spec.dtype) if side == "mindspore" and row.change else spec


class _Stream:
    """The tensors of one file on their way: hashed and looked at while they are written."""

    def __init__(
        self, networks: list[Network], side: str, report: _Counter, crcs: Mapping[tuple[int, int], int]
    ) -> None:
        self._networks, self._side, self._report = networks, side, report
        self._crcs = crcs  # first and last byte in the source -> their CRC-32, which is checked in the meantime
        self._several = len(networks) > 1
        self._taken: list[tuple[str, str, Row, TensorSpec, Any]] = []  # source, target, row, spec, digest
        self.not_finite: list[str] = []  # what holds values that are not finite

    @property
    def entries(self) -> list[LedgerEntry]:
        """What the ledger says of each, once all are written."""
        return [
            LedgerEntry(source, target, row.rule, spec.dtype, spec.shape, digest.hexdigest())
            for source, target, row, spec, digest in self._taken
        ]

    def output(self, path: Path) -> Output:
        """The file that holds them."""
        nested = self._several and not self._networks[0].family.flat_file
        parts = tuple(network.part.name for network in self._networks) if nested else ()
        families = dict.fromkeys(
            name for network in self._networks for name in (network.family.name, *network.alternatives)
        )
        specs = {name: spec for _, _, name, spec in self._rows()}
        return Output(path, self._tensors(), specs, parts, tuple(families), dict(self._known_crcs()))

    def _known_crcs(self) -> Iterator[tuple[str, int]]:
        """Names of the tensors whose bytes are one piece of the source with a checksum of its own, and that."""
        for network, row, name, _ in self._rows():
            stored = network.tensors[row.torch].stored
            if stored and not self._is_changed(row) and stored.ranges[0] in self._crcs and len(stored.ranges) == 1:
                yield name, self._crcs[stored.ranges[0]]

    def _is_changed(self, row: Row) -> bool:
        return row.change is not None and self._side == "mindspore"

    def _rows(self) -> Iterator[tuple[Network, Row, str, TensorSpec]]:
        """Network, row, name and kind in the new file of every tensor."""
        for network in self._networks:
            for row in _present(network):
                name = row.torch if self._side == "torch" else row.mindspore
                spec = _target_spec(row, network.tensors[row.torch].spec, self._side)
                yield network, row, f"{network.part.name}.{name}" if self._several else name, spec

    def _tensors(self) -> Iterator[tuple[str, Iterator[Buffer]]]:
        with Hashing() as hashing:
            for network, row, name, spec in self._rows():
                entry, digest = network.tensors[row.torch], tensor_digest(spec)
                blocks = blocks_of(row.to_mindspore(entry.read())) if self._is_changed(row) else entry.blocks()
                source = network.file_names[row.torch]
                self._taken.append((source, name, row, spec, digest))
                yield name, self._looked_at(blocks, source, spec, hashing, digest)
                self._report(name)
            hashing.finish()

    def _looked_at(
        self, blocks: Iterator[Buffer], source: str, spec: TensorSpec, hashing: Hashing, digest: Any
    ) -> Iterator[Buffer]:
        """The blocks of a tensor, hashed and searched for values that are not finite."""
        problem, dtype = "", dtype_named(spec.dtype)
        for block in blocks:
            hashing.update(digest, block)
            if "float" in spec.dtype:
                problem = max(problem, not_finite(np.frombuffer(block, dtype)), key=WORSE.index)
            yield block
        if problem:
            self.not_finite.append(f"{source} ({problem})")


def not_finite(values: Array) -> str:
    """Return the worst of WORSE that an array of floating numbers holds."""
    if values.size and values.dtype in (np.float32, np.float64):  # their extremes are found fastest
        with np.errstate(invalid="ignore"):
            extremes = np.array([values.min(), values.max()])
    else:
        extremes = values
    if bool(np.isfinite(extremes).all()):
        return ""
    return "NaN" if bool(np.isnan(extremes).any()) else "infinite"


def _described(network: Network) -> Mapping[str, Any]:
    """What a ledger says of a network."""
    return {
        "family": network.family.name,
        "part": network.part.name,
        "kwargs": dict(network.kwargs),
        "spelling": network.spelling,
        "notes": list(network.notes),
        **({"channels": channel_order(network)} if "image" in network.part.outputs[:1] else {}),
        **({"alternatives": list(network.alternatives)} if network.alternatives else {}),
    }
