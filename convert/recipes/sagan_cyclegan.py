"""The training recipe of SAGAN-CycleGAN.

Papers: CycleGAN (arXiv 1703.10593), SAGAN (arXiv 1805.08318), WGAN (arXiv 1701.07875), WGAN-GP (arXiv 1704.00028).
System: lzw-all-in/anime_person_translation.
"""

from dataclasses import dataclass

from convert.recipes.settings import Settings, fall_by_epoch

PHASES = {"G": ("netG_A", "netG_B"), "D": ("netD_A", "netD_B")}
PENALIZED = ("sn+gp", "wgangp")
HALVED = ("vanilla", "lsgan")


@dataclass(frozen=True)
class SaganCycleGanSettings(Settings):
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

    @property
    def penalized(self) -> bool:
        """Whether the mode has a gradient penalty."""
        return self.gan_mode in PENALIZED

    def rate(self, phase: str, step: int) -> float:
        """See `Settings.rate`; it changes from epoch to epoch only."""
        return (self.lr_g if phase == "G" else self.lr_d) * fall_by_epoch(self, step)

    def weights(self, phase: str, frozen: bool = False) -> dict[str, float]:
        """See `Settings.weights`; the penalty has its weight, and the source halves modes vanilla and lsgan."""
        if phase == "D":
            return dict.fromkeys(self.judges(phase), 0.5 if self.gan_mode in HALVED else 1.0)
        weights = {"G.A.adv": 1.0, "G.B.adv": 1.0, "G.cycle_A": self.cycle_a, "G.cycle_B": self.cycle_b}
        if self.identity:
            a, b = self.identity * self.cycle_a, self.identity * self.cycle_b
            exact = self.reference_exact
            weights |= {"G.identity_A": 2 * a if exact else a, "G.identity_B": 0.0 if exact else b}
        return weights

    def judges(self, phase: str) -> dict[str, str]:
        """See `Settings.judges`."""
        kinds = ("adv",) if phase == "G" else ("real", "fake", *(("penalty",) if self.penalized else ()))
        return {f"{phase}.{judge}.{kind}": f"netD_{judge}" for judge in "AB" for kind in kinds}
