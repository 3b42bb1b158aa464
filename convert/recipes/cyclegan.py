"""The training recipe of CycleGAN.

Paper: CycleGAN (arXiv 1703.10593). Systems: junyanz/pytorch-CycleGAN-and-pix2pix and the CycleGAN of the MindSpore
model zoo; they share the step and differ in which domain D_A judges and in the rule of the learning rate.
"""

from dataclasses import dataclass

from convert.recipes.settings import Settings

PHASES = {"G": ("G_A", "G_B"), "D": ("D_A", "D_B")}
GAN_MODES, DECAYS = ("lsgan", "vanilla"), ("junyanz", "zoo", "none")


@dataclass(frozen=True)
class CycleGanSettings(Settings):
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
            1 the fall starts late or never; and where its networks are trained, Adam adds eps before the bias
            correction, as MindSpore's nn.Adam does.
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

    def rate(self, phase: str, step: int) -> float:
        """See `Settings.rate`; it changes from epoch to epoch only."""
        epochs = -(-self.total_steps // self.steps_per_epoch)
        constant = (epochs + 1) // 2 if self.constant_epochs is None else self.constant_epochs
        length = self.steps_per_epoch * (self.batch_size if self.reference_exact else 1)
        late = (step - 1) // length + 1 - constant  # epochs after the constant ones, from 1
        falling = epochs - constant
        if self.decay == "none" or late <= 0:
            return self.lr
        share = late / (falling + 1) if self.decay == "junyanz" else (late - 1) / max(1, falling)
        return self.lr * max(0.0, 1 - share)

    def weights(self, phase: str, frozen: bool = False) -> dict[str, float]:
        """See `Settings.weights`; the discriminators' terms are halved."""
        if phase == "D":
            return dict.fromkeys(self.judges(phase), 0.5)
        weights = {"G.A.adv": 1.0, "G.B.adv": 1.0, "G.cycle_A": self.cycle_a, "G.cycle_B": self.cycle_b}
        if self.identity:
            weights |= {"G.idt_A": self.cycle_b * self.identity, "G.idt_B": self.cycle_a * self.identity}
        return weights

    def judges(self, phase: str) -> dict[str, str]:
        """See `Settings.judges`."""
        kinds = ("adv",) if phase == "G" else ("real", "fake")
        return {f"{phase}.{judge}.{kind}": f"D_{judge}" for judge in "AB" for kind in kinds}
