"""Files made strange by chance: good small ones of every format with bytes changed, and foreign ones with known names.

python -m parity_tests.tests.hostile.fuzzing --seconds 600     # what `make fuzz` runs; the day is the seed
"""

import argparse
import json
import pickle
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import date
from functools import cache
from pathlib import Path
from random import Random

import numpy as np

from convert.formats import write_checkpoint
from convert.formats.tensorflow import crc32c, masked
from convert.plan import build_plan
from convert.registry import families
from convert.tensors import TensorSpec
from parity_tests.tests.hostile.bombs import _block, _encode, _index, tflite_shared
from parity_tests.tests.hostile.reading import MIB, Reading, read

ARRAYS = {"conv1x1.weight": np.arange(8, dtype=np.float32).reshape(1, 8, 1, 1), "gap_fc.weight": np.ones((1, 8), "f4")}
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)


def _torch(path: Path, **how: object) -> None:
    import torch

    torch.save({name: torch.from_numpy(value) for name, value in ARRAYS.items()}, path, **how)


def _deflated(path: Path) -> None:
    _torch(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _script(path: Path) -> None:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is called deprecated, and files of it are about
        torch.jit.save(torch.jit.script(torch.nn.Conv2d(1, 2, 1)), path)


def _written(path: Path) -> None:
    specs = {name: TensorSpec(value.shape, "float32") for name, value in ARRAYS.items()}
    write_checkpoint(path, ARRAYS.items(), specs)


def _tensorflow(path: Path) -> None:
    values = ARRAYS["gap_fc.weight"].tobytes()
    shape = b"\x12\x02\x08\x01\x12\x02\x08\x08"
    entry = b"\x08\x01\x12" + bytes([len(shape)]) + shape + b"\x28" + _encode(len(values))
    entry += b"\x35" + struct.pack("<I", masked(crc32c(values)))
    rows = b"\0\0\x02\x08\x01" + b"\0\x01" + _encode(len(entry)) + b"w" + entry
    _index(path, _block(rows))
    path.with_name(f"{path.stem}.data-00000-of-00001").write_bytes(values)


def _mxnet_bytes() -> bytes:
    rows = b"".join(
        struct.pack(f"<IiI{value.ndim}qiii", 0xF993FAC9, 0, value.ndim, *value.shape, 1, 0, 0) + value.tobytes()
        for value in ARRAYS.values()
    )
    names = b"".join(struct.pack("<Q", len(name) + 4) + b"arg:" + name.encode() for name in ARRAYS)
    return struct.pack("<QQQ", 0x112, 0, len(ARRAYS)) + rows + struct.pack("<Q", len(ARRAYS)) + names


def _mxnet(path: Path) -> None:
    path.with_name("a-symbol.json").write_text(
        '{"nodes": [{"op": "BatchNorm", "name": "bn", "attrs": {"eps": "1e-3"}}]}'
    )
    path.write_bytes(_mxnet_bytes())


def _mxnet_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a-0000.params", _mxnet_bytes())
        archive.writestr("a-symbol.json", '{"nodes": []}')


def _npy(path: Path) -> None:
    np.save(path, np.array(ARRAYS, dtype=object))


def _tflite(path: Path) -> None:
    tflite_shared(path.parent, numbers=2, tensors=2)


SEEDS: Mapping[str, Callable[[Path], object]] = {
    "a.pt": _torch,
    "old.pt": lambda path: _torch(path, _use_new_zipfile_serialization=False),
    "deflated.pt": _deflated,
    "script.pt": _script,
    "a.ckpt": _written,
    "a.safetensors": _written,
    "a.index": _tensorflow,
    "a-0000.params": _mxnet,
    "a.zip": _mxnet_zip,
    "a.npz": lambda path: np.savez(path, **ARRAYS),
    "a.npy": _npy,
    "a.pkl": lambda path: path.write_bytes(pickle.dumps(ARRAYS, 2)),
    "a.tflite": _tflite,
}


@cache
def seed_files() -> Mapping[str, Mapping[str, bytes]]:
    """Name of a good file -> that file and those beside it, by name."""
    found = {}
    for name, make in SEEDS.items():
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder) / name)
            found[name] = {file.name: file.read_bytes() for file in Path(folder).iterdir()}
    return found


def mutated(content: bytes, random: Random) -> bytes:
    """Change a few things: bits, bytes, numbers at their edges; pieces cut out, doubled, swapped; the end cut off."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 3, 8))):
        place = random.randrange(max(len(data), 1))
        length = random.choice((1, 2, 4, 8, 16, 64))
        match random.randrange(8):
            case 0:
                data[place : place + 1] = bytes([random.randrange(256)])
            case 1 if data:
                data[place] ^= 1 << random.randrange(8)
            case 2:
                width = random.choice((1, 2, 4, 8))
                edge = random.choice(EDGES) & (256**width - 1)
                data[place : place + width] = edge.to_bytes(width, random.choice(("little", "big")))
            case 3:
                del data[place : place + length]
            case 4:
                data[place:place] = data[place : place + length] * random.choice((1, 2, 50))
            case 5:
                other = random.randrange(max(len(data), 1))
                data[place : place + length], data[other : other + length] = (
                    data[other : other + length],
                    data[place : place + length],
                )
            case 6:
                data[place:place] = random.randbytes(length)
            case _:
                del data[place:]
    return bytes(data)


@cache
def known_names() -> tuple[str, ...]:
    """Names of the tensors of every family's networks."""
    plans = (build_plan(part, part.kwargs) for family in families() for part in family.parts)
    return tuple(sorted({name for plan in plans for row in plan.rows for name in (row.torch, row.mindspore)}))


def foreign(path: Path, random: Random) -> None:
    """A file with some names of known networks, and shapes that are none of theirs."""
    names = random.sample(known_names(), random.randrange(1, 12))
    if random.random() < 0.3:
        names += [f"{name.partition('.')[0]}.{random.randrange(10**6)}.weight" for name in names]
    prefix = random.choice(("", "", "net.", "genA2B.", "module.module."))
    rows, offset = {}, 0
    for name in dict.fromkeys(names):
        shape = [random.choice((0, 1, 1, 2, 3, 4, 7)) for _ in range(random.randrange(6))]
        size = 4 * int(np.prod(shape))
        rows[prefix + name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(rows).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(offset))


def strange_file(folder: Path, random: Random) -> Path:
    """Write one strange file, and what belongs beside it."""
    name = random.choice([*SEEDS, "foreign.safetensors", "foreign.safetensors"])
    path = folder / name
    if name not in SEEDS:
        foreign(path, random)
        return path
    files = seed_files()[name]
    changed = random.choice(list(files)) if random.random() < 0.2 else name
    for other, content in files.items():
        (folder / other).write_bytes(mutated(content, random) if other == changed else content)
    return path


def fault_of(path: Path, found: Reading) -> str:
    """What must not have happened, in words; nothing where all is well."""
    if found.fault:
        return found.fault
    if "\n" in found.problem:
        return "a message of several lines"
    if found.peak > 4 * path.stat().st_size + 256 * MIB:
        return f"took {found.peak / MIB:.0f} MiB"
    return ""


def run(seconds: float, cases: int, seed: int, keep: Path | None = None, say: Callable[[str], None] = print) -> int:
    """Read strange files until the time or the number is reached; returns how many went wrong, each of which is said.

    Args:
        seconds, cases: whichever comes first.
        seed: of the first file; further ones follow from it.
        keep: folder for files that go wrong.
        say: what prints.
    """
    until, wrong, outcomes = time.monotonic() + seconds, 0, Counter[str]()
    done = 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        while done < cases and time.monotonic() < until:
            number, done = seed * 10**6 + done, done + 1
            path = strange_file(place, Random(number))
            found = read(path)
            outcomes["refused" if found.problem else "read"] += 1
            if fault := fault_of(path, found):
                wrong += 1
                say(f"case {number}, {path.name}: {fault}")
                if keep:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{number}_{path.name}").write_bytes(path.read_bytes())
    say(f"{done} files from seed {seed}: {outcomes['refused']} refused, {outcomes['read']} read, {wrong} went wrong")
    return wrong


def main() -> int:
    """Fuzz for a while; 1 when anything went wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=date.today().toordinal())
    parser.add_argument("--keep", type=Path, help="folder for files that go wrong")
    args = parser.parse_args()
    return min(run(args.seconds, args.cases, args.seed, args.keep), 1)


if __name__ == "__main__":
    sys.exit(main())
