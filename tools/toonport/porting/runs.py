"""What runs of a module have in common: the calls that matter, and whether two runs do the same."""

from collections import Counter
from typing import Any

from toonport.porting.values import Call, Constant, Own, Region, Value, leaves, mapped

MODES = {"dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout", "batch_norm"}  # that are told the mode


def needed(region: Region) -> tuple[list[Call], Counter[int]]:
    """The calls whose results are used, and how often each value is."""
    uses: Counter[int] = Counter(id(leaf) for leaf in leaves(region.output) if isinstance(leaf, Value))
    live: list[Call] = []
    for call in reversed(region.calls):
        if call.module or call.into or any(uses[id(leaf)] for leaf in leaves(call.result) if isinstance(leaf, Value)):
            live.append(call)
            uses.update(id(leaf) for leaf in leaves((call.args, call.kwargs)) if isinstance(leaf, Value))
    return live[::-1], uses


def signature_of(region: Region, training: bool) -> str:
    """Return what a module did in one run as text, whatever the source calls its values.

    What asks for the mode that was traced is the same in both.
    """
    live, _ = needed(region)
    numbers: dict[int, int] = {}

    def word(leaf: Any) -> str:
        """A value by its number, anything else as it is."""
        if isinstance(leaf, Value):
            return f"%{numbers.setdefault(id(leaf), len(numbers))}"
        return leaf.name if isinstance(leaf, Own | Constant) else repr(leaf)

    lines = [str(mapped(word, region.inputs))]
    for call in live:
        args = (call.args, {name: each for name, each in call.kwargs.items() if name != "inplace"})
        if call.op in MODES:
            args = mapped(lambda leaf: "the mode" if leaf is training else leaf, args)
        lines.append(f"{call.called}{' still' if call.still else ''} {mapped(word, args)} {mapped(word, call.result)}")
    return "\n".join([*lines, str(mapped(word, region.output))])
