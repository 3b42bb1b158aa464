"""The Face-ID term of the U-GAT-IT family, before weighting, as photo2cartoon adds it."""

from torch import Tensor, nn
from torch.nn import functional as F

from convert.recipes.ugatit import face_crop

FACE_SIZE = 112


def face_id_distance(face_net: nn.Module, first: Tensor, second: Tensor) -> Tensor:
    """Mean of 1 - cosine between the face embeddings of two batches.

    Args:
        face_net: MobileFaceNet in eval mode.
        first, second: [N, 3, H, W] RGB in [-1, 1], aligned portraits.
    """
    return (1 - F.cosine_similarity(face_embeddings(face_net, first), face_embeddings(face_net, second))).mean()


def face_embeddings(face_net: nn.Module, portraits: Tensor) -> Tensor:
    """Unit vectors of the face regions of aligned portraits, [N, 3, H, W] RGB in [-1, 1] -> [N, embedding]."""
    top, bottom, left, right = face_crop(*portraits.shape[-2:])
    faces = portraits[:, :, top:bottom, left:right]
    faces = F.interpolate(faces, size=(FACE_SIZE, FACE_SIZE), mode="bilinear", align_corners=True)
    return face_net(faces)  # [N, embedding]
