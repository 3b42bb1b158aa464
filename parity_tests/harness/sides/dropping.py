"""Dropout at rest: what leaves out elements at random passes on what it is given, in functions as well as in layers.

A mask that is drawn with one probability holds that probability, as in stochastic depth.
So the same numbers come out of every run, and the uses of dropout are known, each with its rate.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any

from parity_tests.harness.sides.base import Dropout

Note = Callable[
    [Dropout | None], None
]  # told the form of each use; None where something else takes the elements' place
WHOLE = ("dropout1d", "dropout2d", "dropout3d", "feature_dropout")  # PyTorch's functions that leave out channels
OTHER = ("alpha_dropout", "feature_alpha_dropout")
ATTENTION = ("multi_head_attention_forward", "scaled_dot_product_attention")
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
MINDSPORE = {"Dropout": False, "Dropout2D": True, "Dropout3D": True}  # primitives: whether they leave out channels


def resting_in_torch(note: Note) -> Any:
    """Return the context in which PyTorch leaves out nothing."""
    from torch.overrides import TorchFunctionMode

    class Resting(TorchFunctionMode):
        """Answers for functions of dropout, and sets the rate of those that contain it to 0."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            """See `TorchFunctionMode`."""
            kwargs, name = dict(kwargs or {}), func.__name__.rstrip("_")
            if name == "dropout" or name in WHOLE + OTHER:
                return _function(note, name, args, kwargs)
            if name == "bernoulli" and isinstance(rate := kwargs.get("p", args[1] if len(args) > 1 else None), float):
                note(Dropout(1 - rate, False))
                return args[0].fill_(rate) if func.__name__.endswith("_") else args[0].new_full(args[0].shape, rate)
            if name in RECURRENT:
                return func(*_without_rate(note, args), **kwargs)
            if name in ATTENTION:
                args, kwargs = _attention(note, func, args, kwargs)
            return func(*args, **kwargs)

    return Resting()


def _function(note: Note, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """What a function of dropout returns at rest: what it is given."""
    given = dict(zip(("input", "p", "training"), args, strict=False)) | kwargs
    rate, training = given.get("p", 0.5), given.get("training", given.get("train", True))
    if training and rate:
        note(None if name in OTHER else Dropout(rate, name in WHOLE))
    return given["input"]


def _without_rate(note: Note, args: Sequence[Any]) -> list[Any]:
    """The arguments of a recurrent function without dropout: it follows the number of layers, training follows it."""
    found = list(args)
    for place, value in enumerate(args[:-1]):
        if isinstance(value, float):
            if value and args[place + 1]:
                for _ in range(args[place - 1] - 1):
                    note(Dropout(value, False))
            found[place] = 0.0
    return found


def _attention(
    note: Note, func: Any, args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[Sequence[Any], dict[str, Any]]:
    """The arguments of an attention without dropout."""
    if func.__name__ == ATTENTION[1]:
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
        given, training = dict(zip(names, args, strict=False)) | kwargs, True
    else:
        given = dict(signature(func).bind(*args, **kwargs).arguments)
        training = given.get("training", True)
    if training and given.get("dropout_p"):
        note(Dropout(given["dropout_p"], False))
    return (), given | {"dropout_p": 0.0}


@contextmanager
def resting_in_mindspore(note: Note) -> Iterator[None]:
    """Let MindSpore leave out nothing as long as this is entered, operation by operation; graphs are not reached."""
    from mindspore import ops

    before = {name: vars(getattr(ops, name)).get("__call__") for name in MINDSPORE}
    for name, channels in MINDSPORE.items():
        getattr(ops, name).__call__ = _passing(note, channels)
    try:
        yield
    finally:
        for name, own in before.items():
            if own is None:
                delattr(getattr(ops, name), "__call__")
            else:
                getattr(ops, name).__call__ = own


def _passing(note: Note, channels: bool) -> Callable[..., Any]:
    def call(primitive: Any, given: Any, *_: Any) -> tuple[Any, Any]:
        """The input, and in the place of the mask that nothing is left out."""
        from mindspore import ops

        if primitive.keep_prob < 1:
            note(Dropout(1 - float(primitive.keep_prob), channels))
        return given, ops.ones_like(given)

    return call
