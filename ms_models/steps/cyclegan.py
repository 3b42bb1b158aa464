"""The training step of CycleGAN in MindSpore; the twin of `torch_ref/steps_cyclegan.py`.

Paper: CycleGAN (arXiv 1703.10593). Systems: junyanz/pytorch-CycleGAN-and-pix2pix and the CycleGAN of the MindSpore
model zoo; they share the step and differ in which domain D_A judges and in the rule of the learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ms_models.cyclegan_zoo import Discriminator
from ms_models.losses import cam_loss, l1, least_squares
from ms_models.optim import Adam
from ms_models.pool import ImagePool

__all__ = ["CycleGanSettings", "CycleGanStep", "gan_loss", "learning_rate"]

GENERATORS = ("G_A", "G_B")
DISCRIMINATORS = ("D_A", "D_B")
GAN_MODES, DECAYS = ("lsgan", "vanilla"), ("junyanz", "zoo", "none")


@dataclass(frozen=True)
class CycleGanSettings:
    """Weights of the loss terms, the optimisers and the pool; the defaults are the systems'.

    Attributes:
        gan_mode: "lsgan" (least squares) or "vanilla" (cross-entropy).
        cycle_a, cycle_b: weights of the cycle losses of A and B.
        identity: weight of the identity losses relative to the cycle losses; 0 leaves them out.
        lr, beta1, beta2: Adam.
        total_steps: steps of the whole training.
        steps_per_epoch: batches that one pass over the data takes; the learning rate changes between epochs, so
            that its schedule is the same whatever the batch.
        constant_epochs: epochs at the full learning rate; None for half of all, of an odd number the larger half.
        decay: "junyanz" falls linearly, 1 / (epochs + 1) of the rate each epoch of the rest; "zoo" in steps of
            1 / epochs, the first falling epoch still at the full rate; "none" stays.
        pool_size: images in each pool of fakes.
        seed: of the pools' draws.
        reference_exact: the model zoo counts `batch_size` times as many steps in an epoch, so that with a batch above
            1 the fall starts late or never.
        batch_size: pictures of each domain in a step; read only where `reference_exact` is set.
    """

    gan_mode: str = "lsgan"
    cycle_a: float = 10.0
    cycle_b: float = 10.0
    identity: float = 0.5
    lr: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    total_steps: int = 200_000
    steps_per_epoch: int = 1000
    constant_epochs: int | None = None
    decay: str = "junyanz"
    pool_size: int = 50
    seed: int = 0
    reference_exact: bool = False
    batch_size: int = 1

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown gan_mode or rule of decay."""
        if self.gan_mode not in GAN_MODES:
            raise ValueError(f"unknown gan_mode '{self.gan_mode}'; modes: {', '.join(GAN_MODES)}")
        if self.decay not in DECAYS:
            raise ValueError(f"unknown decay '{self.decay}'; rules: {', '.join(DECAYS)}")


def learning_rate(settings: CycleGanSettings, step: int) -> float:
    """Learning rate used in `step` (counted from 1), never below 0."""
    epochs = -(-settings.total_steps // settings.steps_per_epoch)
    constant = (epochs + 1) // 2 if settings.constant_epochs is None else settings.constant_epochs
    length = settings.steps_per_epoch * (settings.batch_size if settings.reference_exact else 1)
    late = (step - 1) // length + 1 - constant  # epochs after the constant ones, from 1
    falling = epochs - constant
    if settings.decay == "none" or late <= 0:
        return settings.lr
    share = late / (falling + 1) if settings.decay == "junyanz" else (late - 1) / max(1, falling)
    return settings.lr * max(0.0, 1 - share)


def gan_loss(logit: Tensor, real: bool, mode: str) -> Tensor:
    """Mean distance of logits of any shape from "real" or "fake".

    Raises:
        ValueError: an unknown mode.
    """
    if mode == "lsgan":
        return least_squares(logit, float(real))
    if mode == "vanilla":
        return cam_loss(logit, float(real))
    raise ValueError(f"unknown gan_mode '{mode}'; modes: lsgan, vanilla")


class CycleGanStep:
    """Holds the four networks, both optimisers and both pools; one call trains one batch.

    Args:
        networks: the parts by name. junyanz's D_A judges images of B; a model-zoo D_A images of A.
        settings: loss and optimiser weights.
        frozen: not used; CycleGAN has no frozen network.
    """

    def __init__(
        self, networks: Mapping[str, nn.Cell], settings: CycleGanSettings, frozen: nn.Cell | None = None
    ) -> None:
        self.networks, self.settings, self.frozen = dict(networks), settings, frozen
        self.step_number = 0
        self.random = np.random.default_rng(settings.seed)
        self.pools = {domain: ImagePool(settings.pool_size, self.random) for domain in "AB"}
        zoo = isinstance(networks["D_A"], Discriminator)
        self.judges = {"A": "D_A", "B": "D_B"} if zoo else {"A": "D_B", "B": "D_A"}
        self.judged_order = ("fake", "real") if zoo else ("real", "fake")  # matters to running statistics only
        for part, network in self.networks.items():  # MindSpore wants every name once among all that it trains
            for name, value in network.parameters_and_names():
                value.name = f"{part}.{name}"
        self.optimizers = {"G": self._adam(GENERATORS), "D": self._adam(DISCRIMINATORS)}

    def _adam(self, parts: tuple[str, ...]) -> Adam:
        parameters = [value for part in parts for value in self.networks[part].trainable_params()]
        return Adam(parameters, self.settings.lr, self.settings.beta1, self.settings.beta2, weight_decay=0.0)

    def __call__(self, real_a: Tensor, real_b: Tensor) -> dict[str, float]:
        """Train one batch; images [N, 3, H, W] in [-1, 1]. Returns every loss term before weighting, and totals."""
        self.step_number += 1
        for network in self.networks.values():
            network.set_train(True)
        for optimizer in self.optimizers.values():
            optimizer.lr = learning_rate(self.settings, self.step_number)
        terms, fakes = self.generator_phase(real_a, real_b)
        terms |= self.discriminator_phase({"A": real_a, "B": real_b}, fakes)
        return {name: float(value.asnumpy()) for name, value in terms.items()}

    def generator_phase(self, real_a: Tensor, real_b: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Update the generators; return the loss terms and the fakes of either domain, made before the update."""
        weights = self.generator_weights()
        names: list[str] = []

        def objective() -> tuple[Tensor, tuple[Tensor, ...]]:
            terms, fakes = self.generator_terms(real_a, real_b)
            names[:] = terms
            total = ops.stack([weights[name] * value for name, value in terms.items()]).sum()
            return total, (fakes["A"], fakes["B"], *terms.values())

        total, (fake_a, fake_b, *values) = self._descend("G", objective)
        return {**dict(zip(names, values, strict=True)), "G.total": total}, {"A": fake_a, "B": fake_b}

    def generator_weights(self) -> dict[str, float]:
        """Weight of each loss term of the generators."""
        a, b, identity = self.settings.cycle_a, self.settings.cycle_b, self.settings.identity
        names = {part: f"G.{part[2:]}.adv" for part in DISCRIMINATORS}
        cycles = {"G.cycle_A": a, "G.cycle_B": b, "G.idt_A": b * identity, "G.idt_B": a * identity}
        return {**dict.fromkeys(names.values(), 1.0), **cycles}

    def generator_terms(self, real_a: Tensor, real_b: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return every loss term of the generators, before weighting, and the fakes of either domain."""
        to_b, to_a = self.networks["G_A"], self.networks["G_B"]
        fakes = {"B": to_b(real_a), "A": to_a(real_b)}
        terms: dict[str, Tensor] = {}
        cycle_a, cycle_b = l1(to_a(fakes["B"]), real_a), l1(to_b(fakes["A"]), real_b)
        for domain in ("B", "A"):
            judge = self.judges[domain]
            terms[f"G.{judge[2:]}.adv"] = gan_loss(self.networks[judge](fakes[domain]), True, self.settings.gan_mode)
        terms["G.cycle_A"], terms["G.cycle_B"] = cycle_a, cycle_b
        if self.settings.identity:
            terms["G.idt_A"] = l1(to_b(real_b), real_b)
            terms["G.idt_B"] = l1(to_a(real_a), real_a)
        return terms, fakes

    def discriminator_phase(self, reals: Mapping[str, Tensor], fakes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Update the discriminators on real images and pooled fakes."""
        pooled = {domain: self._pooled(domain, fakes[domain]) for domain in ("B", "A")}
        names: list[str] = []

        def objective() -> tuple[Tensor, tuple[Tensor, ...]]:
            terms = self.discriminator_terms(reals, pooled)
            names[:] = terms
            return 0.5 * ops.stack(list(terms.values())).sum(), tuple(terms.values())

        total, values = self._descend("D", objective)
        return {**dict(zip(names, values, strict=True)), "D.total": total}

    def _pooled(self, domain: str, fakes: Tensor) -> Tensor:
        return Tensor(self.pools[domain].query(fakes.asnumpy()))

    def discriminator_terms(self, reals: Mapping[str, Tensor], fakes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every loss term of the discriminators, before weighting."""
        terms: dict[str, Tensor] = {}
        for domain in ("B", "A"):
            judge = self.judges[domain]
            images = {"real": reals[domain], "fake": fakes[domain]}
            for kind in self.judged_order:
                logit = self.networks[judge](images[kind])
                terms[f"D.{judge[2:]}.{kind}"] = gan_loss(logit, kind == "real", self.settings.gan_mode)
        return terms

    def _descend(self, name: str, objective: object) -> tuple[Tensor, tuple[Tensor, ...]]:
        optimizer = self.optimizers[name]
        gradient = ms.value_and_grad(objective, None, ms.ParameterTuple(optimizer.parameters), has_aux=True)
        (total, values), gradients = gradient()
        optimizer(gradients)
        return total, values
