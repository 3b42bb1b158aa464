"""photo2cartoon: six networks in one file.

Sources: minivision-ai/photo2cartoon (MIT); file spelling of yifu-ding/photo2cartoon-ms.
"""

from convert.families.ugatit import gan_parts, gan_training, side_of_full_model, style_network
from convert.family import Cartoonize, Family, FrozenNetwork, Kwargs, Shapes, Spelling

# The MindSpore port took the up-sampling out of UpBlock1 and UpBlock2, so its indices are one lower
# there, and put batch norm where the reference has instance norm.
PHOTO2CARTOON_MS_GENERATOR = Spelling(
    name="photo2cartoon-ms",
    renames=((r"^(UpBlock[12])\.1\.weight$", r"\1.2.weight"), (r"^(UpBlock[12])\.2\.(rho|gamma|beta)$", r"\1.3.\2")),
    neutral=(("InstanceNorm2d", (("gamma", 1.0), ("beta", 0.0), ("moving_mean", 0.0), ("moving_variance", 1.0))),),
    refusals=(
        (
            r"\.(moving_mean|moving_variance)$",
            "the file carries trained batch-norm tensors where the reference has instance norm: "
            "they belong to another function and cannot be carried over",
        ),
    ),
)


def generator_kwargs(shapes: Shapes) -> Kwargs | None:
    """Constructor arguments of the generator behind a checkpoint's shapes, None for other networks."""
    if not {"HourGlass1.Conv1.weight", "ConvBlock1.1.weight", "FC.0.weight"} <= shapes.keys():
        return None
    ngf = shapes["ConvBlock1.1.weight"][0]
    return {"ngf": ngf, **style_network(shapes, ngf * 4)}


PHOTO2CARTOON = Family(
    name="photo2cartoon",
    title="photo2cartoon: portrait photo to cartoon",
    paper="U-GAT-IT, arXiv 1907.10830",
    source="minivision-ai/photo2cartoon",
    licence="MIT",
    parts=gan_parts(
        ndf=32,
        class_name="photo2cartoon.ResnetGenerator",
        kwargs={"ngf": 32, "img_size": 256, "light": True},
        infer=generator_kwargs,
        smallest=lambda kwargs: 32 if kwargs["light"] else kwargs["img_size"],
        growth=lambda kwargs: 16 if kwargs["light"] else None,
        spellings=(PHOTO2CARTOON_MS_GENERATOR,),
    ),
    notes=(
        "56 ConvBlock4 weights per generator exist but take no part; they are carried along unchanged.",
        "The discriminators' attention multiplies by weight_orig, not by the normalised weight.",
    ),
    training=gan_training(
        (96, 112), FrozenNetwork("mobilefacenet", "mobilefacenet", {"embedding_size": 64}), multiple=16
    ),
    cartoonize=Cartoonize(part="genA2B", frame="portrait", multiple=16, fixed_side=side_of_full_model),
)
