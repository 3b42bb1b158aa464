"""The training recipe of the U-GAT-IT family.

Paper: U-GAT-IT (arXiv 1907.10830). Systems: photo2cartoon (cycle weight 50, Face-ID, soft weights clipped) and
UGATIT-pytorch (cycle weight 10, no Face-ID).
"""

from dataclasses import dataclass

from convert.recipes.settings import Settings, fall_over_second_half

JUDGES = ("GA", "LA", "GB", "LB")
JUDGED = {"G": ("adv", "adv_cam"), "D": ("real", "fake", "real_cam", "fake_cam")}  # terms of each judge, by phase
PHASES = {"D": ("disGA", "disGB", "disLA", "disLB"), "G": ("genA2B", "genB2A")}


@dataclass(frozen=True)
class UgatitSettings(Settings):
    """Weights of the loss terms and of the optimisers.

    Attributes:
        adversarial, cycle, identity, cam, face_id: weights of the loss terms.
        lr, beta1, beta2, weight_decay: Adam; the decay is coupled (added to the gradient).
        rho_limit, soft_limit: rho and the soft weights are kept in [0, limit] after each step.
        total_steps: the learning rate falls linearly to 0 over the second half of them.
        decay: whether it falls.
        seed: kept for every family alike; this step draws nothing.
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
    seed: int = 0

    @property
    def coupled_decay(self) -> float:
        """See `Settings.coupled_decay`."""
        return self.weight_decay

    def rate(self, phase: str, step: int) -> float:
        """See `Settings.rate`: constant, then linear to 0 at the last step."""
        return fall_over_second_half(self.lr, self.total_steps, step) if self.decay else self.lr

    def weights(self, phase: str, frozen: bool = False) -> dict[str, float]:
        """See `Settings.weights`; the Face-ID terms need the frozen network."""
        weights = dict.fromkeys(self.judges(phase), self.adversarial)
        if phase == "D":
            return weights
        for name, weight in (("recon", self.cycle), ("identity", self.identity), ("faceid", self.face_id)):
            if frozen or name != "faceid":
                weights |= {f"G.{name}_{domain}": weight for domain in "AB"}
        cams = ("cam_A.fake_B2A_one", "cam_A.fake_A2A_zero", "cam_B.fake_A2B_one", "cam_B.fake_B2B_zero")
        return {**weights, **{f"G.{name}": self.cam for name in cams}}

    def judges(self, phase: str) -> dict[str, str]:
        """See `Settings.judges`."""
        return {f"{phase}.{judge}.{kind}": f"dis{judge}" for judge in JUDGES for kind in JUDGED[phase]}


def face_crop(height: int, width: int) -> tuple[int, int, int, int]:
    """Return top, bottom, left, right of the square face region in an aligned portrait, ends excluded."""
    top, bottom = int(height / 2.1 * 0.47), int(height - height / 2.1 * 0.3)
    size = bottom - top
    left = int(width / 2 - size / 2)
    return top, bottom, left, left + size
