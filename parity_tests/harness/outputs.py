"""The outputs of an exported file, measured against the float64 truth of the PyTorch network that it was made from."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from parity_tests.harness.accumulated import Key, layer_calls
from parity_tests.harness.compare import measure, ulp_neighbour
from parity_tests.harness.legs import legs_in_use
from parity_tests.harness.measurement import Kind, Measurement, Mode, Probe, Quantity
from parity_tests.harness.sides.base import Array, LayerCall, Side
from parity_tests.harness.sides.inexact import inexact_kernels, tf32_products
from parity_tests.harness.sides.torch import TorchSide
from parity_tests.tolerances import RUNTIME_KERNELS

T = TypeVar("T")
NOISE_RUNS = 2
WHOLE: Key = ("", 0)  # the call of the whole network


@dataclass(frozen=True)
class References:
    """What a network does with one input."""

    truth: Mapping[Key, LayerCall]  # every call of every layer in float64
    # the same in the compared precision, on inputs moved by about one unit in the last place
    runs: Sequence[Mapping[Key, LayerCall]]
    types: Mapping[str, str]  # layer -> class name
    truth_side: Side  # runs single layers in float64
    side: Side  # the same in the compared precision

    def measure(self, head: Measurement, key: Key, value: Array, index: int = 0) -> Measurement:
        """Measure what another program returns as one output of a call."""
        return measure(head, self.truth[key].outputs[index], [run[key].outputs[index] for run in self.runs], value)

    def measure_alone(self, head: Measurement, inputs: Sequence[Array], value: Array) -> Measurement:
        """Measure what another program returns for one layer alone, with one output, on other inputs."""
        truth = self.truth_side.call(head.layer, inputs)[0]
        runs = _noisy(inputs, head.dtype, lambda moved: self.side.call(head.layer, moved)[0])
        return measure(head, truth, runs, value)


def _noisy(inputs: Sequence[Array], dtype: str, run: Callable[[Sequence[Array]], T]) -> list[T]:
    """What `run` makes of inputs moved by about one unit in the last place, by functions as inexact as a runtime's, and
    in TF32 where the legs allow that."""
    found = []
    for seed in range(NOISE_RUNS + legs_in_use().tf32):
        with tf32_products(seed), inexact_kernels(seed, RUNTIME_KERNELS):
            found.append(run([ulp_neighbour(array, seed, dtype) for array in inputs]))
    return found


def run_references(network: Any, inputs: Array, dtype: str = "float32", layers: bool = False) -> References:
    """Run a PyTorch network in eval mode on pictures, float32 [N, C, H, W]; it stays as it is.

    Args:
        network: the reference.
        inputs: what it is run on.
        dtype: the compared precision.
        layers: keep the tensors of every layer, not only those of the whole network.
    """
    truth_side = TorchSide(copy.deepcopy(network), "float64")
    truth = layer_calls(truth_side, [inputs], not layers)
    side = TorchSide(copy.deepcopy(network), dtype, legs_in_use().reference)
    runs = _noisy([inputs], dtype, lambda moved: layer_calls(side, moved, not layers))
    return References(truth, runs, side.layer_types(), truth_side, side)


def file_head(mode: Mode, kind: str, inputs: Array, dtype: str = "float32") -> Measurement:
    """Return a measurement of a file's output without its numbers.

    Args:
        mode: row of the tolerances.
        kind: class name, or the program that runs the file.
        inputs: float32 [N, C, H, W].
        dtype: precision of the file.
    """
    return Measurement(mode, Probe.of([inputs]), "", kind, Quantity(Kind.OUTPUT), 0, dtype=dtype)


def measure_outputs(head: Measurement, references: References, found: Mapping[str, Array]) -> Iterator[Measurement]:
    """Measure outputs, name -> values, in the order in which the network returns them."""
    for index, (name, value) in enumerate(found.items()):
        own = replace(head, quantity=Quantity(Kind.OUTPUT, name), order=head.order + index)
        if index < len(references.truth[WHOLE].outputs):
            yield references.measure(own, WHOLE, value, index)
        else:
            yield replace(own, problem="the reference has no such tensor")
