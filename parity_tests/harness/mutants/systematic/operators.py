"""The mutation operators on source: what each kind of syntax node can be replaced by.

Each rule is data or a short function from a LibCST node to (kind, replacement) pairs. A rule knows nothing about
networks: constants, operators, comparisons, conditions, arguments, calls, attributes, statements and returns.
"""

from collections.abc import Callable, Iterator

import libcst as cst

Replacement = tuple[str, cst.CSTNode]  # kind of the operator, what stands in the node's place
Change = tuple[cst.CSTNode, str, cst.CSTNode]  # what is replaced, kind, what stands in its place
Rule = Callable[[cst.CSTNode], Iterator[Replacement]]

BINARY: dict[type[cst.BaseBinaryOp], type[cst.BaseBinaryOp]] = {
    cst.Add: cst.Subtract,
    cst.Subtract: cst.Add,
    cst.Multiply: cst.Divide,
    cst.Divide: cst.Multiply,
    cst.FloorDivide: cst.Multiply,
    cst.Modulo: cst.Multiply,
    cst.Power: cst.Multiply,
    cst.MatrixMultiply: cst.Multiply,
}
AUGMENTED: dict[type[cst.BaseAugOp], type[cst.BaseAugOp]] = {
    cst.AddAssign: cst.SubtractAssign,
    cst.SubtractAssign: cst.AddAssign,
    cst.MultiplyAssign: cst.DivideAssign,
    cst.DivideAssign: cst.MultiplyAssign,
}
COMPARISONS: dict[type[cst.BaseCompOp], tuple[type[cst.BaseCompOp], ...]] = {
    cst.LessThan: (cst.LessThanEqual, cst.GreaterThanEqual),
    cst.LessThanEqual: (cst.LessThan, cst.GreaterThan),
    cst.GreaterThan: (cst.GreaterThanEqual, cst.LessThanEqual),
    cst.GreaterThanEqual: (cst.GreaterThan, cst.LessThan),
    cst.Equal: (cst.NotEqual,),
    cst.NotEqual: (cst.Equal,),
    cst.Is: (cst.IsNot,),
    cst.IsNot: (cst.Is,),
    cst.In: (cst.NotIn,),
    cst.NotIn: (cst.In,),
}
DELETABLE = (cst.Assign, cst.AugAssign, cst.AnnAssign, cst.Expr)
BOOLEANS: dict[type[cst.BaseBooleanOp], type[cst.BaseBooleanOp]] = {cst.And: cst.Or, cst.Or: cst.And}
# names of functions and methods, each with another that takes the same arguments
SIBLINGS = {
    "mean": "sum",
    "sum": "mean",
    "max": "min",
    "min": "max",
    "maximum": "minimum",
    "minimum": "maximum",
    "zeros": "ones",
    "ones": "zeros",
    "zeros_like": "ones_like",
    "ones_like": "zeros_like",
    "sqrt": "square",
    "square": "sqrt",
    "exp": "log",
    "log": "exp",
}


def numbers(node: cst.CSTNode) -> Iterator[Replacement]:
    """One more, one less, twice, the other sign, zero."""
    if isinstance(node, cst.Integer | cst.Float):
        value = node.evaluated_value
        for other in dict.fromkeys((value + 1, value - 1, value * 2, -value, type(value)(0))):
            if other != value:
                yield "number", _number(other)


def _number(value: float) -> cst.BaseExpression:
    literal = cst.Float if isinstance(value, float) else cst.Integer
    plain = literal(repr(abs(value)))
    if value >= 0:
        return plain
    return cst.UnaryOperation(cst.Minus(), plain, lpar=[cst.LeftParen()], rpar=[cst.RightParen()])


def arithmetic(node: cst.CSTNode) -> Iterator[Replacement]:
    """Another operator, or one operand alone."""
    if isinstance(node, cst.BinaryOperation):
        if type(node.operator) in BINARY:
            yield "operator", _grouped(node.with_changes(operator=BINARY[type(node.operator)]()))
        yield "operand alone", node.left
        yield "operand alone", node.right
    elif isinstance(node, cst.AugAssign) and type(node.operator) in AUGMENTED:
        yield "operator", node.with_changes(operator=AUGMENTED[type(node.operator)]())
    elif isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Minus):
        yield "operator", node.expression


def _grouped(node: cst.BaseExpression) -> cst.BaseExpression:
    return node.with_changes(lpar=[cst.LeftParen(), *node.lpar], rpar=[*node.rpar, cst.RightParen()])


def conditions(node: cst.CSTNode) -> Iterator[Replacement]:
    """Another comparison, and for or, true for false, a condition turned round."""
    if isinstance(node, cst.Comparison) and len(node.comparisons) == 1:
        target = node.comparisons[0]
        for operator in COMPARISONS.get(type(target.operator), ()):
            yield "comparison", node.with_changes(comparisons=[target.with_changes(operator=operator())])
    elif isinstance(node, cst.BooleanOperation):
        yield "boolean", _grouped(node.with_changes(operator=BOOLEANS[type(node.operator)]()))
    elif isinstance(node, cst.Name) and node.value in ("True", "False"):
        yield "boolean", cst.Name(str(node.value != "True"))


def _negated(test: cst.BaseExpression) -> cst.BaseExpression:
    spaced = test.with_changes(lpar=[cst.LeftParen(), *test.lpar], rpar=[*test.rpar, cst.RightParen()])
    return cst.UnaryOperation(cst.Not(), spaced, lpar=[cst.LeftParen()], rpar=[cst.RightParen()])


def calls(node: cst.CSTNode) -> Iterator[Replacement]:
    """Neighbouring arguments exchanged, a keyword left out, the first argument for the call, a sibling function."""
    if not isinstance(node, cst.Call):
        return
    plain = [place for place, argument in enumerate(node.args) if argument.keyword is None and not argument.star]
    for first, second in zip(plain, plain[1:], strict=False):
        arguments = list(node.args)
        values = arguments[second].value, arguments[first].value
        arguments[first] = arguments[first].with_changes(value=values[0])
        arguments[second] = arguments[second].with_changes(value=values[1])
        yield "argument order", node.with_changes(args=arguments)
    for place, argument in enumerate(node.args):
        if argument.keyword is not None:
            yield "keyword left out", node.with_changes(args=[*node.args[:place], *node.args[place + 1 :]])
    if plain:
        yield "call removed", node.args[plain[0]].value
    if isinstance(node.func, cst.Attribute) and not node.args:
        yield "call removed", node.func.value


def names(node: cst.CSTNode) -> Iterator[Replacement]:
    """A function or method for its sibling."""
    if isinstance(node, cst.Attribute) and node.attr.value in SIBLINGS:
        yield "sibling function", node.with_changes(attr=cst.Name(SIBLINGS[node.attr.value]))


def orders(node: cst.CSTNode) -> Iterator[Replacement]:
    """The first two elements of a tuple or list exchanged."""
    if isinstance(node, cst.Tuple | cst.List) and len(node.elements) > 1:
        first, second, *others = node.elements
        swapped = [first.with_changes(value=second.value), second.with_changes(value=first.value), *others]
        yield "element order", node.with_changes(elements=swapped)


def strings(node: cst.CSTNode) -> Iterator[Replacement]:
    """Another word."""
    if isinstance(node, cst.SimpleString) and node.evaluated_value:
        yield "string", cst.SimpleString('"other"')


def statements(node: cst.CSTNode) -> Iterator[Replacement]:
    """A statement left out."""
    simple = isinstance(node, cst.SimpleStatementLine) and isinstance(node.body[0], DELETABLE)
    if simple or isinstance(node, cst.If | cst.For):
        yield "statement deleted", cst.SimpleStatementLine([cst.Pass()])


RULES: tuple[Rule, ...] = (numbers, arithmetic, conditions, calls, names, orders, strings, statements)


def replacements(node: cst.CSTNode) -> Iterator[Change]:
    """Yield everything that a node, or the condition that it asks, can be replaced by, in the order of the rules."""
    for rule in RULES:
        for kind, new in rule(node):
            yield node, kind, new
    if isinstance(node, cst.If | cst.IfExp | cst.While):
        yield node.test, "condition", _negated(node.test)
