"""The cause of a wrong update in a user's own training step, found by experiment.

The reference's optimiser, or a variant of it, gets the gradients that reached the port's, from the weights that both
started each step from. A variant is the cause when it moves the weights as the port did.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity_tests.harness.experiments import WITHIN, Finding
from parity_tests.harness.measurement import Kind, Measurement
from parity_tests.harness.optimiser_variants import Change as Made
from parity_tests.harness.optimiser_variants import variants
from parity_tests.harness.own_step_runs import TrainingStep
from parity_tests.harness.rewrites import Cause, Change
from parity_tests.harness.sides.base import Array
from parity_tests.harness.training import StepsReference
from parity_tests.harness.training_causes import ROUNDING
from parity_tests.harness.training_noise import Key, Results

AS_GOOD = 2.0  # times what the best variant leaves, another one may leave to be as good
CLEAR = 10.0  # times rounding, which an error must be for a variant to be told from the right one


Changes = dict[tuple[int, Key], Array]  # step from 0, and tensor -> its change


def find_update_cause(
    exact: TrainingStep, rounded: TrainingStep, reference: StepsReference, port: Sequence[Results], first: Measurement
) -> Finding | None:
    """Look for the variant of an optimiser behind the first difference; None where that is no change of a weight.

    Args:
        exact, rounded: the reference's step, as it was built, in float64 and in float32.
        reference: where each step starts.
        port: what the port made of each step.
        first: the tensor that is blamed.
    """
    if first.quantity.kind is not Kind.CHANGE or first.problem:
        return None
    case = _Case(reference, port, first.quantity.phase)
    wanted = case.changes(exact)
    if not wanted:
        return None
    found = {(index, key): np.asarray(port[index][key], float) for index, key in wanted}
    error, rounding = _distance(found, wanted), _distance(case.changes(rounded), wanted)
    enough = max(WITHIN * error, ROUNDING * rounding)
    if error <= CLEAR * rounding:
        return None
    for some in variants(exact.optimizers[case.phase]):
        left = {words: _distance(found, case.changes(exact, made)) for words, made in some}
        best = min(left.values(), default=enough)
        fitting = [words for words, rest in left.items() if rest <= min(enough, AS_GOOD * best)]
        if fitting:
            return Finding(Cause(Change.OPTIMISER, fitting[0], case.phase))
    return Finding(None, (Change.OPTIMISER,))


def _distance(found: Changes, wanted: Changes) -> float:
    """Root of all squared differences as a share of the size."""
    size = sum(float(np.sum(value**2)) for value in wanted.values())
    error = sum(float(np.sum((found[key] - value) ** 2)) for key, value in wanted.items())
    return float(np.sqrt(error / size)) if size and np.isfinite(error) else float("inf")


def _tensors(step: TrainingStep, optimizer: Any, copied: Any) -> dict[tuple[str, str], Any]:
    """Part and name -> tensor of a copy of an optimiser, of those that are a network's."""
    networks = step.networks.items()
    places = {id(value): (part, name) for part, network in networks for name, value in network.named_parameters()}
    pairs = zip(optimizer.param_groups, copied.param_groups, strict=True)
    values = [pair for one, other in pairs for pair in zip(one["params"], other["params"], strict=True)]
    return {places[id(value)]: other for value, other in values if id(value) in places}


@dataclass(frozen=True)
class _Case:
    """The updates of a phase."""

    reference: StepsReference
    port: Sequence[Results]
    phase: str

    def changes(self, step: TrainingStep, made: Made = lambda optimizer: optimizer) -> Changes:
        """What the optimiser, or what is made of it, changes in every step; the step itself stays as it is."""
        own = copy.deepcopy(step.optimizers[self.phase])
        tensors = _tensors(step, step.optimizers[self.phase], own)
        rates = [float(group["lr"]) for group in own.param_groups]
        own, found = made(own), Changes()
        for index, results in enumerate(self.port):
            weights = self.reference.state(index).weights
            self._start(tensors, weights)
            for call in range(sum(self._is_of_phase(key, Kind.RATE) for key in results)):
                self._call(own, tensors, rates, results, call)
            for key in results:
                part, _, name = f"{key[0]}.{key[1].name}".partition(".")
                if self._is_of_phase(key, Kind.CHANGE) and (part, name) in tensors:
                    found[index, key] = tensors[part, name].detach().double().numpy() - weights[part][name]
        return found

    def _is_of_phase(self, key: Key, kind: Kind) -> bool:
        return key[1].kind is kind and key[1].phase == self.phase

    def _start(self, tensors: Mapping[tuple[str, str], Any], weights: Mapping[str, Mapping[str, Array]]) -> None:
        """Give the weights the values that a step starts from."""
        import torch

        for (part, name), value in tensors.items():
            value.data.copy_(torch.from_numpy(np.array(weights[part][name])))

    def _call(
        self, own: Any, tensors: Mapping[tuple[str, str], Any], rates: Sequence[float], results: Results, call: int
    ) -> None:
        """Let an optimiser go on with the gradients of one of the port's calls, at its rate."""
        import torch

        seen = {key: value for key, value in results.items() if key[1].call == call and key[1].phase == self.phase}
        gradients = {
            f"{layer}.{quantity.name}": value
            for (layer, quantity), value in seen.items()
            if quantity.kind is Kind.GRADIENT
        }
        rate = next(float(value) for key, value in seen.items() if key[1].kind is Kind.RATE)
        for group, before in zip(own.param_groups, rates, strict=True):
            group["lr"] = rate * (before / rates[0] if rates[0] else 1.0) * getattr(own, "rate", 1.0)
        for (part, name), value in tensors.items():
            gradient = gradients.get(f"{part}.{name}")
            value.grad = None if gradient is None else torch.from_numpy(np.array(gradient)).to(value.dtype)
        own.step()
