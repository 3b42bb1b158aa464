"""The twin of `torch_ref/steps/dtn.py`."""

from mindspore import Tensor

from convert.recipes.dtn import PHASES
from ms_models.step import Terms
from ms_models.steps.sagan_cyclegan import SpectralStep


class DtnStep(SpectralStep):
    """Trains encoder, decoder and discriminator on pictures of the source and of the target domain.

    Args:
        networks: encoder, decoder, net_D.
        settings: loss and optimiser weights.
        frozen: not used by this family.
    """

    phases = PHASES

    def prepare(self, phase: str, first: Tensor, second: Tensor, made: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Source and target for the generator; target, translated sources and reconstructed targets for the judge."""
        return (first, second) if phase == "G" else (second, *made)

    def generator_objective(self, source: Tensor, target: Tensor) -> tuple[Terms, tuple[Tensor, ...]]:
        """Judge, and keep codes and targets; hands on translated sources and reconstructed targets."""
        code = self.networks["encoder"](source)  # [N, z_dim, h, w]
        fake = self._run("decoder", code, 1)
        rec = self._run("decoder", self.networks["encoder"](target), 0)
        terms = {
            "G.fake": self.criterion(self._run("net_D", fake, 1), True, True),
            "G.rec": self.criterion(self._run("net_D", rec, 0), True, True),
            "G.consistency": ((code - self.networks["encoder"](fake)) ** 2).mean(),
            "G.reconstruction": ((target - rec) ** 2).mean(),
        }
        return terms, (fake, rec)

    def discriminator_objective(self, target: Tensor, fake: Tensor, rec: Tensor) -> tuple[Terms, tuple[Tensor, ...]]:
        """Judge targets, translated sources and reconstructed targets."""
        terms = {
            "D.real": self.criterion(self._run("net_D", target, 2), True),
            "D.fake": self.criterion(self._run("net_D", fake, 1), False),
            "D.rec": self.criterion(self._run("net_D", rec, 0), False),
        }
        return terms, ()
