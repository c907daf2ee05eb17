"""Cost-ordered growth of a bank: one method per family of productions, cheapest terms first.

The searched fragment is stated here and nowhere else: the leaves but ``prompt_length``; elementwise arithmetic with
``abs`` (division, remainder and multiplication by an offered constant of at least 2, and products of leaves);
comparisons within a tag (``<=`` of numbers only); ``and``, ``or``, ``not`` of booleans and of selectors; ``select``
over bank terms with the listed relations (``!=`` of leaves only), and ``keys_where``; ``horner`` of terms up to cost 5
with factor 1, and where an answer is a number with factor 1 or 2 and an offered modulus; tables of letters' signs;
``rank``, ``running_count``, ``shift`` by the listed distances, and by 3 to 7 of terms up to cost 4, without a default;
and every aggregate of the language but ``mean``, without a default. It has no ``if``, no other tables, no ``scan`` and
no other ``!=``: other stages propose those. Cells have the frame's integer type: a term whose values leave it is filed
under the wrapped values, and the gate refutes it if they mattered. Costs are tree costs (a shared part counts at each
use), an upper bound on the language's cost. A family whose next level would not fit the work left is skipped and the
bank is no longer complete at that cost: ``complete_to_cost`` says how far it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.lang.terms import Datum
from extract.search import kernels
from extract.search.bank import Bank, Key, Origin, Tag
from extract.search.builders import NAMES
from extract.search.frame import NO_SYMBOL, Shape
from extract.search.growth import BLOCK_CELLS, Growth
from extract.search.meanings import leaf, shifted
from extract.search.productions import Running

Array = NDArray[Any]

_HEAD_SELECTORS, _HEAD_VALUES, _HEAD_BLOCK = 512, 40, 64
_TAGS: tuple[Tag, ...] = ("T", "N")
_SHIFTS = (1, 2, -1)
#: Up to this cost every head is affordable anyway.
_LEAF_HEADS = 4
_PRODUCT_COST = 3
_RELATIONS = ("==", "<", "<=", ">", ">=")


class Grammar(Growth):
    """Grows one bank level by level.

    ``work`` is the number of cells that may be computed in all (machine independent, shared out by what is computed);
    ``constants`` are the integers offered (cost 1 up to 2 in absolute value, 2 beyond), ``symbols`` the names offered
    as symbol constants, ``letters`` those of the alphabet; ``has_numbers`` says whether some answer is one.
    """

    def __init__(
        self,
        bank: Bank,
        *,
        constants: tuple[int, ...],
        symbols: tuple[str, ...],
        work: int,
        letters: tuple[str, ...] = (),
        has_numbers: bool = True,
    ) -> None:
        super().__init__(bank, work)
        self.constants = constants
        self.symbols = symbols
        self._productions = Running(letters, constants if has_numbers else ())
        self.complete_to_cost = 0
        self._token_ids = np.zeros(0, dtype=np.int32)
        self._constant_ids = {value: i for value in constants if (i := bank.constant_id(value)) >= 0}
        self._token_tag: Tag = "N" if self.frame.vocabulary.numeric else "T"

    def grow(self, cost: int) -> None:
        """Add every term of exactly this tree cost, as far as the work allows."""
        if cost <= 2:
            self._leaves(cost)
        self._running(cost)
        self._reductions(cost)
        self._unary(cost)
        self._selectors(cost)
        self._aggregates(cost)
        self._arithmetic(cost)
        self._comparisons(cost)
        self._connectives(cost)
        if self.is_complete:
            self.complete_to_cost = cost

    def add_heads(self, level: int) -> None:
        """Add attention heads over the cheapest equality selectors and values, whatever they cost together.

        A transformer's shape rather than a cost bound: two cheap parts joined by one head are worth trying before all
        the terms that cost as much. The terms are filed under ``level``, which must be above every level grown.
        """
        for shape in self._shapes:
            key = Key("S", "", shape)
            masks, ids = self.bank.rows_up_to(key, level - 1)
            chosen = np.flatnonzero(self.bank.made_by(ids, NAMES["select"], ("==",)))[:_HEAD_SELECTORS]
            masks, ids = masks[chosen], ids[chosen]
            booleans, boolean_ids = (r[:_HEAD_VALUES] for r in self.bank.rows_up_to(Key("B", "", "position"), 4))
            for start in range(0, len(ids), _HEAD_BLOCK):
                block = masks[start : start + _HEAD_BLOCK], ids[start : start + _HEAD_BLOCK]
                self._counted_heads(block, (booleans, boolean_ids), shape, level)
                for tag in _TAGS:
                    value_key = Key("I", tag, "position")
                    values = tuple(r[:_HEAD_VALUES] for r in self.bank.rows_up_to(value_key, 4))
                    if len(values[1]):
                        self._heads(block, (values[0], values[1]), value_key, shape, level, has_extremes=False)

    def _counted_heads(
        self,
        selectors: tuple[Array, NDArray[np.int32]],
        booleans: tuple[Array, NDArray[np.int32]],
        shape: Shape,
        level: int,
    ) -> None:
        """Count the picked keys where a boolean holds: a sum over ``int(boolean)``, itself filed under the level."""
        values = booleans[0].astype(self.frame.tokens.dtype)
        int_ids = self.bank.intern(NAMES["int"], (booleans[1],), level)
        counted = kernels.sums(selectors[0], values)
        self._cross(Key("I", "N", shape), counted, "sum", (selectors[1], int_ids), level)

    # -- leaves -----------------------------------------------------------------------------------------------------
    def _leaves(self, cost: int) -> None:
        if cost == 1:
            self._token_ids = self._leaf(Key("I", self._token_tag, "position"), "tokens")
            self._leaf(Key("I", "N", "position"), "indices")
            self._leaf(Key("I", "N", "whole"), "length")
            if self.frame.prompts is not None:
                self._leaf(Key("I", "N", "whole"), "prompt_length")
            if self._has_steps:
                self._leaf(Key("I", "N", "step"), "step")
            for name in ("before", "upto", "after"):
                self._leaf(Key("S", "", "position"), name)
            self._leaf(Key("S", "", "whole"), "everywhere")
            for symbol in self.symbols:
                self._leaf(Key("I", "T", "whole"), "symbol", (symbol,))
        for value in self.constants:
            if (abs(value) <= 2) == (cost == 1):
                ids = self._leaf(Key("I", "N", "whole"), "integer", (value,), cost)
                if len(ids):
                    self._constant_ids[value] = int(ids[0])

    def _leaf(self, key: Key, name: str, data: tuple[Datum, ...] = (), cost: int = 1) -> NDArray[np.int32]:
        return self.bank.append(key, leaf(name, data, self.frame), Origin(NAMES[name], data, (), cost))

    # -- families ---------------------------------------------------------------------------------------------------
    def _unary(self, cost: int) -> None:
        frame = self.frame
        for shape in self._shapes:
            key = Key("B", "", shape)
            rows, ids = self.bank.rows(key, cost - 1)
            if len(ids):
                self._append(key, ~rows, "not", (ids,), cost)
                self._append(Key("I", "N", shape), rows.astype(frame.tokens.dtype), "int", (ids,), cost)
            key = Key("I", "N", shape)
            rows, ids = self.bank.rows(key, cost - 1)
            if len(ids) and (rows < 0).any():
                self._append(key, np.abs(rows), "abs", (ids,), cost)
            key = Key("S", "", shape)
            rows, ids = self.bank.rows(key, cost - 1)
            if len(ids) and self._afford(rows.size, "joined"):
                self._append(key, ~rows, "select_not", (ids,), cost)
        for key in list(self.bank.keys("B", "position")):
            rows, ids = self.bank.rows(key, cost - 1)
            self._boolean_reductions(rows, ids, cost)
        for key in list(self.bank.keys("I", "position")):
            rows, ids = self.bank.rows(key, cost - 1)
            cells = len(ids) * frame.valid.shape[1] ** 2 * frame.n_probes
            if not len(ids) or not self._afford(cells, "position"):
                continue
            ranked = kernels.stable_rank(rows, frame.valid)
            self._append(Key("I", "N", "position"), ranked, "rank", (ids,), cost)
            for k in _SHIFTS:
                moved = shifted(rows, k, NO_SYMBOL if key.tag == "T" else 0, frame.valid)
                self._append(key, moved, "shift", (ids,), cost, (k,))

    def _reductions(self, cost: int) -> None:
        """Add what one reads off a whole input of every term, before dearer selectors use up the work."""
        frame, selector_key = self.frame, Key("S", "", "whole")
        masks, mask_ids = self.bank.rows(selector_key, 1)
        for key in list(self.bank.keys("I", "position")) if cost > _LEAF_HEADS else ():
            rows, ids = self.bank.rows(key, cost - 2)
            if len(ids) and len(mask_ids) and self._afford(6 * rows.size * len(mask_ids), "reduced"):
                step = max(1, BLOCK_CELLS // (frame.n_probes * frame.valid.shape[1]))
                for start in range(0, len(ids), step):
                    part = slice(start, start + step)
                    self._heads((masks, mask_ids), (rows[part], ids[part]), key, "whole", cost)

    def _running(self, cost: int) -> None:
        """Add the values of letters, sums and base-b values along the input, and far shifts of cheap terms."""
        for key, name, data, rows, ids in self._productions.at(self.bank, self._token_ids, cost):
            if self._afford(2 * rows.size, "position"):
                self._append(key, rows, name, (ids,), cost, data)

    def _boolean_reductions(self, rows: Array, ids: NDArray[np.int32], cost: int) -> None:
        if not len(ids):
            return
        dtype = self.frame.tokens.dtype
        valid = self.frame.valid
        self._append(Key("I", "N", "whole"), rows.sum(axis=-1, dtype=dtype)[..., None], "count", (ids,), cost)
        self._append(Key("B", "", "whole"), np.asarray(rows.any(axis=-1, keepdims=True)), "any", (ids,), cost)
        self._append(
            Key("B", "", "whole"), np.asarray((rows | ~valid).all(axis=-1, keepdims=True)), "all", (ids,), cost
        )
        running = np.cumsum(rows, axis=-1, dtype=dtype)
        self._append(Key("I", "N", "position"), running, "running_count", (ids,), cost)
        self._append(Key("S", "", "whole"), rows[:, :, None, :], "keys_where", (ids,), cost)

    def _selectors(self, cost: int) -> None:
        frame = self.frame
        for keys_key in list(self.bank.keys("I", "position")):
            for shape in self._shapes:
                queries_key = Key("I", keys_key.tag, shape)
                n_cells = frame.n_probes * frame.n_queries(shape) * frame.valid.shape[1]
                for left, right in self._pairs(keys_key, queries_key, cost - 1, n_cells * len(_RELATIONS), "selector"):
                    # of dearer terms "not equal" is left to the negation of a selector
                    for relation in (*_RELATIONS, "!=") if cost == 3 else _RELATIONS:
                        mask = kernels.relate(relation, left[0], right[0], frame.valid)
                        self._cross(Key("S", "", shape), mask, "select", (left[1], right[1]), cost, (relation,))
        for left_shape in self._shapes:
            key, other = Key("S", "", left_shape), Key("S", "", "whole")
            n_cells = frame.n_probes * frame.n_queries(left_shape) * frame.valid.shape[1]
            for left, right in self._pairs(key, other, cost - 1, n_cells, "joined"):
                self._joined_selectors(key, left, right, cost)
        key = Key("S", "", "position")
        n_cells = frame.n_probes * frame.valid.shape[1] ** 2
        for left, right in self._pairs(key, key, cost - 1, n_cells, "joined", commutative=True):
            self._joined_selectors(key, left, right, cost)

    def _joined_selectors(
        self, key: Key, left: tuple[Array, NDArray[np.int32]], right: tuple[Array, NDArray[np.int32]], cost: int
    ) -> None:
        self._cross(key, left[0][:, None] & right[0][None], "select_and", (left[1], right[1]), cost)
        self._cross(key, left[0][:, None] | right[0][None], "select_or", (left[1], right[1]), cost)

    def _aggregates(self, cost: int) -> None:
        frame = self.frame
        for shape in self._shapes:
            selector_key = Key("S", "", shape)
            masks, ids = self.bank.rows(selector_key, cost - 1)
            if len(ids):
                width = masks.sum(axis=-1, dtype=frame.tokens.dtype)
                self._append(Key("I", "N", shape), width, "selector_width", (ids,), cost)
                self._append(Key("B", "", shape), np.asarray(masks.any(axis=-1)), "exists", (ids,), cost)
            for key in list(self.bank.keys("I", "position")):
                n_cells = frame.n_probes * frame.n_queries(shape) * (4 + 2 * frame.valid.shape[1])
                for left, right in self._pairs(selector_key, key, cost - 1, n_cells, shape):
                    self._heads(left, right, key, shape, cost)

    def _heads(
        self,
        left: tuple[Array, NDArray[np.int32]],
        right: tuple[Array, NDArray[np.int32]],
        key: Key,
        shape: Shape,
        cost: int,
        *,
        has_extremes: bool = True,
    ) -> None:
        result = Key("I", key.tag, shape)
        default = NO_SYMBOL if key.tag == "T" else 0
        for name in ("first", "last"):
            picked = kernels.picks(left[0], right[0], last=name == "last", default=default)
            self._cross(result, picked, name, (left[1], right[1]), cost)
        if key.tag != "T":
            self._cross(result, kernels.sums(left[0], right[0]), "sum", (left[1], right[1]), cost)
        for name in ("min", "max") if has_extremes else ():
            value = kernels.extremes(left[0], right[0], largest=name == "max", default=default)
            self._cross(result, value, f"{name}_over", (left[1], right[1]), cost)

    def _arithmetic(self, cost: int) -> None:
        n = self.frame.n_probes
        for shape, left_key, right_key in self._elementwise_keys("N"):
            n_cells = n * self.frame.n_queries(shape)
            result = Key("I", "N", shape)
            for left_cost, right_cost in self._costs(left_key, right_key, cost - 1, 4 * n_cells, shape):
                # of a commuting pair in one bucket only the order with the cheaper left side is made
                commuting = () if left_key == right_key and left_cost > right_cost else ("add", "min", "max")
                # products of dearer terms leave the cells' range and fit little
                products = ("mul",) if commuting and cost == _PRODUCT_COST else ()
                for name in (*commuting, *products, "sub"):
                    self._binary(result, name, (left_key, left_cost), (right_key, right_cost), cost)
            if right_key.shape == "whole" and left_key.shape == shape:
                self._by_constant(left_key, cost)

    def _by_constant(self, key: Key, cost: int) -> None:
        for value, constant_id in self._constant_ids.items():
            rows, ids = self.bank.rows(key, cost - 1 - (1 if abs(value) <= 2 else 2))
            if value < 2 or not len(ids) or not self._afford(3 * rows.size, key.shape):
                continue
            divisor = np.full((1,) * rows.ndim, value, dtype=rows.dtype)
            for name in ("mod", "floordiv", "mul"):
                result = kernels.elementwise(name, rows, divisor)
                self._append(key, result, name, (ids, np.full(len(ids), constant_id, dtype=np.int32)), cost)

    def _comparisons(self, cost: int) -> None:
        n = self.frame.n_probes
        for tag in _TAGS:
            for shape, left_key, right_key in self._elementwise_keys(tag):
                n_cells = n * self.frame.n_queries(shape)
                for left_cost, right_cost in self._costs(left_key, right_key, cost - 1, 2 * n_cells, shape):
                    for name in ("eq", "lt", "le") if tag == "N" else ("eq", "lt"):
                        sides = (left_key, left_cost), (right_key, right_cost)
                        self._binary(Key("B", "", shape), name, *sides, cost)

    def _connectives(self, cost: int) -> None:
        n = self.frame.n_probes
        for shape in self._shapes:
            key, whole = Key("B", "", shape), Key("B", "", "whole")
            for right_key in dict.fromkeys((key, whole)):
                commutes = right_key == key
                n_cells = n * self.frame.n_queries(shape)
                for left_cost, right_cost in self._costs(
                    key, right_key, cost - 1, n_cells, shape, commutative=commutes
                ):
                    for name in ("and", "or"):
                        self._binary(key, name, (key, left_cost), (right_key, right_cost), cost)
