"""SAGAN-CycleGAN: two generators, two discriminators and the labels of the loss, in one file of 150 tensors.

Source: lzw-all-in/anime_person_translation (no licence stated). Its files are state dicts of the whole model, named
iter-EPOCH_MODE_GENERATOR_sumiterN.pth, with `netG_A.module.` and so on when saved from several GPUs.

Bugs of the source:
* Identity A is counted twice, identity B never: mended; kept with `reference_exact=True` in the settings.
* Its spectral norm swaps u and v under the graph, so the gradient of sigma uses the vectors of the last forward pass
  before backward: mended; kept with `reference_exact=True` in the settings.
* u and v move in eval mode too, so that no two runs of a network are equal: kept, because files and recorded numbers
  depend on it; `freeze` gives the repeatable network for inference and export.
* The modes vanilla and lsgan end in a crash and plain WGAN does not exist: all work here.
* The discriminator answers a single picture with a scalar: here with [1].
"""

from collections.abc import Mapping
from typing import Any

from convert.family import Branch, Cartoonize, Family, Kwargs, Part, Shapes, Spelling, Training
from convert.recipes.sagan_cyclegan import PHASES, SaganCycleGanSettings

SIDE = 64
# The wrapper that most PyTorch ports of SAGAN copy calls the raw weight weight_bar.
WEIGHT_BAR = Spelling("weight_bar spectral norm", renames=((r"\.module\.weight_bar$", r".module.weight_matrices"),))


def generator_kwargs(shapes: Shapes) -> Kwargs | None:
    """Constructor arguments of the generator behind a checkpoint's shapes, None for other networks."""
    if {"up_sample.0.weight", "up_sample.12.weight", "up_attn1.gamma"} <= shapes.keys():
        z_dim, conv_dim = shapes["up_sample.12.weight"][0], shapes["up_sample.0.weight"][0]
        return {"architecture": "sa", "z_dim": z_dim, "conv_dim": conv_dim}
    if len(shapes.get("model.model.0.weight", ())) == 4 and "model.model.1.model.1.weight" in shapes:
        convolutions = sum(len(shape) == 4 for shape in shapes.values())
        return {"architecture": "unet", "num_downs": convolutions // 2, "ngf": shapes["model.model.0.weight"][0]}
    return None


def discriminator_kwargs(shapes: Shapes) -> Kwargs | None:
    """Constructor arguments of the discriminator behind a checkpoint's shapes, None for other networks."""
    found = discriminator_sa_kwargs(shapes)
    if found:
        return {"architecture": "sa", **found}
    if len(shapes.get("model.0.weight", ())) == 4 and len(shapes.get("model.2.weight", ())) == 4:
        convolutions = sum(len(shape) == 4 for shape in shapes.values())
        return {"architecture": "patch", "ndf": shapes["model.0.weight"][0], "n_layers": convolutions - 2}
    return None


def discriminator_sa_kwargs(shapes: Shapes) -> Kwargs | None:
    """Constructor arguments of Discriminator_SA behind a checkpoint's shapes, None for other networks."""
    if not {"attn1.gamma", "attn2.gamma", "last.0.weight", "l1.0.module.bias"} <= shapes.keys():
        return None
    return {"conv_dim": shapes["l1.0.module.bias"][0]}


def label_kwargs(shapes: Shapes) -> Kwargs | None:
    """Constructor arguments of the loss whose labels a file holds, None for networks."""
    return {"gan_mode": "sn"} if shapes.keys() == {"real_label", "fake_label"} else None


def label_part() -> Part:
    """The adversarial loss, whose two labels the source's files hold beside the networks."""
    return Part(
        name="criterionGAN",
        class_name="sagan_cyclegan.GANLoss",
        kwargs={"gan_mode": "sn"},
        infer=label_kwargs,
        input_shape=(1, 1, 6, 6),
        smallest=lambda kwargs: 6,
        growth=lambda kwargs: 1,
        outputs=("loss",),
    )


def _smallest_generator(kwargs: Mapping[str, Any]) -> int:
    return SIDE if kwargs["architecture"] == "sa" else int(2 ** kwargs["num_downs"])


def _growth_of_generator(kwargs: Mapping[str, Any]) -> int:
    return 16 if kwargs["architecture"] == "sa" else _smallest_generator(kwargs)


def _smallest_discriminator(kwargs: Mapping[str, Any]) -> int:
    return SIDE if kwargs["architecture"] == "sa" else int(3 * 2 ** kwargs["n_layers"])


def _networks(names: tuple[str, str], **described: Any) -> tuple[Part, ...]:
    return tuple(
        Part(name=name, input_shape=(1, 3, SIDE, SIDE), spellings=(WEIGHT_BAR,), **described) for name in names
    )


SAGAN_CYCLEGAN = Family(
    name="sagan_cyclegan",
    title="SAGAN-CycleGAN: anime faces and persons at 64x64, with self-attention and spectral norm",
    paper="CycleGAN, arXiv 1703.10593; SAGAN, arXiv 1805.08318",
    source="lzw-all-in/anime_person_translation",
    licence="none stated by the source",
    parts=(
        *_networks(
            ("netG_A", "netG_B"),
            class_name="sagan_cyclegan.build_generator",
            kwargs={"architecture": "sa", "z_dim": 100, "conv_dim": 64},
            variants=({"architecture": "unet", "num_downs": 7, "ngf": 64},),
            infer=generator_kwargs,
            smallest=_smallest_generator,
            growth=_growth_of_generator,
            outputs=("image",),
        ),
        *_networks(
            ("netD_A", "netD_B"),
            class_name="sagan_cyclegan.build_discriminator",
            kwargs={"architecture": "sa", "conv_dim": 64},
            variants=({"architecture": "patch", "ndf": 64, "n_layers": 3},),
            infer=discriminator_kwargs,
            smallest=_smallest_discriminator,
            growth=lambda kwargs: 16 if kwargs["architecture"] == "sa" else 1,
            outputs=("logit",),
        ),
        label_part(),
    ),
    flat_file=True,
    notes=(
        "A is anime, B are persons: netG_B turns a person into anime; netD_A judges anime.",
        "Generators: Generator_SA or U-Net; discriminators: Discriminator_SA or PatchGAN.",
        "Spectral norm moves on every forward pass, in eval mode too; inference and export fold W / sigma.",
        "The source counts identity A twice and B never, and differentiates sigma with later vectors: mended, kept "
        "with reference_exact=True.",
        "Modes sn, sn+gp, wgangp, wgan, vanilla and lsgan all train; in the source the last three do not.",
    ),
    cartoonize=Cartoonize(part="netG_B", frame="face", side=SIDE, multiple=16),
    training=Training(
        step="steps.sagan_cyclegan.SaganCycleGanStep",
        settings=SaganCycleGanSettings,
        phases=PHASES,
        narrow={"conv_dim": 8, "ngf": 4, "ndf": 4, "num_downs": 6},
        picture=(SIDE, SIDE + 16),
        parity={"identity": 0.05, "beta1": 0.3},
        resumed={"gan_mode": "sn+gp"},
        branches=(
            Branch({"gan_mode": "wgan", "reference_exact": True, "identity": 0.0}),
            Branch(
                {"gan_mode": "wgangp", "penalty_at": "real"},
                {name: {"architecture": "patch", "ndf": 4, "n_layers": 2} for name in PHASES["D"]},
            ),
            Branch({"gan_mode": "vanilla", "n_critic": 2}),
            Branch({"gan_mode": "sn+gp", "penalty_at": "fake", "reference_exact": True}),
        ),
        multiple=16,
        widths=("conv_dim",),
    ),
)
