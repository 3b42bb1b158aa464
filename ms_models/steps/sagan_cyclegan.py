"""The training step of SAGAN-CycleGAN in MindSpore; the twin of `torch_ref/steps_sagan_cyclegan.py`.

Papers: CycleGAN (arXiv 1703.10593), SAGAN (arXiv 1805.08318), WGAN (arXiv 1701.07875), WGAN-GP (arXiv 1704.00028).
System: lzw-all-in/anime_person_translation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ms_models.gradient_penalty import gradient_penalty
from ms_models.losses import l1
from ms_models.optim import Adam
from ms_models.pool import ImagePool
from ms_models.sagan_cyclegan import GANLoss
from ms_models.spectral_wrapper import look_ahead

__all__ = ["SaganCycleGanSettings", "SaganCycleGanStep", "learning_rate"]

GENERATORS = ("netG_A", "netG_B")
DISCRIMINATORS = ("netD_A", "netD_B")
PENALIZED = ("sn+gp", "wgangp")
HALVED = ("vanilla", "lsgan")

Objective = Callable[[], tuple[Tensor, tuple[Tensor, ...]]]


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
        self, networks: Mapping[str, nn.Cell], settings: SaganCycleGanSettings, frozen: nn.Cell | None = None
    ) -> None:
        self.networks, self.settings = dict(networks), settings
        self.step_number = 0
        self.random = np.random.default_rng(settings.seed)
        self.pools = {domain: ImagePool(settings.pool_size, self.random) for domain in "AB"}
        self.criterion = GANLoss(settings.gan_mode)
        for part, network in self.networks.items():  # MindSpore wants every name once among all that it trains
            for name, value in network.parameters_and_names():
                value.name = f"{part}.{name}"
        self.optimizers = {"G": self._adam("G", GENERATORS), "D": self._adam("D", DISCRIMINATORS)}

    def _adam(self, phase: str, parts: tuple[str, ...]) -> Adam:
        parameters = [value for part in parts for value in trainable(self.networks[part])]
        rate = learning_rate(self.settings, 1, phase)
        return Adam(parameters, rate, self.settings.beta1, self.settings.beta2, weight_decay=0.0)

    def __call__(self, real_a: Tensor, real_b: Tensor) -> dict[str, float]:
        """Train one batch; images [N, 3, H, W] in [-1, 1]. Returns every loss term before weighting, and totals.

        A step that does not train the generators returns the discriminators' terms only.
        """
        self.step_number += 1
        for network in self.networks.values():
            network.set_train(True)
        for phase, optimizer in self.optimizers.items():
            optimizer.lr = learning_rate(self.settings, self.step_number, phase)
        if self.step_number % self.settings.n_critic == 0:
            terms, fake_a, fake_b = self.generator_phase(real_a, real_b)
        else:
            fakes = self.translate(real_a, real_b)
            terms, fake_a, fake_b = {}, fakes["fake_A"], fakes["fake_B"]
        terms |= self.discriminator_phase(real_a, real_b, fake_a, fake_b)
        return {name: float(value.asnumpy()) for name, value in terms.items()}

    def translate(self, real_a: Tensor, real_b: Tensor) -> dict[str, Tensor]:
        """Translate both batches there and back."""
        ahead = 2 if self.settings.identity else 1  # further calls of each generator in this step
        fake_b = self._run("netG_A", real_a, ahead)
        rec_a = self._run("netG_B", fake_b, ahead)
        fake_a = self._run("netG_B", real_b, ahead - 1)
        rec_b = self._run("netG_A", fake_a, ahead - 1)
        return {"fake_A": fake_a, "fake_B": fake_b, "rec_A": rec_a, "rec_B": rec_b}

    def generator_phase(self, real_a: Tensor, real_b: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Update the generators; returns their terms and both batches of fakes, made before the update."""
        names: list[str] = []

        def objective() -> tuple[Tensor, tuple[Tensor, ...]]:
            fakes = self.translate(real_a, real_b)
            terms = self.generator_terms(real_a, real_b, fakes)
            names[:] = terms
            return self.generator_total(terms), (*terms.values(), fakes["fake_A"], fakes["fake_B"])

        optimizer = self.optimizers["G"]
        total, (*values, fake_a, fake_b), gradients = differentiate(objective, optimizer.parameters)
        optimizer(gradients)
        return {**dict(zip(names, values, strict=True)), "G.total": total}, fake_a, fake_b

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
        terms: dict[str, Tensor] = {}
        gradients: list[Tensor] = []
        for domain, real, fake in (("A", real_a, fake_a), ("B", real_b, fake_b)):
            found, by_weight = self.discriminator_terms(domain, real, fake)
            terms |= found
            gradients += by_weight
        total = ops.stack(list(terms.values())).sum() * self.share
        self.optimizers["D"](gradients)
        if self.settings.gan_mode == "wgan":
            self.clip()
        return {**terms, "D.total": total}

    @property
    def share(self) -> float:
        """Factor of the discriminators' sum of terms; the source halves it in modes vanilla and lsgan."""
        return 0.5 if self.settings.gan_mode in HALVED else 1.0

    def discriminator_terms(
        self, domain: str, real: Tensor, fake: Tensor
    ) -> tuple[dict[str, Tensor], Sequence[Tensor]]:
        """Return the loss terms of one discriminator, before weighting (the penalty has its weight), and gradients."""
        part = f"netD_{domain}"
        penalized = self.settings.gan_mode in PENALIZED
        fake = Tensor(self.pools[domain].query(fake.asnumpy()))

        def objective() -> tuple[Tensor, tuple[Tensor, ...]]:
            by_real = self.criterion(self._run(part, real, 1 + penalized), True)
            by_fake = self.criterion(self._run(part, fake, penalized), False)
            return (by_real + by_fake) * self.share, (by_real, by_fake)

        parameters = trainable(self.networks[part])
        _, (by_real, by_fake), gradients = differentiate(objective, parameters)
        terms = {f"D.{domain}.real": by_real, f"D.{domain}.fake": by_fake}
        if penalized:
            look_ahead(self.networks[part], 0)
            points = self.penalty_points(real, fake)
            penalty, more = gradient_penalty(self.networks[part], points, parameters, self.settings.penalty)
            terms[f"D.{domain}.penalty"] = penalty
            gradients = tuple(first + second for first, second in zip(gradients, more, strict=True))
        return terms, gradients

    def penalty_points(self, real: Tensor, fake: Tensor) -> Tensor:
        """Where the gradient penalty is taken: [N, 3, H, W]."""
        if self.settings.penalty_at != "mixed":
            return {"real": real, "fake": fake}[self.settings.penalty_at]
        weight = Tensor(self.random.uniform(size=(len(real), 1, 1, 1)).astype(np.float32))
        return weight * real + (1 - weight) * fake

    def clip(self) -> None:
        """Keep every weight of the discriminators in [-clip, clip]."""
        for value in self.optimizers["D"].parameters:
            ops.assign(value, ops.clamp(value, -self.settings.clip, self.settings.clip))

    def _run(self, part: str, images: Tensor, calls_ahead: int) -> Tensor:
        """Run a network; `calls_ahead` more passes of it will come before the backward pass."""
        look_ahead(self.networks[part], calls_ahead if self.settings.reference_exact else 0)
        return self.networks[part](images)


def trainable(network: nn.Cell) -> list[Parameter]:
    """Return the parameters that take gradients, in the network's order."""
    return [value for _, value in network.parameters_and_names() if value.requires_grad]


def differentiate(
    objective: Objective, parameters: Sequence[Parameter]
) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return the value of an objective, what else it returns, and its gradients."""
    take = ms.value_and_grad(objective, None, ms.ParameterTuple(list(parameters)), has_aux=True)
    (total, values), gradients = take()
    return total, values, gradients
