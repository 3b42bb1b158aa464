"""The networks and the step of a run, in either framework, between the pictures and the numbers of a step."""

from collections.abc import Sequence

import numpy as np

from convert.errors import InputError
from convert.family import resolve
from convert.recipes.descent import Execution
from convert.tensors import Array
from ms_models.environment import choose_device
from parity_tests.harness.sides.base import LayerCall
from parity_tests.harness.trainers import MindSporeTrainer, TorchTrainer, Trainer
from toonport.train.config import RunConfig
from toonport.train.start import Start
from toonport.train.whitebox_hooks import picture_function


class Engine:
    """The networks, the step and the optimisers of a run.

    Args:
        config: the run.
        start: what to start from.

    Attributes:
        trainer: the step in the run's framework, with its numbers.

    Raises InputError: the device is not usable here, or the step lacks something.
    """

    def __init__(self, config: RunConfig, start: Start) -> None:
        self.config, self.start, self.family, self.training = config, start, start.family, start.training
        try:
            self.trainer = _trainer(config, start)
        except ValueError as error:
            missing = self.training.frozen if not start.frozen else None
            advice = f"; --frozen FILE gives the weights of {missing.family}" if missing else ""
            raise InputError(f"{self.family.name}: {error}{advice}") from error
        self.step = self.trainer.step
        for name in self.step.hooks:
            self.step.hooks[name] = picture_function(name, self.step.settings)
        self.trainer.execute(self._execution())

    def train(self, real_a: Array, real_b: Array) -> dict[str, float]:
        """Train one batch, [N, 3, H, W] RGB in [-1, 1]; returns every loss term.

        Raises FloatingPointError: a loss term or a gradient is not finite; no weight was moved by it.
        """
        return self.trainer.train(self._turned(real_a), self._turned(real_b))

    def _turned(self, pictures: Array) -> Array:
        """Pictures [N, 3, H, W] with RGB turned into the networks' own order of colours, and back."""
        return np.ascontiguousarray(pictures[:, ::-1]) if self.step.colours == "bgr" else pictures

    def _execution(self) -> Execution:
        config = self.config
        dynamic = config.loss_scale == "dynamic"
        return Execution(
            accumulate=config.accumulate,
            loss_scale=2.0**16 if dynamic else float(config.loss_scale),
            dynamic_scale=dynamic,
            watch=True,
            half=config.precision == "float16",
            compiled=config.compiled,
            workers=config.data_parallel,
        )

    def translators(self) -> list[tuple[str, ...]]:
        """Chains of parts that turn pictures of A into B and, where there is one, of B into A."""
        parts = [self.start.parts[name] for name in self.training.phases.get("G", ())]
        chains: list[tuple[str, ...]] = []
        for part in parts:
            if chains and part.input_shape[2:] != parts[0].input_shape[2:]:
                chains[-1] = (*chains[-1], part.name)
            else:
                chains.append((part.name,))
        return chains

    def bad_layer(self, pictures: Array) -> str:
        """Name the first weight, layer output or gradient of any network that is not finite, else say so."""
        parts = self.start.parts
        for part in parts:
            for name, value in self.trainer.weights(part).items():
                if value.dtype.kind == "f" and not np.isfinite(value).all():
                    return f"first weight that is not finite: {part}.{name}"
        for part in parts:
            if parts[part].input_shape[1:2] == pictures.shape[1:2]:
                layer = self._bad_output(part, pictures)
                if layer is not None:
                    return f"first layer whose output is not finite: {part}.{layer}".rstrip(".")
        gradient = self.trainer.bad_gradient()
        if gradient:
            return f"first gradient that is not finite: {gradient}"
        return "every weight and every layer's output for these pictures is finite"

    def _bad_output(self, part: str, pictures: Array) -> str | None:
        """Path of the first layer of a network whose output is not finite, "" for the network itself."""
        found: list[str] = []

        def visit(call: LayerCall) -> None:
            """Note a layer with an output that is not finite."""
            if not all(np.isfinite(output).all() for output in call.outputs):
                found.append(call.layer)

        side = self.trainer.side(part)
        with side.preserved():
            side.trace([pictures], visit)
        return found[0] if found else None

    def generate(self, chain: Sequence[str], pictures: Array) -> tuple[Array, ...]:
        """Run parts one after the other in eval mode, without moving any state, on RGB pictures [N, 3, H, W].

        Returns:
            The outputs of the last part; the first is a picture batch in RGB, finished as `toonport cartoonize` does.
        """
        turned = self._turned(pictures)
        first, *others = self.trainer.draw(chain, turned)
        first = self._finished(chain, turned, first)
        return (self._turned(first), *others)

    def _finished(self, chain: Sequence[str], pictures: Array, drawn: Array) -> Array:
        """What the family does to the pictures of its cartoonizing generator, such as White-box's guided filter."""
        how = self.family.cartoonize
        if how is None or how.after is None or how.part not in chain:
            return drawn
        import torch

        with torch.no_grad():
            finish = resolve("torch_ref", how.after)
            return np.asarray(finish(torch.from_numpy(pictures.copy()), torch.from_numpy(drawn.copy())).numpy())


def _trainer(config: RunConfig, start: Start) -> Trainer:
    """Return the trainer of the configured framework on the configured device."""
    if config.framework == "torch":
        return TorchTrainer(start, device=config.device)
    import mindspore

    choose_device(config.device)
    mindspore.set_seed(config.seed)
    return MindSporeTrainer(start)
