"""Bugs that porters of the Domain Transfer Network's training step make."""

from typing import Any

from mindspore import ops

from parity_tests.harness.mutants import planting as plant
from parity_tests.harness.mutants.bugs import Subject, TrainingBug

STEP: Subject = ("dtn", "training")


def _hinge_for_generator(self: Any, logits: Any, real: bool = True, for_generator: bool = False) -> Any:
    return ops.relu(1 + (-1.0 if real else 1.0) * logits).mean()


def _encoder_rests(step: Any) -> None:
    """The encoder is not among what the optimiser moves."""
    optimizer = step.optimizers["G"]
    kept = [index for index, value in enumerate(optimizer.parameters) if not value.name.startswith("encoder.")]
    for name in ("parameters", "exp_avg", "exp_avg_sq"):
        setattr(optimizer, name, [getattr(optimizer, name)[index] for index in kept])


TRAINING_BUGS: tuple[TrainingBug, ...] = (
    TrainingBug("hinge-for-generators", "hinge in the generators' loss, too", STEP, ("generator loss",),
                patch=("ms_models.sagan_cyclegan.GANLoss.construct", _hinge_for_generator)),
    TrainingBug("dtn-weights-exchanged", "weights of consistency and reconstruction exchanged", STEP,
                ("generator loss",), {"consistency": 300.0, "reconstruction": 10.0}),
    TrainingBug("dtn-rates-exchanged", "learning rates of generator and discriminator exchanged", STEP,
                ("learning rate",), {"lr_g": 4e-4, "lr_d": 1e-4}),
    TrainingBug("dtn-rec-never-judged", "reconstructions never shown to the discriminator", STEP,
                ("discriminator loss",), change=plant.around(
                    "discriminator_objective", lambda step, original, target, fake, rec: original(target, fake, fake))),
    TrainingBug("dtn-domains-exchanged", "source and target exchanged", STEP, ("loss",), change=plant.around(
        "prepare", lambda step, prepare, phase, source, target, made: prepare(phase, target, source, made))),
    TrainingBug("dtn-codes-detached", "no gradient through the codes of translations", STEP,
                ("generator update", "generator moments"), change=plant.cut_gradient(
                    ("encoder",), lambda encoder, x: ops.stop_gradient(encoder(x)))),
    TrainingBug("dtn-encoder-rests", "encoder left out of the optimiser", STEP, ("encoder",), change=_encoder_rests),
    TrainingBug("dtn-not-clipped", "weights not clipped after a WGAN step", STEP, ("discriminator update",),
                change=plant.with_attribute("after_phase", lambda _: lambda phase: None)),
)  # fmt: skip
