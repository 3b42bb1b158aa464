"""The training step of SAGAN-CycleGAN: generators, then discriminators on pooled fakes.

Papers: CycleGAN (arXiv 1703.10593), SAGAN (arXiv 1805.08318), WGAN (arXiv 1701.07875), WGAN-GP (arXiv 1704.00028).
System: lzw-all-in/anime_person_translation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from torch_ref.gradient_penalty import gradient_penalty
from torch_ref.losses import l1
from torch_ref.pool import ImagePool
from torch_ref.sagan_cyclegan import GANLoss
from torch_ref.spectral_wrapper import look_ahead

__all__ = ["SaganCycleGanSettings", "SaganCycleGanStep", "learning_rate"]

GENERATORS = ("netG_A", "netG_B")
DISCRIMINATORS = ("netD_A", "netD_B")
PENALIZED = ("sn+gp", "wgangp")
HALVED = ("vanilla", "lsgan")


@dataclass(frozen=True)
class SaganCycleGanSettings:
    """Weights of the loss terms and of the optimisers, with the source's defaults.

    Attributes:
        gan_mode: "sn", "sn+gp", "wgangp", "wgan", "vanilla" or "lsgan", see `GANLoss`.
        cycle_a, cycle_b: weights of the cycle terms.
        identity: weight of the identity terms, a share of the cycle weights; 0 leaves them out. The source offers
            0.05 and has it off.
        penalty: weight of the gradient penalty (modes "sn+gp" and "wgangp").
        penalty_at: where it is taken: "mixed" between real and fake, "real" or "fake".
        clip: largest size of the discriminators' weights (mode "wgan").
        n_critic: the generators are trained in every n_critic-th step.
        pool_size: fakes that each image pool keeps.
        lr_g, lr_d, beta1, beta2: Adam.
        steps_per_epoch, constant_epochs, decay_epochs: the learning rate is constant for constant_epochs + 1
            epochs, then falls linearly to 0 at epoch constant_epochs + decay_epochs + 1.
        seed: of all random draws.
        reference_exact: keep the source's faults: identity A counted twice and B never; gradients of sigma with the
            singular vectors of the last forward pass before backward.
    """

    gan_mode: str = "sn"
    cycle_a: float = 250.0
    cycle_b: float = 250.0
    identity: float = 0.0
    penalty: float = 10.0
    penalty_at: str = "mixed"
    clip: float = 0.01
    n_critic: int = 1
    pool_size: int = 50
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


def learning_rate(settings: SaganCycleGanSettings, step: int, phase: str = "G") -> float:
    """Learning rate of a phase ("G" or "D") in `step`, counted from 1; it changes from epoch to epoch only."""
    epoch = (step - 1) // settings.steps_per_epoch
    fall = max(0, epoch - settings.constant_epochs) / (settings.decay_epochs + 1)
    return (settings.lr_g if phase == "G" else settings.lr_d) * max(0.0, 1 - fall)


class SaganCycleGanStep:
    """Holds the four networks and both optimisers; one call trains one batch.

    Args:
        networks: netG_A, netG_B, netD_A, netD_B.
        settings: loss and optimiser weights.
        frozen: not used by this family.
    """

    def __init__(
        self, networks: Mapping[str, nn.Module], settings: SaganCycleGanSettings, frozen: nn.Module | None = None
    ) -> None:
        self.networks, self.settings = dict(networks), settings
        self.step_number = 0
        self.random = np.random.default_rng(settings.seed)
        self.pools = {domain: ImagePool(settings.pool_size, self.random) for domain in "AB"}
        self.criterion = GANLoss(settings.gan_mode)
        self.optimizers = {"G": self._adam("G", GENERATORS), "D": self._adam("D", DISCRIMINATORS)}

    def _adam(self, phase: str, parts: tuple[str, ...]) -> torch.optim.Adam:
        parameters = [value for part in parts for value in self.networks[part].parameters() if value.requires_grad]
        return torch.optim.Adam(
            parameters, learning_rate(self.settings, 1, phase), (self.settings.beta1, self.settings.beta2)
        )

    def __call__(self, real_a: Tensor, real_b: Tensor) -> dict[str, float]:
        """Train one batch; images [N, 3, H, W] in [-1, 1]. Returns every loss term before weighting, and totals.

        A step that does not train the generators returns the discriminators' terms only.
        """
        self.step_number += 1
        for network in self.networks.values():
            network.train()
        for phase, optimizer in self.optimizers.items():
            optimizer.param_groups[0]["lr"] = learning_rate(self.settings, self.step_number, phase)
        trains_generators = self.step_number % self.settings.n_critic == 0
        with torch.set_grad_enabled(trains_generators):
            fakes = self.translate(real_a, real_b)
        terms = self.generator_phase(real_a, real_b, fakes) if trains_generators else {}
        terms |= self.discriminator_phase(real_a, real_b, fakes["fake_A"].detach(), fakes["fake_B"].detach())
        return {name: float(value.detach()) for name, value in terms.items()}

    def translate(self, real_a: Tensor, real_b: Tensor) -> dict[str, Tensor]:
        """Translate both batches there and back."""
        ahead = 2 if self.settings.identity else 1  # further calls of each generator in this step
        fake_b = self._run("netG_A", real_a, ahead)
        rec_a = self._run("netG_B", fake_b, ahead)
        fake_a = self._run("netG_B", real_b, ahead - 1)
        rec_b = self._run("netG_A", fake_a, ahead - 1)
        return {"fake_A": fake_a, "fake_B": fake_b, "rec_A": rec_a, "rec_B": rec_b}

    def generator_phase(self, real_a: Tensor, real_b: Tensor, fakes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Update the generators."""
        terms = self.generator_terms(real_a, real_b, fakes)
        total = self.generator_total(terms)
        self._descend("G", total)
        return {**terms, "G.total": total}

    def generator_terms(self, real_a: Tensor, real_b: Tensor, fakes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every loss term of the generators, before weighting."""
        terms: dict[str, Tensor] = {}
        if self.settings.identity:
            terms["G.identity_A"] = l1(self._run("netG_B", real_a, 0), real_a)
            terms["G.identity_B"] = l1(self._run("netG_A", real_b, 0), real_b)
        terms["G.A.adv"] = self.criterion(self._run("netD_A", fakes["fake_A"], 0), True, True)
        terms["G.B.adv"] = self.criterion(self._run("netD_B", fakes["fake_B"], 0), True, True)
        terms["G.cycle_A"] = l1(fakes["rec_A"], real_a)
        terms["G.cycle_B"] = l1(fakes["rec_B"], real_b)
        return terms

    def generator_total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Weight and add the generators' terms."""
        settings = self.settings
        total = terms["G.A.adv"] + terms["G.B.adv"]
        total = total + settings.cycle_a * terms["G.cycle_A"] + settings.cycle_b * terms["G.cycle_B"]
        if settings.identity:
            second, weight = ("A", settings.cycle_a) if settings.reference_exact else ("B", settings.cycle_b)
            total = total + settings.identity * settings.cycle_a * terms["G.identity_A"]
            total = total + settings.identity * weight * terms[f"G.identity_{second}"]
        return total

    def discriminator_phase(self, real_a: Tensor, real_b: Tensor, fake_a: Tensor, fake_b: Tensor) -> dict[str, Tensor]:
        """Update the discriminators on real images and fakes from the pools."""
        terms = self.discriminator_terms("A", real_a, fake_a) | self.discriminator_terms("B", real_b, fake_b)
        total = self.discriminator_total(terms)
        self._descend("D", total)
        if self.settings.gan_mode == "wgan":
            self.clip()
        return {**terms, "D.total": total}

    def discriminator_terms(self, domain: str, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Return the loss terms of one discriminator, before weighting; the penalty has its weight."""
        part = f"netD_{domain}"
        penalized = self.settings.gan_mode in PENALIZED
        fake = torch.from_numpy(self.pools[domain].query(fake.cpu().numpy())).to(real.device)
        terms = {
            f"D.{domain}.real": self.criterion(self._run(part, real, 1 + penalized), True),
            f"D.{domain}.fake": self.criterion(self._run(part, fake, penalized), False),
        }
        if penalized:
            look_ahead(self.networks[part], 0)
            points = self.penalty_points(real, fake)
            terms[f"D.{domain}.penalty"] = gradient_penalty(self.networks[part], points, self.settings.penalty)
        return terms

    def discriminator_total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Add the discriminators' terms; the source halves them in modes vanilla and lsgan."""
        return torch.stack(list(terms.values())).sum() * (0.5 if self.settings.gan_mode in HALVED else 1.0)

    def penalty_points(self, real: Tensor, fake: Tensor) -> Tensor:
        """Where the gradient penalty is taken: [N, 3, H, W]."""
        if self.settings.penalty_at != "mixed":
            return {"real": real, "fake": fake}[self.settings.penalty_at]
        alpha = self.random.uniform(size=(len(real), 1, 1, 1)).astype(np.float32)
        weight = torch.from_numpy(alpha).to(real)
        return weight * real + (1 - weight) * fake

    def clip(self) -> None:
        """Keep every weight of the discriminators in [-clip, clip]."""
        with torch.no_grad():
            for value in self.optimizers["D"].param_groups[0]["params"]:
                value.clamp_(-self.settings.clip, self.settings.clip)

    def _run(self, part: str, images: Tensor, calls_ahead: int) -> Tensor:
        """Run a network; `calls_ahead` more passes of it will come before the backward pass."""
        look_ahead(self.networks[part], calls_ahead if self.settings.reference_exact else 0)
        return self.networks[part](images)

    def _descend(self, phase: str, total: Tensor) -> None:
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        total.backward()
        self.optimizers[phase].step()
