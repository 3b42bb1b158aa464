"""Every mutation of a source file, in its order, under a stable name."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import libcst as cst
from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper, PositionProvider

from parity_tests.harness.mutants.systematic.operators import replacements

# what is no part of what a port computes: types, imports, messages of errors, decorators
LEFT_OUT = (cst.Annotation, cst.Import, cst.ImportFrom, cst.Raise, cst.Assert, cst.Decorator, cst.FormattedString)


@dataclass(frozen=True)
class SourceMutant:
    """One mutation of one file."""

    file: str  # path from the root of the package, e.g. "ms_models/layers.py"
    line: int  # from 1
    column: int  # from 0
    kind: str  # of the operator
    number: int  # which of the operator's replacements at that place, from 0
    owner: str  # top-level function or class that it lies in, "" outside of all
    function: str  # innermost function that it lies in, "" outside of all
    lines: tuple[int, int]  # first and last line of its statement
    before: str  # the replaced text
    change: tuple[int, int, str]  # first and last byte of the replaced text, and what stands in its place

    @property
    def name(self) -> str:
        """Stable and unique: file:line:column, the operator and which of its replacements."""
        return f"{self.file}:{self.line}:{self.column} {self.kind} {self.number}"

    @property
    def what(self) -> str:
        """The change in words."""
        return f"{_short(self.before)} → {_short(self.change[2])}"

    def planted(self, source: str) -> str:
        """The file's text with the mutation in it."""
        (start, end, after), content = self.change, source.encode()
        return (content[:start] + after.strip().encode() + content[end:]).decode()


def _short(code: str, longest: int = 60) -> str:
    text = " ".join(code.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def source_mutants(file: str, source: str) -> Iterator[SourceMutant]:
    """Yield every mutation of a file that still parses and changes something, in the order of the text."""
    visitor = _Places()
    wrapper = MetadataWrapper(cst.parse_module(source))
    wrapper.visit(visitor)
    spans = wrapper.resolve(ByteSpanPositionProvider)
    content, count = source.encode(), Counter[tuple[int, int, str]]()
    for node, line, column, path, lines in visitor.found:
        for target, kind, new in replacements(node):
            span, after = spans[target], wrapper.module.code_for_node(new)
            start, end = span.start, span.start + span.length
            number = count[line, column, kind]
            count[line, column, kind] += 1
            before = content[start:end].decode()
            if "".join(after.split()) != "".join(before.split()):
                owner, function = (path[0], path[-1]) if path else ("", "")
                change = (start, end, after)
                yield SourceMutant(file, line, column, kind, number, owner, function, lines, before, change)


class _Places(cst.CSTVisitor):
    """Collects the nodes that may be mutated, each with its position and the definitions around it."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[cst.CSTNode, int, int, Sequence[str], tuple[int, int]]] = []
        self._path: list[str] = []
        self._statements: list[tuple[int, int]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        """Note a node, unless it is left out with all inside it."""
        if isinstance(node, LEFT_OUT) or _is_text(node):
            return False
        where = self.get_metadata(PositionProvider, node)
        if isinstance(node, cst.FunctionDef | cst.ClassDef):
            self._path.append(node.name.value)
        if isinstance(node, cst.BaseStatement):
            header = isinstance(node, cst.BaseCompoundStatement)
            self._statements.append((where.start.line, where.start.line if header else where.end.line))
        if self._statements:
            place = where.start.line, where.start.column, tuple(self._path), self._statements[-1]
            self.found.append((node, *place))
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        """Leave a definition or a statement."""
        if isinstance(original_node, cst.FunctionDef | cst.ClassDef):
            self._path.pop()
        left_out = isinstance(original_node, LEFT_OUT) or _is_text(original_node)
        if isinstance(original_node, cst.BaseStatement) and not left_out:
            self._statements.pop()


def _is_text(node: cst.CSTNode) -> bool:
    """Whether it is a docstring."""
    if not isinstance(node, cst.SimpleStatementLine) or not isinstance(node.body[0], cst.Expr):
        return False
    return isinstance(node.body[0].value, cst.SimpleString | cst.ConcatenatedString)
