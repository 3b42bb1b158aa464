"""CycleGAN: two generators and two discriminators, one file each.

Sources: junyanz/pytorch-CycleGAN-and-pix2pix (BSD), whose files are called latest_net_G_A.pth and so on, and the
CycleGAN of the MindSpore model zoo (Apache-2.0), which human2anime uses, whose files are called G_A_200.ckpt and so on.

G_A makes B from A. junyanz's D_A judges images of B, the model zoo's D_A judges images of A; the parts here are
called as in the file, and `toonport convert --style` swaps them on the way from one system to the other.

Bugs of the sources, mended unless a setting called `reference_exact` asks for them:
* model zoo: "instance" norm shares its statistics over the batch (`reference_exact` of its networks).
* model zoo: the learning rate falls by pictures, so with a batch above 1 the fall starts late or never
  (`reference_exact` of the training settings).
* model zoo: Adam adds eps before the bias correction (`reference_exact` of the training settings).
* model zoo: an identity weight of 0 ends in a crash; here the term is left out. There is no way to ask for the crash.
"""

import re
from collections.abc import Mapping
from typing import Any

from convert.families.cyclegan_zoo import to_junyanz, to_zoo, zoo_discriminator_kwargs, zoo_generator_kwargs
from convert.family import Branch, Cartoonize, Family, Kwargs, Part, Shapes, Spelling, Training
from convert.recipes.cyclegan import PHASES, CycleGanSettings

# PyTorch before 0.4 stored running statistics of every instance norm, and its networks never read them.
OLD_FILE = Spelling(
    name="junyanz before PyTorch 0.4",
    neutral=(("InstanceNorm2d", (("running_mean", None), ("running_var", None), ("num_batches_tracked", None))),),
)
VINTAGIFY = Spelling(name="vintagify", renames=((r"^(model\.\d+)\.block\.", r"\1.conv_block."),))


def generator_kwargs(shapes: Shapes) -> Kwargs | None:
    """Constructor arguments of the generator behind a checkpoint's shapes, None for other networks."""
    if "model.10.conv_block.1.weight" in shapes and "model.1.weight" in shapes:
        return _resnet_kwargs(shapes)
    if len(shapes.get("model.model.0.weight", ())) == 4 and "model.model.3.bias" in shapes:
        return _unet_kwargs(shapes)
    return zoo_generator_kwargs(shapes)


def _resnet_kwargs(shapes: Shapes) -> Kwargs:
    blocks = sum(bool(re.fullmatch(r"model\.\d+\.conv_block\.1\.weight", name)) for name in shapes)
    ngf, input_nc = shapes["model.1.weight"][:2]
    return {
        "architecture": "resnet",
        "input_nc": input_nc,
        "output_nc": shapes.get(f"model.{17 + blocks}.weight", (3,))[0],
        "ngf": ngf,
        "n_blocks": blocks,
        "norm": _norm(shapes, "model.1", "model.2"),
        "dropout": len(shapes.get("model.10.conv_block.6.weight", ())) == 4,
    }


def _unet_kwargs(shapes: Shapes) -> Kwargs:
    ngf, input_nc = shapes["model.model.0.weight"][:2]
    return {
        "architecture": "unet",
        "input_nc": input_nc,
        "output_nc": shapes["model.model.3.bias"][0],
        "num_downs": sum(len(shape) == 4 for shape in shapes.values()) // 2,
        "ngf": ngf,
        "norm": _norm(shapes, "model.model.1.model.1", "model.model.1.model.2"),
        "dropout": False,
    }


def _norm(shapes: Shapes, convolution: str, norm: str) -> str:
    """Tell the norm by the convolution before it, which has a bias only for instance norm."""
    if f"{convolution}.bias" not in shapes:
        return "batch"
    affine = f"{norm}.weight" in shapes or f"{norm}.gamma" in shapes
    return "affine instance" if affine else "instance"


def discriminator_kwargs(shapes: Shapes) -> Kwargs | None:
    """Constructor arguments of the discriminator behind a checkpoint's shapes, None for other networks."""
    first, second = shapes.get("model.0.weight", ()), shapes.get("model.2.weight", ())
    if len(first) != 4 or len(second) != 4 or first[2:] != (4, 4):
        return zoo_discriminator_kwargs(shapes)
    convolutions = sum(len(shape) == 4 for shape in shapes.values())
    return {
        "architecture": "patch",
        "input_nc": first[1],
        "ndf": first[0],
        "n_layers": convolutions - 2,
        "norm": _norm(shapes, "model.2", "model.3"),
    }


def _smallest_generator(kwargs: Mapping[str, Any]) -> int:
    if "num_downs" in kwargs:
        return 2 ** int(kwargs["num_downs"])
    return 32 if kwargs.get("architecture") == "zoo_depth_resnet" else 16


def _growth_of_generator(kwargs: Mapping[str, Any]) -> int:
    return 4 if kwargs.get("architecture") == "resnet" else _smallest_generator(kwargs)


def side_of_unet(kwargs: Mapping[str, Any]) -> int | None:
    """The one side at which a U-Net's innermost level has one pixel, as in training; None for other networks."""
    return 2 ** int(kwargs["num_downs"]) if "num_downs" in kwargs else None


RESNET: Kwargs = {"architecture": "resnet", "input_nc": 3, "output_nc": 3, "ngf": 64, "n_blocks": 9, "dropout": False}
PATCH: Kwargs = {"architecture": "patch", "input_nc": 3, "ndf": 64, "n_layers": 3}
UNET: Kwargs = {"architecture": "unet", "input_nc": 3, "output_nc": 3, "num_downs": 8, "ngf": 64, "dropout": False}
ZOO_PATCH: Kwargs = {"architecture": "zoo_patch", "ndf": 64, "n_layers": 3, "slope": 0.2}
ZOO_RESNET: Kwargs = {"ngf": 64, "n_blocks": 9, "slope": 0.2}
NORMS = ("instance", "batch", "affine instance")
SHARED_STATISTICS: Kwargs = {"norm": "instance", "reference_exact": True}
OTHER_GENERATORS: tuple[Kwargs, ...] = (
    *({**RESNET, "norm": norm} for norm in NORMS[1:]),
    *({**UNET, "norm": norm} for norm in NORMS),
    *(
        {**ZOO_RESNET, "architecture": kind, "norm": norm, "pad_mode": pad_mode}
        for kind in ("zoo_resnet", "zoo_depth_resnet")
        for norm in NORMS[:2]
        for pad_mode in ("CONSTANT", "REFLECT")
    ),
    {**ZOO_RESNET, "architecture": "zoo_resnet", "pad_mode": "CONSTANT", **SHARED_STATISTICS},
    *({"architecture": "zoo_unet", "num_downs": 8, "ngf": 64, "norm": norm, "dropout": False} for norm in NORMS[:2]),
)
OTHER_DISCRIMINATORS: tuple[Kwargs, ...] = (
    *({**PATCH, "norm": norm} for norm in NORMS[1:]),
    *({**ZOO_PATCH, "norm": norm} for norm in NORMS[:2]),
    {**ZOO_PATCH, **SHARED_STATISTICS},
)


def _generator(name: str) -> Part:
    return Part(
        name=name,
        class_name="cyclegan.build_generator",
        kwargs={**RESNET, "norm": "instance"},
        infer=generator_kwargs,
        input_shape=(1, 3, 256, 256),
        smallest=_smallest_generator,
        growth=_growth_of_generator,
        outputs=("image",),
        spellings=(OLD_FILE, VINTAGIFY, Spelling("MindSpore model zoo", renames=((rf"^generator\.{name}\.", ""),))),
        variants=OTHER_GENERATORS,
    )


def _discriminator(name: str) -> Part:
    return Part(
        name=name,
        class_name="cyclegan.build_discriminator",
        kwargs={**PATCH, "norm": "instance"},
        infer=discriminator_kwargs,
        input_shape=(1, 3, 256, 256),
        smallest=lambda kwargs: 3 * 2 ** int(kwargs.get("n_layers", 3)),
        growth=lambda kwargs: 1,
        outputs=("logit",),
        spellings=(OLD_FILE, Spelling("MindSpore model zoo", renames=((rf"^{name}\.", ""),))),
        variants=OTHER_DISCRIMINATORS,
    )


CYCLEGAN = Family(
    name="cyclegan",
    title="CycleGAN: unpaired translation with cycle consistency; human2anime",
    paper="CycleGAN, arXiv 1703.10593",
    source="junyanz/pytorch-CycleGAN-and-pix2pix; MindSpore model zoo and stnjumu/human2anime",
    licence="BSD-2-Clause (junyanz), Apache-2.0 (model zoo)",
    parts=(_generator("G_A"), _generator("G_B"), _discriminator("D_A"), _discriminator("D_B")),
    notes=(
        "Generators: junyanz's ResNet and U-Net; the model zoo's ResNet, DepthResNet and U-Net. G_A makes B from A.",
        "human2anime: A is anime and B is people, so G_B makes anime faces.",
        "junyanz's D_A judges images of B, the model zoo's D_A images of A.",
        "A model-zoo file does not tell how often its one residual block runs, nor the slope: 9 and 0.2 are assumed.",
        "convert --style zoo and --style junyanz carry networks between the two systems where they are the same "
        "function, and say why where they are not.",
    ),
    training=Training(
        step="steps.cyclegan.CycleGanStep",
        settings=CycleGanSettings,
        phases=PHASES,
        narrow={"ngf": 4, "ndf": 4, "n_blocks": 2, "num_downs": 6},
        picture=(48, 64),
        resumed={"gan_mode": "vanilla"},
        branches=(
            Branch({"gan_mode": "vanilla", "identity": 0.0, "decay": "none"}),
            Branch(
                {"decay": "zoo", "reference_exact": True, "batch_size": 2, "constant_epochs": 1},
                {
                    **{name: {"architecture": "zoo_resnet", "ngf": 4, "n_blocks": 2} for name in PHASES["G"]},
                    **{name: {"architecture": "zoo_patch", "ndf": 4} for name in PHASES["D"]},
                },
            ),
        ),
        own_multiple=lambda kwargs: side_of_unet(kwargs) or 1,
        widths=("ngf", "ndf"),
    ),
    cartoonize=Cartoonize(part="G_A", multiple=8, fixed_side=side_of_unet),
    styles={"junyanz": to_junyanz, "zoo": to_zoo},
)
