"""Text to terms: the language's surface, a subset of Python's expression syntax, read through ``ast.parse`` only.

Hostile text is refused by gates on size, nodes and depth before a term is built; nothing is ever executed.
It knows no vocabulary: whether names exist and sorts fit is checked in ``sorts.py``.
"""

from __future__ import annotations

import ast
import difflib
import keyword
import warnings
from collections.abc import Iterator

from extract.errors import ProgramError
from extract.lang.operators import OPERATORS, WORDS
from extract.lang.printing import print_program, print_term
from extract.lang.terms import Adapter, Datum, Program, Term

__all__ = ["parse_program", "parse_term", "print_program", "print_term"]

_MOST_BYTES = 10_240
_MOST_BYTES_WITH_LITERALS = 1 << 18
_MOST_NODES = 200
_MOST_DEPTH = 30
_MOST_LITERALS = 1 << 15
_LARGEST_INTEGER = 1 << 31

_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "//", ast.Mod: "%",
}  # fmt: skip
#: Comparison -> (operator, whether the sides are swapped, whether it is negated).
_COMPARISONS: dict[type[ast.cmpop], tuple[str, bool, bool]] = {
    ast.Eq: ("==", False, False), ast.NotEq: ("==", False, True), ast.Lt: ("<", False, False),
    ast.LtE: ("<=", False, False), ast.Gt: ("<", True, False), ast.GtE: ("<=", True, False),
}  # fmt: skip
_EXPRESSIONS = (
    ast.Name, ast.Constant, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call,
)  # fmt: skip
#: Calls with constants: name -> (number of term arguments, constants in order with the value when omitted or None).
_CONSTANTS: dict[str, tuple[int, tuple[tuple[str, Datum | None], ...]]] = {
    "table": (1, (("entries", None), ("default", 0))),
    "table2": (2, (("entries", None), ("default", 0))),
    "scan": (1, (("start", 0), ("letters", None), ("transitions", None))),
    "horner": (1, (("a", None), ("m", 0))),
    "select": (2, (("relation", None),)),
}
_RESERVED = frozenset({"output", "output_length"})


def parse_program(text: str, adapter: Adapter) -> Program:
    """Return the program a text defines: let-bindings and the adapter's outputs, one statement per line.

    Raises:  ProgramError with line, column, the value found and what was expected.
    """
    module = _read(text, "exec")
    assert isinstance(module, ast.Module)
    reader = _Reader(text)
    outputs: dict[str, Term] = {}
    for statement in module.body:
        if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
            raise reader.error(statement, f"found {_name_of(statement)}, expected name = expression")
        target = statement.targets[0]
        term = reader.expression(statement.value)
        name = reader.output_name(target, adapter)
        if name is None:
            reader.bind(target, term)
        elif name in outputs:
            raise reader.error(target, f"{name!r} is defined twice")
        else:
            outputs[name] = term
    expected = {"generate": {"output", "output_length"}, "multilabel": set(outputs)}.get(adapter, {"output"})
    if set(outputs) != expected:
        missing = ", ".join(sorted(expected - set(outputs)))
        raise ProgramError(f"the program does not define {missing}", hint=f"a {adapter} program defines it")
    return Program(adapter, tuple(outputs.items()))


def parse_term(text: str) -> Term:
    """Return the term of a single expression.

    Raises:  ProgramError with line, column, the value found and what was expected.
    """
    expression = _read(text.strip(), "eval")
    assert isinstance(expression, ast.Expression)
    return _Reader(text.strip()).expression(expression.body)


def _read(text: str, mode: str) -> ast.AST:
    """Parse text to a syntax tree and check the gates that need no term."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > _MOST_BYTES_WITH_LITERALS:
        raise ProgramError(f"the text has {size} bytes, expected at most {_MOST_BYTES_WITH_LITERALS}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text, mode=mode)
    except SyntaxError as error:
        place = f"line {error.lineno or 1}, column {error.offset or 1}"
        raise ProgramError(f"{error.msg}", hint="the syntax is Python's", place=place) from None
    except (ValueError, MemoryError, RecursionError) as error:
        raise ProgramError(f"the text cannot be read: {type(error).__name__}", hint="it is nested too deeply") from None
    literal_bytes = 0
    for statement in tree.body if isinstance(tree, ast.Module) else [tree]:
        literal_bytes += _check_size(statement, text)
    if size - literal_bytes > _MOST_BYTES:
        raise ProgramError(f"the text has {size - literal_bytes} bytes, expected at most {_MOST_BYTES}")
    return tree


def _children(node: ast.AST) -> Iterator[ast.AST]:
    return (child for child in ast.iter_child_nodes(node) if isinstance(child, (ast.expr, ast.keyword)))


def _check_size(statement: ast.AST, text: str) -> int:
    """Count nodes and depth without recursion; return how many bytes its table and automaton literals take."""
    n_nodes = n_literals = literal_bytes = 0
    stack: list[tuple[ast.AST, int]] = [(statement, 0)]
    while stack:
        node, depth = stack.pop()
        if isinstance(node, (ast.Tuple, ast.List, ast.Dict)):
            n_literals += sum(1 for _ in ast.walk(node))
            literal_bytes += len((ast.get_source_segment(text, node) or "").encode("utf-8", "surrogatepass"))
            continue
        n_nodes += isinstance(node, ast.expr)
        if depth > _MOST_DEPTH:
            raise _error(node, f"the expression is nested {depth} deep, expected at most {_MOST_DEPTH}")
        stack.extend((child, depth + 1) for child in _children(node))
    if n_nodes > _MOST_NODES:
        raise _error(statement, f"the expression has {n_nodes} nodes, expected at most {_MOST_NODES}")
    if n_literals > 4 * _MOST_LITERALS:
        raise _error(statement, f"the tables have {n_literals} nodes, expected at most {4 * _MOST_LITERALS}")
    return literal_bytes


def _name_of(node: ast.AST) -> str:
    return type(node).__name__.lower()


def _error(node: ast.AST, message: str, hint: str | None = None) -> ProgramError:
    line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0) + 1
    return ProgramError(message, hint=hint, place=f"line {line}, column {column}")


class _Reader:
    """Turns a checked syntax tree into terms; keeps the let-bindings read so far."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._lets: dict[str, Term] = {}

    def error(self, node: ast.AST, message: str, hint: str | None = None) -> ProgramError:
        """Return an error placed at a node, columns counted in characters."""
        line, offset = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        source = self._lines[line - 1] if line <= len(self._lines) else ""
        column = len(source.encode("utf-8", "replace")[:offset].decode("utf-8", "replace")) + 1
        return ProgramError(message, hint=hint, place=f"line {line}, column {column}")

    def output_name(self, target: ast.AST, adapter: Adapter) -> str | None:
        """Return which output an assignment defines, or None for a let-binding."""
        if isinstance(target, ast.Subscript):
            key = target.slice
            named = isinstance(target.value, ast.Name) and target.value.id == "output"
            if not (named and isinstance(key, ast.Constant) and isinstance(key.value, str)):
                raise self.error(target, "found a subscript, expected output['label']")
            if adapter != "multilabel":
                raise self.error(target, f"a {adapter} program has no labels, expected output = ...")
            return key.value
        if not isinstance(target, ast.Name):
            raise self.error(target, f"found {_name_of(target)} left of =, expected a name")
        if target.id not in _RESERVED:
            return None
        allowed = {"multilabel": set[str](), "generate": set(_RESERVED)}.get(adapter, {"output"})
        if target.id not in allowed:
            hint = "output['label'] = ... for each label" if adapter == "multilabel" else None
            raise self.error(target, f"{target.id} is no output of a {adapter} program", hint)
        return target.id

    def bind(self, target: ast.AST, term: Term) -> None:
        """Remember a let-binding. Raises: ProgramError if its name is taken."""
        assert isinstance(target, ast.Name)
        name = target.id
        if name in OPERATORS or name in self._lets or keyword.iskeyword(name) or not name.isascii():
            what = "an operator" if name in OPERATORS else "already defined" if name in self._lets else "no plain name"
            raise self.error(target, f"{name!r} is {what}, expected a new name")
        self._lets[name] = term

    def expression(self, node: ast.AST) -> Term:
        """Return the term of one expression."""
        if not isinstance(node, _EXPRESSIONS):
            raise self.error(node, f"found {_name_of(node)}, which the language does not have")
        if isinstance(node, ast.Name):
            return self._name(node)
        if isinstance(node, ast.Constant):
            return self._constant(node)
        if isinstance(node, ast.BinOp):
            operator = _BINARY.get(type(node.op))
            if operator is None:
                hint = "// is division rounded down" if isinstance(node.op, ast.Div) else None
                raise self.error(node, f"found {_name_of(node.op)}, expected + - * // or %", hint)
            return Term(operator, (self.expression(node.left), self.expression(node.right)))
        if isinstance(node, ast.UnaryOp):
            return self._unary(node)
        if isinstance(node, ast.BoolOp):
            name = "and" if isinstance(node.op, ast.And) else "or"
            return _fold(name, [self.expression(value) for value in node.values])
        if isinstance(node, ast.Compare):
            return self._comparison(node)
        if isinstance(node, ast.IfExp):
            parts = (node.test, node.body, node.orelse)
            return Term("if", tuple(self.expression(part) for part in parts))
        return self._call(node)

    def _name(self, node: ast.Name) -> Term:
        if node.id in self._lets:
            return self._lets[node.id]
        if node.id in WORDS:
            return Term(node.id)
        if node.id in OPERATORS:
            raise self.error(node, f"{node.id} has no arguments, expected {OPERATORS[node.id].surface}")
        raise self.error(node, f"{node.id!r} is not defined", self._closest(node.id))

    def _closest(self, name: str) -> str | None:
        known = [*self._lets, *sorted(n for n in OPERATORS if n.isidentifier())]
        close = difflib.get_close_matches(name[:40], known, n=1)
        return f"did you mean {close[0]}?" if close else None

    def _constant(self, node: ast.Constant) -> Term:
        if isinstance(node.value, bool):
            return Term("boolean", (), (int(node.value),))
        datum = self._datum(node)
        return Term("integer" if isinstance(datum, int) else "symbol", (), (datum,))

    def _datum(self, node: ast.AST) -> Datum:
        """Return a constant: an integer, a quoted name, or a tuple of constants."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            value = self._datum(node.operand)
            if isinstance(value, int):
                return -value
        if isinstance(node, (ast.Tuple, ast.List)):
            return tuple(self._datum(element) for element in node.elts)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.kind is None:
            return node.value
        if isinstance(node, ast.Constant) and isinstance(node.value, int) and not isinstance(node.value, bool):
            if node.value > _LARGEST_INTEGER:
                raise self.error(node, f"found {node.value}, expected integers up to 2^31")
            return node.value
        found = repr(node.value)[:40] if isinstance(node, ast.Constant) else _name_of(node)
        raise self.error(node, f"found {found}, expected an integer or a quoted name")

    def _unary(self, node: ast.UnaryOp) -> Term:
        if isinstance(node.op, ast.Not):
            return Term("not", (self.expression(node.operand),))
        if not isinstance(node.op, ast.USub):
            raise self.error(node, f"found unary {_name_of(node.op)}, expected - or not")
        if isinstance(node.operand, ast.Constant) and not isinstance(node.operand.value, (bool, str)):
            return Term("integer", (), (self._datum(node),))
        return Term("-", (Term("integer", (), (0,)), self.expression(node.operand)))

    def _comparison(self, node: ast.Compare) -> Term:
        sides = [self.expression(side) for side in (node.left, *node.comparators)]
        parts = []
        for relation, left, right in zip(node.ops, sides, sides[1:], strict=False):
            if type(relation) not in _COMPARISONS:
                raise self.error(node, f"found {_name_of(relation)}, expected == != < <= > or >=")
            name, swapped, negated = _COMPARISONS[type(relation)]
            part = Term(name, (right, left) if swapped else (left, right))
            parts.append(Term("not", (part,)) if negated else part)
        return _fold("and", parts)

    def _call(self, node: ast.Call) -> Term:
        if not isinstance(node.func, ast.Name) or not node.func.id.isidentifier():
            raise self.error(node, "found a call of something that is not an operator's name")
        name = node.func.id
        row = OPERATORS.get(name)
        if row is None or name in WORDS or name in ("integer", "symbol", "boolean"):
            raise self.error(node, f"{name!r} is no operator with arguments", self._closest(name))
        if name in _CONSTANTS:
            return self._call_with_constants(node, name)
        if node.keywords:
            raise self.error(node, f"{name} has no named arguments, expected {row.surface}")
        if name == "shift":
            return self._shift(node)
        arguments = [self.expression(argument) for argument in node.args]
        if name in ("min", "max") and len(arguments) > 2:
            return _fold(name, arguments)
        if not row.n_required <= len(arguments) <= len(row.arguments):
            raise self.error(node, f"{name} has {len(arguments)} arguments, expected {row.surface}")
        return Term(name, tuple(arguments))

    def _shift(self, node: ast.Call) -> Term:
        if len(node.args) not in (2, 3):
            raise self.error(node, f"shift has {len(node.args)} arguments, expected {OPERATORS['shift'].surface}")
        k = self._datum(node.args[1])
        if not isinstance(k, int):
            raise self.error(node.args[1], f"shift moves by {k!r}, expected an integer")
        return Term("shift", tuple(self.expression(a) for a in (node.args[0], *node.args[2:])), (k,))

    def _call_with_constants(self, node: ast.Call, name: str) -> Term:
        n_terms, constants = _CONSTANTS[name]
        surface = OPERATORS[name].surface
        given: dict[str, ast.AST] = dict(zip((c for c, _ in constants), node.args[n_terms:], strict=False))
        if len(node.args) < n_terms or len(node.args) > n_terms + len(constants):
            raise self.error(node, f"{name} has {len(node.args)} arguments, expected {surface}")
        for item in node.keywords:
            if item.arg is None or item.arg in given or item.arg not in dict(constants):
                raise self.error(node, f"{name} has the argument {item.arg!r}, expected {surface}")
            given[item.arg] = item.value
        data: list[Datum] = []
        for constant, omitted in constants:
            if constant in given:
                read = self._entries if constant == "entries" else self._datum
                data.append(read(given[constant]))
            elif omitted is None:
                raise self.error(node, f"{name} lacks {constant}, expected {surface}")
            else:
                data.append(omitted)
        return Term(name, tuple(self.expression(a) for a in node.args[:n_terms]), tuple(data))

    def _entries(self, node: ast.AST) -> Datum:
        if not isinstance(node, ast.Dict) or any(key is None for key in node.keys):
            raise self.error(node, f"found {_name_of(node)}, expected entries such as {{'a': 1, 'b': 2}}")
        keys = [self._datum(key) for key in node.keys if key is not None]
        return tuple((key, self._datum(value)) for key, value in zip(keys, node.values, strict=True))


def _fold(name: str, terms: list[Term]) -> Term:
    folded = terms[0]
    for term in terms[1:]:
        folded = Term(name, (folded, term))
    return folded
