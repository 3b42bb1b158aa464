"""Bugs of the training step, planted in the MindSpore step to test the checker itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from convert.family import resolve
from convert.registry import family_named

__all__ = ["TRAINING_MUTATIONS", "TrainingMutation"]

MakeStep = Callable[[Mapping[str, Any], Any, Any], Any]


@dataclass(frozen=True)
class TrainingMutation:
    """One planted bug of the training step.

    Attributes:
        name, what: short name, and the bug in words.
        blame: fragments of which one must occur in the blamed phase, layer or tensor.
        settings: StepSettings attributes that the port gets wrong.
        change: alters the port's step object, or None.
        patch: context manager factory that is active during the comparison, or None.
        first_step: where the run starts; late enough for the learning rate to fall where that matters.
        face: whether the run needs the Face-ID term.
        family: whose step it is.
        both: settings of both sides.
        steps: training steps to run; 2 where the second shows what the first left behind.
    """

    name: str
    what: str
    blame: tuple[str, ...]
    settings: tuple[tuple[str, Any], ...] = ()
    change: Callable[[Any], None] | None = None
    patch: Callable[[], Any] | None = None
    first_step: int = 1
    face: bool = False
    family: str = "ugatit"
    both: tuple[tuple[str, Any], ...] = ()
    steps: int = 1

    def make_step(self, networks: Mapping[str, Any], settings: Any, face_net: Any) -> Any:
        """Build the MindSpore step with the bug in it."""
        training = family_named(self.family).training
        assert training is not None
        step = resolve("ms_models", training.step)(networks, replace(settings, **dict(self.settings)), face_net)
        if self.change:
            self.change(step)
        return step

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Keep the patch active for the time of a comparison."""
        with ExitStack() as stack:
            if self.patch:
                stack.enter_context(self.patch())
            yield


def _l2(first: Any, second: Any) -> Any:
    return ((first - second) ** 2).mean()


def _generators_first(step: Any) -> None:
    discriminators, generators = step.discriminator_phase, step.generator_phase

    def first(real_a: Any, real_b: Any) -> Any:
        step.early = generators(real_a, real_b)
        return discriminators(real_a, real_b)

    step.discriminator_phase = first
    step.generator_phase = lambda real_a, real_b: step.early


def _cycle_detached(step: Any) -> None:
    """The second generator of the cycle gets its input without gradient."""
    original = step.generator_terms

    def terms(real_a: Any, real_b: Any) -> Any:
        from mindspore import ops

        networks = step.networks
        kept = dict(networks)
        real = {id(real_a), id(real_b)}
        for part in ("genA2B", "genB2A"):
            networks[part] = lambda x, part=part: kept[part](x if id(x) in real else ops.stop_gradient(x))
        try:
            return original(real_a, real_b)
        finally:
            networks.update(kept)

    step.generator_terms = terms


def _discriminators_in_eval_for_generators(step: Any) -> None:
    original = step.generator_phase

    def phase(real_a: Any, real_b: Any) -> Any:
        for part, network in step.networks.items():
            network.set_train(not part.startswith("dis"))
        return original(real_a, real_b)

    step.generator_phase = phase


def _optimizer(**changes: Any) -> Callable[[Any], None]:
    def change(step: Any) -> None:
        for optimizer in step.optimizers.values():
            for name, value in changes.items():
                setattr(optimizer, name, value)

    return change


def _adam(decoupled: bool = False, early_eps: bool = False, corrected: bool = True) -> Callable[[], Any]:
    def call(self: Any, gradients: Any) -> None:
        from mindspore import ops

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

    return lambda: mock.patch("ms_models.optim.Adam.__call__", call)


def _late_rate(settings: Any, step: int) -> float:
    from torch_ref.steps.ugatit import learning_rate

    return learning_rate(settings, step - 1)


def _plain_cosine(first: Any, second: Any) -> Any:
    return (first * second).sum(1) / first.shape[1]


def _crop_off_by_one(height: int, width: int) -> tuple[int, int, int, int]:
    from torch_ref.losses import face_crop

    top, bottom, left, right = face_crop(height, width)
    return top + 1, bottom + 1, left, right


def _zero_to_one(step: Any) -> None:
    """The port's loader gives images in [0, 1] instead of [-1, 1]."""
    discriminators, generators = step.discriminator_phase, step.generator_phase
    step.discriminator_phase = lambda real_a, real_b: discriminators((real_a + 1) / 2, (real_b + 1) / 2)
    step.generator_phase = lambda real_a, real_b: generators((real_a + 1) / 2, (real_b + 1) / 2)


def _networks_swapped(step: Any) -> None:
    step.networks["disGA"], step.networks["disGB"] = step.networks["disGB"], step.networks["disGA"]


def _bug(target: str, replacement: Any) -> Callable[[], Any]:
    return lambda: mock.patch(target, replacement)


TRAINING_MUTATIONS: tuple[TrainingMutation, ...] = (
    TrainingMutation("identity-dropped", "identity loss left out of the total", ("generator loss",),
                     (("identity", 0.0),)),
    TrainingMutation("cam-twice", "CAM loss weighted twice", ("generator loss",), (("cam", 2000.0),)),
    TrainingMutation("l2-for-l1", "squared for absolute reconstruction error", ("generator loss",),
                     patch=_bug("ms_models.steps.ugatit.l1", _l2)),
    TrainingMutation("generators-first", "generators updated before the discriminators", ("loss",),
                     change=_generators_first),
    TrainingMutation("cycle-detached", "no gradient through the first half of the cycle", ("generator",),
                     change=_cycle_detached),
    TrainingMutation("discriminators-eval", "discriminators in eval mode in the generator phase",
                     ("generator loss", "discriminator update"), change=_discriminators_in_eval_for_generators),
    TrainingMutation("weight-decay-missing", "no weight decay", ("discriminator update", "discriminator moments"),
                     (("weight_decay", 0.0),)),
    TrainingMutation("weight-decay-decoupled", "decoupled weight decay (AdamW)",
                     ("discriminator update", "discriminator moments"), patch=_adam(decoupled=True)),
    TrainingMutation("beta1", "Adam beta1 0.9", ("discriminator update", "discriminator moments"), (("beta1", 0.9),)),
    TrainingMutation("adam-eps-place", "Adam eps before the bias correction", ("update",),
                     patch=_adam(early_eps=True)),
    TrainingMutation("adam-uncorrected", "Adam without bias correction", ("discriminator update",),
                     patch=_adam(corrected=False)),
    TrainingMutation("rho-not-clipped", "no clipping after the step", ("generator update",),
                     change=lambda step: setattr(step, "clip", lambda: None)),
    TrainingMutation("rate-off-by-one", "learning rate falls one step late", ("learning rate",),
                     patch=_bug("ms_models.steps.ugatit.learning_rate", _late_rate), first_step=2),
    TrainingMutation("cosine-without-norm", "Face-ID cosine without normalisation", ("generator loss",),
                     patch=_bug("ms_models.losses._cosine", _plain_cosine), face=True),
    TrainingMutation("face-crop", "Face-ID crop off by one row", ("generator loss",),
                     patch=_bug("ms_models.losses.face_crop", _crop_off_by_one), face=True),
    TrainingMutation("image-range", "images in [0, 1] instead of [-1, 1]", ("discriminator loss",),
                     change=_zero_to_one),
    TrainingMutation("judges-swapped", "discriminators of A and B swapped", ("disGA", "disGB"),
                     change=_networks_swapped),
)  # fmt: skip
