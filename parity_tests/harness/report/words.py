"""Measurements in words, for people: made here only, and never read back."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from parity_tests.harness.experiments import Finding
from parity_tests.harness.explain import NOT_IDENTIFIED, known_causes
from parity_tests.harness.judge import Verdict
from parity_tests.harness.measurement import Kind, Measurement, Probe, Quantity, Rest, Resting, Unreached, Values
from parity_tests.harness.places import Places
from parity_tests.harness.rewrites import Cause

NAMED = {
    Kind.STATE: "{} afterwards",
    Kind.GRADIENT: "gradient of {}",
    Kind.CHANGE: "change of {}",
    Kind.MEAN: "mean of {}",
    Kind.REFUSAL: "refusal of {}",
    Kind.ROOT_MEAN_SQUARE: "root of the mean square of {}",
}
PHASES = {"D": "discriminator", "G": "generator"}
IN_STEP = {Kind.CHANGE: "update", Kind.MEAN: "moments", Kind.ROOT_MEAN_SQUARE: "moments"}


def quantity_words(quantity: Quantity) -> str:
    """Say which tensor it is: "output 1, call 2", "gradient of weight", "change of bias"."""
    if quantity.of is not None:
        return f"{quantity_words(replace(quantity, of=None))}, of output {quantity.of}"
    if quantity.name:
        words = NAMED.get(quantity.kind, "{}").format(quantity.name)
    else:
        words = quantity.kind.value + ("" if quantity.index is None else f" {quantity.index}")
    return words + (f", call {quantity.call + 1}" if quantity.call else "")


def probe_words(probe: Probe) -> str:
    """Say what the networks were run on: "32x32 px train, low spread", "step 2"; the batch where a file was run."""
    if probe.step is not None:
        return f"step {probe.step}"
    if probe.size is None:
        return "as loaded"
    words = f"{'x'.join(map(str, probe.size))} px" if probe.size else "vectors"
    if probe.training is not None:
        words += " train" if probe.training else " eval"
    elif probe.batch and probe.batch > 1:
        words += f", batch {probe.batch}"
    return words + "".join(_conditions(probe))


def _conditions(probe: Probe) -> Iterator[str]:
    if probe.values is not Values.RECORDED:
        yield f", {probe.values.value}"
    if probe.call is not None:
        yield f", run {probe.call}"
    if probe.changed:
        yield ", other weights"
    if probe.compiled:
        yield ", compiled"


def tensor_at(measurement: Measurement) -> str:
    """Name a tensor and what the networks were run on: "output at 256x256 px"."""
    return f"{quantity_words(measurement.quantity)} at {probe_words(measurement.probe)}"


def words_of(measurement: Measurement) -> dict[str, str]:
    """Return all that says which tensor it is, in words."""
    return {
        "layer": layer_words(measurement.layer),
        "layer_type": type_words(measurement),
        "tensor": quantity_words(measurement.quantity),
        "probe": probe_words(measurement.probe),
    }


def layer_words(layer: str) -> str:
    """Name a layer; the network itself has no path."""
    return layer or "(network)"


def type_words(measurement: Measurement) -> str:
    """Name the layer's class; of a training step, the phase and what was measured in it: "generator loss"."""
    quantity = measurement.quantity
    if not quantity.phase:
        return measurement.layer_type
    return f"{PHASES.get(quantity.phase, quantity.phase)} {IN_STEP.get(quantity.kind, quantity.kind.value)}"


def place(measurement: Measurement) -> str:
    """Name the layer and its type: "model.4 (Conv2d)"."""
    return f"{layer_words(measurement.layer)} ({type_words(measurement) or 'unknown type'})"


RESTING = {
    Rest.RATE: "learning rate of phase {}: constant in this run",
    Rest.POOL: "image pool {}: handed out no older fake",
    Rest.LOWER_LIMIT: "limits of weights: none was raised to its lower one",
    Rest.UPPER_LIMIT: "limits of weights: none was lowered to its upper one",
    Rest.TERM: "loss term {}: 0 in every step",
    Rest.SETTING: "setting {}: {} throughout",
    Rest.BATCH: "mixing of pictures: the batch was one picture",
    Rest.SQUARE: "height and width mixed up: pictures were square",
    Rest.LATER_STEPS: "what a step leaves to the next: there was one step",
    Rest.ACCUMULATION: "accumulation and averaging over processes: no batch was worked through in pieces",
    Rest.RESUMING: "resuming: the run was not taken up from a checkpoint",
    Rest.WORKERS: "what several processes exchange: one trained, as if it were one of several",
}


def resting_words(resting: Resting) -> str:
    """Say what did not move in a training run: "learning rate of phase G: constant in this run"."""
    return RESTING[resting.kind].format(resting.name, resting.value)


def unreached_words(found: Sequence[Unreached]) -> list[tuple[str, list[str]]]:
    """Say which sides of kinks were not reached, each with its layers: ("relu6 above 6", ["act", "body.act"])."""
    layers: dict[str, list[str]] = {}
    for each in found:
        layers.setdefault(f"{each.operation} {each.side.value} {each.kink:g}", []).append(layer_words(each.layer))
    return list(layers.items())


def cause_words(cause: Cause) -> str:
    """Say which bug it is: "epsilon × 10 (add)", "padding mode: constant"."""
    words = cause.change.value + (f": {cause.value}" if cause.value else "")
    return words + (f" ({cause.where})" if cause.where else "")


def finding_words(finding: Finding) -> str:
    """Say what experiments showed: the cause, or that it was not found and what was excluded."""
    if finding.cause:
        return f"{cause_words(finding.cause)}; it makes the same error"
    return f"{NOT_IDENTIFIED}; excluded: {', '.join(change.value for change in finding.excluded) or 'nothing'}"


def causes(verdicts: Sequence[Verdict], finding: Finding | None) -> list[str]:
    """Say what the first difference may come from: what experiments showed, or what is known without them."""
    return [finding_words(finding)] if finding else known_causes(verdicts)


def cause_lines(found: Sequence[str]) -> list[str]:
    """Introduce what `causes` says as likely causes, if it is not that none was identified."""
    return [cause if cause.startswith(NOT_IDENTIFIED) else f"likely cause: {cause}" for cause in found]


def places_words(places: Places | None) -> str:
    """Say where a layer's code is: "reference: net.py:12, called at net.py:30; port: ..."; "" where it is not known."""
    sides = {"reference": places.reference, "port": places.port} if places else {}
    found = {side: [place.definition, f"called at {place.call}" if place.call else ""] for side, place in sides.items()}
    return "; ".join(f"{side}: {', '.join(filter(None, words))}" for side, words in found.items() if any(words))


def short(multiple: float) -> str:
    """Return a multiple of a budget as a short text."""
    return "inf" if math.isinf(multiple) else f"{multiple:.2f}" if multiple < 1000 else f"{multiple:.1e}"


def verdict_word(verdict: Verdict) -> str:
    """Return the verdict in words."""
    if verdict.measurement.not_run:
        return "not run"
    return "cannot tell" if verdict.blind else "equal" if verdict.equal else "DIFFERENT"
