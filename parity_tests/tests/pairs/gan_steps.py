"""A small GAN's own training step in both frameworks, right and with planted bugs.

MindSpore's Adam adds eps elsewhere than PyTorch's; its AdamW without decay is PyTorch's Adam.
"""

import mindspore
import numpy as np
import torch
from mindspore import nn, ops
from mindspore.experimental import optim
from torch.nn import functional as F

from parity_tests.harness.own_step_runs import TrainingStep

NAMES = {"G": {"0": "up", "1": "norm", "3": "out"}}
RATE, BETA, PULL = 2e-3, 0.5, 3.0


def batches(steps=3):
    """Noise [8, 4] and real pictures [8, 1, 6, 6] of each step."""
    draw = np.random.default_rng(5)
    return [
        (draw.standard_normal((8, 4)).astype(np.float32), draw.standard_normal((8, 1, 6, 6)).astype(np.float32))
        for _ in range(steps)
    ]


def torch_step():
    generator = torch.nn.Sequential(
        torch.nn.Linear(4, 12), torch.nn.BatchNorm1d(12), torch.nn.ReLU(), torch.nn.Linear(12, 36)
    )
    critic = torch.nn.Sequential(torch.nn.Conv2d(1, 6, 3), torch.nn.LeakyReLU(0.2), torch.nn.Conv2d(6, 1, 4))
    adam_d = torch.optim.Adam(critic.parameters(), RATE, (BETA, 0.99))
    adam_g = torch.optim.Adam(generator.parameters(), RATE, (BETA, 0.99))
    schedule = torch.optim.lr_scheduler.StepLR(adam_g, 1, 0.5)

    def train(noise, real):
        adam_d.zero_grad()
        real_loss = F.softplus(-critic(real)).mean()
        fake_loss = F.softplus(critic(generator(noise).reshape(-1, 1, 6, 6).detach())).mean()
        (real_loss + fake_loss).backward()
        adam_d.step()
        adam_g.zero_grad()
        fake = generator(noise).reshape(-1, 1, 6, 6)
        fooled = F.softplus(-critic(fake)).mean()
        twin = generator(noise.abs()).reshape(-1, 1, 6, 6)
        pull = (fake - twin.detach()).abs().mean()
        (fooled + PULL * pull).backward()
        adam_g.step()
        schedule.step()
        return {"D": {"real": real_loss, "fake": fake_loss}, "G": {"fooled": fooled, "pull": pull}}

    return TrainingStep({"G": generator, "D": critic}, {"D": adam_d, "G": adam_g}, train)


class _Generator(nn.Cell):
    def __init__(self):
        super().__init__()
        self.up, self.norm, self.out = nn.Dense(4, 12), nn.BatchNorm1d(12, momentum=0.9), nn.Dense(12, 36)

    def construct(self, noise):
        return self.out(ops.relu(self.norm(self.up(noise)))).reshape(-1, 1, 6, 6)


def ms_step(late=False, attached=False, beta=BETA, pull_weight=PULL, reduce=ops.mean):
    """Return a builder of the port; each argument plants one bug."""

    def build():
        generator = _Generator().set_train()
        critic = nn.SequentialCell(
            nn.Conv2d(1, 6, 3, pad_mode="valid", has_bias=True),
            nn.LeakyReLU(0.2),
            nn.Conv2d(6, 1, 4, pad_mode="valid", has_bias=True),
        )
        adam_d = optim.AdamW(critic.trainable_params(), RATE, (beta, 0.99), weight_decay=0.0)
        adam_g = optim.AdamW(generator.trainable_params(), RATE, (BETA, 0.99), weight_decay=0.0)
        steps = 0

        def loss_d(noise, real):
            real_loss = ops.softplus(-critic(real)).mean()
            fake_loss = reduce(ops.softplus(critic(ops.stop_gradient(generator(noise)))))
            return real_loss + fake_loss, real_loss, fake_loss

        def loss_g(noise):
            fake = generator(noise)
            fooled = ops.softplus(-critic(fake)).mean()
            twin = generator(noise.abs())
            pull = (fake - (twin if attached else ops.stop_gradient(twin))).abs().mean()
            return fooled + pull_weight * pull, fooled, pull

        gradients_d = mindspore.value_and_grad(loss_d, None, adam_d.parameters, has_aux=True)
        gradients_g = mindspore.value_and_grad(loss_g, None, adam_g.parameters, has_aux=True)

        def train(noise, real):
            nonlocal steps
            (_, real_loss, fake_loss), gradients = gradients_d(noise, real)
            adam_d(gradients)
            (_, fooled, pull), gradients = gradients_g(noise)
            adam_g(gradients)
            steps += 1
            rate = RATE * 0.5 ** (steps - 1 if late else steps)
            ops.assign(adam_g.param_groups[0]["lr"], mindspore.Tensor(rate, mindspore.float32))
            return {"D": {"real": real_loss, "fake": fake_loss}, "G": {"fooled": fooled, "pull": pull}}

        return TrainingStep({"G": generator, "D": critic}, {"D": adam_d, "G": adam_g}, train)

    return build
