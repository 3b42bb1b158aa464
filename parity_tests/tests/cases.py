"""What tests build on: small seeded networks of every kind, a user's own pair, and files written as others write."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import parity_tests  # noqa: F401  # prepares the environment before any framework is imported
from convert.family import Part
from convert.formats import open_checkpoint
from convert.plan import build_plan
from convert.registry import family_named, part_named
from convert.tensors import Array
from parity_tests.harness.inputs import formula_state, image, sample_positions

ROOT = Path(__file__).resolve().parents[2]

WHITEBOX_FORMS = (("whitebox", "whitebox"), ("facialcartoonization", "published"))


def whitebox_parts(form: str) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Small configurations of the White-box networks in one form."""
    generator = {"channel": 8, "num_blocks": 2, "in_channels": 3, "out_channels": 3, "form": form}
    return (
        ("generator", generator),
        ("disc_gray", {"in_channel": 1, "channel": 8, "form": form}),
        ("disc_blur", {"in_channel": 3, "channel": 8, "form": form}),
    )


SMALL: Mapping[tuple[str, str], dict[str, Any]] = {
    ("photo2cartoon", "genA2B"): {"ngf": 8, "img_size": 256, "light": True},
    ("photo2cartoon", "disGA"): {"input_nc": 3, "ndf": 4, "n_layers": 7},
    ("photo2cartoon", "disLA"): {"input_nc": 3, "ndf": 8, "n_layers": 5},
    ("ugatit", "genA2B"): {"input_nc": 3, "output_nc": 3, "ngf": 8, "n_blocks": 2, "img_size": 256, "light": True},
    ("mobilefacenet", "mobilefacenet"): {"embedding_size": 64},
    **{(family, part): kwargs for family, form in WHITEBOX_FORMS for part, kwargs in whitebox_parts(form)},
    ("vgg19", "vgg19"): {"width": 8},
    ("sagan_cyclegan", "netG_A"): {"architecture": "sa", "z_dim": 12, "conv_dim": 8},
    ("sagan_cyclegan", "netG_B"): {"architecture": "unet", "num_downs": 6, "ngf": 4},
    ("sagan_cyclegan", "netD_A"): {"architecture": "sa", "conv_dim": 8},
    ("sagan_cyclegan", "netD_B"): {"architecture": "patch", "ndf": 4, "n_layers": 3},
    ("sagan_cyclegan", "criterionGAN"): {"gan_mode": "sn"},
    ("dtn", "encoder"): {"z_dim": 100, "conv_dim": 8},
    ("dtn", "decoder"): {"z_dim": 100, "conv_dim": 8},
    ("dtn", "net_D"): {"conv_dim": 8},
    ("dtn", "criterionGAN"): {"gan_mode": "sn"},
    ("cyclegan", "G_A"): {
        "architecture": "resnet",
        "input_nc": 3,
        "output_nc": 3,
        "ngf": 8,
        "n_blocks": 2,
        "norm": "instance",
        "dropout": False,
    },
    ("cyclegan", "D_A"): {"architecture": "patch", "input_nc": 3, "ndf": 8, "n_layers": 3, "norm": "instance"},
}


def small_part(family: str, part: str) -> tuple[Part, dict[str, Any]]:
    """A registry part with a small configuration of the same kind."""
    kind = {"genB2A": "genA2B", "disGB": "disGA", "disLB": "disLA", "G_B": "G_A", "D_B": "D_A"}.get(part, part)
    kwargs = SMALL.get((family, kind)) or SMALL["photo2cartoon", kind]
    return part_named(family_named(family), part), kwargs


def seeded_state(family: str, part: str, tag: str = "test") -> dict[str, Array]:
    """Seeded weights of a small network: PyTorch name -> values."""
    found, kwargs = small_part(family, part)
    plan = build_plan(found, kwargs)
    return formula_state(f"{tag}/{part}", plan.shapes)


def seeded_family(family: str, tag: str = "test") -> dict[str, dict[str, Array]]:
    """Seeded weights of every network of a family."""
    return {part.name: seeded_state(family, part.name, tag) for part in family_named(family).parts}


def save_torch(path: Path, content: Mapping[str, Any]) -> Path:
    """Save nested dictionaries of arrays as a PyTorch file, the way the source systems do."""
    import torch

    def tensors(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: tensors(inner) for name, inner in value.items()}
        return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray | np.generic) else value

    torch.save(tensors(content), path)
    return path


def recorded(record: Mapping[str, Any], array: Array) -> tuple[Array, Array]:
    """The samples that a recorded statistic holds, and the values of `array` at the same positions."""
    (name,) = [key for key in record if key == "all" or (key[0] == "s" and key[1:].isdigit())]
    flat = np.asarray(array, np.float64).reshape(-1)
    found = flat if name == "all" else flat[sample_positions(int(name[1:]), flat.size)]
    return np.array(record[name], np.float64), found


def drawn_picture(tag: str, height: int, width: int) -> NDArray[np.uint8]:
    """A seeded picture [H, W, RGB], 0 to 255."""
    values = (image(tag, 1, height, width)[0].astype(np.float64) + 1) * 127.5 + 0.5
    return np.ascontiguousarray(np.floor(values).astype(np.uint8).transpose(1, 2, 0))


def checkpoint_bytes(run: Path, step: int) -> dict[tuple[str, str], bytes]:
    """Every number that a training run saved after a step, by file and name."""
    return {
        (path.stem, name): entry.read().tobytes()
        for path in (run / "checkpoints" / f"step_{step:07d}").iterdir()
        if path.suffix != ".json"
        for name, entry in open_checkpoint(path).tensors.items()
    }


OWN_INPUTS = np.random.default_rng(0).standard_normal((2, 3, 12, 12)).astype(np.float32)


def own_pair(bug: str | None = None) -> tuple[Any, Any]:
    """A user's own two networks of three layers, outside the registry; `bug` is "slope", "pooling" or "weight"."""
    import mindspore
    import torch
    from mindspore import nn as mnn
    from torch import nn

    torch.manual_seed(0)

    class Reference(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, padding=1)
            self.act = nn.LeakyReLU(0.2)
            self.head = nn.Linear(8, 4)

        def forward(self, x):
            return self.head(self.act(self.conv(x)).mean((2, 3)))

    class Port(mnn.Cell):
        def __init__(self):
            super().__init__()
            self.conv = mnn.Conv2d(3, 8, 3, pad_mode="pad", padding=1, has_bias=True)
            self.act = mnn.LeakyReLU(0.1 if bug == "slope" else 0.2)
            self.head = mnn.Dense(8, 4)

        def construct(self, x):
            y = self.act(self.conv(x))
            return self.head(y.max((2, 3)) if bug == "pooling" else y.mean((2, 3)))

    module, cell = Reference(), Port()
    for name, parameter in cell.parameters_and_names():
        parameter.set_data(mindspore.Tensor(module.state_dict()[name].numpy()))
    if bug == "weight":
        cell.head.weight[0, 0] = cell.head.weight[0, 0] + 1e-4
    return module, cell
