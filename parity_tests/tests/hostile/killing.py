"""Commands killed at random moments: what they leave is whole or absent, and the next run ends as an undisturbed one.

python -m parity_tests.tests.hostile.killing --kills 60     # part of `make fuzz`; the day is the seed
"""

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random

from convert.errors import InputError
from convert.identify import open_source
from parity_tests.tests.cases import checkpoint_bytes, drawn_picture, save_torch, seeded_family, seeded_state
from toonport.photo.example import drawn_face
from toonport.photo.picture import write_picture

STEPS = 3
LEFTOVERS = ("*.partial", "*.lock", "*.pending", "*.json.partial")
Found = Mapping[object, object]
SURROUNDINGS = os.environ | {"TOONPORT_WEIGHTS": str(Path(__file__).with_name("none"))}  # whatever was fetched here


@dataclass(frozen=True)
class Job:
    """A command that writes into a folder."""

    arguments: Callable[[Path], Sequence[str]]  # the folder -> what follows "toonport"
    again: Callable[[Path], Sequence[str]] | None = None  # the same after a kill, where that is another command
    found: Callable[[Path], Found] | None = None  # what it made; by default the bytes of its files


def jobs(place: Path, address: str) -> Mapping[str, Job]:
    """The commands, and in `place` what they work on."""
    three = save_torch(place / "three.pt", seeded_family("whitebox"))
    states = {part: seeded_state("photo2cartoon", part) for part in ("genA2B", "disLA")}
    network = save_torch(place / "net.pt", states)
    for number in range(3):
        write_picture(place / "photos" / f"{number}.png", drawn_face())
        write_picture(place / "cartoons" / f"{number}.png", drawn_picture(f"cartoon {number}", 64, 64))
        for domain in "AB":
            picture = drawn_picture(f"{domain}{number}", 40, 40)
            for split in ("train", "test"):
                write_picture(place / "data" / f"{split}{domain}" / f"{number}.png", picture)
    face = save_torch(place / "face.pt", seeded_state("mobilefacenet", "mobilefacenet"))
    digest = hashlib.sha256((place / "three.pt").read_bytes()).hexdigest()
    (place / "m.toml").write_text(
        '[x]\nfile = "x.pt"\nfamily = "whitebox"\npart = "all"\nlicence = "none"\nsource = "test"\n'
        f'url = "{address}/three.pt"\nsha256 = "{digest}"\n'
    )

    def selecting(out: Path) -> list[str]:
        """Choose among the checkpoints of a run, which is trained where there is none yet."""
        if not (place / "run").is_dir():
            _run(trainings["torch"].arguments(place))
        if not out.is_dir():
            shutil.copytree(place / "run", out / "run")
        return ["evaluate", "--select", str(out / "run"), "--face-weights", str(face), "--json", str(out / "n.json")]

    trainings = {framework: _training(place, framework) for framework in ("torch", "mindspore")}
    return {
        "convert": Job(lambda out: ["convert", str(three), str(out / "x.ckpt")]),
        "convert {part}": Job(lambda out: ["convert", str(three), str(out / "p_{part}.safetensors")]),
        "fetch": Job(lambda out: ["fetch", "x", "--manifest", str(place / "m.toml"), "--dir", str(out)]),
        **{f"train {framework}": job for framework, job in trainings.items()},
        "preprocess": Job(
            lambda out: ["preprocess", str(place / "photos"), "--out", str(out), "--keep-background"], found=_pictures
        ),
        "cartoonize": Job(
            lambda out: ["cartoonize", str(place / "photos"), "--weights", str(network), "--family", "photo2cartoon",
                         "--part", "genA2B", "--frame", "whole", "--out", str(out)], found=_pictures,
        ),
        "export": Job(
            lambda out: ["export", "photo2cartoon", "--weights", str(network), "--part", "disLA", "--to", "onnx",
                         "--out", str(out / "x.onnx")]
        ),
        "evaluate": Job(
            lambda out: ["evaluate", "--fake", str(place / "cartoons"), "--real", str(place / "photos"),
                         "--photos", str(place / "photos"), "--face-weights", str(face),
                         "--json", str(out / "numbers.json"), "--html", str(out / "page.html")]
        ),
        "evaluate --select": Job(selecting, found=lambda out: {"selected": (out / "run" / "selected").read_bytes()}),
    }  # fmt: skip


def _training(place: Path, framework: str) -> Job:
    """A training of a few small steps, saved after each."""
    more = ["--data", str(place / "data"), "--framework", framework, "--width", "4", "--size", "32"]
    more += ["--steps", str(STEPS), "--save-every", "1", "--sheet-every", "0", "--no-tensorboard"]

    def begin(out: Path) -> list[str]:
        """Start, or go on from what is there."""
        resume = ["--resume"] if (out / "run" / "latest").is_file() else []
        return ["train", "cyclegan", "--out", str(out / "run"), *(resume or more)]

    return Job(begin, begin, lambda out: checkpoint_bytes(out / "run", STEPS))


def _pictures(out: Path) -> Found:
    return {path.name: path.read_bytes() for path in out.glob("*.png")}


def _files(out: Path) -> Found:
    return {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def _run(arguments: Sequence[str], after: float | None = None) -> int:
    """Run a command, killed after some seconds where these are given; its exit code."""
    command = [sys.executable, "-m", "toonport", *arguments]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet, env=SURROUNDINGS) as process:
        try:
            return process.wait(after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            return process.wait()


def _torn(out: Path) -> str:
    """A file under its own name that cannot be opened, though it may say that it belongs to a set that lacks some."""
    for path in sorted(out.glob("*.pt")) + sorted(out.glob("*.ckpt")) + sorted(out.glob("*.safetensors")):
        try:
            open_source(path)
        except InputError as error:
            return str(error)
    return ""


class _Server(SimpleHTTPRequestHandler):
    """Serves files slowly, so that a download can be killed."""

    def copyfile(self, source, outputfile):
        """Send a little at a time."""
        while block := source.read(1 << 14):
            outputfile.write(block)
            time.sleep(0.01)

    def log_message(self, *arguments):
        """Say nothing."""


def run(kills: int, seconds: float, seed: int, wanted: Sequence[str] = (), say: Callable[[str], None] = print) -> int:
    """Kill commands in turn until the number or the time is reached; returns how often something was wrong."""
    random, until, wrong, done = Random(seed), time.monotonic() + seconds, 0, Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Server, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        known = jobs(place, f"http://127.0.0.1:{server.server_port}")
        whole = {}
        for number in range(10 * kills):
            name = list(wanted or known)[number % len(wanted or known)]
            if done.total() >= kills or time.monotonic() > until:
                break
            job, found = known[name], known[name].found or _files
            if name not in whole:
                out, start = place / f"whole {name}", time.monotonic()
                if code := _run(job.arguments(out)):
                    say(f"{name}: ended with {code} undisturbed")
                    return wrong + 1
                whole[name] = (found(out), time.monotonic() - start)
            result, length = whole[name]
            out = place / f"{number} {name}"
            if _run(job.arguments(out), length * random.uniform(0.3, 1.0)) != -signal.SIGKILL:
                continue  # it was faster than the first one
            done[name] += 1
            fault = _torn(out) or ("" if _run((job.again or job.arguments)(out)) == 0 else "does not go on")
            left = sorted(path.name for pattern in LEFTOVERS for path in out.rglob(pattern))
            if not fault and found(out) != result:
                fault = "ends in something else than an undisturbed run"
            if fault or left:
                wrong += 1
                say(f"{name}, kill {number}: {fault or f'left {left}'}")
        server.shutdown()
        server.server_close()
    counts = ", ".join(f"{name} {count}" for name, count in done.items())
    say(f"{done.total()} kills from seed {seed} ({counts}), {wrong} went wrong")
    return wrong


def main() -> int:
    """Kill for a while; 1 when anything went wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=date.today().toordinal())
    parser.add_argument("--only", action="append", default=[], help="a command, e.g. 'convert'")
    args = parser.parse_args()
    return min(run(args.kills, args.seconds, args.seed, args.only), 1)


if __name__ == "__main__":
    sys.exit(main())
