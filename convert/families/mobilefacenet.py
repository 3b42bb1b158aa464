"""MobileFaceNet: one network, embedding of any size.

Source: TreB1eN/InsightFace_Pytorch (MIT), as carried by photo2cartoon for its Face-ID loss.
"""

from __future__ import annotations

from convert.registry import Family, Kwargs, Part, Shapes

__all__ = ["MOBILEFACENET"]


def network_kwargs(shapes: Shapes) -> Kwargs | None:
    """Constructor arguments of the network behind a checkpoint's shapes, None for other networks."""
    if not {"conv2_dw.conv.weight", "conv_6_dw.conv.weight", "linear.weight"} <= shapes.keys():
        return None
    return {"embedding_size": shapes["linear.weight"][0]}


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
            outputs=("embedding",),
        ),
    ),
)
