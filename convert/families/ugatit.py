"""U-GAT-IT: the base system, six networks in one file.

Source: znxlwm/UGATIT-pytorch (MIT).
"""

from __future__ import annotations

from convert.families.photo2cartoon import gan_parts, gan_training, side_of_full_model, style_network
from convert.family import Cartoonize, Family, Kwargs, Part, Shapes

__all__ = ["UGATIT"]


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


UGATIT = Family(
    name="ugatit",
    title="U-GAT-IT: unpaired image translation with attention and AdaLIN",
    paper="U-GAT-IT, arXiv 1907.10830",
    source="znxlwm/UGATIT-pytorch",
    licence="MIT",
    parts=gan_parts(
        tuple(
            Part(
                name=name,
                class_name="ugatit.ResnetGenerator",
                kwargs={"input_nc": 3, "output_nc": 3, "ngf": 64, "n_blocks": 4, "img_size": 256, "light": True},
                infer=generator_kwargs,
                input_shape=(1, 3, 256, 256),
                smallest=lambda kwargs: 16 if kwargs["light"] else kwargs["img_size"],
                outputs=("image", "cam_logit", "heatmap"),
            )
            for name in ("genA2B", "genB2A")
        ),
        "ugatit",
        ndf=64,
    ),
    notes=("The system's scripts build the full model by default; the light one is what fits a small GPU.",),
    training=gan_training(cycle=10.0),
    cartoonize=Cartoonize(part="genA2B", fixed_side=side_of_full_model),
)
