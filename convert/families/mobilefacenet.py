"""MobileFaceNet: one network, embedding of any size.

Source: TreB1eN/InsightFace_Pytorch (MIT), as carried by photo2cartoon for its Face-ID loss.
"""

from collections.abc import Mapping

from convert.family import Family, Kwargs, Part, Shapes, Spelling
from convert.tensors import Entry, changed


def network_kwargs(shapes: Shapes) -> Kwargs | None:
    """Constructor arguments of the network behind a checkpoint's shapes, None for other networks."""
    if not {"conv2_dw.conv.weight", "conv_6_dw.conv.weight", "linear.weight"} <= shapes.keys():
        return None
    return {"embedding_size": shapes["linear.weight"][0]}


def from_mxnet(tensors: Mapping[str, Entry]) -> Mapping[str, Entry] | None:
    """Take the bias of the last layer into the mean of the batch norm behind it; None for other networks.

    bn(Wx + b) with the mean m equals bn(Wx) with the mean m - b.
    """
    if not {"pre_fc1_bias", "fc1_moving_mean"} <= tensors.keys():
        return None
    bias = tensors["pre_fc1_bias"]
    folded = changed(tensors["fc1_moving_mean"], lambda mean: mean.astype("float64") - bias.read())
    kept = {name: entry for name, entry in tensors.items() if name != "pre_fc1_bias"}
    return {**kept, "fc1_moving_mean": folded}


INSIGHTFACE = Spelling(
    name="InsightFace (MXNet)",
    renames=(
        (r"^(pre_)?fc1_weight$", "linear.weight"),
        (r"^fc1_gamma$", "bn.weight"),
        (r"^fc1_beta$", "bn.bias"),
        (r"^fc1_moving_(mean|var)$", r"bn.running_\1"),
        (r"_batchnorm_gamma$", ".bn.weight"),
        (r"_batchnorm_beta$", ".bn.bias"),
        (r"_batchnorm_moving_(mean|var)$", r".bn.running_\1"),
        (r"_conv2d_weight$", ".conv.weight"),
        (r"_relu_gamma$", ".prelu.weight"),
        (r"^conv_1\.", "conv1."),
        (r"^conv_2_dw\.", "conv2_dw."),
        (r"^dconv_(\d\d)_conv_", r"conv_\1.part_"),
        (r"^res_(\d)_block(\d)_conv_", r"conv_\1.model.\2.part_"),
        (r"\.part_sep\.", ".conv."),
        (r"\.part_dw\.", ".conv_dw."),
        (r"\.part_proj\.", ".project."),
        (r"^conv_6sep\.", "conv_6_sep."),
        (r"^conv_6dw7_7\.", "conv_6_dw."),
    ),
    prepare=from_mxnet,
    unused=(r"^fc7(_\w+)?$", r"^(arcface|margin|softmax)\w*$"),  # the classifier of the identities trained with
    note="each batch norm's epsilon worked into its variance, the bias of the last layer into the mean behind it; "
    "the released networks take (pixel - 127.5) / 128 where photo2cartoon's takes (pixel - 127.5) / 127.5",
)

MOBILEFACENET = Family(
    name="mobilefacenet",
    title="MobileFaceNet: face embeddings for the Face-ID loss and metric",
    paper="MobileFaceNets, arXiv 1804.07573",
    source="TreB1eN/InsightFace_Pytorch",
    licence="MIT (code); the released weights are for research use",
    parts=(
        Part(
            name="mobilefacenet",
            class_name="mobilefacenet.MobileFaceNet",
            kwargs={"embedding_size": 512},
            infer=network_kwargs,
            input_shape=(1, 3, 112, 112),
            smallest=lambda kwargs: 112,
            growth=lambda kwargs: None,
            outputs=("embedding",),
            spellings=(INSIGHTFACE,),
        ),
    ),
)
