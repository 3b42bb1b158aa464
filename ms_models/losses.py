"""Loss terms of the U-GAT-IT family, each a mean, before weighting; the twin of `torch_ref/losses.py`.

Papers: U-GAT-IT (arXiv 1907.10830); least-squares GAN (arXiv 1611.04076). System: photo2cartoon adds Face-ID.
"""

from __future__ import annotations

from mindspore import Tensor, nn, ops

__all__ = ["cam_loss", "face_crop", "face_embeddings", "face_id_distance", "l1", "least_squares"]

FACE_SIZE = 112


def least_squares(logit: Tensor, target: float) -> Tensor:
    """Mean squared distance of the logits from `target` (1 real, 0 fake), any shape -> scalar."""
    return ((logit - target) ** 2).mean()


def l1(first: Tensor, second: Tensor) -> Tensor:
    """Mean absolute difference of two tensors of one shape."""
    return (first - second).abs().mean()


def cam_loss(logit: Tensor, target: float) -> Tensor:
    """Binary cross-entropy of CAM logits [N, 2] with a constant target.

    Written as max(x, 0) - x * target + log1p(exp(-|x|)), which neither overflows nor loses digits.
    """
    return (ops.relu(logit) - logit * target + ops.log1p(ops.exp(-ops.abs(logit)))).mean()


def face_crop(height: int, width: int) -> tuple[int, int, int, int]:
    """Return top, bottom, left, right of the square face region in an aligned portrait, ends excluded."""
    top, bottom = int(height / 2.1 * 0.47), int(height - height / 2.1 * 0.3)
    size = bottom - top
    left = int(width / 2 - size / 2)
    return top, bottom, left, left + size


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
