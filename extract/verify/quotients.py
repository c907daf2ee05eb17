"""Upper bounds of a quotient N / D of two sums over paths, from what max(N - t D) is at some t.

D is positive and lies between two known numbers. The maximum over paths is a convex function of t that falls at least
as steeply as the smaller, at most as steeply as the larger; the quotient's supremum is its root. It refuses to know
the paths.
"""

from __future__ import annotations

import numpy as np

from extract.verify.affine import Floats

#: Covers the few roundings of one bound, relative to the numbers it is made of.
_ROUNDING = 2.0**-48
#: Bounds are as good as exact within this share of the largest.
_TIGHT = 0.01


class Quotients:
    """The bounds ``high`` [...] of an array of quotients, and the nearest points known on both sides of their roots."""

    def __init__(self, least: Floats, most: Floats, shape: tuple[int, ...]) -> None:
        self._least, self._most = np.maximum(least, 1e-290), most
        self._is_known = least > 0
        self.high: Floats = np.full(shape, np.inf)
        self._left, self._left_rest = np.full(shape, -np.inf), np.full(shape, np.nan)
        self._right, self._right_rest = np.full(shape, np.inf), np.full(shape, np.nan)

    def learn(self, t: Floats, rest: Floats) -> None:
        """Use upper bounds ``rest`` of max(N - t D) at some t, one for each quotient."""
        above = rest > 0
        step = np.where(above, rest / self._least, rest / self._most)
        found = t + step + _ROUNDING * (np.abs(t) + np.abs(step))
        self.high = np.where(self._is_known, np.minimum(self.high, found), np.inf)
        nearer = above & (t > self._left)
        self._left, self._left_rest = np.where(nearer, t, self._left), np.where(nearer, rest, self._left_rest)
        nearer = ~above & (t < self._right)
        self._right, self._right_rest = np.where(nearer, t, self._right), np.where(nearer, rest, self._right_rest)
        chord = self._chord()
        # a convex function lies below its chords
        self.high = np.where(np.isnan(chord), self.high, np.minimum(self.high, chord))

    def _chord(self) -> Floats:
        with np.errstate(all="ignore"):
            share = self._left_rest / (self._left_rest - self._right_rest)
            chord = self._left + share * (self._right - self._left)
            chord = chord + _ROUNDING * (np.abs(self._left) + np.abs(self._right))
        is_between = (self._left < self._right) & self._is_known & np.isfinite(chord)
        return np.where(is_between, chord, np.nan)

    @property
    def is_tight(self) -> bool:
        """Whether the bounds can hardly become smaller."""
        low = np.where(np.isfinite(self._left), self._left + self._left_rest / self._most, -np.inf)
        size = np.abs(np.where(np.isfinite(self.high), self.high, 0.0)).max(initial=0.0)
        return bool((self.high - low).max(initial=0.0) < _TIGHT * size)

    def next(self) -> Floats:
        """Return where to look next: a little below the bound known."""
        with np.errstate(all="ignore"):
            middle = np.sqrt(self._least * self._most)
            guess = np.where(np.isfinite(self._left), self._left + self._left_rest / middle, self._right
                             + self._right_rest / middle)  # fmt: skip
            chord = self._chord()
            nearer = np.minimum(chord - self._left, self._right - chord)
            guess = np.where(np.isnan(chord), guess, chord - 0.3 * np.maximum(nearer, 0.0))
        return np.nan_to_num(np.minimum(guess, self.high), nan=0.0, posinf=0.0, neginf=0.0)


__all__ = ["Quotients"]
