"""Record the project's own golden files: float64 numbers of the reference on seeded weights and inputs.

Run `python -m parity_tests.tests.record_goldens` after a deliberate change of the reference; the shared goldens of
the original systems, where present, must still pass (`pytest parity_tests/test_goldens.py`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import parity_tests  # noqa: F401  # prepares the environment before any framework is imported
from convert.plan import build_plan
from convert.registry import families, family_named, part_named
from parity_tests.harness.inputs import formula_state, image, sample
from parity_tests.harness.sides.base import Array
from parity_tests.harness.sides.torch import TorchSide
from torch_ref.build import build_torch

FOLDER = Path(__file__).parent / "golden"
SAMPLES = 12
CASES: Mapping[str, Mapping[str, Any]] = {
    "photo2cartoon/genA2B/light": {"kwargs": {"ngf": 8, "img_size": 256, "light": True}, "shape": [2, 32, 48]},
    "photo2cartoon/genA2B/full": {"kwargs": {"ngf": 8, "img_size": 32, "light": False}, "shape": [1, 32, 32]},
    "photo2cartoon/disLA/train": {"kwargs": {"input_nc": 3, "ndf": 8, "n_layers": 5}, "shape": [2, 24, 40]},
    "photo2cartoon/disGA/eval": {"kwargs": {"input_nc": 3, "ndf": 4, "n_layers": 7}, "shape": [1, 96, 96]},
    "ugatit/genA2B/light": {
        "kwargs": {"input_nc": 3, "output_nc": 3, "ngf": 8, "n_blocks": 2, "img_size": 256, "light": True},
        "shape": [2, 16, 24],
    },
    "cyclegan/G_A/resnet": {
        "kwargs": {"architecture": "resnet", "ngf": 8, "n_blocks": 2, "norm": "affine instance"},
        "shape": [2, 16, 24],
    },
    "cyclegan/G_A/train": {
        "kwargs": {"architecture": "unet", "ngf": 4, "num_downs": 5, "norm": "batch"},
        "shape": [2, 32, 64],
    },
    "cyclegan/G_B/zoo": {"kwargs": {"architecture": "zoo_depth_resnet", "ngf": 4, "n_blocks": 7}, "shape": [2, 32, 40]},
    "cyclegan/D_A/train": {"kwargs": {"architecture": "patch", "ndf": 8, "norm": "batch"}, "shape": [2, 32, 40]},
    "mobilefacenet/mobilefacenet/eval": {"kwargs": {"embedding_size": 64}, "shape": [2, 112, 112]},
    **{
        f"{family}/generator/{form}": {
            "kwargs": {"channel": 8, "num_blocks": 2, "in_channels": 3, "out_channels": 3, "form": form},
            "shape": [2, 16, 24],
        }
        for family, form in (("whitebox", "whitebox"), ("facialcartoonization", "published"))
    },
    **{
        f"{family}/disc_blur/train": {"kwargs": {"in_channel": 3, "channel": 8, "form": form}, "shape": [2, 16, 24]}
        for family, form in (("whitebox", "whitebox"), ("facialcartoonization", "published"))
    },
    "vgg19/vgg19/eval": {"kwargs": {"width": 8}, "shape": [2, 16, 24]},
    "sagan_cyclegan/netG_A/train": {"kwargs": {"architecture": "sa", "z_dim": 12, "conv_dim": 8}, "shape": [2, 64, 80]},
    "sagan_cyclegan/netD_A/eval": {"kwargs": {"architecture": "sa", "conv_dim": 8}, "shape": [2, 64, 64]},
    "sagan_cyclegan/netG_B/unet": {"kwargs": {"architecture": "unet", "num_downs": 6, "ngf": 4}, "shape": [1, 64, 64]},
    "sagan_cyclegan/netD_B/patch": {"kwargs": {"architecture": "patch", "ndf": 4, "n_layers": 3}, "shape": [2, 24, 40]},
    "dtn/encoder/eval": {"kwargs": {"z_dim": 12, "conv_dim": 8}, "shape": [1, 64, 64]},
}


def statistics(array: Array, samples: int = SAMPLES) -> dict[str, Any]:
    """Return shape, mean, Euclidean norm and sampled values of an array."""
    flat = np.asarray(array, np.float64)
    return {
        "shape": list(array.shape),
        "mean": float(flat.mean()),
        "l2": float(np.linalg.norm(flat)),
        "sample": [float(value) for value in sample(flat, samples)],
    }


def run_case(name: str, case: Mapping[str, Any]) -> dict[str, Array]:
    """Return the float64 outputs of one case, and the state it left, by name."""
    family, part_name, mode = name.split("/")
    part = part_named(family_named(family), part_name)
    plan = build_plan(part, case["kwargs"])
    state = formula_state(f"golden/{name}", plan.shapes)
    side = TorchSide(build_torch(part, case["kwargs"], state), "float64")
    side.set_training(mode == "train")
    batch, height, width = case["shape"]
    outputs = side.call("", [image(f"golden/{name}", batch, height, width)])
    moved = {key: value for key, value in side.state().items() if value.dtype.kind == "f"}
    after = {f"{key} afterwards": value for key, value in moved.items()} if mode == "train" else {}
    return {**dict(zip(part.outputs, outputs, strict=True)), **after}


def _record_outputs() -> dict[str, Any]:
    return {
        name: {**case, "outputs": {key: statistics(value) for key, value in run_case(name, case).items()}}
        for name, case in CASES.items()
    }


def _record_keys() -> dict[str, Any]:
    record = {}
    for family in families():
        for part in family.parts:
            rows = build_plan(part, part.kwargs).rows
            every = max(1, len(rows) // 8)
            sampled = [[row.torch, list(row.spec.shape)] for row in rows[::every]]
            name = f"{family.name}/{part.name}"
            record[name] = {"kwargs": dict(part.kwargs), "count": len(rows), "every": every, "sample": sampled}
    return record


def main() -> None:
    """Write the golden files."""
    FOLDER.mkdir(exist_ok=True)
    for name, content in (("outputs.json", _record_outputs()), ("keys.json", _record_keys())):
        (FOLDER / name).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
