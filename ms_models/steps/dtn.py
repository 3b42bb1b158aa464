"""The training step of the domain transfer network in MindSpore; the twin of `torch_ref/steps_dtn.py`.

Paper: DTN (arXiv 1611.02200). System: lzw-all-in/anime_person_translation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mindspore import Tensor, nn, ops

from ms_models.optim import Adam
from ms_models.sagan_cyclegan import GANLoss
from ms_models.spectral_wrapper import look_ahead
from ms_models.steps.sagan_cyclegan import PENALIZED, differentiate, trainable

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

    def __init__(self, networks: Mapping[str, nn.Cell], settings: DtnSettings, frozen: nn.Cell | None = None) -> None:
        if settings.gan_mode in PENALIZED:
            raise ValueError(f"DTN has no gradient penalty; gan_mode '{settings.gan_mode}' needs one")
        self.networks, self.settings = dict(networks), settings
        self.step_number = 0
        self.criterion = GANLoss(settings.gan_mode)
        for part, network in self.networks.items():  # MindSpore wants every name once among all that it trains
            for name, value in network.parameters_and_names():
                value.name = f"{part}.{name}"
        self.optimizers = {"G": self._adam("G", ("encoder", "decoder")), "D": self._adam("D", ("net_D",))}

    def _adam(self, phase: str, parts: tuple[str, ...]) -> Adam:
        parameters = [value for part in parts for value in trainable(self.networks[part])]
        rate = learning_rate(self.settings, 1, phase)
        return Adam(parameters, rate, self.settings.beta1, self.settings.beta2, weight_decay=0.0)

    def __call__(self, source: Tensor, target: Tensor) -> dict[str, float]:
        """Train one batch; images [N, 3, H, W] in [-1, 1]. Returns every loss term before weighting, and totals."""
        self.step_number += 1
        for network in self.networks.values():
            network.set_train(True)
        for phase, optimizer in self.optimizers.items():
            optimizer.lr = learning_rate(self.settings, self.step_number, phase)
        terms, fake, rec = self.generator_phase(source, target)
        terms |= self.discriminator_phase(target, fake, rec)
        return {name: float(value.asnumpy()) for name, value in terms.items()}

    def generator_phase(self, source: Tensor, target: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Update encoder and decoder; returns their terms, and what they made before the update."""
        settings, names = self.settings, ("G.fake", "G.rec", "G.consistency", "G.reconstruction")

        def objective() -> tuple[Tensor, tuple[Tensor, ...]]:
            code = self.networks["encoder"](source)  # [N, z_dim, h, w]
            fake = self._run("decoder", code, 1)
            rec = self._run("decoder", self.networks["encoder"](target), 0)
            by_fake = self.criterion(self._run("net_D", fake, 1), True, True)
            by_rec = self.criterion(self._run("net_D", rec, 0), True, True)
            consistency = ((code - self.networks["encoder"](fake)) ** 2).mean()
            reconstruction = ((target - rec) ** 2).mean()
            total = by_fake + by_rec + settings.consistency * consistency + settings.reconstruction * reconstruction
            return total, (by_fake, by_rec, consistency, reconstruction, fake, rec)

        optimizer = self.optimizers["G"]
        total, (*values, fake, rec), gradients = differentiate(objective, optimizer.parameters)
        optimizer(gradients)
        return {**dict(zip(names, values, strict=True)), "G.total": total}, fake, rec

    def discriminator_phase(self, target: Tensor, fake: Tensor, rec: Tensor) -> dict[str, Tensor]:
        """Update the discriminator on targets, translated sources and reconstructed targets."""

        def objective() -> tuple[Tensor, tuple[Tensor, ...]]:
            terms = (
                self.criterion(self._run("net_D", target, 2), True),
                self.criterion(self._run("net_D", fake, 1), False),
                self.criterion(self._run("net_D", rec, 0), False),
            )
            return ops.stack(terms).sum(), terms

        optimizer = self.optimizers["D"]
        total, values, gradients = differentiate(objective, optimizer.parameters)
        optimizer(gradients)
        if self.settings.gan_mode == "wgan":
            self.clip()
        return {**dict(zip(("D.real", "D.fake", "D.rec"), values, strict=True)), "D.total": total}

    def clip(self) -> None:
        """Keep every weight of the discriminator in [-clip, clip]."""
        for value in self.optimizers["D"].parameters:
            ops.assign(value, ops.clamp(value, -self.settings.clip, self.settings.clip))

    def _run(self, part: str, inputs: Tensor, calls_ahead: int) -> Tensor:
        """Run a network; `calls_ahead` more passes of it will come before the backward pass."""
        look_ahead(self.networks[part], calls_ahead if self.settings.reference_exact else 0)
        return self.networks[part](inputs)
