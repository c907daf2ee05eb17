"""Productions of terms that run along the input, level by level, from a bank's terms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.lang.terms import Datum
from extract.search.bank import Bank, Key
from extract.search.frame import NO_SYMBOL
from extract.search.meanings import shifted
from extract.search.running import horner_forms, horner_rows, letter_values, table_rows

Array = NDArray[Any]

#: Sums of dearer terms are seldom what a model computes.
_DEAREST = 5
#: Shifts by more than the bank's own distances, and the dearest terms they are offered for.
_NEAR, _FAR, _SHIFTED = 2, 7, 4


class Running:
    """The productions on offer: ``letters`` get signs, ``constants`` are moduli where answers are numbers.

    Moduli make numbers; where no answer is one, they would only crowd out other terms.
    """

    def __init__(self, letters: tuple[str, ...], constants: tuple[int, ...]) -> None:
        self._tables = tuple(letter_values(letters))
        self._forms = tuple(horner_forms(constants))

    def at(
        self, bank: Bank, token_ids: NDArray[np.int32], cost: int
    ) -> Iterator[tuple[Key, str, tuple[Datum, ...], Array, NDArray[np.int32]]]:
        """Yield bucket, operator, constants, values and argument ids of the terms of one cost."""
        number = Key("I", "N", "position")
        for data, table_cost in self._tables:
            if table_cost == cost and len(token_ids):
                yield number, "table", data, table_rows(bank.frame.tokens[None], data, bank.frame), token_ids
        for data, node in self._forms:
            rows, ids = bank.rows(number, cost - node)
            if len(ids) and cost - node <= _DEAREST:
                yield number, "horner", data, horner_rows(rows, data), ids
        for key in list(bank.keys("I", "position")) if cost - 2 <= _SHIFTED else ():
            rows, ids = bank.rows(key, cost - 2)
            default = NO_SYMBOL if key.tag == "T" else 0
            for k in range(_NEAR + 1, min(_FAR, rows.shape[-1] - 1) + 1) if len(ids) else ():
                yield key, "shift", (k,), shifted(rows, k, default, bank.frame.valid), ids
