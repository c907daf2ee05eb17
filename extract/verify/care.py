"""How carefully a network is computed: float type, what a rounding bound covers, how much is measured.

The stages of a network are made once per care and shared by all methods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from extract.network import Network
from extract.readout import ReadOut
from extract.verify.partwise import Partwise
from extract.verify.plain import Evaluator, StagesForward
from extract.verify.rounding import Arithmetic
from extract.verify.stages import Stages
from extract.verify.weight_norms import WeightNorms, measure_weights


@dataclass(frozen=True, slots=True)
class Care:
    """Float type, one bound per row instead of per block, measured derivatives."""

    dtype: type[np.floating[Any]]
    per_row: bool
    is_fine: bool

    def describe(self) -> str:
        """Return the words for a report."""
        return np.dtype(self.dtype).name + (" with a bound per input" if self.per_row else "")


QUICK, USUAL = Care(np.float32, False, False), Care(np.float64, False, False)
CAREFUL, PRECISE = Care(np.float64, True, True), Care(np.longdouble, True, True)


class CareStages:
    """The stages of one network by care; ``claims`` are arithmetics whose decisions must agree with ours too."""

    def __init__(self, network: Network, readout: ReadOut, claims: tuple[Arithmetic, ...]) -> None:
        self.network, self.readout, self.claims = network, readout, claims
        self._weights: WeightNorms | None = None
        self._made: dict[Care, Stages] = {}
        self._parts: dict[Care, Partwise] = {}
        # a norm per vector says too little of compiled weights, which have no norms and all sizes
        self._is_partwise = bool(network.beyond_gpt2) or (network.architecture.norm == "none" and not claims)

    def __call__(self, care: Care) -> Stages:
        """Return the stages in an arithmetic, made at the first call."""
        if self._weights is None:
            self._weights = measure_weights(self.network, self.readout)
        if care not in self._made:
            self._made[care] = Stages(
                self.network, self.readout, self._weights, care.dtype, self.claims, is_fine=care.is_fine
            )
        return self._made[care]

    def evaluator(self, care: Care) -> Evaluator:
        """Return what evaluates prompts one by one in an arithmetic."""
        if not self._is_partwise:
            return StagesForward(self(care))
        if care not in self._parts:
            self._parts[care] = Partwise(self.network, self.readout, care.dtype, is_fine=care.is_fine)
        return self._parts[care]
