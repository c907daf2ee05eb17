"""The meaning of terms and programs on many inputs at once: padded numpy arrays, no loop over inputs.

Tested cell by cell against the interpreter. Cells beyond an input's length are 0 or False in every value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.lang.elementwise import ELEMENTWISE, RELATION, constant_code, numbers
from extract.lang.interpret import default_code
from extract.lang.operators import AGGREGATE_NAMES, DEFAULTED_NAMES, OPERATORS
from extract.lang.ranges import integer_ranges
from extract.lang.running import horner, look_up, rank, scan, shift, summary
from extract.lang.sorts import Shape, Sort, sorts_of
from extract.lang.terms import Datum, Term
from extract.lang.windows import Window, aggregate, aggregate_window
from extract.vocabulary import Codes, Vocabulary

Array = NDArray[Any]
Value = Array | Window

_WINDOWS = ("before", "upto", "after", "everywhere")


@dataclass(frozen=True)
class Batch:
    """Inputs as programs see them.

    Shapes: ``codes`` [input, position] int32, ABSENT beyond ``lengths`` [input]; ``n_steps`` outputs are computed for
    step-shaped terms (0: as many as needed); ``prompt_lengths`` [input] only for the step adapter (else the lengths).
    """

    codes: Codes
    lengths: NDArray[np.int32]
    n_steps: int = 0
    prompt_lengths: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def width(self) -> int:
        """The number of columns computed with: the longest length possible, at least 1."""
        return max(1, int(self.codes.shape[1]))

    @cached_property
    def is_uniform(self) -> bool:
        """Whether every input fills the whole width, so that nothing needs masking."""
        return self.codes.shape[1] > 0 and bool((self.lengths == self.codes.shape[1]).all())

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """The cells that exist. Shape: [input, position]."""
        if self.is_uniform:
            return np.broadcast_to(np.True_, (len(self), self.width))
        return np.asarray(np.arange(self.width, dtype=np.int32)[None, :] < self.lengths[:, None])

    @cached_property
    def tokens(self) -> Codes:
        """The codes, 0 in cells that do not exist. Shape: [input, position]."""
        if self.is_uniform:
            return self.codes
        if self.codes.shape[1] == 0:
            return np.zeros((len(self), 1), dtype=np.int32)
        return np.where(self.mask, self.codes, np.int32(0))

    def take(self, rows: slice | NDArray[np.intp]) -> Batch:
        """Return the chosen inputs."""
        prompts = None if self.prompt_lengths is None else self.prompt_lengths[rows]
        return Batch(self.codes[rows], self.lengths[rows], self.n_steps, prompts)


@lru_cache(maxsize=4096)
def checked_sorts(term: Term, vocabulary: Vocabulary, max_length: int, n_steps: int) -> dict[Term, Sort]:
    """Return the sorts of all subterms of a term that is well sorted and stays within 32 bits.

    Raises:  ProgramError otherwise.
    """
    sorts = sorts_of(term, vocabulary)
    integer_ranges(term, vocabulary, max_length, n_steps)
    return sorts


def evaluate_term(
    term: Term, batch: Batch, vocabulary: Vocabulary, cache: dict[Term, Value] | None = None
) -> NDArray[Any]:
    """Return a term's cells on every input.

    Shape:   [input, 1] if whole, [input, position], [input, step]; a selector [input, query, key] with those queries.
             Integers are int32, booleans bool. ``cache`` keeps the values of subterms for the same batch.
    Raises:  ProgramError if the term is badly sorted or could leave 32 bits on this width.
    """
    sorts = checked_sorts(term, vocabulary, batch.width, batch.n_steps)
    value = _evaluate(term, batch, vocabulary, sorts, {} if cache is None else cache)
    n, size = len(batch), _size(sorts[term].shape, batch)
    if isinstance(value, Window):
        return _masked_selector(value.spelled_out(), batch, sorts[term].shape)
    shape = (n, size, batch.width) if sorts[term].kind == "S" else (n, size)
    return np.broadcast_to(value, shape)


def apply(
    operator: str,
    arguments: Sequence[Array],
    data: tuple[Datum, ...],
    batch: Batch,
    vocabulary: Vocabulary,
    *,
    shape: Shape = "position",
    default: int = 0,
) -> NDArray[Any]:
    """Return one operator's value from its arguments' values.

    Shape:   as ``evaluate_term`` describes; constants may be [1, 1]. ``shape`` is the result's, as its sort says;
             ``default`` is used where the row's default argument is left out (NO_SYMBOL for tokens that are symbols).
    Assumes: sorts and integer ranges were checked.
    """
    may_be_symbols = [vocabulary.numeric] * len(arguments)
    prepared = _prepared(operator, arguments, batch, vocabulary, may_be_symbols)
    value = _apply(operator, prepared, data, batch, vocabulary, shape, default)
    if isinstance(value, Window):
        return _masked_selector(value.spelled_out(), batch, shape)
    return value


def _evaluate(
    term: Term, batch: Batch, vocabulary: Vocabulary, sorts: dict[Term, Sort], cache: dict[Term, Value]
) -> Value:
    for subterm in term.subterms():
        if subterm in cache:
            continue
        arguments = [cache[argument] for argument in subterm.arguments]
        may_be_symbols = [sorts[argument].tag == "T" for argument in subterm.arguments]
        prepared = _prepared(subterm.operator, arguments, batch, vocabulary, may_be_symbols)
        default = 0
        if subterm.operator in DEFAULTED_NAMES:
            values = subterm.arguments[0 if subterm.operator == "shift" else 1]
            default = default_code(sorts[values], vocabulary)
        shape = sorts[subterm].shape
        cache[subterm] = _apply(subterm.operator, prepared, subterm.data, batch, vocabulary, shape, default)
    return cache[term]


def _size(shape: Shape, batch: Batch) -> int:
    return {"whole": 1, "position": batch.width, "step": batch.n_steps}[shape]


def _apply(
    name: str,
    arguments: list[Any],
    data: tuple[Datum, ...],
    batch: Batch,
    vocabulary: Vocabulary,
    shape: Shape,
    default: int,
) -> Value:
    if not arguments:
        return _leaf(name, data, batch, vocabulary)
    if name in ("select", "keys_where") or _is_selector(arguments[0], name):
        return _selector(name, arguments, data, batch, shape)
    if name in AGGREGATE_NAMES:
        value = _aggregate(name, arguments, default)
    elif name in ELEMENTWISE:
        value = ELEMENTWISE[name](*arguments)
    elif name in ("table", "table2"):
        value = look_up(name, arguments, data, vocabulary)
    elif shape == "whole":
        return _summary(name, arguments[0], batch)
    else:
        value = _running(name, arguments, data, batch, vocabulary, default)
    return value if shape != "position" or batch.is_uniform else np.where(batch.mask, value, value.dtype.type(0))


def _prepared(
    name: str, arguments: Sequence[Any], batch: Batch, vocabulary: Vocabulary, may_be_symbols: Sequence[bool]
) -> list[Any]:
    """Spread what is read along the input over its positions; read symbols as 0 where arithmetic needs numbers."""
    prepared = []
    for expected, argument, may_be in zip(OPERATORS[name].arguments, arguments, may_be_symbols, strict=False):
        if expected.tag == "number" and may_be and vocabulary.symbols:
            argument = numbers(argument)
        if expected.along == "positions" and argument.shape != (len(batch), batch.width):
            argument = np.broadcast_to(argument, (len(batch), batch.width))
        prepared.append(argument)
    return prepared


def _is_selector(value: Value, name: str) -> bool:
    return name in ("and", "or", "not") and (isinstance(value, Window) or value.ndim == 3)


def _leaf(name: str, data: tuple[Datum, ...], batch: Batch, vocabulary: Vocabulary) -> Value:
    if name == "tokens":
        return batch.tokens
    if name == "indices":
        index = np.arange(batch.width, dtype=np.int32)[None, :]
        return index if batch.is_uniform else np.where(batch.mask, index, np.int32(0))
    if name == "length":
        return batch.lengths.astype(np.int32)[:, None]
    if name == "prompt_length":
        lengths = batch.lengths if batch.prompt_lengths is None else batch.prompt_lengths
        return lengths.astype(np.int32)[:, None]
    if name == "step":
        return np.arange(batch.n_steps, dtype=np.int32)[None, :]
    if name in _WINDOWS:
        return Window(name, batch.mask)  # type: ignore[arg-type]
    if name == "boolean":
        return np.array([[bool(data[0])]])
    return np.array([[constant_code(data[0], vocabulary)]], dtype=np.int32)


def _selector(name: str, arguments: list[Any], data: tuple[Datum, ...], batch: Batch, shape: Shape) -> Value:
    if name == "keys_where":
        return Window("everywhere", arguments[0] & batch.mask)
    if name == "select":
        keys, queries = arguments
        relation = RELATION[str(data[0])]
        if queries.shape[1] == 1:
            return Window("everywhere", relation(keys, queries) & batch.mask)
        return _masked_selector(relation(keys[:, None, :], queries[:, :, None]), batch, shape)
    left = arguments[0]
    if name == "not":
        if isinstance(left, Window) and left.side == "everywhere":
            return Window("everywhere", ~left.keys & batch.mask)
        return _masked_selector(~_spelled_out(left), batch, shape)
    right = arguments[1]
    if isinstance(left, Window) and isinstance(right, Window):
        if name == "and" and (both := left.meet(right)) is not None:
            return both
        if name == "or" and left.side == right.side:
            return Window(left.side, left.keys | right.keys)
    return _masked_selector(ELEMENTWISE[name](_spelled_out(left), _spelled_out(right)), batch, shape)


def _spelled_out(value: Value) -> Array:
    return value.spelled_out() if isinstance(value, Window) else value


def _masked_selector(selector: Array, batch: Batch, shape: Shape) -> Array:
    if batch.is_uniform:
        return np.broadcast_to(selector, (len(batch), *selector.shape[1:]))
    selector = selector & batch.mask[:, None, :]
    return np.asarray(selector & batch.mask[:, :, None]) if shape == "position" else selector


def _aggregate(name: str, arguments: list[Any], default: int) -> Array:
    selector, *rest = arguments
    values = rest[0] if rest else np.zeros((1, 1), dtype=np.int32)
    otherwise = rest[1] if len(rest) > 1 else np.array([[default]], dtype=np.int32)
    if isinstance(selector, Window):
        return aggregate_window(name, selector, values, otherwise)
    return aggregate(name, selector, values, otherwise)


def _summary(name: str, values: Array, batch: Batch) -> Array:
    if batch.is_uniform and name in ("count", "all", "any"):
        if name == "count":
            return np.asarray(values.sum(axis=1, dtype=np.int32, keepdims=True))
        reduce = np.logical_and.reduce if name == "all" else np.logical_or.reduce
        return np.asarray(reduce(values, axis=1, keepdims=True))
    return summary(name, values, batch.mask)


def _running(
    name: str, arguments: list[Any], data: tuple[Datum, ...], batch: Batch, vocabulary: Vocabulary, default: int
) -> Array:
    values = arguments[0]
    if name == "running_count":
        return np.cumsum(values, axis=1, dtype=np.int32)
    if name == "rank":
        return rank(values, batch.mask)
    if name == "scan":
        return scan(values, data, vocabulary)
    if name == "horner":
        a, m = (datum for datum in data if isinstance(datum, int))
        return horner(values, a, m)
    otherwise = arguments[1] if len(arguments) > 1 else np.array([[default]], dtype=np.int32)
    k = data[0]
    assert isinstance(k, int)
    return shift(values, k, otherwise, batch.lengths)
