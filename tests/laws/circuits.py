"""Evaluating circuits on many assignments at once, independently of any solver."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from extract.verify.circuit import Circuit, Guarded, Literal

Bits = NDArray[np.bool_]


class Evaluated:
    """Every gate of a circuit on n assignments of its unknown integers ("letters").

    ``codes`` [assignment, letter] are the letters' values. Letters must be ``Circuit.unknown`` results.
    """

    def __init__(self, circuit: Circuit, letters: Sequence[Guarded], codes: NDArray[np.int64]) -> None:
        self.n = len(codes)
        known: dict[int, Bits] = {}
        for p, letter in enumerate(letters):
            fixed = [(g >> 1, g & 1, codes[:, p] == v) for g, v in zip(letter.guards, letter.values, strict=True)]
            known |= {gate: holds ^ bool(negated) for gate, negated, holds in fixed if gate and not circuit.gates[gate]}
            bits = {part >> 1 for gate, *_ in fixed for part in circuit.gates[gate] or ()}
            for gate in bits:  # a letter coded in binary: its bits are the variables
                known[gate] = np.any(
                    [holds & (2 * gate in (circuit.gates[own] or ())) for own, _, holds in fixed], axis=0
                )
        self.gates: list[Bits] = []
        for gate, parts in enumerate(circuit.gates):
            if parts is None:
                self.gates.append(known.get(gate, np.zeros(self.n, dtype=np.bool_)))
            else:
                self.gates.append(np.all([self.literal(part) for part in parts], axis=0))

    def literal(self, literal: Literal) -> Bits:
        """Return where a literal holds."""
        return self.gates[literal >> 1] ^ bool(literal & 1)

    def integer(self, value: Guarded) -> NDArray[np.int64]:
        """Return an integer's values; fails unless exactly one guard holds everywhere."""
        holds = np.array([self.literal(guard) for guard in value.guards])
        assert (holds.sum(axis=0) == 1).all(), value
        return np.array(value.values, dtype=np.int64)[holds.argmax(axis=0)]

    def clauses_hold(self, clauses: Sequence[tuple[Literal, ...]]) -> bool:
        """Say whether every clause holds on every assignment."""
        return all(np.any([self.literal(a) for a in clause], axis=0).all() for clause in clauses)
