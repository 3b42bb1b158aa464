"""DTN: encoder, decoder and discriminator, and the labels of the loss, in one file of 76 tensors.

Source: lzw-all-in/anime_person_translation (no licence stated), which saves no such file itself.

Bugs of the source:
* The gradient of sigma uses the vectors of the last forward pass before backward, and u and v move in eval mode: as
  in `sagan_cyclegan`.
* Its script trains anime to persons but shows the pictures the other way round, and saves nothing.
"""

from convert.families.sagan_cyclegan import SIDE, WEIGHT_BAR, discriminator_sa_kwargs, label_part
from convert.family import Branch, Cartoonize, Family, Kwargs, Part, Shapes, Training
from convert.recipes.dtn import PHASES, DtnSettings


def encoder_kwargs(shapes: Shapes) -> Kwargs | None:
    """Constructor arguments of the encoder behind a checkpoint's shapes, None for other networks."""
    if not {"down_sample.0.weight", "down_sample.12.weight"} <= shapes.keys():
        return None
    return {"z_dim": shapes["down_sample.12.weight"][0], "conv_dim": shapes["down_sample.0.weight"][0]}


def decoder_kwargs(shapes: Shapes) -> Kwargs | None:
    """Constructor arguments of the decoder behind a checkpoint's shapes, None for other networks."""
    if "up_sample.0.weight" in shapes or not {"l1.0.module.weight_u", "up_attn1.gamma"} <= shapes.keys():
        return None
    return {"z_dim": shapes["l1.0.module.weight_u"][0], "conv_dim": shapes["l4.0.module.bias"][0]}


DTN = Family(
    name="dtn",
    title="DTN: one encoder and one decoder translate a source domain into a target domain",
    paper="Domain Transfer Network, arXiv 1611.02200",
    source="lzw-all-in/anime_person_translation",
    licence="none stated by the source",
    parts=(
        Part(
            name="decoder",
            class_name="dtn.Decoder",
            kwargs={"z_dim": 100, "conv_dim": 64},
            infer=decoder_kwargs,
            input_shape=(1, 100, 1, 1),
            smallest=lambda kwargs: 1,
            growth=lambda kwargs: 1,
            outputs=("image",),
            spellings=(WEIGHT_BAR,),
        ),
        Part(
            name="encoder",
            class_name="dtn.Encoder",
            kwargs={"z_dim": 100, "conv_dim": 64},
            infer=encoder_kwargs,
            input_shape=(1, 3, SIDE, SIDE),
            smallest=lambda kwargs: SIDE,
            growth=lambda kwargs: 16,
            outputs=("code",),
        ),
        Part(
            name="net_D",
            class_name="sagan_cyclegan.Discriminator_SA",
            kwargs={"conv_dim": 64},
            infer=discriminator_sa_kwargs,
            input_shape=(1, 3, SIDE, SIDE),
            smallest=lambda kwargs: SIDE,
            growth=lambda kwargs: 16,
            outputs=("logit",),
            spellings=(WEIGHT_BAR,),
        ),
        label_part(),
    ),
    flat_file=True,
    notes=(
        "A translation is decoder(encoder(picture)); the discriminator judges the target domain.",
        "The source could not make it train; it differentiates sigma with later vectors: mended, kept with "
        "reference_exact=True.",
        "Spectral norm moves on every forward pass, in eval mode too; inference and export fold W / sigma.",
    ),
    cartoonize=Cartoonize(part="encoder", then="decoder", frame="face", side=SIDE, multiple=16),
    training=Training(
        step="steps.dtn.DtnStep",
        settings=DtnSettings,
        phases=PHASES,
        narrow={"conv_dim": 8},
        picture=(SIDE, SIDE + 16),
        parity={"beta1": 0.3},
        resumed={"gan_mode": "wgan"},
        branches=(Branch({"gan_mode": "vanilla", "reference_exact": True}), Branch({"gan_mode": "lsgan"})),
        multiple=16,
        widths=("conv_dim",),
    ),
)
