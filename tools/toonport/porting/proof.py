"""The proof of a ported network: the comparison of your own pair, at the inputs given and at another size and batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import InputError
from convert.plan import plan_of
from parity_tests.harness.capture import REFUSALS, Pair
from parity_tests.harness.judge import Outcome, worst
from parity_tests.harness.measurement import Mode
from parity_tests.harness.pair import as_inputs, pair_networks, target_of
from parity_tests.harness.replay.write import Build, Replay, write_case
from parity_tests.harness.run import Comparison, Say, compare
from parity_tests.harness.sides.base import Array, LayerError
from parity_tests.harness.sides.tree import arguments, changed
from toonport.own_pair import load


@dataclass(frozen=True)
class Proof:
    """What was compared, and how it ended."""

    comparisons: tuple[Comparison, ...]
    sizes: tuple[str, ...]  # of the inputs at which both were found to compute the same
    problem: str = ""  # in words, what the port cannot do that the reference does

    @property
    def outcome(self) -> Outcome:
        """How it ends."""
        if self.problem:
            return Outcome.DIFFERENT
        return worst(each.outcome for each in self.comparisons)


@dataclass(frozen=True)
class Candidate:
    """A written port and its reference."""

    name: str
    module: Any
    cell: Any
    inputs: Any
    layers: dict[str, str] = field(default_factory=dict)
    builds: tuple[Build, Build] | None = None  # how scripts build both
    case: Path | None = None  # folder for the smallest case that still differs


def prove(candidate: Candidate, say: Say) -> Proof:
    """Give the port the weights of the reference, and compare both in every mode.

    Where the port's own code cannot run, nothing is compared, and the proof says so.

    Raises InputError: the reference cannot run on the inputs, or a tensor has no place in the port.
    """
    module, cell = candidate.module.eval(), candidate.cell.set_train(False)
    load(module, cell, plan_of(module, target_of(cell), candidate.layers), None)
    if problem := broken(pair_networks(module, cell, layers=candidate.layers), as_inputs(candidate.inputs)):
        return Proof((), (), problem)
    write = None
    if candidate.case and candidate.builds:
        write = partial(write_case, Replay(candidate.case, *candidate.builds))
    first = compare(
        module,
        cell,
        candidate.inputs,
        name=candidate.name,
        names=candidate.layers,
        say=say,
        write_case=write,
        pictures=True,
    )
    comparisons, sizes = [first], [_size(as_inputs(candidate.inputs))]
    if first.outcome is not Outcome.EQUAL:
        return Proof((first,), ())
    other = other_inputs(module, cell, as_inputs(candidate.inputs), candidate.layers)
    if isinstance(other, str):
        return Proof((first,), (), other)
    if other is not None:
        name = f"{candidate.name} at {_size(other)}"
        modes = (Mode.ACCUMULATED,)
        args, keywords = arguments(other, other)
        given = keywords if keywords and not args else args
        comparisons.append(compare(module, cell, given, modes, given, name, names=candidate.layers, say=say))
        sizes.append(_size(other))
    return Proof(tuple(comparisons), tuple(sizes))


def broken(pair: Pair, inputs: Sequence[Array]) -> str:
    """Return in words what is wrong with the code of a port itself, such as a name that it lacks; "" where nothing is.

    What MindSpore refuses is none of it: the comparison says that, with the layer.
    """
    try:
        for training in (False, True):
            pair.set_training(training)
            with pair.port.preserved():
                pair.port.call("", inputs)
    except LayerError as error:
        if not isinstance(error.__cause__, REFUSALS):
            return f"the port's code does not run: {error.reason}"
    finally:
        pair.set_training(False)
    return ""


def other_inputs(
    module: Any, cell: Any, given: Sequence[Array], layers: dict[str, str]
) -> Sequence[Array] | str | None:
    """Return inputs of another batch, and another size if there is one that the reference runs.

    None where it runs none; in words, what the port does with inputs that the reference runs.
    """
    pair = pair_networks(module, cell, layers=layers)
    for inputs in _others(given):
        try:
            with pair.reference.preserved():
                wanted = pair.reference.call("", inputs)
        except (LayerError, InputError):
            continue
        if not all(np.isfinite(array).all() for array in wanted):
            continue
        try:
            with pair.port.preserved():
                found = pair.port.call("", inputs)
        except LayerError as error:
            return f"the port does not run at {_size(inputs)}, where the reference does: {error.reason}"
        if [array.shape for array in found] != [array.shape for array in wanted]:
            return f"at {_size(inputs)} the port returns {[array.shape for array in found]}"
        return inputs
    return None


def _others(given: Sequence[Array]) -> Iterator[Sequence[Array]]:
    """Inputs of one example more, in the same structure: pictures of other sides first, then of the same."""
    pictures = any(array.ndim == 4 for array in given)
    for more in ((16, 32), (32, 64), (64, 32)) if pictures else ():
        yield changed(given, [_resized(array, more) for array in given])
    yield changed(given, [_more(array) for array in given])


def _resized(array: Array, more: tuple[int, int]) -> Array:
    """One example more, and pictures with more rows and columns, which go on from the beginning."""
    if array.ndim == 4:
        array = np.pad(array, ((0, 0), (0, 0), (0, more[0]), (0, more[1])), "wrap")
    return _more(array)


def _more(array: Array) -> Array:
    """One example more, the first one turned round."""
    return np.ascontiguousarray(np.concatenate([array, array[:1, ..., ::-1]])) if array.ndim else array


def _size(inputs: Sequence[Array]) -> str:
    return ", ".join("x".join(str(side) for side in array.shape) for array in inputs)
