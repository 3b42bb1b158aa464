"""Operations of PyTorch computed otherwise while a layer runs, and what such a change is called."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Any


class Change(str, Enum):
    """What a candidate bug does."""

    EPSILON = "epsilon"
    BIASED = "variance"
    AXES = "axes of the statistics"
    SUM = "sum"
    GAIN = "gain left out"
    AFFINE = "scale and shift of the norm"
    SLOPE = "slope"
    ACTIVATION = "activation"
    SOFTMAX_AXIS = "axis of the softmax"
    SOFTMAX_SCALE = "scale of the scores"
    PADDING_MODE = "padding mode"
    PADDING_SIDE = "padding side"
    UPSAMPLING = "upsampling"
    CONVOLUTION = "convolution"
    FACTORS = "factors of the products"
    BIAS = "bias"
    ORDER = "order of a concatenation"
    POOLING = "pooling"
    SHARE = "share and 1 - share exchanged"
    STATISTICS = "batch or running statistics"
    MOMENTUM = "momentum of the running statistics"
    DETACHED = "detached"
    OUTPUT = "output"
    INPUT = "input"
    MODE = "mode"
    STATE = "state"
    WEIGHT = "weight"
    SIGMA = "division left out"
    SETTING = "setting"
    LOSS_WEIGHT = "weight of the loss"
    RATE = "learning rate"
    SCALE = "all of them scaled"
    TERM = "loss term"
    BETA = "Adam's beta"
    DECAY = "weight decay"
    UPDATE = "Adam's update"
    PIECES = "gradients of a batch's pieces"
    MOMENTS = "Adam's moments"
    ARITHMETIC = "arithmetic"
    OPTIMISER = "the optimiser's update"


@dataclass(frozen=True)
class Cause:
    """A bug that, planted in the reference, makes the port's own error."""

    change: Change
    value: str = ""  # what it was changed to: "10.0" of an epsilon, "reflect" of a padding
    where: str = ""  # the operation or tensor


Call = Callable[..., Any]
# (operation's name, the operation, arguments, keywords) -> what it returns instead, None where it does not apply
Rewritten = Callable[[str, Call, tuple[Any, ...], Mapping[str, Any]], Any]
Candidate = tuple[Cause, Rewritten]
Changed = Callable[[Call, tuple[Any, ...], Mapping[str, Any]], Any]


def rewriting(rewrite: Rewritten) -> AbstractContextManager[Any]:
    """Return what computes operations of PyTorch otherwise as long as it is entered."""
    from torch.overrides import TorchFunctionMode

    class Rewriting(TorchFunctionMode):
        """Asks the rewrite about every operation."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            found = rewrite(func.__name__.strip("_"), func, args, kwargs)
            return func(*args, **kwargs) if found is None else found

    return Rewriting()


def in_call(name: str, place: int, changed: Changed) -> Rewritten:
    """Change one call of an operation only, counted in the order of the run."""
    calls = count()

    def rewrite(called: str, call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
        """Change the one call."""
        return changed(call, args, kw) if called == name and next(calls) == place else None

    return rewrite


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor of PyTorch."""
    import torch

    return isinstance(value, torch.Tensor)


def on(names: set[str], changed: Changed) -> Rewritten:
    """Change every call of these operations."""
    return lambda name, call, args, kw: changed(call, args, kw) if name in names else None


def rounded(bits: int, throughout: bool = False) -> Changed:
    """Return a product of factors rounded to so many binary digits, or with `throughout` bias and result, too."""

    def short(value: Any) -> Any:
        """The closest numbers with so many binary digits."""
        digits, power = value.frexp()
        return ((digits * 2**bits).round() / 2**bits).ldexp(power)

    def product(call: Call, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
        """The product."""
        if not throughout:
            return call(short(args[0]), short(args[1]), *args[2:], **kw)
        given = (short(value) if is_tensor(value) else value for value in args)
        return short(call(*given, **{key: short(value) if is_tensor(value) else value for key, value in kw.items()}))

    return product
