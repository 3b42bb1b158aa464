"""The ten architectures, each rewritten in three manners: what is found of them, and what is blamed for their bugs."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from convert.plan import plan_of
from parity_tests.harness.matching import Matching, match_layers
from parity_tests.harness.pair import as_inputs, target_of
from parity_tests.harness.run import Comparison, compare
from parity_tests.tests.pairs.architectures.table import ARCHITECTURES, Architecture
from parity_tests.tests.pairs.architectures.variants import RULES, variant
from toonport.own_pair import load


@dataclass(frozen=True)
class Rewritten:
    """A port of an architecture in another manner, right or with its bug."""

    architecture: Architecture
    rule: str
    spoilt: bool = False

    @cached_property
    def built(self) -> tuple[Any, Any, dict[str, str]]:
        """Both networks, and layer of the reference -> its place in the port."""
        torch.manual_seed(0)
        module, cell = self.architecture.build("torch"), self.architecture.build("mindspore")
        layers = {row.mindspore.rpartition(".")[0]: row.layer for row in plan_of(module, target_of(cell)).rows}
        if self.spoilt:
            self.architecture.spoil(cell)
        cell, moved = variant(cell, self.rule)
        return module, cell, {layers[path]: other for path, other in moved.items() if path in layers}

    @cached_property
    def found(self) -> Matching:
        """What the search makes of it."""
        module, cell, _ = self.built
        return match_layers(module, cell, as_inputs(list(self.architecture.inputs)))

    def compared(self) -> Comparison:
        """Both networks with the same weights, by the map that was found."""
        module, cell, _ = self.built
        names = self.found.layers
        load(module, cell, plan_of(module, target_of(cell), names), None)
        return compare(module, cell, list(self.architecture.inputs), modes=("weights", "isolated"), names=names)

    @property
    def blamable(self) -> set[str]:
        """The layer that has the bug, and the innermost that holds it and has a counterpart."""
        holding = self.architecture.blamed
        while holding and holding not in self.found.layers:
            holding = holding.rpartition(".")[0]
        return {self.architecture.blamed, holding}


VARIANTS = tuple(
    Rewritten(architecture, rule)
    for place, architecture in enumerate(ARCHITECTURES)
    for rule in [list(RULES)[(3 * place + number) % len(RULES)] for number in range(3)]
)
