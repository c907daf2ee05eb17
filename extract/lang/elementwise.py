"""Cell-by-cell meanings, once for Python numbers and once for numpy arrays, side by side.

The array forms are pure and broadcast over any leading axes; they neither mask nor check. This room knows no axes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.lang.operators import NO_SYMBOL
from extract.lang.terms import Datum
from extract.vocabulary import Vocabulary

Array = NDArray[Any]

#: Reference meaning of each elementwise operator on Python ints and bools.
SCALAR: dict[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "min": min,
    "max": max,
    "abs": abs,
    "int": int,
    "if": lambda condition, then, otherwise: then if condition else otherwise,
    "==": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
    "not": operator.not_,
}


def _as_integer(condition: Array) -> Array:
    return np.asarray(condition, dtype=np.int32)


#: The same operators on arrays: int32 for integers, bool for booleans.
ELEMENTWISE: dict[str, Callable[..., Array]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "//": np.floor_divide,
    "%": np.remainder,
    "min": np.minimum,
    "max": np.maximum,
    "abs": np.absolute,
    "int": _as_integer,
    "if": np.where,
    "==": np.equal,
    "<": np.less,
    "<=": np.less_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
}

#: ``select``'s predicates on (key, query), for numbers and for arrays.
RELATION_SCALAR: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
RELATION: dict[str, Callable[..., Array]] = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


def constant_code(datum: Datum, vocabulary: Vocabulary) -> int:
    """Return the code of a constant: an integer is itself, a quoted name its code, ``''`` the code of no symbol.

    Raises:  KeyError if no token or output has this name.
    """
    if isinstance(datum, int):
        return datum
    if not isinstance(datum, str):
        raise KeyError(datum)
    return NO_SYMBOL if datum == "" else vocabulary.symbol_code(datum)


def table_codes(entries: Datum, vocabulary: Vocabulary) -> dict[Any, int]:
    """Return a table's entries as codes; keys of ``table2`` are pairs of codes."""
    assert isinstance(entries, tuple)  # sorts.py has checked the constants
    listed: dict[Any, int] = {}
    for entry in entries:
        assert isinstance(entry, tuple)
        key, value = entry
        code = (
            tuple(constant_code(part, vocabulary) for part in key)
            if isinstance(key, tuple)
            else constant_code(key, vocabulary)
        )
        listed[code] = constant_code(value, vocabulary)
    return listed


def number(code: int) -> int:
    """Return a value as arithmetic reads it: symbols, and no symbol, count as 0."""
    return 0 if code >= NO_SYMBOL else code


def numbers(codes: Array) -> Array:
    """Return values as arithmetic reads them: symbols, and no symbol, count as 0."""
    return np.where(codes >= NO_SYMBOL, np.int32(0), codes)
