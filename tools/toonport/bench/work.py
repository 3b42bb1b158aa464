"""What stays in a process and is timed again and again: networks, training steps, files of ONNX.

Each function makes something ready and returns what one run of it is. MindSpore and PyTorch run what the programs run.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convert.family import Part, resolve
from convert.recipes.descent import Execution
from convert.registry import family_named, part_named
from ms_models.environment import environment_needed
from parity_tests.harness.onnx.session import open_session
from parity_tests.harness.run import part_inputs


@dataclass(frozen=True)
class Ready:
    """Something that can be timed."""

    run: Callable[[], object]
    networks: Mapping[str, Any] = field(default_factory=dict)  # the framework's own, by part


def only_pytorch() -> None:
    """Take back what is set for MindSpore's sake only and would hold PyTorch back; before PyTorch is imported."""
    for name in environment_needed():
        os.environ.pop(name, None)


def built(package: str, part: Part, kwargs: Mapping[str, Any]) -> Any:
    """A network of `ms_models` or `torch_ref` with fresh weights, made without the other framework."""
    arguments = {**part.kwargs, **{name: value for name, value in kwargs.items() if name in part.kwargs}}
    return resolve(package, part.class_name)(**arguments)


def network(
    framework: str, family: str, part: str, side: int | None = None, batch: int = 1, kwargs: Mapping[str, Any] = {}
) -> Ready:
    """Inference of one network.

    Args:
        framework: "torch", "mindspore" (operation by operation) or "graph" (MindSpore, compiled).
        family, part: which network.
        side: of the pictures in pixels; None: as released.
        batch: pictures at once.
        kwargs: constructor arguments other than the released ones.
    """
    known = part_named(family_named(family), part)
    inputs = part_inputs(known, {**known.kwargs, **kwargs}, 0, side, batch)
    if framework == "torch":
        return _torch_network(known, kwargs, inputs)
    import mindspore

    from ms_models.environment import launch_directly

    launch_directly()
    cell, tensor = built("ms_models", known, kwargs).set_train(False), mindspore.Tensor(inputs)

    def forward(pictures: Any) -> Any:
        """The network's outputs."""
        return cell(pictures)

    ready = mindspore.jit(forward) if framework == "graph" else forward

    def run() -> None:
        """Draw, and wait for what was drawn."""
        outputs = ready(tensor)
        for output in outputs if isinstance(outputs, (tuple, list)) else (outputs,):
            output.asnumpy()

    return Ready(run, {part: cell})


def _torch_network(part: Part, kwargs: Mapping[str, Any], inputs: Any) -> Ready:
    only_pytorch()
    import torch

    module, tensor = built("torch_ref", part, kwargs).eval(), torch.from_numpy(inputs)

    def run() -> None:
        """Draw."""
        with torch.no_grad():
            module(tensor)

    return Ready(run, {part.name: module})


def step(
    framework: str,
    family: str,
    size: int,
    batch: int,
    width: int,
    compiled: bool = True,
    network: Mapping[str, Any] = {},
) -> Ready:
    """A training step as `toonport train` makes it, with fresh weights.

    Args:
        framework: "torch" or "mindspore".
        family: what is trained.
        size, batch: of the seeded pictures.
        width: channels of the networks' first layers.
        compiled: whether MindSpore compiles.
        network: other constructor arguments.
    """
    from parity_tests.harness.inputs import image
    from toonport.train.config import RunConfig
    from toonport.train.engine import Engine
    from toonport.train.start import starting_point

    if framework == "torch":
        only_pytorch()
    sizes: Mapping[str, Any] = {"size": size, "batch": batch, "width": width, "network": network}
    config = RunConfig(family, data="", out="", framework=framework, compiled=compiled, **sizes).checked()
    engine = Engine(config, starting_point(config, (1, 1)))
    pictures = [image(f"bench/{domain}", batch, size, size) for domain in "AB"]
    return Ready(lambda: engine.train(*pictures), engine.trainer.networks)


def descent(framework: str, family: str, compiled: bool = True) -> Ready:
    """A step of the narrow networks that comparisons train; MindSpore compiles it or not."""
    from parity_tests.harness.trainers import MindSporeTrainer, TorchTrainer
    from parity_tests.harness.training_setup import small_setup

    if framework == "torch":
        only_pytorch()
    setup = small_setup(family_named(family), steps=1)
    trainer = (TorchTrainer if framework == "torch" else MindSporeTrainer)(setup)
    trainer.execute(Execution(compiled=compiled and framework != "torch"))
    return Ready(lambda: trainer.train(*setup.batches[0]), trainer.networks)


def onnx(path: str) -> Ready:
    """Inference of a file of ONNX with one input, pictures of a fixed size."""
    import numpy as np

    session = open_session(Path(path))
    (given,) = session.get_inputs()
    shape = [side if isinstance(side, int) else 1 for side in given.shape]  # a free number of pictures has a name
    inputs = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    return Ready(lambda: session.run(None, {given.name: inputs}))


def opening(path: str) -> Ready:
    """Opening a file of ONNX."""
    return Ready(lambda: open_session(Path(path)))
