"""A small regression's own training step in both frameworks, with dropout, accumulated gradients, and any optimiser."""

import mindspore
import numpy as np
import torch
from mindspore import nn, ops
from mindspore.experimental import optim

from parity_tests.harness.own_step_runs import TrainingStep

WIDTH, EVERY = 6, 2


def batches(steps=3):
    """Vectors [8, 4] and what they stand for [8, 2] of each step."""
    draw = np.random.default_rng(7)
    return [(draw.standard_normal((8, 4), np.float32), draw.standard_normal((8, 2), np.float32)) for _ in range(steps)]


def torch_step(optimizer=torch.optim.Adam, every=1, rate=0.0, **settings):
    """Return a builder; the optimiser is called in every so many steps."""

    def build():
        parts = [torch.nn.Linear(4, WIDTH), torch.nn.Tanh(), torch.nn.Dropout(rate), torch.nn.Linear(WIDTH, 2)]
        net = torch.nn.Sequential(*parts)
        own, count = optimizer(net.parameters(), **settings), 0

        def train(x, y):
            nonlocal count
            loss = ((torch.nn.functional.dropout(net(x), rate) - y) ** 2).mean()
            loss.backward()
            count += 1
            if count % every == 0:
                own.step()
                own.zero_grad()
            return {"loss": loss}

        return TrainingStep({"net": net}, {"main": own}, train)

    return build


def ms_step(optimizer=optim.AdamW, every=1, rate=0.0, saved=None, **settings):
    """Return a builder; `saved`: (optimiser) -> names of what a checkpoint keeps of it, None where none is made."""

    def build(count=0, checkpoint=None):
        parts = [nn.Dense(4, WIDTH), nn.Tanh(), nn.Dropout(p=rate), nn.Dense(WIDTH, 2)]
        net = nn.SequentialCell(parts).set_train()
        own = optimizer(net.trainable_params(), **settings)
        if checkpoint:
            mindspore.load_param_into_net(net, checkpoint)
            mindspore.load_param_into_net(own, checkpoint)

        def forward(x, y):
            return ((ops.dropout(net(x), rate) - y) ** 2).mean()

        gradients = mindspore.value_and_grad(forward, None, own.parameters)
        held = [ops.zeros_like(value) for value in own.parameters]

        def train(x, y):
            nonlocal count, held
            loss, found = gradients(x, y)
            held = [before + value for before, value in zip(held, found, strict=True)]
            count += 1
            if count % every == 0:
                own(tuple(held))
                held = [ops.zeros_like(value) for value in own.parameters]
            return {"loss": loss}

        def resumed():
            values = dict(own.parameters_and_names()) | dict(net.parameters_and_names())
            kept = {value.name for value in net.get_parameters()} | set(saved(own))
            copies = [value for value in values.values() if value.name in kept]
            copies = {value.name: mindspore.Parameter(value.asnumpy().copy(), name=value.name) for value in copies}
            return build(count, copies)

        return TrainingStep({"net": net}, {"main": own}, train, resumed if saved else None)

    return build
