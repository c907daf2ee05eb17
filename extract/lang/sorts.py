"""The sort of a term: integer, boolean or selector; token, count or free number; per input, position or output index.

Badly sorted terms are refused here, before any evaluation, with the operator, what it found and what it expected.
This room knows names and sorts only, never an input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from extract.errors import ProgramError
from extract.lang.operators import OPERATORS, RELATIONS, Argument, Operator
from extract.lang.terms import Adapter, Datum, Program, Term
from extract.readout import ReadOut
from extract.vocabulary import Vocabulary

Kind = Literal["I", "B", "S"]
Tag = Literal["T", "N", "Z", ""]
Shape = Literal["whole", "position", "step"]

_KIND_NAMES = {"I": "an integer", "B": "a boolean", "S": "a selector", "IB": "an integer or a boolean",
               "BS": "a boolean or a selector"}  # fmt: skip
_TAG_NAMES = {"T": "tokens", "N": "counts", "Z": "numbers", "": "a mixture of tokens and numbers"}
_LARGEST_LITERAL = 1 << 31


@dataclass(frozen=True, slots=True)
class Sort:
    """``kind`` I integer, B boolean, S selector. ``tag`` of an integer: T token, N position or count, Z free, and
    empty for a mixture of symbols and numbers, which can only be an answer. ``shape``: one per input, per position,
    or per output index (of a selector: of its queries)."""

    kind: Kind
    tag: Tag
    shape: Shape


def is_mixed(sort: Sort) -> bool:
    """Say whether values of this sort are symbols here and numbers there."""
    return sort.kind == "I" and sort.tag == ""


def sort_of(term: Term, vocabulary: Vocabulary) -> Sort:
    """Return the sort of a term.

    Raises:  ProgramError naming the operator, the argument, the sort found and the sort expected.
    """
    return sorts_of(term, vocabulary)[term]


def sorts_of(term: Term, vocabulary: Vocabulary) -> dict[Term, Sort]:
    """Return the sort of every subterm. Raises: ProgramError as ``sort_of`` does."""
    sorts: dict[Term, Sort] = {}
    for subterm in term.subterms():
        arguments = [sorts[argument] for argument in subterm.arguments]
        sorts[subterm] = result_sort(subterm, arguments, vocabulary)
    return sorts


def result_sort(term: Term, arguments: Sequence[Sort], vocabulary: Vocabulary) -> Sort:
    """Return the sort of one node from the sorts of its arguments.

    Raises:  ProgramError if the operator is unknown, or its arguments or constants do not fit its row.
    """
    # a search asks the same of millions of nodes; a divisor is looked at as a term, and tables by themselves. The types
    # are compared first because 1, 1.0 and True are one key
    if term.operator not in ("//", "%") and all(type(datum) in (str, int) for datum in term.data):
        return _sort_of_node(term.operator, term.data, tuple(arguments), vocabulary)
    return _result_sort(term, arguments, vocabulary)


@lru_cache(maxsize=1 << 14)
def _sort_of_node(operator: str, data: tuple[Datum, ...], arguments: tuple[Sort, ...], vocabulary: Vocabulary) -> Sort:
    return _result_sort(Term(operator, (), data), arguments, vocabulary)


def _result_sort(term: Term, arguments: Sequence[Sort], vocabulary: Vocabulary) -> Sort:
    row = OPERATORS.get(term.operator)
    if row is None:
        raise ProgramError(f"{term.operator!r} is no operator", hint="the operators are listed in operators.py")
    if not row.n_required <= len(arguments) <= len(row.arguments):
        raise ProgramError(f"{row.name} has {len(arguments)} arguments, expected {row.surface}")
    if len(term.data) != len(row.data):
        raise ProgramError(f"{row.name} has {len(term.data)} constants, expected ({', '.join(row.data)})")
    _check_data(row, term, vocabulary)
    for expected, found in zip(row.arguments, arguments, strict=False):
        _check_argument(row, expected, found, vocabulary)
    _check_comparable(row, arguments, vocabulary)
    kind = arguments[-1].kind if row.result == "same" else row.result
    _check_same_kind(row, arguments)
    shape = _result_shape(row, arguments)
    return Sort(kind, _result_tag(row, term, arguments, vocabulary) if kind == "I" else "", shape)


def join_shapes(shapes: Sequence[Shape], name: str) -> Shape:
    """Return the shape of values combined cell by cell; sequence-wide values go with anything.

    Raises:  ProgramError when positions meet output indices.
    """
    found = {shape for shape in shapes if shape != "whole"}
    if len(found) > 1:
        raise ProgramError(
            f"{name} combines a value per position with a value per output index, expected one of them",
            hint="read positions through a selector, such as first(select(indices, step, '=='), tokens)",
        )
    return found.pop() if found else "whole"


def _check_argument(row: Operator, expected: Argument, found: Sort, vocabulary: Vocabulary) -> None:
    if found.kind not in expected.kind:
        hint = "keys_where(b) makes a selector of a boolean" if "S" in expected.kind and found.kind == "B" else None
        if expected.kind == "I" and found.kind == "B":
            hint = "int(b) makes an integer of a boolean"
        raise ProgramError(
            f"{row.name} has {_KIND_NAMES[found.kind]} as {expected.name}, expected {_KIND_NAMES[expected.kind]}",
            hint=hint,
        )
    if expected.along == "positions" and found.shape == "step":
        raise ProgramError(f"{row.name} reads {expected.name} along the input, found a value per output index")
    if expected.tag == "number" and not _is_number(found, vocabulary):
        raise ProgramError(
            f"{row.name} has {_TAG_NAMES[found.tag]} as {expected.name}, expected numbers",
            hint="tokens are numbers only in a task with numeric = true" if found.tag == "T" else None,
        )


def _is_number(sort: Sort, vocabulary: Vocabulary) -> bool:
    return sort.tag in ("N", "Z") or (vocabulary.numeric and sort.tag == "T")


def _check_comparable(row: Operator, arguments: Sequence[Sort], vocabulary: Vocabulary) -> None:
    pairs = zip(row.arguments, arguments, strict=False)
    tags = [found.tag for expected, found in pairs if expected.tag == "comparable"]
    if "" in tags:
        raise ProgramError(f"{row.name} has {_TAG_NAMES['']}, expected one or the other")
    if not vocabulary.numeric and len({tag == "T" for tag in tags}) > 1:
        raise ProgramError(
            f"{row.name} mixes tokens with numbers, expected both of one sort",
            hint="quote a token's name ('3'); tokens are numbers only in a task with numeric = true",
        )


def _check_same_kind(row: Operator, arguments: Sequence[Sort]) -> None:
    if row.result == "same":
        free = [a.kind for e, a in zip(row.arguments, arguments, strict=False) if len(e.kind) > 1]
        if len(set(free)) > 1:
            names = " and ".join(_KIND_NAMES[kind] for kind in free)
            raise ProgramError(f"{row.name} has {names}, expected two of one kind")


def _result_shape(row: Operator, arguments: Sequence[Sort]) -> Shape:
    shapes: list[Shape] = [argument.shape for argument in arguments]
    if row.shape == "joined":
        return join_shapes(shapes, row.name)
    if row.shape == "query":
        return join_shapes([shapes[0], *shapes[2:]], row.name)
    if row.shape == "selected":
        return shapes[1]
    if row.name == "shift":
        return join_shapes(["position", *shapes], row.name)
    return row.shape


def _result_tag(row: Operator, term: Term, arguments: Sequence[Sort], vocabulary: Vocabulary) -> Tag:
    if row.tag == "joined":
        values = [a for e, a in zip(row.arguments, arguments, strict=False) if e.name != "condition" and a.kind == "I"]
        return _join_tags([a.tag for a in values], vocabulary)
    if row.tag == "data":
        if term.operator == "integer":
            return "N" if isinstance(term.data[0], int) and term.data[0] >= 0 else "Z"
        entries, default = term.data
        assert isinstance(entries, tuple)  # checked by _check_data
        values_listed = [entry[-1] for entry in entries if isinstance(entry, tuple)]
        return _join_tags([_datum_tag(v) for v in (*values_listed, default)], vocabulary)
    return row.tag


def _join_tags(tags: Sequence[Tag], vocabulary: Vocabulary) -> Tag:
    kinds = set(tags)
    if len(kinds) == 1:
        return tags[0]
    if kinds == {"N", "Z"}:
        return "Z"
    return "T" if vocabulary.numeric and "" not in kinds else ""


def _datum_tag(datum: Datum) -> Tag:
    if isinstance(datum, str):
        return "T"
    return "N" if isinstance(datum, int) and datum >= 0 else "Z"


def _check_data(row: Operator, term: Term, vocabulary: Vocabulary) -> None:
    data = term.data
    if row.name in ("//", "%"):
        divisor = term.arguments[1]
        value = divisor.data[0] if divisor.operator == "integer" else None
        if not isinstance(value, int) or value <= 0:
            found = value if isinstance(value, int) else "a computed value"
            raise ProgramError(f"{row.name} divides by {found}, expected an integer constant above 0")
    elif row.name == "select" and data[0] not in RELATIONS:
        raise ProgramError(f"select has the relation {data[0]!r}, expected one of {', '.join(RELATIONS)}")
    elif row.name == "symbol":
        _check_symbol(data[0], vocabulary)
    elif row.name == "boolean" and data[0] not in (0, 1):
        raise ProgramError(f"boolean has {data[0]!r}, expected 0 or 1")
    elif row.name in ("integer", "shift", "horner"):
        for datum, name in zip(data, row.data, strict=True):
            _check_integer(row.name, datum, name)
        if row.name == "horner" and isinstance(data[1], int) and data[1] < 0:
            raise ProgramError(f"horner has modulus {data[1]}, expected 0 (none) or more")
    elif row.name in ("table", "table2"):
        _check_table(row, data, vocabulary)
    elif row.name == "scan":
        _check_scan(data, vocabulary)


def _check_integer(name: str, datum: Datum, what: str) -> None:
    if not isinstance(datum, int) or isinstance(datum, bool) or abs(datum) > _LARGEST_LITERAL:
        raise ProgramError(f"{name} has {what} {datum!r}, expected an integer up to 2^31")


def _check_symbol(datum: Datum, vocabulary: Vocabulary) -> None:
    if not isinstance(datum, str):
        raise ProgramError(f"symbol has {datum!r}, expected a name")
    if datum == "":
        return
    try:
        vocabulary.symbol_code(datum)
    except KeyError:
        known = ", ".join(repr(name) for name in (*vocabulary.names, *vocabulary.outputs)[:8])
        raise ProgramError(f"{datum!r} names no token or output, expected one of {known} ...") from None


def _check_constant(name: str, datum: Datum, vocabulary: Vocabulary) -> None:
    if isinstance(datum, str):
        _check_symbol(datum, vocabulary)
    else:
        _check_integer(name, datum, "the constant")


def _check_table(row: Operator, data: tuple[Datum, ...], vocabulary: Vocabulary) -> None:
    entries = data[0]
    width = len(row.arguments) + 1
    if not isinstance(entries, tuple):
        raise ProgramError(f"{row.name} has {entries!r}, expected entries")
    seen: set[Datum] = set()
    for entry in entries:
        if not isinstance(entry, tuple) or len(entry) != 2:
            raise ProgramError(f"{row.name} has the entry {entry!r}, expected a key and a value")
        key = entry[0] if width == 3 else (entry[0],)
        if not isinstance(key, tuple) or len(key) != width - 1:
            raise ProgramError(f"{row.name} has the key {entry[0]!r}, expected {width - 1} constants")
        if key in seen:
            raise ProgramError(f"{row.name} lists the key {entry[0]!r} twice")
        seen.add(key)
        for datum in (*key, entry[1]):
            _check_constant(row.name, datum, vocabulary)
    _check_constant(row.name, data[1], vocabulary)


def _check_scan(data: tuple[Datum, ...], vocabulary: Vocabulary) -> None:
    start, letters, transitions = data
    if not isinstance(letters, tuple) or not isinstance(transitions, tuple) or not transitions:
        raise ProgramError("scan expects letters and at least one row of transitions")
    for letter in letters:
        _check_constant("scan", letter, vocabulary)
    if len(set(letters)) != len(letters):
        raise ProgramError(f"scan lists a letter twice: {letters!r}")
    n_states = len(transitions)
    rows = [row if isinstance(row, tuple) else () for row in transitions]
    for target in (start, *(target for row in rows for target in row)):
        if not isinstance(target, int) or not 0 <= target < n_states:
            raise ProgramError(f"scan has the state {target!r}, expected 0..{n_states - 1}")
    if any(len(row) != len(letters) for row in rows):
        raise ProgramError(
            f"scan has a row of transitions of the wrong width, expected {len(letters)} (one per letter)"
        )


#: The outputs of each adapter: name -> (kind, shapes allowed). ``multilabel`` names its own.
_OUTPUTS: dict[Adapter, dict[str, tuple[Kind, tuple[Shape, ...]]]] = {
    "value": {"output": ("I", ("whole",))},
    "every": {"output": ("I", ("whole", "position"))},
    "generate": {"output": ("I", ("whole", "step")), "output_length": ("I", ("whole",))},
    "step": {"output": ("I", ("whole",))},
}


def adapters(readout: ReadOut) -> tuple[Adapter, ...]:
    """Return the output adapters that fit a read-out, the usual one first."""
    if readout.kind == "multilabel":
        return ("multilabel",)
    if readout.at == "every":
        return ("every",)
    if readout.at == "generate":
        return ("generate", "step")
    return ("value",)


def check_program(program: Program, vocabulary: Vocabulary, readout: ReadOut) -> dict[Term, Sort]:
    """Return the sort of every subterm of a program that fits the read-out.

    Raises:  ProgramError naming the output at fault.
    """
    fitting = adapters(readout)
    if program.adapter not in fitting:
        raise ProgramError(f"the program is {program.adapter}, expected {' or '.join(fitting)} for this read-out")
    expected = _OUTPUTS.get(program.adapter)
    if expected is None:
        labels = readout.labels(vocabulary)
        for name, _ in program.outputs:
            if name not in labels:
                raise ProgramError(f"output[{name!r}] is no label, expected one of {', '.join(labels[:8])}")
        expected = {name: ("B", ("whole",)) for name, _ in program.outputs}
    if {name for name, _ in program.outputs} != set(expected):
        found = ", ".join(name for name, _ in program.outputs)
        raise ProgramError(f"the program defines {found or 'nothing'}, expected {' and '.join(expected)}")
    sorts: dict[Term, Sort] = {}
    for name, term in program.outputs:
        sorts |= sorts_of(term, vocabulary)
        _check_output(program.adapter, name, sorts[term], expected[name])
        _check_leaves(program.adapter, term)
    return sorts


def _check_output(adapter: Adapter, name: str, found: Sort, expected: tuple[Kind, tuple[Shape, ...]]) -> None:
    kind, shapes = expected
    if found.kind != kind:
        raise ProgramError(f"{name} is {_KIND_NAMES[found.kind]}, expected {_KIND_NAMES[kind]} ({adapter})")
    if found.shape not in shapes:
        raise ProgramError(
            f"{name} has one value per {found.shape}, expected {' or '.join(shapes)} ({adapter})",
            hint="last(everywhere, x) reads the last position" if found.shape == "position" else None,
        )


def _check_leaves(adapter: Adapter, term: Term) -> None:
    names = {subterm.operator for subterm in term.subterms()}
    if "prompt_length" in names and adapter != "step":
        raise ProgramError(f"prompt_length is used in a program that is {adapter}, expected step")
