"""The MindSpore side of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import mindspore
import numpy as np

from convert.family import Part
from convert.plan import build_plan
from convert.tensors import Array
from ms_models.build import build_mindspore, for_inference
from parity_tests.harness.sides.base import Side
from parity_tests.harness.sides.mindspore import MindSporeSide
from toonport.train.engine import Engine, Moments

__all__ = ["MindSporeEngine"]


class MindSporeEngine(Engine):
    """Training in MindSpore."""

    package = "ms_models"

    def _build(self, part: Part, kwargs: Mapping[str, Any], weights: Mapping[str, Array]) -> Any:
        rows = build_plan(part, kwargs).rows
        return build_mindspore(part, kwargs, {row.mindspore: weights[row.torch] for row in rows if not row.carried})

    def _execute(self) -> None:
        if self.config.precision == "float16":
            for network in self.networks.values():
                mindspore.amp.auto_mixed_precision(network, "auto", mindspore.float16)
        execution = self._execution({"compiled": self.config.compiled, "workers": self.config.data_parallel})
        if execution:
            self.step.descent.use(execution)

    def _tensor(self, array: Array) -> Any:
        return mindspore.Tensor(np.array(array))

    def _names(self, part: str) -> dict[str, str]:
        return self.plan(part).names

    def side(self, part: str) -> Side:
        """See `Engine.side`."""
        return MindSporeSide(self.networks[part], self._names(part))

    def weights(self, part: str) -> dict[str, Array]:
        """See `Engine.weights`; a batch counter that MindSpore lacks keeps the value it started with."""
        start, rows = self.start.weights[part], self.plan(part).rows
        found = {row.torch: start[row.torch] for row in rows if row.carried and row.torch in start}
        names = self._names(part)
        for name, value in self.networks[part].parameters_and_names():
            found[names[name]] = value.asnumpy().copy()
        return {row.torch: found[row.torch] for row in rows if row.torch in found}

    def _adam_states(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        names = {part: self._names(part) for part in self.parts}
        for optimizer in self.step.optimizers.values():
            rows = zip(optimizer.parameters, optimizer.exp_avg, optimizer.exp_avg_sq, strict=True)
            for value, mean, square in rows:
                part, _, name = value.name.partition(".")
                yield part, names[part][name], {"exp_avg": mean, "exp_avg_sq": square}

    def moments(self) -> Moments:
        """See `Engine.moments`."""
        return {
            (kind, part, name): value.asnumpy().copy()
            for part, name, state in self._adam_states()
            for kind, value in state.items()
        }

    def counts(self) -> dict[str, int]:
        """See `Engine.counts`."""
        return {phase: optimizer.step_number for phase, optimizer in self.step.optimizers.items()}

    def restore(self, moments: Mapping[tuple[str, str, str], Array], counts: Mapping[str, int]) -> None:
        """See `Engine.restore`; assigned in place, because a compiled step goes on with what set_data replaces."""
        for part, name, state in self._adam_states():
            for kind, value in state.items():
                mindspore.ops.assign(value, mindspore.Tensor(np.array(moments[kind, part, name])))
        for phase, count in counts.items():
            self.step.optimizers[phase].step_number = count

    def _generate(self, chain: Sequence[str], pictures: Array) -> tuple[Array, ...]:
        outputs: Any = (self._tensor(pictures),)
        for part in chain:
            network = for_inference(self.networks[part].set_train(False))
            outputs = network(outputs[0])
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(one.asnumpy() for one in outputs)
