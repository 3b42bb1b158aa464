"""U-GAT-IT: the base system, six networks in one file.

Source: znxlwm/UGATIT-pytorch (MIT).
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from convert.family import Cartoonize, Family, FrozenNetwork, Kwargs, Part, Shapes, Spelling, Training
from convert.recipes.ugatit import PHASES, UgatitSettings

WITHOUT_SPECTRAL_NORM = Spelling(
    name="photo2cartoon-ms",
    refusals=(
        (
            r"^(model\.\d+|gap_fc|gmp_fc|conv)\.weight$",
            "the network was trained without spectral norm: its weight is not the reference's weight_orig, "
            "and the vectors u and v do not exist",
        ),
    ),
)


def style_network(shapes: Shapes, dim: int) -> Kwargs:
    """Tell the light from the full model, and the image size of the full one, by the style network's input."""
    columns = shapes["FC.0.weight"][1]
    if columns == dim:
        return {"light": True, "img_size": 256}
    return {"light": False, "img_size": 4 * math.isqrt(columns // dim)}


def side_of_full_model(kwargs: Mapping[str, Any]) -> int | None:
    """The full model's style network takes one image size; the light one takes any, None."""
    return None if kwargs["light"] else int(kwargs["img_size"])


def generator_kwargs(shapes: Shapes) -> Kwargs | None:
    """Constructor arguments of the generator behind a checkpoint's shapes, None for other networks."""
    if not {"DownBlock.1.weight", "UpBlock2.11.weight", "FC.0.weight"} <= shapes.keys():
        return None
    ngf, input_nc = shapes["DownBlock.1.weight"][:2]
    blocks = sum(name.startswith("UpBlock1_") and name.endswith(".conv1.weight") for name in shapes)
    return {
        "input_nc": input_nc,
        "output_nc": shapes["UpBlock2.11.weight"][0],
        "ngf": ngf,
        "n_blocks": blocks,
        **style_network(shapes, ngf * 4),
    }


def discriminator_kwargs(shapes: Shapes) -> Kwargs | None:
    """Constructor arguments of the discriminator behind a checkpoint's shapes, None for other networks."""
    first = shapes.get("model.1.bias")
    convolutions = sum(name.startswith("model.") and name.endswith(".bias") for name in shapes)
    if first is None or ("gap_fc.weight_orig" not in shapes and "gap_fc.weight" not in shapes):
        return None
    weight = shapes.get("model.1.weight_orig") or shapes.get("model.1.weight") or (0, 3)
    return {"input_nc": weight[1], "ndf": first[0], "n_layers": convolutions + 1}


def gan_parts(ndf: int, **generator: Any) -> tuple[Part, ...]:
    """Return the generators of both directions, then global (7 layers) and local (5) discriminators for A and B.

    Of the discriminators, `ndf` is the width of the first layer; `generator` is what a generator is, as in Part.
    """
    shared = partial(Part, input_shape=(1, 3, 256, 256))
    discriminator = partial(
        shared,
        class_name="ugatit.Discriminator",
        infer=discriminator_kwargs,
        outputs=("logit", "cam_logit", "heatmap"),
        smallest=lambda kwargs: 3 * 2 ** (kwargs["n_layers"] - 2),
        growth=lambda kwargs: 1,
        spellings=(WITHOUT_SPECTRAL_NORM,),
    )
    depths = (("disGA", 7), ("disGB", 7), ("disLA", 5), ("disLB", 5))
    return (
        *(shared(name=name, outputs=("image", "cam_logit", "heatmap"), **generator) for name in ("genA2B", "genB2A")),
        *(discriminator(name=name, kwargs={"input_nc": 3, "ndf": ndf, "n_layers": depth}) for name, depth in depths),
    )


def gan_training(
    picture: tuple[int, int], frozen: FrozenNetwork | None = None, multiple: int = 4, **defaults: float
) -> Training:
    """Return how the six networks are trained: discriminators first, then generators."""
    return Training(
        step="steps.ugatit.UgatitStep",
        settings=UgatitSettings,
        phases=PHASES,
        narrow={"ngf": 4, "ndf": 4, "n_blocks": 1, "img_size": round((picture[0] * picture[1]) ** 0.5)},
        picture=picture,
        widths=("ngf", "ndf"),
        side_argument="img_size",
        frozen=frozen,
        defaults=defaults,
        multiple=multiple,
    )


LIGHT: Kwargs = {"input_nc": 3, "output_nc": 3, "ngf": 64, "n_blocks": 4, "img_size": 256, "light": True}
UGATIT = Family(
    name="ugatit",
    title="U-GAT-IT: unpaired image translation with attention and AdaLIN",
    paper="U-GAT-IT, arXiv 1907.10830",
    source="znxlwm/UGATIT-pytorch",
    licence="MIT",
    parts=gan_parts(
        ndf=64,
        class_name="ugatit.ResnetGenerator",
        kwargs=LIGHT,
        variants=({**LIGHT, "light": False},),
        infer=generator_kwargs,
        smallest=lambda kwargs: 16 if kwargs["light"] else kwargs["img_size"],
        growth=lambda kwargs: 4 if kwargs["light"] else None,
    ),
    notes=("The system's scripts build the full model by default; the light one is what fits a small GPU.",),
    training=gan_training((100, 144), cycle=10.0),
    cartoonize=Cartoonize(part="genA2B", fixed_side=side_of_full_model),
)
