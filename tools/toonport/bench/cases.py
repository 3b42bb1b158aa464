"""The benchmarks: runtime against runtime, the whole way against the generator, two processes against one.

Each runs in a process that has done nothing else: what ran before, an export say, leaves memory in a state that helps
one contender more than the other.
"""

import itertools
import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from convert.conversion import load_networks
from convert.formats import write_checkpoint
from convert.registry import family_named, part_named
from parity_tests.harness.inputs import seeded_weights
from parity_tests.harness.onnx.session import open_session
from parity_tests.harness.run import part_inputs
from toonport.bench.processes import alone
from toonport.bench.timing import Ratio, peak_mebibytes, ratio, take_turns
from toonport.bench.worker import SIDE, draw_noise
from toonport.draw.cartoonizer import Cartoonizer, CartoonSettings
from toonport.draw.exported import RUNNERS, open_file
from toonport.draw.generators import build
from toonport.exporters.exporter import ExportOptions, export_network
from toonport.photo.batch import Task
from toonport.photo.compose import to_input
from toonport.photo.example import drawn_face
from toonport.photo.picture import write_picture

FAMILY, PART = "photo2cartoon", "genA2B"
RUNTIME_GOAL, OPENVINO_GOAL, WHOLE_GOAL, FOLDER_GOAL = 1.6, 1.0, 1.15, 1.8
PHOTO_SIDE = 1000


@dataclass(frozen=True)
class Bench:
    """What the benchmarks work with."""

    folder: Path  # for files of this run
    weights: Path  # checkpoint of a photo2cartoon generator
    exported: Path  # the same as ONNX
    rounds: int  # runs of each contender
    photos: int  # photos in the folder benchmark
    threads: int  # threads of both runtimes


def prepare(folder: Path, weights: str | None, rounds: int, photos: int, threads: int) -> Bench:
    """Export the generator once; without weights, seeded ones of the released size: speed does not depend on them."""
    source = Path(weights) if weights else _seeded(folder / "seeded.pt")
    exported = folder / "generator.onnx"
    export_network(ExportOptions(FAMILY, str(source), part=PART), exported)
    return Bench(folder, source, exported, rounds, photos, threads)


def _seeded(path: Path) -> Path:
    part = part_named(family_named(FAMILY), PART)
    write_checkpoint(path, seeded_weights(part, part.kwargs, f"bench/{PART}").items(), {})
    return path


def runtime_ratio(bench: Bench) -> Ratio:
    """Eager PyTorch / ONNX Runtime: one picture through the generator."""
    import torch

    torch.set_num_threads(bench.threads)
    network = load_networks(bench.weights, FAMILY, PART)[0]
    module = build(network, "torch")
    inputs = part_inputs(network.part, network.kwargs, 0)
    session = open_session(bench.exported, bench.threads)
    tensor = torch.from_numpy(inputs)

    def eager() -> None:
        """Draw one picture, operation by operation."""
        with torch.no_grad():
            module(tensor)

    times = take_turns({"torch": eager, "onnx": lambda: session.run(None, {"input": inputs})}, bench.rounds)
    one, other = times["torch"], times["onnx"]
    details = f"PyTorch {one.median * 1e3:.0f} ms, ONNX Runtime {other.median * 1e3:.0f} ms; {_peak()}"
    return ratio("eager PyTorch / ONNX Runtime, generator", one, other, details, at_least=RUNTIME_GOAL)


def openvino_ratio(bench: Bench) -> Ratio:
    """ONNX Runtime / OpenVINO in float32: one picture through the generator."""
    inputs = to_input(np.full((SIDE, SIDE, 3), 128, np.uint8))
    opened = {name: open_file(bench.exported, name, threads=bench.threads) for name in RUNNERS}
    times = take_turns({name: partial(file.run, inputs) for name, file in opened.items()}, bench.rounds)
    one, other = (times[name] for name in RUNNERS)
    details = f"ONNX Runtime {one.median * 1e3:.0f} ms, OpenVINO {other.median * 1e3:.0f} ms; {_peak()}"
    return ratio("ONNX Runtime / OpenVINO, generator", one, other, details, at_least=OPENVINO_GOAL)


def whole_ratio(bench: Bench) -> Ratio:
    """Photo file to cartoon file / generator alone, both by ONNX Runtime."""
    (photo,) = _photos(bench.folder / "one", 1)
    cartoonizer = Cartoonizer(CartoonSettings(str(bench.exported), threads=bench.threads))
    targets = (bench.folder / "one" / f"cartoon{number}.png" for number in itertools.count())
    inputs = to_input(np.full((SIDE, SIDE, 3), 128, np.uint8))
    contenders = {
        "whole": lambda: cartoonizer(Task(str(photo), str(next(targets)))),
        "generator": lambda: cartoonizer.generator(inputs),
    }
    times = take_turns(contenders, bench.rounds)
    one, other = times["whole"], times["generator"]
    details = (
        f"whole {one.median * 1e3:.0f} ms, generator {other.median * 1e3:.0f} ms, {PHOTO_SIDE} px photo; {_peak()}"
    )
    return ratio("photo to cartoon / its generator", one, other, details, at_most=WHOLE_GOAL)


def folder_ratio(bench: Bench) -> Ratio:
    """One process with one thread / one process per core: a folder of photos.

    The same for the generator alone, loaded beforehand, is measured beside it and told in the details: cores that
    share their parts with each other, or with other machines, do not double anything.
    """
    folder = bench.folder / "photos"
    list(_photos(folder, bench.photos))
    runs = itertools.count()

    def cartoonize(jobs: int) -> None:
        """Draw the folder in a program of its own."""
        target = bench.folder / f"cartoons{next(runs)}"
        command = [sys.executable, "-m", "toonport.bench.worker", str(bench.exported), str(folder), str(target)]
        subprocess.run([*command, str(jobs)], check=True, capture_output=True)

    with ProcessPoolExecutor(bench.threads, multiprocessing.get_context("spawn")) as pool:

        def draw(jobs: int) -> None:
            """Draw as many pictures of noise in processes that are there already."""
            list(pool.map(partial(draw_noise, bench.exported), [-(-bench.photos // jobs)] * jobs))

        contenders = {
            "one": lambda: cartoonize(1),
            "all": lambda: cartoonize(bench.threads),
            "one, generator": lambda: draw(1),
            "all, generator": lambda: draw(bench.threads),
        }
        list(pool.map(partial(draw_noise, bench.exported), [2] * bench.threads))
        times = take_turns(contenders, max(1, bench.rounds // 10), warm_up=0)
    one, other = times["one"], times["all"]
    busy = sum(other.cpu) / (sum(other.wall) * bench.threads)
    possible = times["one, generator"].median / times["all, generator"].median
    details = (
        f"{bench.photos} photos: one process {one.median:.0f} s, {bench.threads} processes {other.median:.0f} s; "
        f"the generator alone {possible:.2f}; cores busy {busy:.0%}; {_peak(children=True)}"
    )
    return ratio("one process / one per core, folder", one, other, details, at_least=FOLDER_GOAL)


def _peak(children: bool = False) -> str:
    return f"peak memory {peak_mebibytes(children):.0f} MiB"


def _photos(folder: Path, count: int) -> Iterator[Path]:
    """Write photos of a drawn face, each a little different, as JPEG."""
    folder.mkdir(exist_ok=True)
    face = drawn_face(PHOTO_SIDE)
    for index in range(count):
        path = folder / f"photo{index:03d}.jpg"
        write_picture(path, np.roll(face, index, axis=1))
        yield path


CASES = {"runtime": runtime_ratio, "openvino": openvino_ratio, "whole": whole_ratio, "folder": folder_ratio}


def run_cases(names: list[str], weights: str | None, rounds: int, photos: int, threads: int) -> Iterator[Ratio]:
    """Yield the benchmarks asked for, as they are done."""
    with tempfile.TemporaryDirectory(prefix="toonport_bench_") as folder:
        bench = alone(prepare, Path(folder), weights, rounds, photos, threads)
        for name in names:
            yield alone(CASES[name], bench)
