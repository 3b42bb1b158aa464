"""What of `ms_models` a family runs: its top-level definitions, reached by name from its networks and its step."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from convert.family import Family
from convert.registry import family_named, part_named

PACKAGE = "ms_models"
# what reads weights and sets variables is no part of what a port computes
LEFT_OUT = ("ms_models/build.py", "ms_models/environment.py", "ms_models/__init__.py")
Place = tuple[str, str]  # file, name of a top-level definition


@dataclass(frozen=True)
class Definition:
    """A top-level function, class or constant."""

    place: Place
    lines: tuple[int, int]  # first and last
    is_class: bool
    bases: frozenset[str]  # names of a class's bases
    names: frozenset[str]  # every name that it mentions


@dataclass(frozen=True)
class Program:
    """The source of a package."""

    sources: Mapping[str, str]  # path from the root -> text

    @cached_property
    def definitions(self) -> dict[Place, Definition]:
        """Every top-level definition."""
        found = (each for file, text in self.sources.items() for each in _definitions(file, ast.parse(text)))
        return {definition.place: definition for definition in found}

    @cached_property
    def _imports(self) -> dict[str, dict[str, Place]]:
        return {file: dict(_imported(ast.parse(text))) for file, text in self.sources.items()}

    def at(self, file: str, line: int) -> Definition | None:
        """The definition that a line lies in."""
        own = (each for each in self.definitions.values() if each.place[0] == file)
        return next((each for each in own if each.lines[0] <= line <= each.lines[1]), None)

    def reached(self, starts: Iterable[Place], into_classes: bool = True) -> set[Place]:
        """Every definition that some definitions mention, directly or through others, and these themselves.

        Args:
            starts: where to begin.
            into_classes: whether to go on into classes that are mentioned but are no bases: layers inside layers.
        """
        found: set[Place] = set()
        left = [start for start in starts if start in self.definitions]
        while left:
            place = left.pop()
            if place not in found:
                found.add(place)
                left += [other for other in self._mentioned(place) if into_classes or self._own(place, other)]
        return found

    def _mentioned(self, place: Place) -> Iterator[Place]:
        file, definition = place[0], self.definitions[place]
        for name in sorted(definition.names):
            target = self._imports[file].get(name, (file, name))
            if target in self.definitions:
                yield target

    def _own(self, place: Place, other: Place) -> bool:
        """Whether it is no layer inside a layer: a private class is a way to compute."""
        return not self.definitions[other].is_class or other[1] in self.definitions[place].bases or other[1][0] == "_"

    def classes_named(self, name: str) -> list[Place]:
        """The classes of a name."""
        return [place for place, each in self.definitions.items() if place[1] == name and each.is_class]

    def of_family(self, family: Family) -> set[Place]:
        """Every definition that the networks and the training step of a family mention."""
        return self.reached(_starts(family))


def read_program(root: Path) -> Program:
    """Read the port's source below a folder."""
    files = sorted(path.relative_to(root).as_posix() for path in (root / PACKAGE).rglob("*.py"))
    return Program({file: (root / file).read_text() for file in files if file not in LEFT_OUT})


def place_of(class_name: str) -> Place:
    """Where a class of the registry is defined: "steps.ugatit.UgatitStep" -> its file and name."""
    module, _, name = class_name.rpartition(".")
    return f"{PACKAGE}/{module.replace('.', '/')}.py", name


def _starts(family: Family) -> Iterator[Place]:
    for part in family.parts:
        yield place_of(part.class_name)
    if family.training:
        yield place_of(family.training.step)
        if frozen := family.training.frozen:
            yield place_of(part_named(family_named(frozen.family), frozen.part).class_name)


def _definitions(file: str, tree: ast.Module) -> Iterator[Definition]:
    for node in tree.body:
        names = frozenset(each.id for each in ast.walk(node) if isinstance(each, ast.Name))
        lines = (node.lineno, node.end_lineno or node.lineno)
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            bases = node.bases if isinstance(node, ast.ClassDef) else []
            inherited = frozenset(base.id for base in bases if isinstance(base, ast.Name))
            yield Definition((file, node.name), lines, isinstance(node, ast.ClassDef), inherited, names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in sorted(names):
                if any(isinstance(each, ast.Name) and each.id == target for each in _targets(node)):
                    yield Definition((file, target), lines, False, frozenset(), names)


def _targets(node: ast.Assign | ast.AnnAssign) -> Iterator[ast.AST]:
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        yield from ast.walk(target)


def _imported(tree: ast.Module) -> Iterator[tuple[str, Place]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
            for alias in node.names:
                yield alias.asname or alias.name, (f"{(node.module or '').replace('.', '/')}.py", alias.name)
