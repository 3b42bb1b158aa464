"""The training step of SAGAN-CycleGAN: generators, then discriminators on pooled fakes; see the recipe."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from convert.recipes.pool import ImagePool
from convert.recipes.sagan_cyclegan import PHASES, SaganCycleGanSettings
from torch_ref.gradient_penalty import gradient_penalty
from torch_ref.losses import l1
from torch_ref.sagan_cyclegan import GANLoss
from torch_ref.spectral_wrapper import look_ahead
from torch_ref.step import Step, Terms


class SpectralStep(Step):
    """A step whose networks have spectral norms that look ahead, and whose loss is `GANLoss`; DTN's is another."""

    def use(self, settings: Any) -> None:
        """See `StepForm.use`."""
        super().use(settings)
        self.criterion = GANLoss(settings.gan_mode)

    def after_phase(self, phase: str) -> None:
        """Keep every weight of the discriminators in [-clip, clip] in mode wgan."""
        if phase == "D" and self.settings.gan_mode == "wgan":
            self.clip("D", self.settings.clip)

    def _run(self, part: str, inputs: Tensor, calls_ahead: int) -> Tensor:
        """Run a network; `calls_ahead` more passes of it will come before the backward pass."""
        look_ahead(self.networks[part], calls_ahead if self.settings.reference_exact else 0)
        return self.networks[part](inputs)


class SaganCycleGanStep(SpectralStep):
    """Trains netG_A, netG_B, netD_A and netD_B, without a frozen network.

    A step that does not train the generators returns the discriminators' terms only.
    """

    phases = PHASES

    def __init__(
        self, networks: Mapping[str, nn.Module], settings: SaganCycleGanSettings, frozen: nn.Module | None = None
    ) -> None:
        super().__init__(networks, settings, frozen)
        self.pools = {domain: ImagePool(settings.pool_size, self.random) for domain in "AB"}

    def due(self) -> tuple[str, ...]:
        """The generators are trained in every n_critic-th step."""
        return ("D",) if self.step_number % self.settings.n_critic else tuple(self.phases)

    def translate(self, real_a: Tensor, real_b: Tensor) -> tuple[Tensor, ...]:
        """Return the fakes of A and of B, and both batches translated there and back."""
        ahead = 2 if self.settings.identity else 1  # further calls of each generator in this step
        fake_b = self._run("netG_A", real_a, ahead)
        rec_a = self._run("netG_B", fake_b, ahead)
        fake_a = self._run("netG_B", real_b, ahead - 1)
        rec_b = self._run("netG_A", fake_a, ahead - 1)
        return fake_a, fake_b, rec_a, rec_b

    def generator_objective(self, real_a: Tensor, real_b: Tensor) -> tuple[Terms, tuple[Tensor, ...]]:
        """Judge and translate back; hands on the fakes of A and of B."""
        fake_a, fake_b, rec_a, rec_b = self.translate(real_a, real_b)
        terms: Terms = {}
        if self.settings.identity:
            terms["G.identity_A"] = l1(self._run("netG_B", real_a, 0), real_a)
            terms["G.identity_B"] = l1(self._run("netG_A", real_b, 0), real_b)
        terms["G.A.adv"] = self.criterion(self._run("netD_A", fake_a, 0), True, True)
        terms["G.B.adv"] = self.criterion(self._run("netD_B", fake_b, 0), True, True)
        terms["G.cycle_A"] = l1(rec_a, real_a)
        terms["G.cycle_B"] = l1(rec_b, real_b)
        return terms, (fake_a, fake_b)

    def prepare(self, phase: str, first: Tensor, second: Tensor, made: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return, for each discriminator, real images, fakes from the pool and the points of a penalty."""
        if phase == "G":
            return first, second
        fakes = made or self.descent.forward(self.translate, first, second)
        inputs: list[Tensor] = []
        for domain, real, fresh in (("A", first, fakes[0]), ("B", second, fakes[1])):
            fake = self.pooled(domain, fresh)
            inputs += [real, fake, *([self.penalty_points(real, fake)] if self.settings.penalized else [])]
        return tuple(inputs)

    def discriminator_objective(self, *inputs: Tensor) -> tuple[Terms, tuple[Tensor, ...]]:
        """Judge real images and fakes, see `prepare`; the penalty has its weight."""
        terms: Terms = {}
        half, penalized = len(inputs) // 2, self.settings.penalized
        for domain, (real, fake, *points) in (("A", inputs[:half]), ("B", inputs[half:])):
            part = "netD_" + domain
            terms["D." + domain + ".real"] = self.criterion(self._run(part, real, 1 + penalized), True)
            terms["D." + domain + ".fake"] = self.criterion(self._run(part, fake, penalized), False)
            for place in points:
                look_ahead(self.networks[part], 0)
                penalty = gradient_penalty(self.networks[part], place, self.settings.penalty)
                terms["D." + domain + ".penalty"] = penalty
        return terms, ()

    def penalty_points(self, real: Tensor, fake: Tensor) -> Tensor:
        """Where the gradient penalty is taken: [N, 3, H, W]."""
        if self.settings.penalty_at != "mixed":
            return {"real": real, "fake": fake}[self.settings.penalty_at]
        weight = torch.from_numpy(self.random.uniform(size=(len(real), 1, 1, 1)).astype(np.float32)).to(real)
        return weight * real + (1 - weight) * fake
