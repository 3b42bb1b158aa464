"""The form of a training step in MindSpore."""

from collections.abc import Callable, Mapping
from typing import Any

from mindspore import Parameter, Tensor, nn, ops

from convert.recipes.step import Objective, StepForm
from ms_models.descent import Descent
from ms_models.optim import Adam

Terms = dict[str, Tensor]


class Step(StepForm):
    """See `StepForm`."""

    descent: Descent

    def __init__(self, networks: Any, settings: Any, frozen: Any = None) -> None:
        for part, network in networks.items():  # MindSpore wants every name once among all that it trains
            for name, value in network.parameters_and_names():
                value.name = f"{part}.{name}"
        super().__init__(networks, settings, frozen)
        if frozen is not None:
            frozen.set_train(False)

    def run_phase(
        self, phase: str, first: Any, second: Any, made: tuple[Tensor, ...] = ()
    ) -> tuple[Terms, tuple[Tensor, ...]]:
        """See `StepForm.run_phase`."""
        weights, penalty = self.weights(phase), self.penalty(phase)
        inputs = self.prepare(phase, first, second, made)
        found = self.descent(phase, _weighted(self.objective(phase), weights), *inputs, weights=weights,
                             penalty=penalty and (penalty[0], _weighted(penalty[1], weights)))  # fmt: skip
        self.after_phase(phase)
        return found

    def penalty(self, phase: str) -> tuple[Callable[..., tuple[Tensor, ...]], Objective] | None:
        """What a term of second order needs, see `Descent`; None where a phase has none."""
        return None

    def pooled(self, domain: str, fakes: Tensor) -> Tensor:
        """Store fakes [N, 3, H, W] in a pool and return what it hands out."""
        return Tensor(self.pools[domain].query(fakes.asnumpy()))

    def clip(self, phase: str, limit: float) -> None:
        """Keep every weight that a phase trains in [-limit, limit]."""
        for value in self.optimizers[phase].parameters:
            ops.assign(value, ops.clamp(value, -limit, limit))

    def parameters(self, part: str) -> list[Parameter]:
        """The trainable parameters of a network that take part in its output: PyTorch gives others no gradient."""
        network = self.networks[part]
        unused = self.unused(network)
        return [
            value
            for name, value in network.parameters_and_names()
            if value.requires_grad and not name.startswith(unused)
        ]

    def unused(self, network: nn.Cell) -> tuple[str, ...]:
        """What the names of parameters start with that take no part in a network's output."""
        return ()

    def _adam(self, phase: str) -> Adam:
        settings, parameters = self.settings, [value for part in self.phases[phase] for value in self.parameters(part)]
        betas, decay = (settings.beta1, settings.beta2), settings.coupled_decay
        return Adam(parameters, self.rate(phase, 1), *betas, weight_decay=decay, early_eps=self.early_eps)

    def _descent(self) -> Descent:
        return Descent(self.optimizers)

    def _train_mode(self) -> None:
        for network in self.networks.values():
            network.set_train(True)

    def _set_rate(self, phase: str, rate: float) -> None:
        self.optimizers[phase].lr = rate

    def _number(self, value: Tensor) -> float:
        return float(value.asnumpy())


def _weighted(objective: Objective, weights: Mapping[str, float]) -> Callable[..., Any]:
    """Return images -> (total, loss terms, what else was made), also for graphs; who calls it checks the terms."""

    def weighted(*images: Tensor) -> Any:
        """Total, loss terms, what else was made."""
        terms, made = objective(*images)
        parts = []
        for name, value in terms.items():
            parts.append(weights.get(name, 0.0) * value)
        return ops.stack(parts).sum(), terms, made

    return weighted
