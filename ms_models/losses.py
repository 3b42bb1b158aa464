"""The twin of `torch_ref/losses.py`."""

from mindspore import Tensor, ops


def least_squares(logit: Tensor, target: float) -> Tensor:
    """Mean squared distance of the logits from `target` (1 real, 0 fake), any shape -> scalar."""
    return ((logit - target) ** 2).mean()


def l1(first: Tensor, second: Tensor) -> Tensor:
    """Mean absolute difference of two tensors of one shape."""
    return (first - second).abs().mean()


def cross_entropy(logit: Tensor, target: float) -> Tensor:
    """Mean binary cross-entropy of logits of any shape with a constant target.

    Written as max(x, 0) - x * target + log1p(exp(-|x|)), which neither overflows nor loses digits.
    """
    return (ops.relu(logit) - logit * target + ops.log1p(ops.exp(-ops.abs(logit)))).mean()
