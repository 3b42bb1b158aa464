"""What each framework computes on a device, graded against float64 on the CPU: layers, a network, a training step.

`toonport doctor --device DEVICE` prints it; `docs/devices.md` holds a row for everything that somebody has run.
"""

import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from convert.devices import CPU, GPU, nobody, refusal
from convert.disk import atomic_path
from convert.errors import InputError
from convert.registry import family_named, part_named
from ms_models.environment import choose_device, devices_found
from parity_tests.harness.judge import Verdict, judge_all
from parity_tests.harness.legs import ON_CPU, Legs, provider
from parity_tests.harness.measurement import Mode
from parity_tests.harness.onnx.leg import judge_exported, onnx_writer
from parity_tests.harness.onnx.runtimes import ONNX_RUNTIME
from parity_tests.harness.pair import build_pair
from parity_tests.harness.run import compare_pair, probe_inputs
from parity_tests.harness.sides.torch import TorchSide
from parity_tests.harness.stages import QUICK_MODES
from parity_tests.harness.trainers import MindSporeTrainer, TorchTrainer, Trainer
from parity_tests.harness.training import FamilyRun, Run, TrainingReference, measure_steps
from parity_tests.harness.training_setup import TrainingSetup, small_setup
from toonport.doctor import version_of
from torch_ref.build import build_torch, for_inference
from torch_ref.environment import computing, place_of

FAMILY, PART = "cyclegan", "G_A"  # convolutions both ways, norms, borders
GRADES = ("layers alone", "whole network", "training step")
HEADING = f"| device | driver | framework | {' | '.join(GRADES)} |"
NOT_RUN = "not run"


@dataclass(frozen=True)
class Graded:
    """What one framework computes on a device."""

    framework: str  # with its version
    grades: dict[str, Sequence[Verdict]]  # by their names in GRADES; what is absent was not asked of it
    missing: InputError | None = None  # why nothing was run

    @property
    def equal(self) -> bool:
        """Whether everything that was run is within its budget."""
        return all(verdict.equal for verdicts in self.grades.values() for verdict in verdicts)

    @property
    def cells(self) -> list[str]:
        """The grades in words, in the order of GRADES."""
        return [NOT_RUN if self.missing else _words(self.grades.get(name)) for name in GRADES]


def _words(verdicts: Sequence[Verdict] | None) -> str:
    if verdicts is None:
        return "–"
    bad = sum(not verdict.equal for verdict in verdicts)
    worst = max(verdict.multiple for verdict in verdicts)
    return f"worst {worst:.2f} × budget, {len(verdicts)} tensors{f', {bad} out of it' if bad else ''}"


def check_device(device: str, say: Callable[[str], None]) -> list[Graded]:
    """Grade every framework that sees a device.

    Raises InputError: no framework sees it; says of each what is missing.
    """
    found = [_graded(name, device, say) for name in CHECKS]
    if all(each.missing for each in found):
        raise nobody(device, (each.missing for each in found if each.missing))
    return found


def _graded(package: str, device: str, say: Callable[[str], None]) -> Graded:
    name, usable, run = CHECKS[package]
    titled = f"{name} {version_of(package) or version_of(f'{package}-gpu') or ''}".strip()
    try:
        usable(device)
    except InputError as error:
        return Graded(titled, {}, error)
    except ImportError:
        return Graded(titled, {}, refusal(device, f"{name}, not installed"))
    say(f"{titled} on {device}")
    return Graded(titled, run(device))


def _mindspore_sees(device: str) -> None:
    if device not in devices_found():
        raise refusal(device, f"MindSpore {version_of('mindspore')}")
    choose_device(device)


def _setup() -> TrainingSetup:
    return small_setup(family_named(FAMILY), 1)


def _mindspore(device: str) -> dict[str, Sequence[Verdict]]:
    setup = _setup()
    with Legs(port=device).running():
        return _grades(setup, None) | _trained(setup, lambda: MindSporeTrainer(setup))


def _torch(device: str) -> dict[str, Sequence[Verdict]]:
    """PyTorch on the device takes the port's place, beside PyTorch on the CPU."""
    setup = _setup()
    with computing(device):
        return _grades(setup, device) | _trained(setup, lambda: TorchTrainer(setup, device=device))


def _grades(setup: TrainingSetup, torch_device: str | None) -> dict[str, Sequence[Verdict]]:
    """Grade the layers and the whole of a network, of the port or of PyTorch on a device."""
    part, kwargs, weights = part_named(setup.family, PART), setup.kwargs[PART], setup.weights[PART]
    pair = build_pair(part, kwargs, weights, setup.plan(PART).to_mindspore(weights))
    if torch_device:
        port = TorchSide(build_torch(part, kwargs, weights), device=torch_device)
        pair = replace(pair, port=port, port_weights=pair.reference_weights)
    probe = [probe_inputs(part, kwargs, 0)]
    found = compare_pair(PART, pair, probe, probe, QUICK_MODES, quick=True).verdicts
    of = {mode: [each for each in found if each.measurement.mode is mode] for mode in (Mode.ISOLATED, Mode.ACCUMULATED)}
    return dict(zip(GRADES, of.values(), strict=False))


def _trained(setup: TrainingSetup, trainer: Callable[[], Trainer]) -> dict[str, Sequence[Verdict]]:
    def port() -> Run:
        """A run from the start."""
        return FamilyRun(trainer(), setup)

    phases = list(setup.training.phases)
    return {GRADES[2]: judge_all(measure_steps(TrainingReference(setup), port(), port, len(setup.batches), phases))}


def _onnx_runtime(device: str) -> dict[str, Sequence[Verdict]]:
    setup = _setup()
    part, kwargs = part_named(setup.family, PART), setup.kwargs[PART]
    probe = probe_inputs(part, kwargs, 0)
    network = for_inference(build_torch(part, kwargs, setup.weights[PART]))
    with replace(ON_CPU, runtime=device).running():
        write = onnx_writer(network, part.outputs)
        verdicts = judge_exported(network, part.outputs, probe, probe, ONNX_RUNTIME, write).verdicts
    alone = [each for each in verdicts if each.measurement.layer]
    return {GRADES[0]: alone, GRADES[1]: [each for each in verdicts if not each.measurement.layer]}


# package -> what reports call it; raises an error where it does not see a device; grades it there
Check = tuple[str, Callable[[str], object], Callable[[str], dict[str, Sequence[Verdict]]]]
CHECKS: dict[str, Check] = {
    "mindspore": ("MindSpore", _mindspore_sees, _mindspore),
    "torch": ("PyTorch", place_of, _torch),
    "onnxruntime": ("ONNX Runtime", provider, _onnx_runtime),
}


def device_words(device: str) -> tuple[str, str]:
    """Return what a device is, and its driver's version."""
    if device == CPU:
        import torch

        return f"{device}: {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}", "–"
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    told = ""
    if device == GPU and shutil.which(query[0]):
        told = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    name, _, driver = (told.splitlines() or [""])[0].partition(", ")
    return f"{device}: {name or 'unknown'}", driver or "unknown"


def write_rows(page: Path, device: str, found: Sequence[Graded]) -> None:
    """Put the rows of a device into a page's table, in the place of older ones; a row that says "not run" gives way.

    Raises InputError: the page has no such table.
    """
    lines = page.read_text().splitlines() if page.is_file() else []
    if HEADING not in lines:
        raise InputError(f"{page}: has no table with the heading {HEADING}")
    first = lines.index(HEADING) + 2
    last = next((place for place in range(first, len(lines)) if not lines[place].startswith("|")), len(lines))
    rows = {_key(row): row for row in lines[first:last] if not row.startswith(f"| {device} |")}
    for each in found:
        if not each.missing:
            row = f"| {' | '.join((*device_words(device), each.framework, *each.cells))} |"
            rows[_key(row)] = row
    with atomic_path(page) as temporary:
        temporary.write_text("\n".join([*lines[:first], *sorted(rows.values()), *lines[last:]]) + "\n")


def _key(row: str) -> tuple[str, str]:
    """The device and the framework, without its version, of a row."""
    cells = row.strip("| ").split(" | ")
    return cells[0], cells[2].split(" ")[0]
