"""The twin of `torch_ref/losses_ugatit.py`."""

from mindspore import Tensor, nn, ops

from convert.recipes.ugatit import face_crop

FACE_SIZE = 112


def face_id_distance(face_net: nn.Cell, first: Tensor, second: Tensor) -> Tensor:
    """Mean of 1 - cosine between the face embeddings of two batches.

    Args:
        face_net: MobileFaceNet in eval mode.
        first, second: [N, 3, H, W] RGB in [-1, 1], aligned portraits.
    """
    return (1 - _cosine(face_embeddings(face_net, first), face_embeddings(face_net, second))).mean()


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    norms = ops.sqrt((first * first).sum(1) * (second * second).sum(1))
    return (first * second).sum(1) / ops.clamp(norms, 1e-8)  # [N]


def face_embeddings(face_net: nn.Cell, portraits: Tensor) -> Tensor:
    """Unit vectors of the face regions of aligned portraits, [N, 3, H, W] RGB in [-1, 1] -> [N, embedding]."""
    top, bottom, left, right = face_crop(*portraits.shape[2:])
    faces = portraits[:, :, top:bottom, left:right]
    faces = ops.interpolate(faces, size=(FACE_SIZE, FACE_SIZE), mode="bilinear", align_corners=True)
    return face_net(faces)  # [N, embedding]
