"""What a comparison measures, stage by stage: both modes, operation by operation, then as graphs."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from parity_tests.harness.accumulated import measure_accumulated
from parity_tests.harness.capture import Pair, measure_isolated, measure_weights
from parity_tests.harness.dropout import (
    DRAWS_IN_GRAPHS,
    drawn_by_hand,
    drops_in_functions,
    measure_dropout,
    measure_functions,
)
from parity_tests.harness.gradients import measure_gradients
from parity_tests.harness.judge import Verdict
from parity_tests.harness.measurement import Kind, Measurement, Mode, Probe, Quantity
from parity_tests.harness.sequence import measure_sequence
from parity_tests.harness.sides.base import Array

MODES = (Mode.WEIGHTS, Mode.ISOLATED, Mode.GRADIENTS, Mode.ACCUMULATED)
QUICK_MODES = (Mode.WEIGHTS, Mode.ISOLATED, Mode.ACCUMULATED)
QUICK_LEAVES_OUT = (  # by a quick comparison, each a line of the report
    "train mode, several runs in a row, pictures of the released size: quick",
    "blocks alone, and layers on large, even, tied or low-spread numbers: quick",
    "gradients, compiled graphs and dropout: quick",
)
Stage = tuple[str, Iterator[Measurement]]  # what it is called, and what it measures
MODE_WORDS = {False: "eval", True: "train"}


@dataclass(frozen=True)
class Stages:
    """The stages of one comparison.

    What the verdicts so far say decides whether a stage looks closer.
    """

    pair: Pair
    inputs: Sequence[Array]  # of the accumulated run
    probe: Sequence[Array]  # of all other runs in eval mode
    other: Sequence[Array]  # of those in train mode
    modes: Collection[str]  # some of MODES
    verdicts: Sequence[Verdict]  # that are there when a stage begins
    widened: Collection[str] = ()  # blocks that are fed other values, too
    graphs: bool = True  # whether it is run as a graph, too

    def quick(self) -> Iterator[Stage]:
        """What a quick comparison measures, in eval mode on the small probe."""
        own = Probe.of(self.probe, False)
        self.pair.set_training(False)
        if Mode.WEIGHTS in self.modes:
            yield "weights", measure_weights(self.pair)
        if Mode.ISOLATED in self.modes:
            yield "layers alone", measure_isolated(self.pair, self.probe, own, plain=True)
        if Mode.ACCUMULATED in self.modes:
            yield "whole network", measure_accumulated(self.pair, self.probe, own)

    def every(self) -> Iterator[Stage]:
        """Everything: operation by operation in both modes, several runs in a row, then as graphs in both modes."""
        if Mode.WEIGHTS in self.modes:
            yield "weights", measure_weights(self.pair)
        for training in (False, True):
            yield from self._in_mode(training)
        self.pair.set_training(False)
        if Mode.ACCUMULATED in self.modes:
            yield "whole network, several runs", measure_sequence(self.pair, self.probe, self.other)
        for training in (False, True) if self.graphs else ():
            yield from self._as_graph(training)
        self.pair.set_training(False)

    def _switched(self, training: bool) -> tuple[Pair, Sequence[Array], Probe]:
        """The pair in a mode, with what it is run on there."""
        self.pair.set_training(training)
        small = self.other if training else self.probe
        return drawn_by_hand(self.pair, small) if training else self.pair, small, Probe.of(small, training)

    def _in_mode(self, training: bool) -> Iterator[Stage]:
        """What a state cannot change is run once, gradients in train mode."""
        pair, small, own = self._switched(training)
        mode, again = MODE_WORDS[training], bool(pair.reference.state())
        if Mode.ISOLATED in self.modes:
            yield from self._alone(pair, small, own)
        if Mode.GRADIENTS in self.modes and (training or again):
            yield f"gradients, {mode}", measure_gradients(pair, small, own)
        if Mode.ACCUMULATED in self.modes and (again or not training):
            whole = Probe.of(self.inputs, training)
            yield f"whole network, {mode}", measure_accumulated(pair, self.inputs, whole)

    def _alone(self, pair: Pair, small: Sequence[Array], own: Probe) -> Iterator[Stage]:
        """Layers alone; in train mode those with a state, and the rest only where the network differs there alone."""
        mode = MODE_WORDS[bool(own.training)]
        if not own.training:
            yield f"layers alone, {mode}", measure_isolated(pair, small, own, widened=self.widened)
        else:
            moving = {"", *(layer for layer in pair.reference.layer_types() if pair.reference.state(layer))}
            yield f"layers alone, {mode}", measure_isolated(pair, small, own, moving)
            if self._only_in_train_mode():
                yield f"every layer alone, {mode}", measure_isolated(pair, small, own)
            if pair.reference.dropouts:
                yield "dropout", measure_dropout(pair, small, own)
        yield f"functions of dropout, {mode}", measure_functions(pair, small, own)

    def _as_graph(self, training: bool) -> Iterator[Stage]:
        """The network compiled to a graph, in which other kernels run and parts are folded, and its gradients.

        Layer by layer only where the graph of the whole differs, but nothing does operation by operation.
        """
        pair, small, own = self._switched(training)
        own, stage = replace(own, compiled=True), f"as a graph, {MODE_WORDS[training]}"
        if training and (pair.drawing or drops_in_functions(pair, small)):
            head = pair.head(Mode.ISOLATED, own, "", Quantity(Kind.OUTPUT), 0)
            yield stage, iter([replace(head, not_run=DRAWS_IN_GRAPHS)] if Mode.ISOLATED in self.modes else [])
            return
        graphs = replace(pair, port=pair.port.as_graphs())  # anew, because a graph keeps the mode it was made in
        if Mode.ISOLATED in self.modes:
            if not training or pair.reference.state():
                yield stage, measure_isolated(graphs, small, own, only={""})
            if self._only_as_graph({Mode.ISOLATED}):
                yield f"layers alone, {stage}", measure_isolated(graphs, small, own)
        if Mode.GRADIENTS in self.modes and training:
            yield f"gradients, {stage}", measure_gradients(graphs, small, own, only="")
            if self._only_as_graph({Mode.GRADIENTS, Mode.BLOCK_GRADIENTS}):
                yield f"gradients of layers, {stage}", measure_gradients(graphs, small, own)

    def _failing(self) -> list[Measurement]:
        return [verdict.measurement for verdict in self.verdicts if not verdict.equal]

    def _only_in_train_mode(self) -> bool:
        """Whether the network differs, but in train mode only."""
        failing = self._failing()
        return bool(failing) and all(each.mode is Mode.ISOLATED and each.probe.training for each in failing)

    def _only_as_graph(self, modes: Collection[Mode]) -> bool:
        """Whether the network differs in one of the modes, but as a graph only."""
        failing = [each for each in self._failing() if each.mode in modes]
        return bool(failing) and all(each.probe.compiled for each in failing)
