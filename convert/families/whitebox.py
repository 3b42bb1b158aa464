"""White-box Cartoonization, its descendant FacialCartoonization, and the VGG19 that both train against.

Sources: SystemErrorWang/White-box-Cartoonization (TensorFlow 1); ArthurinRUC/FacialCartoonization (PyTorch).

Bugs of the sources, and what is done here:
* FacialCartoonization adds its skip connections and throws the sum away; the form "published" does the same,
  because checkpoints were trained like that, and "whitebox" uses them.
* Its training step lets the discriminators' loss flow into the generator and throws that gradient away; here the
  fakes are detached, which changes no number.
* It averages the content loss over the features and divides by their number again, and so does White-box's;
  the published weights are tuned to that, so it is kept.
* Its README promises a landmark term that no commit holds; docs/landmark_term.md describes the one built here.
"""

from __future__ import annotations

from functools import partial

from convert.registry import Alias, Family, FrozenNetwork, Kwargs, Part, Shapes, Training

__all__ = ["FACIALCARTOONIZATION", "VGG19", "WHITEBOX"]

PAPER = "Learning to Cartoonize Using White-box Cartoon Representations, CVPR 2020"


def generator_kwargs(shapes: Shapes, form: str) -> Kwargs | None:
    """Constructor arguments of the generator behind a checkpoint's shapes, None for other networks."""
    if not {"FirstConv.0.weight", "UpSample1.ConvReLU.0.weight", "LastConv.0.weight"} <= shapes.keys():
        return None
    channel, in_channels = shapes["FirstConv.0.weight"][:2]
    blocks = sum(name.startswith("ResBlock.ResBlock_") and name.endswith(".Conv.0.weight") for name in shapes)
    out_channels = shapes["LastConv.0.weight"][0]
    return {
        "channel": channel,
        "num_blocks": blocks,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "form": form,
    }


def discriminator_kwargs(shapes: Shapes, form: str) -> Kwargs | None:
    """Constructor arguments of the discriminator behind a checkpoint's shapes, None for other networks."""
    leaf = "parametrizations.weight.original" if form == "published" else "weight_orig"
    first = shapes.get(f"ConvSN1.layers.0.{leaf}")
    return None if first is None else {"in_channel": first[1], "channel": first[0], "form": form}


# PyTorch's older form of spectral norm under the names of the newer one.
OLD_SPECTRAL_NORM = Alias(
    name="PyTorch spectral_norm",
    renames=(
        (r"\.weight_orig$", ".parametrizations.weight.original"),
        (r"\.weight_([uv])$", r".parametrizations.weight.0._\1"),
    ),
)


def networks(form: str) -> tuple[Part, ...]:
    """Return the generator and the discriminators of texture and surface in one form."""
    discriminator = partial(
        Part,
        class_name="whitebox.Discriminator",
        infer=partial(discriminator_kwargs, form=form),
        smallest=lambda kwargs: 32,
        outputs=("scores",),
        aliases=(OLD_SPECTRAL_NORM,) if form == "published" else (),
    )
    return (
        Part(
            name="generator",
            class_name="whitebox.UnetGenerator",
            kwargs={"channel": 32, "num_blocks": 4, "in_channels": 3, "out_channels": 3, "form": form},
            infer=partial(generator_kwargs, form=form),
            input_shape=(1, 3, 256, 256),
            smallest=lambda kwargs: 16,
            outputs=("image",),
        ),
        discriminator(
            name="disc_gray", kwargs={"in_channel": 1, "channel": 32, "form": form}, input_shape=(1, 1, 256, 256)
        ),
        discriminator(
            name="disc_blur", kwargs={"in_channel": 3, "channel": 32, "form": form}, input_shape=(1, 3, 256, 256)
        ),
    )


def training(settings: str) -> Training:
    """Return how the three networks are trained: generator first, then the discriminators."""
    return Training(
        step="steps_whitebox.WhiteboxStep",
        settings=f"steps_whitebox.{settings}",
        phases={"G": ("generator",), "D": ("disc_blur", "disc_gray")},
        narrow={"channel": 4, "num_blocks": 1},
        side=32,
        frozen=FrozenNetwork("vgg19", "vgg19", {"width": 8}),
    )


WHITEBOX = Family(
    name="whitebox",
    title="White-box Cartoonization: photo to cartoon through surface, structure and texture",
    paper=PAPER,
    source="SystemErrorWang/White-box-Cartoonization",
    licence="CC BY-NC-SA 4.0, no commercial use",
    parts=networks("whitebox"),
    notes=(
        "Pictures are in the colour order blue, green, red; a guided filter (radius 1, eps 5e-3) follows the generator.",
        "A generator file fits facialcartoonization as well; name the family where both could be meant.",
    ),
    training=training("WhiteboxSettings"),
)

FACIALCARTOONIZATION = Family(
    name="facialcartoonization",
    title="FacialCartoonization: White-box in PyTorch, for portraits",
    paper=PAPER,
    source="ArthurinRUC/FacialCartoonization",
    licence="none stated",
    parts=networks("published"),
    notes=(
        "As published: the skip connections and both ConvReLU of the up-sampling take no part, slope 0.01, tanh.",
        "The landmark term that its README promises is described in docs/landmark_term.md; off by default.",
    ),
    training=training("FacialSettings"),
)


def vgg_kwargs(shapes: Shapes) -> Kwargs | None:
    """Constructor arguments of the VGG19 behind a checkpoint's shapes, None for other networks."""
    if not {"conv.0.0.weight", "conv.14.weight"} <= shapes.keys():
        return None
    return {"width": shapes["conv.0.0.weight"][0]}


VGG19 = Family(
    name="vgg19",
    title="VGG19 up to conv4_4: features for the content and structure losses",
    paper="Very Deep Convolutional Networks, arXiv 1409.1556",
    source="the VGG team's Caffe weights, as vgg19_no_fc.npy or vgg19-d01eb7cb.pth",
    licence="CC BY 4.0",
    parts=(
        Part(
            name="vgg19",
            class_name="vgg.VGG19",
            kwargs={"width": 64},
            infer=vgg_kwargs,
            input_shape=(1, 3, 256, 256),
            smallest=lambda kwargs: 16,
            outputs=("features",),
        ),
    ),
)
