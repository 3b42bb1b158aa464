"""The main job from start to end: convert, prove, convert back, export, embed; with a page that sums it up."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from convert.conversion import convert_file, load_networks
from convert.disk import write_json
from convert.errors import InputError
from convert.formats import open_checkpoint, write_checkpoint
from convert.registry import family_named
from convert.tensors import tensor_sha256
from parity_tests.harness.families import compare_family, not_asked_for
from parity_tests.harness.inputs import seeded_weights
from parity_tests.harness.report.data import report_data
from parity_tests.harness.report.html import difference_pictures, write_html
from parity_tests.harness.request import CompareOptions
from parity_tests.harness.stages import QUICK_MODES
from toonport.demo_files import note_files
from toonport.draw.generators import build
from toonport.exporters.exporter import ExportOptions, export_network
from toonport.fetch import checkout, weights_folder

FAMILY = "photo2cartoon"
RELEASED = "photo2cartoon_weights.pt"
FACE_WEIGHTS = "mobilefacenet_y1_128_torch.pth"
FACE_EMBEDDINGS = "mobilefacenet_y1_lfw_embeddings.npz"
EMBEDDING_TOLERANCE = 1e-5
UNTRAINED = "seeded weights, which nobody trained"


@dataclass
class Step:
    """One step of the demo: its outcome in one line, whether it ran, whether it is good, and how long it took."""

    title: str
    outcome: str = ""
    good: bool = True
    ran: bool = True
    seconds: float = 0.0
    files: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """What became of it, in one word or two."""
        return "FAILED" if not self.good else "ok" if self.ran else "not run"


def shared_folder() -> Path | None:
    """Return the folder of real pictures and weights (TOONPORT_SHARED, or beside the checkout), if it is there."""
    root = checkout()
    folder = Path(os.environ.get("TOONPORT_SHARED") or (root.parent / "shared" if root else "shared"))
    return folder if folder.is_dir() else None


def run_demo(out: Path, say: Callable[[str], None]) -> list[Step]:
    """Run every step, and write the results into `out`, a `demo_folder`; `say` is told what is being done."""
    work: dict[str, Callable[[Step, Path], None]] = {
        "checkpoint": _checkpoint,
        "convert to MindSpore": _to_mindspore,
        "prove parity": partial(_prove, say=say),
        "convert back": _back,
        "export to ONNX": _export,
        "draw a face": _draw,
        "real MobileFaceNet": _faces,
    }
    steps = []
    for title, action in work.items():
        say(title)
        step = Step(title)
        start = time.perf_counter()
        try:
            action(step, out)
        except InputError as error:
            step.good, step.outcome = False, str(error)
        step.seconds = time.perf_counter() - start
        steps.append(step)
        note_files(out)
    return steps


def next_commands(out: Path) -> list[str]:
    """Return three commands to go on with, with the files that the demo has made."""
    return [
        f"toonport inspect {out / 'photo2cartoon.ckpt'}",
        f"toonport compare photo2cartoon --weights {_source(out)} --part genA2B --quick --html report.html",
        f"toonport cartoonize me.jpg --weights {out / 'photo2cartoon.ckpt'} --out cartoon.png",
    ]


def seeded(out: Path) -> bool:
    """Whether the demo works with weights that nobody trained."""
    return _source(out).parent == out


def _source(out: Path) -> Path:
    released = weights_folder() / RELEASED
    return released if released.is_file() else out / "photo2cartoon_seeded.pt"


def _checkpoint(step: Step, out: Path) -> None:
    path = _source(out)
    if path.parent != out:
        step.outcome = f"the released file {path}"
        return
    parts = {part.name: seeded_weights(part, part.kwargs, f"demo/{part.name}") for part in family_named(FAMILY).parts}
    tensors = {f"{part}.{name}": value for part, weights in parts.items() for name, value in weights.items()}
    write_checkpoint(path, tensors.items(), {}, tuple(parts))
    size = path.stat().st_size / 2**20
    step.outcome = f"{RELEASED} is not in the weights folder: {UNTRAINED}, in its exact layout, {size:.0f} MiB"
    step.files.append(path.name)


def _to_mindspore(step: Step, out: Path) -> None:
    done = convert_file(_source(out), out / "photo2cartoon.ckpt", FAMILY)
    count = sum(len(network.tensors) for network in done.networks)
    step.outcome = f"{len(done.networks)} networks, {count} tensors, every one accounted for in the ledger"
    step.files += [path.name for path in (*done.outputs, *done.ledgers)]


def _prove(step: Step, out: Path, say: Callable[[str], None]) -> None:
    files = str(_source(out)), str(out / "photo2cartoon.ckpt")
    comparisons = []
    for part in ("genA2B", "disGA", "disLA"):
        say(f"prove parity: {part}")
        asked = CompareOptions(FAMILY, part, *files, QUICK_MODES, pictures=True, quick=True)
        comparisons += compare_family(asked)
    data = report_data(comparisons, asked.device, not_asked_for(asked))
    write_json(out / "parity.json", data)
    pictures = {found.name: difference_pictures(*found.pictures) for found in comparisons if found.pictures}
    write_html(out / "parity.html", data, pictures)
    multiples = [verdict.multiple for found in comparisons for verdict in found.verdicts]
    step.good = data["verdict"] == "equal"
    worst = f"worst {max(multiples, default=0.0):.2f} of its budget"
    step.outcome = f"{data['verdict']}: {len(multiples)} tensors of 3 networks judged quickly, {worst}"
    step.files += ["parity.html", "parity.json"]


def _back(step: Step, out: Path) -> None:
    convert_file(out / "photo2cartoon.ckpt", out / "photo2cartoon_back.pt", FAMILY)
    first, back = (open_checkpoint(path) for path in (_source(out), out / "photo2cartoon_back.pt"))
    hashes = {name: tensor_sha256(entry.read()) for name, entry in first.tensors.items()}
    same = sum(hashes[name] == tensor_sha256(entry.read()) for name, entry in back.tensors.items() if name in hashes)
    step.good = same == len(hashes) == len(back.tensors)
    step.outcome = f"sha256 equal for {same} of {len(hashes)} tensors"
    step.files.append("photo2cartoon_back.pt")


def _export(step: Step, out: Path) -> None:
    options = ExportOptions(FAMILY, str(out / "photo2cartoon.ckpt"), part="genA2B", outputs="all")
    done = export_network(options, out / "photo2cartoon.onnx")
    image = done.verdicts[0]
    step.outcome = (
        f"{done.facts[0]}; ONNX Runtime's picture differs by at most {image.measurement.difference:.1e}, "
        f"{image.multiple:.2f} of its budget"
    )
    step.files.append("photo2cartoon.onnx")


def _draw(step: Step, out: Path) -> None:
    """Draw the project's own face; a picture by untrained weights says so."""
    from toonport.draw.cartoonizer import Cartoonizer, CartoonSettings
    from toonport.photo.captions import captioned
    from toonport.photo.example import drawn_face
    from toonport.photo.picture import write_picture

    try:
        cartoon = Cartoonizer(CartoonSettings(str(out / "photo2cartoon.ckpt"), FAMILY)).draw(drawn_face())[0]
    except InputError as error:
        step.ran, step.outcome = False, f"not run: {error}"
        return
    words = "seeded weights, untrained: noise" if seeded(out) else "cartoon"
    write_picture(out / "cartoon.png", captioned(cartoon.picture, words))
    step.outcome = f"cartoon.png: {f'noise, because these are {UNTRAINED}' if seeded(out) else 'a cartoon'}"
    step.files.append("cartoon.png")


def _faces(step: Step, out: Path) -> None:
    shared = shared_folder()
    released = weights_folder() / "model_mobilefacenet.pth"
    recorded = shared / "weights" / FACE_WEIGHTS if shared else None
    source = recorded if recorded and recorded.is_file() else released
    if not source.is_file():
        step.ran, step.outcome = False, f"not run: no {released.name} in the weights folder"
        return
    target = out / f"{source.stem}.ckpt"
    convert_file(source, target, "mobilefacenet")
    step.files.append(target.name)
    if source != recorded or shared is None:
        step.outcome = f"{source.name} converted; no recorded embeddings to compare with"
        return
    difference, faces = face_difference(target, shared)
    step.good = difference <= EMBEDDING_TOLERANCE
    step.outcome = f"{faces} faces: embeddings within {difference:.1e} of the recorded float64 ones"


def face_difference(weights: Path, shared: Path) -> tuple[float, int]:
    """Return the largest difference between MindSpore's embeddings and the recorded ones, and the number of faces."""
    import mindspore

    from toonport.photo.picture import read_picture

    cell = build(load_networks(weights, "mobilefacenet")[0], "mindspore")
    with np.load(shared / "weights" / FACE_EMBEDDINGS) as record:
        names, wanted = record["names"], record["embedding"]
    pictures = [read_picture(shared / "data" / "lfw112" / name) for name in names]
    batch = np.stack([picture.transpose(2, 0, 1) for picture in pictures])
    found = cell(mindspore.Tensor(((batch - 127.5) / 128).astype(np.float32))).asnumpy()  # [faces, 128]
    return float(np.abs(found - wanted).max()), len(names)
