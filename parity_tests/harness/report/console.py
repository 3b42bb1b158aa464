"""The report on the console: a tree of layers, a table of tensors, and the outcome in a few lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from parity_tests.harness.judge import Outcome, Verdict, blind_spots
from parity_tests.harness.legs import ON_CPU
from parity_tests.harness.measurement import Mode
from parity_tests.harness.places import key_of
from parity_tests.harness.report.words import (
    cause_lines,
    causes,
    layer_words,
    place,
    places_words,
    quantity_words,
    resting_words,
    short,
    unreached_words,
    verdict_word,
    words_of,
)
from parity_tests.harness.run import Comparison
from parity_tests.tolerances import EXPORTED, UNDECIDED_SHARE

NUMBERS = f"{'max|Δ|':>9} {'rel L2':>9} {'torch err':>9} {'port err':>9} {'budget':>9} {'×budget':>8}  verdict"
HEADING = f"{'layer':<52} {'tensor':<22} {'mode':<15} {'probe':<24} {NUMBERS}"
NARROW_NUMBERS = f"{'max|Δ|':>9} {'×budget':>8}  verdict"
VERDICT_WIDTH = 11  # of the longest verdict, "cannot tell"
TREE_WIDTH = 52 + 1 + 22 + 1 + len(NUMBERS) - len("verdict") + VERDICT_WIDTH
ROW_WIDTH = len(HEADING) - len("verdict") + VERDICT_WIDTH


LOOK_HERE = "  <-- look here first"
_Form: TypeAlias = Callable[[str, str, Verdict | None], str]  # a layer's name, its type, what is shown of it


@dataclass(frozen=True)
class TreeLine:
    """One line of the tree and whether it stands for something out of budget."""

    text: str
    bad: bool


@dataclass
class _Node:
    """A layer: its own tensors and the layers inside it."""

    path: str
    verdicts: list[Verdict] = field(default_factory=list)
    children: dict[str, _Node] = field(default_factory=dict)


def tree_lines(comparison: Comparison, width: int = TREE_WIDTH) -> Iterator[TreeLine]:
    """Yield the tree of a comparison in the order of computation, a heading first.

    Each line holds a named layer, its type, and the numbers of whichever of its tensors came closest to its budget
    or left it furthest, over all modes. The layer to look at first is marked. In less than `TREE_WIDTH` columns the
    type stands behind the name, and of the numbers the largest difference and the multiple of the budget remain.
    """
    root = _grow(comparison)
    first = next((verdict.measurement.layer for verdict in comparison.blamed), None)
    form = _wide_line if width >= TREE_WIDTH else partial(_narrow_line, width)
    yield TreeLine(form("layer", "type", None), False)
    yield from _node_lines(root, comparison.name, first, form)
    yield from _inside(root, "", first, form)


def _grow(comparison: Comparison) -> _Node:
    root = _Node("")
    for verdict in sorted(comparison.verdicts, key=_position):
        node = root
        for step in filter(None, verdict.measurement.layer.split(".")):
            path = f"{node.path}.{step}" if node.path else step
            node = node.children.setdefault(step, _Node(path))
        node.verdicts.append(verdict)
    return root


def _position(verdict: Verdict) -> tuple[bool, int]:
    """Weights come last: their order is that of the file, not of the computation."""
    return verdict.measurement.mode is Mode.WEIGHTS, verdict.measurement.order


def _inside(node: _Node, indent: str, first: str | None, form: _Form) -> Iterator[TreeLine]:
    for number, (name, child) in enumerate(node.children.items(), 1):
        last = number == len(node.children)
        yield from _node_lines(child, indent + ("└─ " if last else "├─ ") + name, first, form)
        yield from _inside(child, indent + ("   " if last else "│  "), first, form)


def _node_lines(node: _Node, name: str, first: str | None, form: _Form) -> Iterator[TreeLine]:
    if not node.verdicts:
        yield TreeLine(name, False)
        return
    worst = max(_telling(node.verdicts), key=lambda verdict: verdict.multiple)
    kind = next((verdict.measurement.layer_type for verdict in node.verdicts), "")
    marked = not worst.equal and node.path == first
    wide = form is _wide_line
    yield TreeLine(form(name, kind, worst) + (LOOK_HERE if marked and wide else ""), not worst.equal)
    if marked and not wide:
        yield TreeLine(f"  ^ {LOOK_HERE.strip(' <-')}", True)


def _wide_line(name: str, kind: str, verdict: Verdict | None) -> str:
    return f"{name:<52} {kind:<22} {_numbers(verdict) if verdict else NUMBERS}"


def _narrow_line(width: int, name: str, kind: str, verdict: Verdict | None) -> str:
    room = width - (len(NARROW_NUMBERS) - len("verdict") + VERDICT_WIDTH) - 1
    named = name if verdict is None else f"{name} {kind}" if len(name) + len(kind) < room else name
    return f"{_cut(named, room):<{room}} {_few_numbers(verdict) if verdict else NARROW_NUMBERS}"


def _cut(text: str, room: int) -> str:
    """The text, its middle left out where there is no room for it."""
    half = (room - 1) // 2
    return text if len(text) <= room else f"{text[:half]}…{text[len(text) - (room - 1 - half) :]}"


def _few_numbers(verdict: Verdict) -> str:
    found = verdict.measurement
    text = found.problem or found.not_run
    columns = f"{found.difference:9.1e} {short(verdict.multiple):>8}"
    return f"{_cut(text, len(columns)) if text else columns}  {verdict_word(verdict)}"


def _telling(verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
    """Leave out what was not run, and equal weights, where anything else is known of the layer."""
    beyond = [it for it in verdicts if it.measurement.mode is not Mode.WEIGHTS or not it.equal] or verdicts
    return [verdict for verdict in beyond if not verdict.measurement.not_run] or beyond


def row_lines(verdicts: Sequence[Verdict], width: int = ROW_WIDTH) -> Iterator[TreeLine]:
    """Yield measured tensors with all their numbers, a heading first; in few columns, two lines each."""
    if verdicts and width >= ROW_WIDTH:
        yield TreeLine(HEADING, False)
    for verdict in verdicts:
        yield TreeLine(line(verdict) if width >= ROW_WIDTH else _two_lines(verdict), not verdict.equal)


def _two_lines(verdict: Verdict) -> str:
    found, words = verdict.measurement, words_of(verdict.measurement)
    numbers = found.problem or found.not_run
    if not numbers:
        numbers = f"{short(verdict.multiple)} × budget {verdict.budget:.1e}; max|Δ| {found.difference:.1e}, "
        numbers += f"rel L2 {found.relative:.1e}, torch err {found.noise:.1e}, port err {found.error:.1e}"
    where = f"{words['layer']}: {words['tensor']}, {found.mode}, {words['probe']}"
    return f"{where}: {verdict_word(verdict)}\n  {numbers}"


def line(verdict: Verdict) -> str:
    """Return one measured tensor as a line of text, in the columns of `HEADING`."""
    words, mode = words_of(verdict.measurement), verdict.measurement.mode
    return f"{words['layer']:<52} {words['tensor']:<22} {mode:<15} {words['probe']:<24} {_numbers(verdict)}"


def _numbers(verdict: Verdict) -> str:
    """Max|Δ|, relative L2, both errors, the budget and its multiple, or why there are none; then the verdict."""
    found = verdict.measurement
    text = found.problem or found.not_run
    if not text:
        columns = " ".join(
            f"{n:9.1e}" for n in (found.difference, found.relative, found.noise, found.error, verdict.budget)
        )
        text = f"{columns} {short(verdict.multiple):>8}"
    return f"{text}  {verdict_word(verdict)}"


def summary_lines(comparison: Comparison) -> list[str]:
    """Return the outcome in a few lines: the verdict per mode, the first layer out of budget and why."""
    state = "DIFFERENT" if not comparison.equal else comparison.outcome
    devices = comparison.facts.get("devices", ON_CPU.words)
    said = [] if devices == ON_CPU.words else [devices]
    lines = (*said, *_by_mode(comparison), *_unseen(comparison), *_first_differences(comparison))
    return [f"{comparison.name}: {state}", *(f"  {text}" for text in lines)]


def _by_mode(comparison: Comparison) -> Iterator[str]:
    ran: dict[Mode, list[Verdict]] = {}
    for verdict in comparison.verdicts:
        if not verdict.measurement.not_run:
            ran.setdefault(verdict.measurement.mode, []).append(verdict)
    for mode, verdicts in ran.items():
        failing = sum(not verdict.equal for verdict in verdicts)
        worst = max(verdict.multiple for verdict in verdicts)
        state = f"{failing} out of budget" if failing else "equal"
        yield f"{mode:<15} {len(verdicts):>5} tensors, {state}, worst {short(worst)} × budget"


def _said_of(what: str, verdicts: Sequence[Verdict]) -> Iterator[str]:
    if verdicts:
        yield f"{what} in {len(verdicts)} tensors, e.g. {_describe(verdicts[0])}"


def _unseen(comparison: Comparison) -> Iterator[str]:
    """Say what was not run, and where a bug could have hidden."""
    for reason, count in comparison.not_run.items():
        yield f"not run: {count} tensors: {reason}"
    odd = [verdict for verdict in comparison.verdicts if verdict.measurement.not_finite]
    yield from _said_of("NaN or infinite at the same places on both sides", odd)
    covered = comparison.covered
    if covered:
        share = 1 - len(covered) / max(1, comparison.layer_count)
        words = f"the others ({len(covered)}) within what holds them: {_some(covered)}"
        yield f"{share:.0%} of the reference's layers compared alone; {words}"
    if comparison.outcome is Outcome.CANNOT_TELL:
        yield f"more than {UNDECIDED_SHARE:.0%} of the tensors could not be judged, so this is no proof"
    blind = [verdict for verdict in comparison.verdicts if verdict.unproven]
    yield from _said_of("cannot tell a bug from noise", blind)
    idle = dict.fromkeys(verdict.measurement.layer for verdict in comparison.verdicts if verdict.measurement.idle)
    if idle:
        yield f"no output rests on a weight of {_some(list(idle))} ({len(idle)}): rounding alone moves it"
    for bug, layers in blind_spots(comparison.verdicts).items():
        yield f"cannot detect {bug} in {len(layers)} layers on these probes, e.g. {layers[0]}"
    for words, layers in unreached_words(comparison.unreached):
        yield f"not reached: {words} in {_some(layers)}"
    yield from (f"cannot detect bugs in {resting_words(resting)}" for resting in comparison.resting)


def _some(layers: Sequence[str]) -> str:
    return ", ".join(layers[:3]) + (", ..." if len(layers) > 3 else "")


def _first_differences(comparison: Comparison) -> Iterator[str]:
    if comparison.equal:
        return
    first, along = comparison.blamed[0], comparison.first_of(Mode.ACCUMULATED)
    yield f"first out of budget: {_describe(first)}"
    yield from filter(None, [places_words(comparison.places.get(key_of(first.measurement)))])
    if comparison.case:
        yield f"replay: {comparison.case}"
    yield from cause_lines(causes(comparison.verdicts, comparison.finding))
    in_file = next(filter(None, (comparison.first_of(mode) for mode in EXPORTED)), None)
    if in_file and in_file is not first:
        yield f"first out of budget in the exported file: {_describe(in_file)}"
    if along and along.measurement.layer != first.measurement.layer:
        yield f"first seen in the whole run at: {_describe(along)}"
    if along:
        yield _amplification(along)


def _amplification(verdict: Verdict) -> str:
    found = verdict.measurement
    before = "not measurable" if found.input_error is None else f"{found.input_error:.1f} × the noise"
    after = f"{found.error / found.noise:.1f} × the noise" if found.noise else "out of nothing"
    return f"in the whole run, error at the input of {layer_words(found.layer)}: {before}; at its output: {after}"


def _describe(verdict: Verdict) -> str:
    found = verdict.measurement
    how = found.problem or f"{short(verdict.multiple)} × budget, max|Δ| {found.difference:.1e}"
    return f"{place(found)}, {quantity_words(found.quantity)}, {found.mode}: {how}"
