"""From a traced network to the classes of its port, children before those that hold them."""

import copy
import keyword
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from convert.layers import find_rule
from convert.plan import PARAMETRIZATIONS
from parity_tests.harness.pair import copied
from toonport.porting.arguments import not_given
from toonport.porting.bodies import Body, Setting, write_body
from toonport.porting.classes import CellClass, Instance, constant, grouped, parameter
from toonport.porting.layers import rule_for
from toonport.porting.made import Argument, Made, Raw
from toonport.porting.names import CELLS_OWN, taken_by_classes
from toonport.porting.runs import signature_of
from toonport.porting.state import unmoved
from toonport.porting.tracing import CannotRunError, trace
from toonport.porting.values import Region, UnportableError, Value, leaves, mapped

PLAIN_LISTS = (nn.Sequential, nn.ModuleList)


@dataclass
class Ported:
    """A network as MindSpore code."""

    classes: list[CellClass]  # in the order of the file; the last is the network
    layers: dict[str, str] = field(default_factory=dict)  # PyTorch path -> MindSpore path, where they differ
    constants: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)  # what is no part of the state
    frozen: list[str] = field(default_factory=list)  # parameters of layers that are not trained
    twice: bool = False  # whether it takes two examples to train
    left_out: list[str] = field(default_factory=list)  # what has no rule, where that was allowed
    decisions: dict[str, None] = field(default_factory=dict)  # lines of the source that compare sides of tensors
    defaults: dict[str, Any] = field(default_factory=dict)  # arguments of the forward that were not given

    @property
    def name(self) -> str:
        """Class of the network."""
        return self.classes[-1].name


def port_network(network: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], partial: bool = False) -> Ported:
    """Trace a network in both modes and write its classes.

    Args:
        network: stays as it is.
        args, kwargs: example inputs, as tensors.
        partial: write what has no rule as something that raises.

    Raises UnportableError: something has no rule; says what, and the line of the source.
    """
    return _Porter(network, args, kwargs, partial).run()


class _Porter:
    def __init__(self, network: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], partial: bool) -> None:
        self.network = network
        self.modules = {path: module for path, module in network.named_modules(remove_duplicate=False)}
        self.first = {path: self._first(module) for path, module in self.modules.items()}
        self.leaf = {path: rule_for(module) for path, module in self.modules.items() if not self._inside_leaf(path)}
        self.ported = Ported([], defaults=not_given(network, args, kwargs))
        self.renamed: dict[str, str] = {}
        self._rename()
        self.runs = {training: self._traced(args, kwargs, training) for training in (False, True)}
        self.setting = Setting(
            self.modules,
            self._attribute,
            lambda path: tuple(kind.__name__ for kind in type(self.modules[path]).__mro__),
            self._inputs(),
            {path: len(module) for path, module in self.modules.items() if isinstance(module, PLAIN_LISTS)},
            self._left_out if partial else None,
        )
        self.made: dict[str, Made] = {}

    def _first(self, module: nn.Module) -> str:
        return next(path for path, each in self.modules.items() if each is module)

    def _inside_leaf(self, path: str) -> bool:
        """Whether a module is a part of what is written as one layer."""
        while path:
            path = path.rpartition(".")[0]
            if rule_for(self.modules[path]):
                return True
        return False

    def _rename(self) -> None:
        """Attributes that cannot have their name in a cell."""
        for path, module in self.modules.items():
            if self._is_leaf(path) or isinstance(module, PLAIN_LISTS):
                continue
            kept = [name for name in vars(module) if not name.startswith("_")]
            for name in (*module._modules, *module._parameters, *module._buffers, *kept):
                if not name.isidentifier():
                    other = "layer_" + "".join(c if c.isalnum() else "_" for c in name)
                    self.renamed[f"{path}.{name}".strip(".")] = other
                elif name in CELLS_OWN or keyword.iskeyword(name):
                    self.renamed[f"{path}.{name}".strip(".")] = f"{name}_"

    def _attribute(self, path: str) -> str:
        """Where a module stands in MindSpore."""
        found = []
        parts = path.split(".") if path else []
        for count, part in enumerate(parts, 1):
            found.append(self.renamed.get(".".join(parts[:count]), part))
        return ".".join(found)

    def _traced(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], training: bool) -> Mapping[str, list[Region]]:
        try:
            return self._run(training, *copy.deepcopy((args, dict(kwargs))))
        except CannotRunError:
            if not training:
                raise
        return self._traced_twice(args, kwargs)

    def _run(self, training: bool, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, list[Region]]:
        """The runs of a copy of the network, which must leave nothing behind that a port would not."""
        network = copied(self.network).train(training)
        paths = {id(module): path for path, module in network.named_modules()}
        written = [path for path, rule in self.leaf.items() if not rule]
        with unmoved(network, written) as free:
            traced = trace(network, args, kwargs, lambda m: self._is_leaf(paths[id(m)]))
            free |= traced.moved
        tensors = [leaf for leaf in leaves(traced.regions[""][0].output) if getattr(leaf, "shape", None) is not None]
        if not tensors:
            raise UnportableError(f"{type(network).__name__}: returns no tensor, so nothing could be compared")
        self.ported.decisions |= dict.fromkeys(traced.decisions)
        return traced.regions

    def _traced_twice(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, list[Region]]:
        """The runs in train mode on every example twice, where a norm over the batch cannot run on one."""
        self.ported.twice = True
        twice = mapped(lambda leaf: torch.cat([leaf, leaf]) if isinstance(leaf, torch.Tensor) else leaf, (args, kwargs))
        return self._run(True, *twice)

    def _is_leaf(self, path: str) -> bool:
        """Whether a module is written as one layer, or is a part of one."""
        return bool(self.leaf.get(path, True))

    def _inputs(self) -> dict[str, list[str]]:
        """Arguments of each construct: those that hold values in any run."""
        found: dict[str, dict[str, None]] = {}
        for runs in self.runs.values():
            for path, regions in runs.items():
                for region in regions:
                    found.setdefault(path, {}).update(dict.fromkeys(region.inputs))
        return {path: list(names) for path, names in found.items()}

    def _left_out(self, error: UnportableError) -> None:
        if str(error) not in self.ported.left_out:
            self.ported.left_out.append(str(error))

    def run(self) -> Ported:
        """Write the classes by height: a module is written once those that it holds are."""
        heights: dict[int, list[str]] = {}
        for path in self.leaf:
            heights.setdefault(self._height(path), []).append(path)
        taken = set(taken_by_classes())
        for height in sorted(heights):
            found = {path: self._made(path) for path in heights[height] if self.first[path] == path}
            self.made |= {path: made for path, made in found.items() if isinstance(made, Made)}
            instances = [made for made in found.values() if not isinstance(made, Made)]
            for cell in grouped(instances, taken, {}).values():
                self.ported.classes.append(cell)
                for instance in cell.instances:
                    self.made[instance.path] = cell.call(instance)
        if not self.ported.classes or self.ported.classes[-1].instances[0].path != "":
            raise UnportableError(f"{type(self.network).__name__} is one layer; write a network that holds it")
        self.ported.layers = self._called_otherwise()
        return self.ported

    def _called_otherwise(self) -> dict[str, str]:
        """Layers and tensors -> their paths in MindSpore, where those are others."""
        layers = [path for path in self.modules if path in self.leaf and self._attribute(path) != path]
        tensors = [name for name in self.network.state_dict() if name in self.renamed]
        return {path: self._attribute(path) for path in (*layers, *tensors) if path}

    def _height(self, path: str) -> int:
        """How many layers of modules a module holds."""
        if self.leaf[path]:
            return 0
        inside = [f"{path}.{name}".strip(".") for name, each in self.modules[path]._modules.items() if each is not None]
        return 1 + max((self._height(self.first[each]) for each in inside), default=0)

    def _made(self, path: str) -> Made | Instance:
        """A leaf's or a plain sequence's construction, or an instance of a class."""
        module, rule = self.modules[path], self.leaf[path]
        if rule:
            return self._leaf(path, module, rule)
        kind = type(module)
        if kind in PLAIN_LISTS and path:
            callee = "nn.SequentialCell" if kind is nn.Sequential else "nn.CellList"
            names = list(module._modules)
            self._require_single(path, names)
            named = kind is nn.Sequential and names != [str(place) for place in range(len(names))]
            return Made(callee, (), [(name, self._member(path, name)) for name in names], named)
        return self._instance(path, module)

    def _require_single(self, path: str, names: list[str]) -> None:
        """Refuse a list in which a module stands again: nothing reaches it while the list is made."""
        for inside in (f"{path}.{name}".strip(".") for name in names):
            first = self.first[inside]
            if first != inside and not self._alike_anew(first):
                raise UnportableError(f"{inside}: is the same module as {first}, in a list, which is not written")

    def _alike_anew(self, path: str) -> bool:
        """Whether a module does the same where it is made again: a layer without state."""
        return bool(self.leaf[path]) and not self.modules[path].state_dict()

    def _leaf(self, path: str, module: nn.Module, rule: Any) -> Made:
        shapes = [
            tuple(value.shape)
            for runs in self.runs.values()
            for regions in runs.values()
            for region in regions
            for call in region.calls
            if call.module == path
            for value in leaves((call.args, call.kwargs))
            if isinstance(value, Value) and value.shape is not None
        ]
        try:
            return self._frozen(path, module, rule(module, shapes))
        except UnportableError as error:
            if not self.setting.partial:
                raise UnportableError(f"layer {path}: {error}") from None
            self.setting.partial(UnportableError(f"layer {path}: {error}"))
            return Made("NotPorted", [Argument("what", str(error), positional=True)], own=frozenset({"NotPorted"}))

    def _frozen(self, path: str, module: nn.Module, made: Made) -> Made:
        """A layer that is not trained, or is in part, as one."""
        resting = [name for name, each in module.named_parameters() if not each.requires_grad]
        if not resting:
            return made
        names: list[str] = []
        if len(resting) < sum(1 for _ in module.parameters()):
            rule = find_rule(self.setting.kinds(path))
            names = [rule.names.get(name, name) if rule else name for name in resting]
            inside = [name for name in names if "." in name]
            if inside:
                raise UnportableError(f"{inside[0]} is not trained while the rest is, which is not written")
        arguments = [Argument("name", name, positional=True) for name in names]
        return Made("frozen", arguments, [("", made)], own=frozenset({"frozen"}))

    def _member(self, path: str, name: str) -> Made:
        inside = f"{path}.{name}".strip(".")
        first = self.first[inside]
        if first == inside or self._alike_anew(first):
            return self.made[first]
        holder = f"{path}." if path else ""
        if not first.startswith(holder):
            raise UnportableError(f"{inside}: is the same module as {first}, elsewhere in the network")
        from toonport.porting.expressions import reach

        there = reach(self._attribute(first).removeprefix(self._attribute(path)).strip("."))
        return Made("", [Argument("", Raw(there), positional=True)])

    def _instance(self, path: str, module: nn.Module) -> Instance:
        bodies = self._bodies(path)
        sequence = {nn.Sequential: "nn.SequentialCell", nn.ModuleList: "nn.CellList"}
        base = next((name for kind, name in sequence.items() if isinstance(module, kind)), "nn.Cell")
        if base != "nn.Cell" and list(module._modules) != [str(place) for place in range(len(module._modules))]:
            base = "nn.Cell"
        if base != "nn.Cell":
            self._require_single(path, list(module._modules))
        inherited = base == "nn.SequentialCell" and type(module).forward is nn.Sequential.forward
        arguments: list[Argument] = []
        members: list[tuple[str, Made]] = []
        if any("super().construct" in line for body in bodies for line in body.lines):
            base, arguments = self._norm_base(path, module)
        else:
            members += self._tensors(path, module, bodies)
        members += [
            (self.renamed.get(f"{path}.{name}".strip("."), name), self._member(path, name))
            for name, each in module._modules.items()
            if each is not None
        ]
        return Instance(path, module, base, members, () if inherited else bodies, arguments)

    def _norm_base(self, path: str, module: nn.Module) -> tuple[str, list[Argument]]:
        """The batch norm that a layer inherits from, and what its constructor is given."""
        from toonport.porting.layers import RULES

        made = RULES[nn.BatchNorm2d](module, [])
        return made.callee, [each for each in made.arguments]

    def _bodies(self, path: str) -> tuple[Body, ...]:
        """One body where both modes do the same, else that of each; what is called several times does one thing."""
        written: dict[str, Body] = {}
        for training in (True, False):
            regions = self.runs[training].get(path, ())
            done = {signature_of(region, training): region for region in regions}
            if len(done) > 1:
                raise UnportableError(f"{path}: does different things in several calls of one run")
            for signature, region in done.items():
                if signature not in written:
                    written[signature] = write_body(region, self.setting, training)
        return tuple(reversed(written.values()))

    def _tensors(self, path: str, module: nn.Module, bodies: tuple[Body, ...]) -> list[tuple[str, Made]]:
        """Parameters and buffers of the module itself, and constants that its code uses."""
        members = []
        state = {*module.state_dict(keep_vars=True)} & {*module._parameters, *module._buffers}
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            full = f"{path}.{name}".strip(".")
            if tensor is None or PARAMETRIZATIONS in f".{full}":
                continue
            if name in state:
                trained = name in module._parameters and tensor.requires_grad
                members.append((self.renamed.get(full, name), parameter(tensor, trained)))
            else:
                members.append((self.renamed.get(full, name), self._constant(full, tensor)))
        known = {name for name, _ in members}
        for each in {each.name: each for body in bodies for each in body.constants}.values():
            owner, _, name = each.name.rpartition(".")
            if owner == path and name not in known:
                members.append((self.renamed.get(each.name, name), self._constant(each.name, each.example)))
        return members

    def _constant(self, name: str, tensor: torch.Tensor) -> Made:
        self.ported.constants[name] = tensor.detach().cpu().numpy()
        return constant(name, tensor)
