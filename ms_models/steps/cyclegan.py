"""The twin of `torch_ref/steps/cyclegan.py`."""

from collections.abc import Mapping

from mindspore import Tensor, nn

from convert.recipes.cyclegan import PHASES, CycleGanSettings
from convert.recipes.pool import ImagePool
from ms_models.cyclegan_zoo import Discriminator
from ms_models.losses import cross_entropy, l1, least_squares
from ms_models.step import Step, Terms


def gan_loss(logit: Tensor, real: bool, mode: str) -> Tensor:
    """Mean distance of logits of any shape from "real" or "fake". Raises ValueError: an unknown mode."""
    if mode == "lsgan":
        return least_squares(logit, float(real))
    if mode == "vanilla":
        return cross_entropy(logit, float(real))
    raise ValueError(f"unknown gan_mode '{mode}'; modes: lsgan, vanilla")


class CycleGanStep(Step):
    """Trains the two generators and two discriminators.

    Args:
        networks: the parts by name. junyanz's D_A judges images of B; a model-zoo D_A images of A.
        settings: loss and optimiser weights.
        frozen: not used; CycleGAN has no frozen network.
    """

    phases = PHASES

    def __init__(
        self, networks: Mapping[str, nn.Cell], settings: CycleGanSettings, frozen: nn.Cell | None = None
    ) -> None:
        self.zoo = isinstance(networks["D_A"], Discriminator)
        super().__init__(networks, settings, frozen)
        self.pools = {domain: ImagePool(settings.pool_size, self.random) for domain in "AB"}
        self.judges = {"A": "D_A", "B": "D_B"} if self.zoo else {"A": "D_B", "B": "D_A"}
        self.judged_order = ("fake", "real") if self.zoo else ("real", "fake")  # matters to running statistics only

    @property
    def early_eps(self) -> bool:
        """See `StepForm.early_eps`; only the model zoo's own system trains so."""
        return self.zoo and self.settings.reference_exact

    def prepare(self, phase: str, first: Tensor, second: Tensor, made: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Add, for the discriminators, pooled fakes that the generators made before their update."""
        if phase == "G":
            return first, second
        fake_a, fake_b = made
        pooled_b = self.pooled("B", fake_b)
        return first, second, self.pooled("A", fake_a), pooled_b

    def generator_objective(self, real_a: Tensor, real_b: Tensor) -> tuple[Terms, tuple[Tensor, ...]]:
        """Judge, translate back, and keep each domain's own pictures; hands on the fakes of A and of B."""
        to_b, to_a = self.networks["G_A"], self.networks["G_B"]
        fakes = {"B": to_b(real_a), "A": to_a(real_b)}
        terms: Terms = {}
        cycle_a, cycle_b = l1(to_a(fakes["B"]), real_a), l1(to_b(fakes["A"]), real_b)
        for domain in ("B", "A"):
            judge = self.judges[domain]
            terms["G." + judge[2:] + ".adv"] = gan_loss(
                self.networks[judge](fakes[domain]), True, self.settings.gan_mode
            )
        terms["G.cycle_A"], terms["G.cycle_B"] = cycle_a, cycle_b
        if self.settings.identity:
            terms["G.idt_A"] = l1(to_b(real_b), real_b)
            terms["G.idt_B"] = l1(to_a(real_a), real_a)
        return terms, (fakes["A"], fakes["B"])

    def discriminator_objective(
        self, real_a: Tensor, real_b: Tensor, fake_a: Tensor, fake_b: Tensor
    ) -> tuple[Terms, tuple[Tensor, ...]]:
        """Judge real images and fakes."""
        terms: Terms = {}
        for domain, real, fake in (("B", real_b, fake_b), ("A", real_a, fake_a)):
            judge = self.judges[domain]
            for kind in self.judged_order:
                logit = self.networks[judge](real if kind == "real" else fake)
                terms["D." + judge[2:] + "." + kind] = gan_loss(logit, kind == "real", self.settings.gan_mode)
        return terms, ()
