"""The form of a training step in PyTorch."""

from typing import Any

import torch
from torch import Tensor

from convert.recipes.descent import require_terms
from convert.recipes.step import StepForm
from torch_ref.descent import Descent

Terms = dict[str, Tensor]


class Step(StepForm):
    """See `StepForm`."""

    descent: Descent

    def __init__(self, networks: Any, settings: Any, frozen: Any = None) -> None:
        super().__init__(networks, settings, frozen)
        if frozen is not None:
            frozen.eval().requires_grad_(False)

    def run_phase(
        self, phase: str, first: Any, second: Any, made: tuple[Tensor, ...] = ()
    ) -> tuple[Terms, tuple[Tensor, ...]]:
        """See `StepForm.run_phase`."""
        objective, weights = self.objective(phase), self.weights(phase)

        def weighted(*inputs: Tensor) -> tuple[Tensor, Terms, tuple[Tensor, ...]]:
            """Total, loss terms, what else was made."""
            terms, made = objective(*inputs)
            require_terms(phase, terms, weights)
            return torch.stack([weights[name] * value for name, value in terms.items()]).sum(), terms, made

        found = self.descent(phase, weighted, *self.prepare(phase, first, second, made))
        self.after_phase(phase)
        return found

    def pooled(self, domain: str, fakes: Tensor) -> Tensor:
        """Store fakes [N, 3, H, W] in a pool and return what it hands out."""
        return torch.from_numpy(self.pools[domain].query(fakes.cpu().numpy())).to(fakes)

    def clip(self, phase: str, limit: float) -> None:
        """Keep every weight that a phase trains in [-limit, limit]."""
        with torch.no_grad():
            for value in self.optimizers[phase].param_groups[0]["params"]:
                value.clamp_(-limit, limit)

    def _adam(self, phase: str) -> torch.optim.Adam:
        settings, networks = self.settings, [self.networks[part] for part in self.phases[phase]]
        parameters = [value for network in networks for value in network.parameters() if value.requires_grad]
        betas = (settings.beta1, settings.beta2)
        optimizer = torch.optim.Adam(parameters, self.rate(phase, 1), betas, weight_decay=settings.coupled_decay)
        if self.early_eps:
            optimizer.register_step_pre_hook(add_eps_early)
        return optimizer

    def _descent(self) -> Descent:
        return Descent(self.optimizers)

    def _train_mode(self) -> None:
        for network in self.networks.values():
            network.train()

    def _set_rate(self, phase: str, rate: float) -> None:
        self.optimizers[phase].param_groups[0]["lr"] = rate

    def _number(self, value: Tensor) -> float:
        return float(value)


def add_eps_early(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Let Adam's next step add eps before the bias correction of the second moment, as `mindspore.nn.Adam` does.

    That is PyTorch's Adam with the eps of step t divided by sqrt(1 - beta2^t): 32 times larger in the first step.
    """
    for group in optimizer.param_groups:
        counts = (float(optimizer.state[value]["step"]) for value in group["params"] if optimizer.state.get(value))
        number = 1 + max(counts, default=0.0)
        group["eps"] = optimizer.defaults["eps"] / (1 - group["betas"][1] ** number) ** 0.5
