"""Where the tensors of a network may lie in a file: below which prefix or dictionary, and beside what else.

Nothing here knows a network. Names are dotted paths, whether a file nests dictionaries or only writes dots.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from convert.errors import InputError
from convert.tensors import Checkpoint

# What PyTorch's and MindSpore's wrappers put into names, at any depth; no network of the registry has such a layer.
WRAPPERS = re.compile(
    r"(?:(?<=\.)|^)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module|_backbone)\."
)
# First parts of the names that MindSpore's optimizers (`nn.optim`), gradient accumulation and averages give.
MOMENTS = (
    "moment1|moment2|moment|moments|vhat|adam_m|adam_v|lamb_m|lamb_v|exp_avg|exp_avg_sq|mean_square|mean_grad|accum"
    "|accum_update|accu_grads|stat|prev|step_size|shadow|momentum_buffer|ax_"
)
TRAINING = re.compile(
    rf"(?:^|\.)(?:{MOMENTS})\."  # a moment of a parameter
    r"|(?:^|\.)state\.\d+\."  # an optimizer of PyTorch
    r"|(?:^|\.)total_(?:ops|params)$"  # what thop counts
    r"|^(?:learning_rate\w*|global_step|beta[12]_power|scale_sense|(?:\w+_)?rng_state)$"
)
# Moments whose names alone could be a layer's: of FTRL, ASGD and AdaFactor; and those that each of them keeps as well.
UNSURE = re.compile(r"^(?:linear\.|mu_|eta_|exp_avg_sq_(?:row_|col_)?)(.+)$")
SURE = ("moments.", "ax_.", "exp_avg.")
OWN_TENSORS = frozenset({"weight", "bias", "gamma", "beta"})  # what a single number at the top may not be called
OWN_FORMATS = frozenset(
    {"torch", "torchscript", "ckpt", "safetensors"}
)  # formats in which others keep training state and wrappers
OUTERMOST = "."  # what a user calls the place without a prefix
SHOWN = 20


@dataclass(frozen=True)
class Place:
    """The tensors below one prefix."""

    path: str  # the prefix without its last dot, "" for the whole file
    source: Checkpoint  # the tensors under their names below the prefix
    names: Mapping[str, str]  # name below the prefix -> name in the file

    @property
    def shown(self) -> str:
        """The prefix as `--key` takes it."""
        return self.path or OUTERMOST

    @cached_property
    def below(self) -> tuple["Place", ...]:
        """The places one step deeper."""
        found: dict[str, dict[str, str]] = {}
        for name, original in self.names.items():
            head, dot, rest = name.partition(".")
            if dot:
                found.setdefault(head, {})[rest] = original
        return tuple(self._at(head, names) for head, names in found.items())

    def _at(self, head: str, names: Mapping[str, str]) -> "Place":
        path = f"{self.path}.{head}".removeprefix(".")
        tensors = {name: self.source.tensors[f"{head}.{name}"] for name in names}
        return Place(path, replace(self.source, tensors=tensors), names)

    def without(self, heads: Iterable[str]) -> "Place":
        """The place without what lies below some of its places."""
        gone = set(heads)
        names = {name: file for name, file in self.names.items() if name.partition(".")[0] not in gone}
        return Place(
            self.path, replace(self.source, tensors={name: self.source.tensors[name] for name in names}), names
        )

    @cached_property
    def dictionaries(self) -> frozenset[str]:
        """Which places one step deeper are dictionaries of their own in the file, not just names with dots."""
        inside = f"{self.path}." if self.path else ""
        found = {name.removeprefix(inside) for name in self.source.dictionaries if name.startswith(inside)}
        return frozenset(name for name in found if "." not in name)

    @cached_property
    def all_below(self) -> tuple["Place", ...]:
        """This place and every deeper one, the outer before the inner."""
        return (self, *(inner for place in self.below for inner in place.all_below))


def whole(checkpoint: Checkpoint) -> Place:
    """All tensors of a file but what belongs to training, without the names of wrappers."""
    names: dict[str, str] = {}
    for name in checkpoint.tensors:
        shown = WRAPPERS.sub("", name)
        if checkpoint.format not in OWN_FORMATS or not _is_training(name, checkpoint):
            names[shown if shown not in names else f"{name} (a second {shown})"] = name
    return Place(
        "", replace(checkpoint, tensors={shown: checkpoint.tensors[name] for shown, name in names.items()}), names
    )


def _is_training(name: str, checkpoint: Checkpoint) -> bool:
    """Whether a tensor is an optimizer's, by its name and those of its neighbours."""
    unsure = UNSURE.match(name)
    beside = unsure is not None and any(f"{sure}{unsure[1]}" in checkpoint.tensors for sure in SURE)
    return TRAINING.search(name) is not None or beside


def chosen(checkpoint: Checkpoint, key: str | None) -> Place:
    """The place that a user means by `key`: a prefix or its end; everything for None and for the outermost.

    Raises InputError: there is no such place, or several.
    """
    place = whole(checkpoint)
    if key in (None, OUTERMOST):
        return place
    if TRAINING.search(f"{key}."):  # asked for by name, so it is no training state here
        place = _everything(checkpoint)
    found = [inner for inner in place.all_below if f".{inner.path}".endswith(f".{key}")]
    exact = [inner for inner in found if inner.path == key] or found
    if len(exact) != 1:
        heads = ", ".join(inner.path for inner in (exact or place.below)[:SHOWN])
        raise InputError(f"{checkpoint.path}: --key {key}: {len(exact)} places are called so; there are {heads}")
    return exact[0]


def _everything(checkpoint: Checkpoint) -> Place:
    return Place("", checkpoint, {name: name for name in checkpoint.tensors})


def loose_numbers(names: Mapping[str, str], source: Checkpoint) -> Iterator[str]:
    """Names of single numbers beside a network, as MindSpore's `append_dict` keeps an epoch or a loss.

    Args:
        names: name in the network -> name in `source`.
        source: the tensors.
    """
    if source.format in OWN_FORMATS:
        for name, original in names.items():
            single = source.tensors[original].spec.shape in {(), (1,)}
            if single and "." not in original and original not in OWN_TENSORS:
                yield name


def in_short(names: Iterable[str], used: Iterable[str]) -> list[str]:
    """Describe tensors in few words: "moment1 (22 tensors)", "global_step".

    Args:
        names: what to describe.
        used: names of other tensors; a beginning that they share says nothing.
    """
    heads = {name.partition(".")[0] for name in used}
    words = Counter(
        name.rpartition(".")[2] if name.partition(".")[0] in heads else name.partition(".")[0] for name in names
    )
    return [f"{word} ({count} tensors)" if count > 1 else word for word, count in words.items()]
