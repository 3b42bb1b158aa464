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

from collections.abc import Mapping
from functools import partial
from typing import Any

from convert.family import Branch, Cartoonize, Family, FrozenNetwork, Kwargs, Part, Shapes, Spelling, Training
from convert.recipes.settings import Settings
from convert.recipes.whitebox import PHASES, FacialSettings, WhiteboxSettings
from convert.tensors import Entry, as_float32, transposed

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
OLD_SPECTRAL_NORM = Spelling(
    name="PyTorch spectral_norm",
    renames=(
        (r"\.weight_orig$", ".parametrizations.weight.original"),
        (r"\.weight_([uv])$", r".parametrizations.weight.0._\1"),
    ),
)


Tensors = Mapping[str, Entry]
HWIO_TO_OIHW, OHWI_TO_OIHW = (3, 2, 0, 1), (0, 3, 1, 2)
FIRST = "generator/Conv/"
SCOPES = (
    (r"^generator/Conv/", "FirstConv.0."),
    (r"^generator/Conv_1/", "DownSample1.ConvReLU_2.1."),
    (r"^generator/Conv_2/", "DownSample1.ConvReLU_2.3."),
    (r"^generator/Conv_3/", "DownSample2.ConvReLU_2.1."),
    (r"^generator/Conv_4/", "DownSample2.ConvReLU_2.3."),
    (r"^generator/block_(\d+)/conv1/", r"ResBlock.ResBlock_\1.Conv.0."),
    (r"^generator/block_(\d+)/conv2/", r"ResBlock.ResBlock_\1.Conv.2."),
    (r"^generator/Conv_5/", "UpSample1.FirstConv.0."),
    (r"^generator/Conv_6/", "UpSample1.ConvReLU.0."),
    (r"^generator/Conv_7/", "UpSample2.FirstConv.0."),
    (r"^generator/Conv_8/", "UpSample2.ConvReLU.0."),
    (r"^generator/Conv_9/", "LastConv.0."),
    (r"\.weights$", ".weight"),
    (r"\.biases$", ".bias"),
)


def kernels_turned(tensors: Tensors, own: str, axes: tuple[int, ...]) -> Tensors | None:
    """Kernels in PyTorch's order of axes and half precision widened; None for a file without the tensor `own`."""
    if own not in tensors:
        return None
    found = {name: as_float32(entry) for name, entry in tensors.items()}
    return {name: transposed(entry, axes) if len(entry.spec.shape) == 4 else entry for name, entry in found.items()}


TENSORFLOW = Spelling(
    name="TensorFlow",
    renames=SCOPES,
    prepare=partial(kernels_turned, own=f"{FIRST}weights", axes=HWIO_TO_OIHW),
    unused=(r"/Adam(_1)?$", r"^beta[12]_power", r"^global_step$", r"^disc_(blur|gray)/"),
    note="kernels turned from HWIO to OIHW",
)
# Biases carry the names of all operations that were joined into one; their own is the last. The constants outside
# the generator belong to the guided filter and to the sizes of the bilinear resizing.
TFLITE = Spelling(
    name="TensorFlow Lite",
    renames=((r"^.*;(generator/[^;]*/biases)$", r"\1"), (r"/Conv2D$", "/weights"), *SCOPES),
    prepare=partial(kernels_turned, own=f"{FIRST}Conv2D", axes=OHWI_TO_OIHW),
    unused=(r"^(add/y|ones|depthwise\w*)$", r"ResizeBilinear(_\d+)?/size$"),
    note="float16 widened to float32, kernels turned from OHWI to OIHW; the guided filter in the file is left out",
    channels="RGB",
)

# The weights of the published TensorFlow Lite file, whose publisher draws RGB pictures with them; the source's own
# scripts read with OpenCV, so BGR. Half precision tells both apart.
PUBLISHED = (("FirstConv.0.bias", "a8d58f15f60c1b9edfd0c204ee35c44a4908686ce493fbb603cc7778f79ddcca", "RGB"),)


def networks(form: str) -> tuple[Part, ...]:
    """Return the generator and the discriminators of texture and surface in one form."""
    discriminator = partial(
        Part,
        class_name="whitebox.Discriminator",
        infer=partial(discriminator_kwargs, form=form),
        smallest=lambda kwargs: 32,
        growth=lambda kwargs: 8,
        outputs=("scores",),
        spellings=(OLD_SPECTRAL_NORM,) if form == "published" else (),
    )
    return (
        Part(
            name="generator",
            class_name="whitebox.UnetGenerator",
            kwargs={"channel": 32, "num_blocks": 4, "in_channels": 3, "out_channels": 3, "form": form},
            infer=partial(generator_kwargs, form=form),
            input_shape=(1, 3, 256, 256),
            smallest=lambda kwargs: 16,
            growth=lambda kwargs: 8,
            outputs=("image",),
            spellings=(TENSORFLOW, TFLITE) if form == "whitebox" else (),
            published=PUBLISHED if form == "whitebox" else (),
        ),
        discriminator(
            name="disc_gray", kwargs={"in_channel": 1, "channel": 32, "form": form}, input_shape=(1, 1, 256, 256)
        ),
        discriminator(
            name="disc_blur", kwargs={"in_channel": 3, "channel": 32, "form": form}, input_shape=(1, 3, 256, 256)
        ),
    )


def training(settings: type[Settings], branch: Mapping[str, Any]) -> Training:
    """Return how the three networks are trained: generator first, then the discriminators.

    Args:
        settings: class of the settings.
        branch: settings of which each differs from its default, beside those of both families.
    """
    return Training(
        step="steps.whitebox.WhiteboxStep",
        settings=settings,
        phases=PHASES,
        narrow={"channel": 4, "num_blocks": 1},
        picture=(32, 40),
        parity={"decay": True},
        branches=(Branch({**branch, "shift": "normal", "landmark": 90.0}), Branch({"pretrain": True, "decay": False})),
        widths=("channel",),
        frozen=FrozenNetwork("vgg19", "vgg19", {"width": 8}),
        synonyms={"w0": "variation", "w1": "surface", "w2": "texture", "w3": "content", "w4": "structure"},
        multiple=8,
    )


WHITEBOX = Family(
    name="whitebox",
    title="White-box Cartoonization: photo to cartoon through surface, structure and texture",
    paper=PAPER,
    source="SystemErrorWang/White-box-Cartoonization",
    licence="CC BY-NC-SA 4.0, no commercial use",
    parts=networks("whitebox"),
    notes=(
        "Colours are in the order blue, green, red, but for the published TensorFlow Lite file and what is made of it.",
        "A guided filter (radius 1, eps 5e-3) follows the generator.",
        "A generator file fits facialcartoonization as well; name the family where both could be meant.",
        "Trained in two stages: train whitebox --pretrain, then train whitebox --init RUN --frozen vgg19.pth.",
    ),
    training=training(WhiteboxSettings, {"colours": "rgb", "shift_per_pixel": True}),
    cartoonize=Cartoonize(
        part="generator", side=None, multiple=8, shorter_limit=720, channels="BGR", after="filters.finish_whitebox"
    ),
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
    training=training(FacialSettings, {"colours": "bgr", "shift_per_pixel": False}),
    cartoonize=Cartoonize(part="generator", frame="face", side=128, after="filters.finish_facial"),
)


def vgg_kwargs(shapes: Shapes) -> Kwargs | None:
    """Constructor arguments of the VGG19 behind a checkpoint's shapes, None for other networks."""
    if not {"conv.0.0.weight", "conv.14.weight"} <= shapes.keys():
        return None
    return {"width": shapes["conv.0.0.weight"][0]}


# Place in the network, name in the .npy file, index in torchvision's `features`.
VGG_LAYERS = (
    ("0.0", "conv1_1", 0),
    ("1.0", "conv1_2", 2),
    ("3.0", "conv2_1", 5),
    ("4.0", "conv2_2", 7),
    ("6.0", "conv3_1", 10),
    ("7.0", "conv3_2", 12),
    ("8.0", "conv3_3", 14),
    ("9.0", "conv3_4", 16),
    ("11.0", "conv4_1", 19),
    ("12.0", "conv4_2", 21),
    ("13.0", "conv4_3", 23),
    ("14", "conv4_4", 25),
)


VGG_NUMPY = Spelling(
    name="vgg19.npy",
    renames=tuple(
        (rf"^{name}\.{index}$", f"conv.{place}.{leaf}")
        for place, name, _ in VGG_LAYERS
        for index, leaf in enumerate(("weight", "bias"))
    ),
    prepare=partial(kernels_turned, own="conv1_1.0", axes=HWIO_TO_OIHW),
    unused=(r"^conv5_[1-4]\.", r"^fc[678]\."),
    note="kernels turned from HWIO to OIHW; layers after conv4_4 are left out",
)
VGG_CAFFE = Spelling(
    name="torchvision",
    renames=tuple((rf"^features\.{index}\.", f"conv.{place}.") for place, _, index in VGG_LAYERS),
    unused=(r"^features\.(28|30|32|34)\.", r"^classifier\."),
    note="layers after conv4_4 are left out; right for weights made for BGR pixels of 0 to 255 less the mean",
)
VGG_FACIAL = Spelling(name="FacialCartoonization", renames=((r"^(\d+\.)", r"conv.\1"),))

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
            growth=lambda kwargs: 1,
            outputs=("features",),
            spellings=(VGG_NUMPY, VGG_CAFFE, VGG_FACIAL),
        ),
    ),
)
