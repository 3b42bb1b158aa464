"""The training recipe of the domain transfer network.

Paper: DTN (arXiv 1611.02200). System: lzw-all-in/anime_person_translation.
"""

from dataclasses import dataclass

from convert.recipes.sagan_cyclegan import PENALIZED
from convert.recipes.settings import Settings, fall_by_epoch

PHASES = {"G": ("encoder", "decoder"), "D": ("net_D",)}


@dataclass(frozen=True)
class DtnSettings(Settings):
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

    def __post_init__(self) -> None:
        """Raise ValueError for a mode with a gradient penalty."""
        if self.gan_mode in PENALIZED:
            raise ValueError(f"DTN has no gradient penalty; gan_mode '{self.gan_mode}' needs one")

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return self.steps_per_epoch * (self.constant_epochs + self.decay_epochs)

    def rate(self, phase: str, step: int) -> float:
        """See `Settings.rate`; it changes from epoch to epoch only."""
        return (self.lr_g if phase == "G" else self.lr_d) * fall_by_epoch(self, step)

    def weights(self, phase: str, frozen: bool = False) -> dict[str, float]:
        """See `Settings.weights`."""
        if phase == "D":
            return dict.fromkeys(self.judges(phase), 1.0)
        distances = {"G.consistency": self.consistency, "G.reconstruction": self.reconstruction}
        return {"G.fake": 1.0, "G.rec": 1.0, **distances}

    def judges(self, phase: str) -> dict[str, str]:
        """See `Settings.judges`."""
        kinds = ("fake", "rec") if phase == "G" else ("real", "fake", "rec")
        return {f"{phase}.{kind}": "net_D" for kind in kinds}
