"""Every small change of a module: comparisons turned, sums without a term, guards removed, constants off by a little.

A mutant is one such change and a line that says which. What only words (messages, docstrings, annotations) would change
is left out, and so is what only makes a bound wider by a little or reports progress.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

_TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_REVERSED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt,
}  # fmt: skip
_OTHER: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
_NAMES = {
    "min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "any": "all", "all": "any",
    "argmax": "argmin", "argmin": "argmax", "floor": "ceil", "ceil": "floor", "zeros": "ones", "ones": "zeros",
}  # fmt: skip
#: Calls that note or raise a reason: dropping one is dropping a guard.
_GUARDS = {"_require", "reject", "doubt"}
#: Calls whose constants are numbers of roundings: one more is a wider bound.
_ROUNDINGS = {"gamma", "_gamma"}
#: Keywords that change nothing where the code is right, or only in what order sums are made.
_UNUSED = {"strict", "optimize"}
#: Names of slacks for roundings.
_SLACKS = {"_UP", "_UNIT", "_TINY", "_LEAST", "_SLACK", "_WIDER", "_ROUNDING", "_WEIGHT_ERROR", "_UNDERFLOW", "DOUBLE"}
#: A float constant up to this is slack for roundings: twice as much is a wider bound.
_LARGEST_SLACK = 1e-6
Edit = Callable[[ast.AST], ast.AST]


@dataclass(frozen=True)
class Mutant:
    """One change: the path of its module, the line, what is changed, which node and edit of it that is, and whether it
    is inside a term that covers roundings, where its effect is near 10^-9 of the result or less."""

    path: str
    line: int
    what: str
    place: tuple[int, int]
    is_rounding: bool = False

    def text(self, source: str) -> str:
        """Return the whole text of the changed module, from its source."""
        tree = ast.parse(source)
        target, is_code = next(pair for i, pair in enumerate(_walk(tree)) if i == self.place[0])
        _, edit = list(_edits(target) if is_code else ())[self.place[1]]
        new = edit(target)
        for parent in ast.walk(tree) if new is not target else ():
            for name, value in ast.iter_fields(parent):
                if value is target:
                    setattr(parent, name, new)
                elif isinstance(value, list):
                    value[:] = [new if item is target else item for item in value]
        return ast.unparse(ast.fix_missing_locations(tree))


def mutants(path: str, source: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of its text."""
    tree = ast.parse(source)
    covering = {id(node) for node in _covering(tree)}
    covering |= {id(node) for part in _for_slacks_only(tree, covering) for node in ast.walk(part)}
    return [
        Mutant(path, getattr(node, "lineno", 0), f"{what}: {_short(node)}", (index, number), id(node) in covering)
        for index, (node, is_code) in enumerate(_walk(tree))
        if is_code
        for number, (what, _) in enumerate(_edits(node))
    ]


def _covering(tree: ast.AST) -> Iterator[ast.AST]:
    """Everything inside products with a slack, and the sums that such a term is added to."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div | ast.Pow):
            if any(_is_slack(part) for part in (node.left, node.right)):
                yield from ast.walk(node)
        elif isinstance(node, ast.BinOp) and any(_has_slack(part) for part in (node.left, node.right)):
            yield node


def _for_slacks_only(tree: ast.AST, covering: set[int]) -> Iterator[ast.AST]:
    """What is assigned to names that a function reads nowhere but in terms for roundings, and to make each other."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        nodes = list(ast.walk(function))
        made = [pair for node in nodes if isinstance(node, ast.Assign) for pair in _assigned(node)]
        read = [n for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load) and id(n) not in covering]
        names = {name for name, _ in made}
        while names:
            inside = {id(part) for name, value in made if name in names for part in ast.walk(value)}
            elsewhere = names & {n.id for n in read if id(n) not in inside}
            if not elsewhere:
                break
            names -= elsewhere
        yield from (value for name, value in made if name in names)


def _assigned(node: ast.Assign) -> Iterator[tuple[str, ast.AST]]:
    target, value = node.targets[0], node.value
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        yield from ((t.id, v) for t, v in zip(target.elts, value.elts, strict=True) if isinstance(t, ast.Name))


def _is_slack(node: ast.AST) -> bool:
    """Say whether an expression is a share that covers roundings: a gamma, a constant of that size, 1 and such."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        return isinstance(node.left, ast.Constant) and node.left.value == 1 and _is_slack(node.right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return _is_slack(node.left) or _is_slack(node.right)
    if isinstance(node, ast.Constant):
        return type(node.value) is float and 0 < node.value <= _LARGEST_SLACK
    if isinstance(node, ast.Call):
        return _name(node) in _ROUNDINGS
    return isinstance(node, ast.Name) and node.id in _SLACKS


def _has_slack(node: ast.AST) -> bool:
    """Say whether an expression is a product with a slack, or a slack."""
    is_product = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult)
    return _is_slack(node) or (is_product and (_has_slack(node.left) or _has_slack(node.right)))  # type: ignore[attr-defined]


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) < 90 else text[:87] + "..."


def _walk(node: ast.AST, is_code: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    """Every node in a fixed order, and whether it computes something."""
    yield node, is_code
    for name, value in ast.iter_fields(node):
        inside = is_code and name not in ("annotation", "returns", "decorator_list")
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                is_words = isinstance(child, ast.JoinedStr) or (isinstance(node, ast.Raise) and name == "exc")
                is_words |= name == "args" and isinstance(node, ast.Call) and _name(node) in _ROUNDINGS
                is_words |= isinstance(child, ast.If) and ast.unparse(child.test) == "progress is not None"
                is_words |= isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
                is_words |= isinstance(child, ast.keyword) and child.arg in _UNUSED
                yield from _walk(child, inside and not is_words)


def _edits(node: ast.AST) -> Iterator[tuple[str, Edit]]:
    if isinstance(node, ast.Compare):
        for i in range(len(node.ops)):
            yield "comparison", partial(_with_op, i=i, ops=_TURNED)
            if type(node.ops[i]) in _REVERSED:
                yield "comparison reversed", partial(_with_op, i=i, ops=_REVERSED)
    elif isinstance(node, ast.BinOp):
        if type(node.op) in _OTHER:
            yield "operator", lambda n: ast.BinOp(n.left, _OTHER[type(n.op)](), n.right)  # type: ignore[attr-defined]
        if isinstance(node.op, ast.Add | ast.Sub | ast.BitAnd | ast.BitOr):
            yield "without its right term", lambda n: n.left  # type: ignore[attr-defined]
            if isinstance(node.op, ast.Add | ast.BitAnd | ast.BitOr):
                yield "without its left term", lambda n: n.right  # type: ignore[attr-defined]
    elif isinstance(node, ast.BoolOp):
        yield "and for or", lambda n: ast.BoolOp(ast.Or() if isinstance(n.op, ast.And) else ast.And(), n.values)  # type: ignore[attr-defined]
        for i in range(len(node.values)):
            yield f"without condition {i}", lambda n, i=i: _without(n, i)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        yield "without its sign", lambda n: n.operand  # type: ignore[attr-defined]
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
        value = node.value
        if type(value) is float and 0 < value <= _LARGEST_SLACK:
            return
        new = (not value) if type(value) is bool else value + 1 if type(value) is int else value * 2 or 1.0
        yield "constant", lambda n, new=new: ast.Constant(new)
    else:
        yield from _larger_edits(node)


def _larger_edits(node: ast.AST) -> Iterator[tuple[str, Edit]]:
    if isinstance(node, ast.Name) and node.id in _NAMES:
        yield "name", lambda n: ast.Name(_NAMES[n.id], n.ctx)  # type: ignore[attr-defined]
    elif isinstance(node, ast.Attribute) and node.attr in _NAMES:
        yield "name", lambda n: ast.Attribute(n.value, _NAMES[n.attr], n.ctx)  # type: ignore[attr-defined]
    elif isinstance(node, ast.Raise):
        yield "not raised", lambda n: ast.Pass()
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "not called" if _name(node.value) not in _GUARDS else "guard dropped", lambda n: ast.Pass()
    elif isinstance(node, ast.AugAssign):
        yield "not applied", lambda n: ast.Pass()
    elif isinstance(node, ast.If | ast.IfExp):
        yield "never", lambda n: _with_test(n, False)
        yield "always", lambda n: _with_test(n, True)
    elif isinstance(node, ast.Call) and _name(node) in ("abs", "nextafter") and node.args:
        yield "without the call", lambda n: n.args[0]  # type: ignore[attr-defined]


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _with_op(node: ast.AST, i: int, ops: dict[type[ast.cmpop], type[ast.cmpop]]) -> ast.AST:
    assert isinstance(node, ast.Compare)
    turned = [ops[type(op)]() if j == i else op for j, op in enumerate(node.ops)]
    return ast.Compare(node.left, turned, node.comparators)


def _without(node: ast.AST, i: int) -> ast.AST:
    assert isinstance(node, ast.BoolOp)
    left = [value for j, value in enumerate(node.values) if j != i]
    return left[0] if len(left) == 1 else ast.BoolOp(node.op, left)


def _with_test(node: ast.AST, value: bool) -> ast.AST:
    assert isinstance(node, ast.If | ast.IfExp)
    node.test = ast.Constant(value)
    return node
