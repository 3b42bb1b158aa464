"""Bugs that porters of U-GAT-IT's training step make: losses, order, modes, Adam, learning rate, Face-ID."""

from typing import Any

from mindspore import ops

from convert.recipes.ugatit import face_crop
from parity_tests.harness.mutants import planting as plant
from parity_tests.harness.mutants.bugs import Patch, Subject, TrainingBug

STEP: Subject = ("ugatit", "training")
FACE_STEP: Subject = ("photo2cartoon", "training")
GENERATORS, MOVED = ("generator loss",), ("discriminator update", "discriminator moments")


def _discriminators_in_eval_for_generators(step: Any, prepare: Any, phase: str, *batch: Any) -> Any:
    """Put the discriminators in eval mode before the generators' phase."""
    for part, network in step.networks.items():
        network.set_train(phase == "D" or not part.startswith("dis"))
    return prepare(phase, *batch)


def _adam(decoupled: bool = False, early_eps: bool = False, corrected: bool = True) -> Patch:
    def call(self: Any, gradients: Any) -> None:
        """Move the weights as this Adam would."""
        self.step_number += 1
        first = 1 - self.beta1**self.step_number if corrected else 1.0
        second = (1 - self.beta2**self.step_number) ** 0.5 if corrected else 1.0
        for index, (value, gradient) in enumerate(zip(self.parameters, gradients, strict=True)):
            decay = self.weight_decay * value
            gradient = gradient if decoupled else gradient + decay
            mean = self.exp_avg[index] * self.beta1 + gradient * (1 - self.beta1)
            square = self.exp_avg_sq[index] * self.beta2 + gradient * gradient * (1 - self.beta2)
            self.exp_avg[index], self.exp_avg_sq[index] = mean, square
            root = ops.sqrt(square)
            scaled = (root + self.eps) / second if early_eps else root / second + self.eps
            change = self.lr / first * mean / scaled
            ops.assign(value, value - change - (self.lr * decay if decoupled else 0.0))

    return "ms_models.optim.Adam.__call__", call


def _plain_cosine(first: Any, second: Any) -> Any:
    return (first * second).sum(1) / first.shape[1]


def _crop_off_by_one(height: int, width: int) -> tuple[int, int, int, int]:
    top, bottom, left, right = face_crop(height, width)
    return top + 1, bottom + 1, left, right


def _zero_to_one(step: Any, prepare: Any, phase: str, real_a: Any, real_b: Any, made: Any) -> Any:
    """The port's loader gives images in [0, 1] instead of [-1, 1]."""
    return prepare(phase, (real_a + 1) / 2, (real_b + 1) / 2, made)


def _networks_swapped(step: Any) -> None:
    step.networks["disGA"], step.networks["disGB"] = step.networks["disGB"], step.networks["disGA"]


TRAINING_BUGS: tuple[TrainingBug, ...] = (
    TrainingBug("identity-dropped", "identity loss left out of the total", STEP, GENERATORS, {"identity": 0.0}),
    TrainingBug("cam-twice", "CAM loss weighted twice", STEP, GENERATORS, {"cam": 2000.0}),
    TrainingBug("l2-for-l1", "squared for absolute reconstruction error", STEP, GENERATORS,
                patch=("ms_models.steps.ugatit.l1", plant.mean_square)),
    TrainingBug("generators-first", "generators updated before the discriminators", STEP, ("loss",),
                change=plant.with_attribute("due", lambda _: lambda: ("G", "D"))),
    TrainingBug("cycle-detached", "no gradient through the first half of the cycle", STEP, ("generator",),
                change=plant.cut_gradient(
                    ("genA2B", "genB2A"), lambda generator, x: generator(ops.stop_gradient(x)))),
    TrainingBug("discriminators-eval", "discriminators in eval mode in the generator phase", STEP,
                ("generator loss", "discriminator update"),
                change=plant.around("prepare", _discriminators_in_eval_for_generators)),
    TrainingBug("weight-decay-missing", "no weight decay", STEP, MOVED, {"weight_decay": 0.0}),
    TrainingBug("weight-decay-decoupled", "decoupled weight decay (AdamW)", STEP, MOVED, patch=_adam(decoupled=True)),
    TrainingBug("beta1", "Adam beta1 0.9", STEP, MOVED, {"beta1": 0.9}),
    TrainingBug("adam-eps-place", "Adam eps before the bias correction", STEP, ("update",),
                patch=_adam(early_eps=True)),
    TrainingBug("adam-uncorrected", "Adam without bias correction", STEP, ("discriminator update",),
                patch=_adam(corrected=False)),
    TrainingBug("rho-not-clipped", "no clipping after the step", STEP, ("generator update",),
                change=plant.with_attribute("after_update", lambda _: lambda: None)),
    TrainingBug("rate-off-by-one", "learning rate falls one step late", STEP, ("learning rate",),
                change=plant.late_rate(lambda settings: 1)),
    TrainingBug("cosine-without-norm", "Face-ID cosine without normalisation", FACE_STEP, GENERATORS,
                patch=("ms_models.losses_ugatit._cosine", _plain_cosine)),
    TrainingBug("face-crop", "Face-ID crop off by one row", FACE_STEP, GENERATORS,
                patch=("ms_models.losses_ugatit.face_crop", _crop_off_by_one)),
    TrainingBug("image-range", "images in [0, 1] instead of [-1, 1]", STEP, ("discriminator loss",),
                change=plant.around("prepare", _zero_to_one)),
    TrainingBug("judges-swapped", "discriminators of A and B swapped", STEP, ("disGA", "disGB"),
                change=_networks_swapped),
)  # fmt: skip
