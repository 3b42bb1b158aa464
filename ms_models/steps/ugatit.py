"""The twin of `torch_ref/steps/ugatit.py`."""

from mindspore import Tensor, nn, ops

from convert.recipes.ugatit import PHASES
from ms_models.losses import cross_entropy, l1, least_squares
from ms_models.losses_ugatit import face_id_distance
from ms_models.photo2cartoon import ConvBlock
from ms_models.step import Step, Terms


class UgatitStep(Step):
    """Trains the two generators and four discriminators.

    Args:
        networks: genA2B, genB2A, disGA, disGB, disLA, disLB.
        settings: loss and optimiser weights.
        frozen: MobileFaceNet, or None for no Face-ID term.
    """

    phases = PHASES

    def prepare(self, phase: str, first: Tensor, second: Tensor, made: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Add fresh fakes for the discriminators."""
        return (first, second) if phase == "G" else (first, second, *self.descent.forward(self.fakes, first, second))

    def fakes(self, real_a: Tensor, real_b: Tensor) -> tuple[Tensor, Tensor]:
        """Return both translations, A to B and B to A."""
        return self.networks["genA2B"](real_a)[0], self.networks["genB2A"](real_b)[0]

    def discriminator_objective(
        self, real_a: Tensor, real_b: Tensor, fake_a2b: Tensor, fake_b2a: Tensor
    ) -> tuple[Terms, tuple[Tensor, ...]]:
        """Judge real images and fakes."""
        terms: Terms = {}
        for part in ("disGA", "disLA", "disGB", "disLB"):
            real, fake = (real_a, fake_b2a) if part in ("disGA", "disLA") else (real_b, fake_a2b)
            real_logit, real_cam, _ = self.networks[part](real)
            fake_logit, fake_cam, _ = self.networks[part](fake)
            name = "D." + part[3:]
            terms[name + ".real"] = least_squares(real_logit, 1.0)
            terms[name + ".fake"] = least_squares(fake_logit, 0.0)
            terms[name + ".real_cam"] = least_squares(real_cam, 1.0)
            terms[name + ".fake_cam"] = least_squares(fake_cam, 0.0)
        return terms, ()

    def generator_objective(self, real_a: Tensor, real_b: Tensor) -> tuple[Terms, tuple[Tensor, ...]]:
        """Judge, translate back, and keep each domain's own pictures; against the updated discriminators."""
        gen_a2b, gen_b2a = self.networks["genA2B"], self.networks["genB2A"]
        fake_a2b, fake_a2b_cam, _ = gen_a2b(real_a)
        fake_b2a, fake_b2a_cam, _ = gen_b2a(real_b)
        fake_a2b2a = gen_b2a(fake_a2b)[0]
        fake_b2a2b = gen_a2b(fake_b2a)[0]
        fake_a2a, fake_a2a_cam, _ = gen_b2a(real_a)
        fake_b2b, fake_b2b_cam, _ = gen_a2b(real_b)
        terms: Terms = {}
        for part in ("disGA", "disLA", "disGB", "disLB"):
            logit, cam, _ = self.networks[part](fake_b2a if part in ("disGA", "disLA") else fake_a2b)
            terms["G." + part[3:] + ".adv"] = least_squares(logit, 1.0)
            terms["G." + part[3:] + ".adv_cam"] = least_squares(cam, 1.0)
        terms["G.recon_A"] = l1(fake_a2b2a, real_a)
        terms["G.recon_B"] = l1(fake_b2a2b, real_b)
        terms["G.identity_A"] = l1(fake_a2a, real_a)
        terms["G.identity_B"] = l1(fake_b2b, real_b)
        if self.frozen is not None:
            terms["G.faceid_A"] = face_id_distance(self.frozen, real_a, fake_a2b)
            terms["G.faceid_B"] = face_id_distance(self.frozen, real_b, fake_b2a)
        terms["G.cam_A.fake_B2A_one"] = cross_entropy(fake_b2a_cam, 1.0)
        terms["G.cam_A.fake_A2A_zero"] = cross_entropy(fake_a2a_cam, 0.0)
        terms["G.cam_B.fake_A2B_one"] = cross_entropy(fake_a2b_cam, 1.0)
        terms["G.cam_B.fake_B2B_zero"] = cross_entropy(fake_b2b_cam, 0.0)
        return terms, ()

    def after_update(self) -> None:
        """Keep every rho and soft weight of the generators in its range."""
        settings = self.settings
        limits = {"rho": settings.rho_limit, "w_gamma": settings.soft_limit, "w_beta": settings.soft_limit}
        for part in PHASES["G"]:
            for name, value in self.networks[part].parameters_and_names():
                leaf = name.rsplit(".", 1)[-1]
                if leaf in limits:
                    ops.assign(value, ops.clamp(value, 0.0, limits[leaf]))

    def unused(self, network: nn.Cell) -> tuple[str, ...]:
        """See `Step.unused`: a ConvBlock that keeps its width never uses its ConvBlock4."""
        blocks = [(path, cell) for path, cell in network.cells_and_names() if isinstance(cell, ConvBlock)]
        return tuple(f"{path}.ConvBlock4." for path, cell in blocks if not cell.project_shortcut)
