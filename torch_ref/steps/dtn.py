"""The training step of the domain transfer network: encoder and decoder, then the discriminator.

Paper: DTN (arXiv 1611.02200). System: lzw-all-in/anime_person_translation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torch_ref.sagan_cyclegan import GANLoss
from torch_ref.spectral_wrapper import look_ahead
from torch_ref.steps.sagan_cyclegan import PENALIZED

__all__ = ["DtnSettings", "DtnStep", "learning_rate"]


@dataclass(frozen=True)
class DtnSettings:
    """Weights of the loss terms and of the optimisers, with the source's defaults.

    Attributes:
        gan_mode: "sn", "wgan", "vanilla" or "lsgan", see `GANLoss`.
        consistency: weight of the distance between the codes of a source picture and of its translation.
        reconstruction: weight of the distance between a target picture and what becomes of it.
        clip: largest size of the discriminator's weights (mode "wgan").
        lr_g, lr_d, beta1, beta2: Adam.
        steps_per_epoch, constant_epochs, decay_epochs: the learning rate is constant for constant_epochs + 1
            epochs, then falls linearly to 0 at epoch constant_epochs + decay_epochs + 1.
        seed: kept for every family alike; this step draws nothing.
        reference_exact: gradients of sigma with the singular vectors of the last forward pass before backward.
    """

    gan_mode: str = "sn"
    consistency: float = 10.0
    reconstruction: float = 300.0
    clip: float = 0.01
    lr_g: float = 1e-4
    lr_d: float = 4e-4
    beta1: float = 0.0
    beta2: float = 0.9
    steps_per_epoch: int = 781
    constant_epochs: int = 100
    decay_epochs: int = 100
    seed: int = 0
    reference_exact: bool = False

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return self.steps_per_epoch * (self.constant_epochs + self.decay_epochs)


def learning_rate(settings: DtnSettings, step: int, phase: str = "G") -> float:
    """Learning rate of a phase ("G" or "D") in `step`, counted from 1; it changes from epoch to epoch only."""
    epoch = (step - 1) // settings.steps_per_epoch
    fall = max(0, epoch - settings.constant_epochs) / (settings.decay_epochs + 1)
    return (settings.lr_g if phase == "G" else settings.lr_d) * max(0.0, 1 - fall)


class DtnStep:
    """Holds encoder, decoder, discriminator and both optimisers; one call trains one batch.

    Args:
        networks: encoder, decoder, net_D.
        settings: loss and optimiser weights.
        frozen: not used by this family.

    Raises:
        ValueError: a mode with a gradient penalty.
    """

    def __init__(
        self, networks: Mapping[str, nn.Module], settings: DtnSettings, frozen: nn.Module | None = None
    ) -> None:
        if settings.gan_mode in PENALIZED:
            raise ValueError(f"DTN has no gradient penalty; gan_mode '{settings.gan_mode}' needs one")
        self.networks, self.settings = dict(networks), settings
        self.step_number = 0
        self.criterion = GANLoss(settings.gan_mode)
        self.optimizers = {"G": self._adam("G", ("encoder", "decoder")), "D": self._adam("D", ("net_D",))}

    def _adam(self, phase: str, parts: tuple[str, ...]) -> torch.optim.Adam:
        parameters = [value for part in parts for value in self.networks[part].parameters() if value.requires_grad]
        return torch.optim.Adam(
            parameters, learning_rate(self.settings, 1, phase), (self.settings.beta1, self.settings.beta2)
        )

    def __call__(self, source: Tensor, target: Tensor) -> dict[str, float]:
        """Train one batch; images [N, 3, H, W] in [-1, 1]. Returns every loss term before weighting, and totals."""
        self.step_number += 1
        for network in self.networks.values():
            network.train()
        for phase, optimizer in self.optimizers.items():
            optimizer.param_groups[0]["lr"] = learning_rate(self.settings, self.step_number, phase)
        code = self.networks["encoder"](source)  # [N, z_dim, h, w]
        fake = self._run("decoder", code, 1)
        rec = self._run("decoder", self.networks["encoder"](target), 0)
        terms = self.generator_phase(target, code, fake, rec)
        terms |= self.discriminator_phase(target, fake.detach(), rec.detach())
        return {name: float(value.detach()) for name, value in terms.items()}

    def generator_phase(self, target: Tensor, code: Tensor, fake: Tensor, rec: Tensor) -> dict[str, Tensor]:
        """Update encoder and decoder."""
        terms = {
            "G.fake": self.criterion(self._run("net_D", fake, 1), True, True),
            "G.rec": self.criterion(self._run("net_D", rec, 0), True, True),
            "G.consistency": ((code - self.networks["encoder"](fake)) ** 2).mean(),
            "G.reconstruction": ((target - rec) ** 2).mean(),
        }
        settings = self.settings
        total = terms["G.fake"] + terms["G.rec"] + settings.consistency * terms["G.consistency"]
        total = total + settings.reconstruction * terms["G.reconstruction"]
        self._descend("G", total)
        return {**terms, "G.total": total}

    def discriminator_phase(self, target: Tensor, fake: Tensor, rec: Tensor) -> dict[str, Tensor]:
        """Update the discriminator on targets, translated sources and reconstructed targets."""
        terms = {
            "D.real": self.criterion(self._run("net_D", target, 2), True),
            "D.fake": self.criterion(self._run("net_D", fake, 1), False),
            "D.rec": self.criterion(self._run("net_D", rec, 0), False),
        }
        total = torch.stack(list(terms.values())).sum()
        self._descend("D", total)
        if self.settings.gan_mode == "wgan":
            self.clip()
        return {**terms, "D.total": total}

    def clip(self) -> None:
        """Keep every weight of the discriminator in [-clip, clip]."""
        with torch.no_grad():
            for value in self.optimizers["D"].param_groups[0]["params"]:
                value.clamp_(-self.settings.clip, self.settings.clip)

    def _run(self, part: str, inputs: Tensor, calls_ahead: int) -> Tensor:
        """Run a network; `calls_ahead` more passes of it will come before the backward pass."""
        look_ahead(self.networks[part], calls_ahead if self.settings.reference_exact else 0)
        return self.networks[part](inputs)

    def _descend(self, phase: str, total: Tensor) -> None:
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        total.backward()
        self.optimizers[phase].step()
