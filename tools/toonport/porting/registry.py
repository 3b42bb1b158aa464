"""What tables of rules are made of."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from toonport.porting.expressions import Expr
from toonport.porting.made import Made
from toonport.porting.values import UnportableError

Shapes = Sequence[tuple[int, ...]]  # of what a layer is called with
LayerRule = Callable[[Any, Shapes], Made]  # a layer -> its constructor's call
Rule = Callable[..., Expr]  # a writer, and the arguments of the operator as PyTorch takes them -> the code
Key = TypeVar("Key")
Written = TypeVar("Written", bound=Callable[..., Any])


def registering(table: dict[Key, Written]) -> Callable[..., Callable[[Written], Written]]:
    """Return the decorator that puts a rule into a table, under the operators' canonical names or the layer types."""

    def rule(*keys: Key) -> Callable[[Written], Written]:
        """Say what a rule is for."""

        def register(function: Written) -> Written:
            """Register a rule."""
            table.update(dict.fromkeys(keys, function))
            return function

        return register

    return rule


def refuse_unless(holds: bool, what: str) -> None:
    """Raise UnportableError unless an argument is one that the rule knows."""
    if not holds:
        raise UnportableError(what)


def torch_name(m: Any) -> str:
    """Name of the layer type of PyTorch that a layer is, or inherits from."""
    return next(kind.__name__ for kind in type(m).__mro__ if kind.__module__.startswith("torch.nn."))


def rank(value: Any) -> int:
    """Number of axes of a tensor."""
    return len(value.shape)


def is_tensor(value: Any) -> bool:
    """Whether an argument is a tensor."""
    return getattr(value, "shape", None) is not None


def flat(sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return sizes or axes that may have come one by one or in one sequence."""
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else sizes


def other_type(value: Any, dtype: Any) -> bool:
    """Whether a type is asked for that a tensor does not have."""
    return dtype is not None and value.example.dtype != dtype


def sides(value: Any, count: int) -> tuple[Any, ...]:
    """Return a number for each of `count` axes: as it is given, or the same for all."""
    return tuple(value) if isinstance(value, tuple | list) else (value,) * count


def pair_of(value: Any) -> tuple[int, int]:
    """Return a number for rows and one for columns."""
    rows, columns = sides(value, 2)
    return rows, columns
