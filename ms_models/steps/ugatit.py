"""The training step of the U-GAT-IT family in MindSpore; the twin of `torch_ref/steps.py`.

Paper: U-GAT-IT (arXiv 1907.10830). Systems: photo2cartoon (cycle weight 50, Face-ID, soft weights clipped) and
UGATIT-pytorch (cycle weight 10, no Face-ID).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mindspore import Parameter, Tensor, nn, ops

from ms_models.descent import Descent
from ms_models.losses import cam_loss, face_id_distance, l1, least_squares
from ms_models.optim import Adam

__all__ = ["DISCRIMINATORS", "GENERATORS", "StepSettings", "UgatitStep", "learning_rate"]

GENERATORS = ("genA2B", "genB2A")
DISCRIMINATORS = ("disGA", "disGB", "disLA", "disLB")


@dataclass(frozen=True)
class StepSettings:
    """Weights of the loss terms and of the optimisers.

    Attributes:
        adversarial, cycle, identity, cam, face_id: weights of the loss terms.
        lr, beta1, beta2, weight_decay: Adam; the decay is coupled (added to the gradient).
        rho_limit, soft_limit: rho and the soft weights are kept in [0, limit] after each step.
        total_steps: the learning rate falls linearly to 0 over the second half of them.
        decay: whether it falls.
    """

    adversarial: float = 1.0
    cycle: float = 50.0
    identity: float = 10.0
    cam: float = 1000.0
    face_id: float = 1.0
    lr: float = 1e-4
    beta1: float = 0.5
    beta2: float = 0.999
    weight_decay: float = 1e-4
    rho_limit: float = 1.0
    soft_limit: float = 1.0
    total_steps: int = 1_000_000
    decay: bool = True


def learning_rate(settings: StepSettings, step: int) -> float:
    """Learning rate used in `step` (counted from 1): constant, then linear to 0 at the last step, never below."""
    half = settings.total_steps // 2
    if not settings.decay or step <= half or half == 0:
        return settings.lr
    return max(0.0, settings.lr - settings.lr / half * (step - half))


class UgatitStep:
    """Holds the six networks and both optimisers; one call trains one batch.

    Args:
        networks: the parts by name.
        settings: loss and optimiser weights.
        face_net: MobileFaceNet, frozen and in eval mode, or None for no Face-ID term.
    """

    def __init__(
        self, networks: Mapping[str, nn.Cell], settings: StepSettings, face_net: nn.Cell | None = None
    ) -> None:
        self.networks, self.settings, self.face_net = dict(networks), settings, face_net
        self.step_number = 0
        for part, network in self.networks.items():  # MindSpore wants every name once among all that it trains
            for name, value in network.parameters_and_names():
                value.name = f"{part}.{name}"
        self.optimizers = {"D": self._adam(DISCRIMINATORS), "G": self._adam(GENERATORS)}
        self.descent = Descent(self.optimizers)
        if face_net is not None:
            face_net.set_train(False)

    def _adam(self, parts: tuple[str, ...]) -> Adam:
        parameters = [value for part in parts for value in live_parameters(self.networks[part])]
        settings = self.settings
        return Adam(parameters, settings.lr, settings.beta1, settings.beta2, weight_decay=settings.weight_decay)

    def __call__(self, real_a: Tensor, real_b: Tensor) -> dict[str, float]:
        """Train one batch; images [N, 3, H, W] in [-1, 1]. Returns every loss term before weighting, and totals."""
        self.step_number += 1
        for network in self.networks.values():
            network.set_train(True)
        for optimizer in self.optimizers.values():
            optimizer.lr = learning_rate(self.settings, self.step_number)
        terms = self.discriminator_phase(real_a, real_b)
        terms |= self.generator_phase(real_a, real_b)
        self.clip()
        return {name: float(value.asnumpy()) for name, value in terms.items()}

    def discriminator_phase(self, real_a: Tensor, real_b: Tensor) -> dict[str, Tensor]:
        """Update the discriminators on real images and fresh fakes."""
        fake_a2b, fake_b2a = self.descent.forward(self.fakes, real_a, real_b)
        return self.descent("D", self.discriminator_objective, real_a, real_b, fake_a2b, fake_b2a)

    def fakes(self, real_a: Tensor, real_b: Tensor) -> tuple[Tensor, Tensor]:
        """Return both translations, A to B and B to A."""
        return self.networks["genA2B"](real_a)[0], self.networks["genB2A"](real_b)[0]

    def discriminator_objective(
        self, real_a: Tensor, real_b: Tensor, fake_a2b: Tensor, fake_b2a: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the discriminators' total loss and its terms, before weighting."""
        terms: dict[str, Tensor] = {}
        for part in ("disGA", "disLA", "disGB", "disLB"):
            real, fake = (real_a, fake_b2a) if part in ("disGA", "disLA") else (real_b, fake_a2b)
            real_logit, real_cam, _ = self.networks[part](real)
            fake_logit, fake_cam, _ = self.networks[part](fake)
            name = "D." + part[3:]
            terms[name + ".real"] = least_squares(real_logit, 1.0)
            terms[name + ".fake"] = least_squares(fake_logit, 0.0)
            terms[name + ".real_cam"] = least_squares(real_cam, 1.0)
            terms[name + ".fake_cam"] = least_squares(fake_cam, 0.0)
        return self.settings.adversarial * ops.stack(list(terms.values())).sum(), terms

    def generator_phase(self, real_a: Tensor, real_b: Tensor) -> dict[str, Tensor]:
        """Update the generators against the discriminators that were just updated."""
        return self.descent("G", self.generator_objective, real_a, real_b)

    def generator_objective(self, real_a: Tensor, real_b: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the generators' total loss and its terms, before weighting."""
        terms = self.generator_terms(real_a, real_b)
        weights = self.settings
        groups = (
            (weights.adversarial, ".adv"),
            (weights.cycle, "G.recon"),
            (weights.identity, "G.identity"),
            (weights.face_id, "G.faceid"),
            (weights.cam, "G.cam_"),
        )
        weighted = []
        for weight, mark in groups:
            for name, value in terms.items():
                if mark in name:
                    weighted.append(weight * value)
        return ops.stack(weighted).sum(), terms

    def generator_terms(self, real_a: Tensor, real_b: Tensor) -> dict[str, Tensor]:
        """Return every loss term of the generators, before weighting."""
        gen_a2b, gen_b2a = self.networks["genA2B"], self.networks["genB2A"]
        fake_a2b, fake_a2b_cam, _ = gen_a2b(real_a)
        fake_b2a, fake_b2a_cam, _ = gen_b2a(real_b)
        fake_a2b2a = gen_b2a(fake_a2b)[0]
        fake_b2a2b = gen_a2b(fake_b2a)[0]
        fake_a2a, fake_a2a_cam, _ = gen_b2a(real_a)
        fake_b2b, fake_b2b_cam, _ = gen_a2b(real_b)
        terms: dict[str, Tensor] = {}
        for part in ("disGA", "disLA", "disGB", "disLB"):
            logit, cam, _ = self.networks[part](fake_b2a if part in ("disGA", "disLA") else fake_a2b)
            terms["G." + part[3:] + ".adv"] = least_squares(logit, 1.0)
            terms["G." + part[3:] + ".adv_cam"] = least_squares(cam, 1.0)
        terms["G.recon_A"] = l1(fake_a2b2a, real_a)
        terms["G.recon_B"] = l1(fake_b2a2b, real_b)
        terms["G.identity_A"] = l1(fake_a2a, real_a)
        terms["G.identity_B"] = l1(fake_b2b, real_b)
        if self.face_net is not None:
            terms["G.faceid_A"] = face_id_distance(self.face_net, real_a, fake_a2b)
            terms["G.faceid_B"] = face_id_distance(self.face_net, real_b, fake_b2a)
        terms["G.cam_A.fake_B2A_one"] = cam_loss(fake_b2a_cam, 1.0)
        terms["G.cam_A.fake_A2A_zero"] = cam_loss(fake_a2a_cam, 0.0)
        terms["G.cam_B.fake_A2B_one"] = cam_loss(fake_a2b_cam, 1.0)
        terms["G.cam_B.fake_B2B_zero"] = cam_loss(fake_b2b_cam, 0.0)
        return terms

    def clip(self) -> None:
        """Keep every rho and soft weight of the generators in its range."""
        for part in GENERATORS:
            for name, value in self.networks[part].parameters_and_names():
                leaf = name.rsplit(".", 1)[-1]
                if leaf == "rho":
                    ops.assign(value, ops.clamp(value, 0.0, self.settings.rho_limit))
                elif leaf in {"w_gamma", "w_beta"}:
                    ops.assign(value, ops.clamp(value, 0.0, self.settings.soft_limit))


def live_parameters(network: nn.Cell) -> list[Parameter]:
    """Return the trainable parameters that take part in the output.

    A ConvBlock that keeps its width never uses its ConvBlock4: PyTorch gives that weight no gradient.
    """
    dead = {
        f"{path}.ConvBlock4."
        for path, cell in network.cells_and_names()
        if getattr(cell, "project_shortcut", None) is False
    }
    return [
        value
        for name, value in network.parameters_and_names()
        if value.requires_grad and not any(name.startswith(prefix) for prefix in dead)
    ]
