"""The PyTorch side of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from convert.errors import InputError
from convert.family import Part
from convert.tensors import Array
from parity_tests.harness.sides.base import Side
from parity_tests.harness.sides.torch import TorchSide
from toonport.train.engine import Engine, Moments
from torch_ref.build import build_torch, for_inference

__all__ = ["TorchEngine"]


class TorchEngine(Engine):
    """Training in PyTorch."""

    package = "torch_ref"

    def _build(self, part: Part, kwargs: Mapping[str, Any], weights: Mapping[str, Array]) -> Any:
        if self.config.device != "cpu" and not torch.cuda.is_available():
            raise InputError(f"--device {self.config.device}: this PyTorch finds no CUDA device; use --device cpu")
        self._device = torch.device("cpu" if self.config.device == "cpu" else "cuda")
        return build_torch(part, kwargs, weights).to(self._device)

    def _execute(self) -> None:
        execution = self._execution({"half": self.config.precision == "float16"})
        if execution:
            self.step.descent.use(execution)

    def _tensor(self, array: Array) -> Any:
        return torch.from_numpy(np.array(array)).to(self._device)

    def side(self, part: str) -> Side:
        """See `Engine.side`."""
        return TorchSide(self.networks[part])

    def weights(self, part: str) -> dict[str, Array]:
        """See `Engine.weights`."""
        state = self.networks[part].state_dict()
        return {name: value.detach().cpu().numpy().copy() for name, value in state.items()}

    def _adam_states(self) -> Iterator[tuple[str, str, str, Any, dict[str, Any]]]:
        for part, network in self.networks.items():
            phase = self.training.phase_of(part)
            states = self.step.optimizers[phase].state
            for name, value in network.named_parameters():
                yield phase, part, name, value, states.get(value, {})

    def moments(self) -> Moments:
        """See `Engine.moments`."""
        return {
            (kind, part, name): state[kind].cpu().numpy().copy()
            for _, part, name, _, state in self._adam_states()
            for kind in ("exp_avg", "exp_avg_sq")
            if kind in state
        }

    def counts(self) -> dict[str, int]:
        """See `Engine.counts`."""
        found = dict.fromkeys(self.training.phases, 0)
        for phase, _, _, _, state in self._adam_states():
            found[phase] = max(found[phase], int(state.get("step", 0)))
        return found

    def restore(self, moments: Mapping[tuple[str, str, str], Array], counts: Mapping[str, int]) -> None:
        """See `Engine.restore`."""
        for phase, part, name, value, _ in list(self._adam_states()):
            if ("exp_avg", part, name) in moments:
                state = {
                    kind: torch.from_numpy(np.array(moments[kind, part, name])).to(self._device)
                    for kind in ("exp_avg", "exp_avg_sq")
                }
                state["step"] = torch.tensor(float(counts[phase]))
                self.step.optimizers[phase].state[value] = state

    def _generate(self, chain: Sequence[str], pictures: Array) -> tuple[Array, ...]:
        outputs: Any = (self._tensor(pictures),)
        with torch.no_grad():
            for part in chain:
                network = for_inference(self.networks[part].eval())
                outputs = network(outputs[0])
                outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(one.cpu().numpy() for one in outputs)

    def _bad_gradient(self) -> str:
        for part, network in self.networks.items():
            for name, value in network.named_parameters():
                if value.grad is not None and not bool(torch.isfinite(value.grad).all()):
                    return f"first gradient that is not finite: {part}.{name}"
        return ""
