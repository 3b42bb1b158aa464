"""An optimiser and a training step beside a ported network, and the proof that it trains as the reference does."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from parity_tests.harness.inputs import feature
from parity_tests.harness.own_step_runs import TrainingStep
from parity_tests.harness.own_steps import compare_steps
from parity_tests.harness.run import Comparison, Say
from toonport.porting.network import Ported

STEPS = 50
RATE, BETAS = 2e-4, (0.5, 0.999)

SOURCE = '''"""One training step of {name}, with an Adam that computes what PyTorch's computes."""

from collections.abc import Callable

import mindspore
from mindspore import Tensor, nn
from mindspore.experimental.optim import AdamW, Optimizer

from {stem}_ms import {name}


def build(rate: float = {rate}) -> tuple[{name}, Optimizer]:
    """Return the network in train mode, and its optimiser; AdamW without decay is PyTorch's Adam, nn.Adam is not."""
    net = {name}().set_train()
    return net, AdamW(net.trainable_params(), rate, betas={betas}, weight_decay=0.0)


def training_step(
    net: nn.Cell, optimizer: Optimizer, loss: Callable[[Tensor, Tensor], Tensor]
) -> Callable[..., Tensor]:
    """Return what trains one batch.

    Args:
        net, optimizer: as `build` returns them.
        loss: of what the network returns, and the target.

    Returns:
        A function of the network's inputs and, last, the target; it moves the weights and returns the loss.
    """

    def forward(*batch: Tensor) -> Tensor:
        return loss(net(*batch[:-1]), batch[-1])

    gradients = mindspore.value_and_grad(forward, None, optimizer.parameters)

    def step(*batch: Tensor) -> Tensor:
        value, found = gradients(*batch)
        optimizer(found)
        return value

    return step
'''


def training_source(ported: Ported, stem: str) -> str:
    """Return the module of the training step."""
    return SOURCE.format(name=ported.name, stem=stem, rate=RATE, betas=BETAS)


def prove_training(
    network: Any,
    written: tuple[Any, Callable[[], Any]],
    inputs: Sequence[np.ndarray[Any, Any]],
    layers: dict[str, str],
    name: str,
    say: Say,
) -> Comparison:
    """Compare fifty steps of both, on seeded batches; the loss is the mean distance of every output to a target.

    Args:
        network: the reference, which stays as it is.
        written: the module of the training step, and what builds a fresh port.
        inputs: one batch.
        layers: PyTorch path -> MindSpore path of layers that are called otherwise.
        name: what to call it in the report.
        say: told in words what is being done.

    Raises InputError: a step cannot be run.
    """
    module, build = written

    def torch_step() -> TrainingStep:
        """PyTorch's side."""
        import torch

        net = copy.deepcopy(network).train()
        adam = torch.optim.Adam([each for each in net.parameters() if each.requires_grad], RATE, betas=BETAS)

        def train(*batch: Any) -> dict[str, Any]:
            """One step."""
            adam.zero_grad()
            loss = distance(net(*batch[:-1]), batch[-1])
            loss.backward()
            adam.step()
            return {"loss": loss}

        return TrainingStep({"net": net}, {"main": adam}, train)

    def ms_step() -> TrainingStep:
        """The port's side, with the step that was written."""
        from mindspore.experimental.optim import AdamW

        net = build().set_train()
        adam = AdamW(net.trainable_params(), RATE, betas=BETAS, weight_decay=0.0)
        step = module.training_step(net, adam, distance)
        return TrainingStep({"net": net}, {"main": adam}, lambda *batch: {"loss": step(*batch)})

    def distance(outputs: Any, target: Any) -> Any:
        """The mean distance of every output to numbers of the target."""
        several = outputs if isinstance(outputs, tuple | list) else [outputs]
        return sum((each - target.mean()).abs().mean() for each in several)

    return compare_steps(torch_step, ms_step, batches(inputs), {"net": layers}, f"{name}, {STEPS} steps", say)


def batches(inputs: Sequence[np.ndarray[Any, Any]]) -> list[tuple[np.ndarray[Any, Any], ...]]:
    """Return seeded batches of two examples like the inputs, each with a target."""
    found = []
    for step in range(STEPS):
        own = [_like(array, f"toonport/port/{step}/{place}") for place, array in enumerate(inputs)]
        found.append((*own, feature(f"toonport/port/{step}/target", (2,))))
    return found


def _like(array: np.ndarray[Any, Any], tag: str) -> np.ndarray[Any, Any]:
    if array.dtype.kind != "f":
        return np.concatenate([array, array])[:2]
    return feature(tag, (2, *array.shape[1:]))
