"""The training step of the domain transfer network: encoder and decoder, then the discriminator; see the recipe."""

from torch import Tensor

from convert.recipes.dtn import PHASES
from torch_ref.step import Terms
from torch_ref.steps.sagan_cyclegan import SpectralStep


class DtnStep(SpectralStep):
    """Trains encoder, decoder and net_D on pictures of the source and the target domain, without a frozen network."""

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
