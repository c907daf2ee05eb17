"""Selectors that are never spelled out: the left part, the right part or all of the input, with a filter on the keys.

Aggregates over them are cumulative sums and running extremes, so they take memory and time per cell, not per pair.
Everything here is arrays; it knows no terms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from extract.lang.operators import MEAN_SCALE

Bools = NDArray[np.bool_]
Ints = NDArray[np.int32]
Side = Literal["before", "upto", "after", "everywhere"]

_LARGEST = np.int32(np.iinfo(np.int32).max)
_SMALLEST = np.int32(np.iinfo(np.int32).min + 1)


@dataclass(frozen=True, slots=True)
class Window:
    """Keys on one side of each query, where ``keys`` holds. Shape: ``keys`` [input, key]; False beyond each length."""

    side: Side
    keys: Bools

    def spelled_out(self) -> Bools:
        """Return the selector itself. Shape: [input, query, key], one query for ``everywhere``."""
        if self.side == "everywhere":
            return self.keys[:, None, :]
        index = np.arange(self.keys.shape[1], dtype=np.int32)
        keys, queries = index[None, :], index[:, None]
        sides = {"before": keys < queries, "upto": keys <= queries, "after": keys > queries}
        return np.asarray(sides[self.side][None] & self.keys[:, None, :])

    def meet(self, other: Window) -> Window | None:
        """Return the window of the keys in both, or None if it is none."""
        sides = {self.side, other.side} - {"everywhere"}
        if len(sides) > 1 and sides != {"before", "upto"}:
            return None
        side: Side = "everywhere" if not sides else "before" if "before" in sides else sides.pop()
        return Window(side, self.keys & other.keys)


def _total(values: NDArray[Any]) -> Ints:
    return np.asarray(values.sum(axis=1, dtype=np.int32, keepdims=True))


def _running_sum(window: Window, values: NDArray[Any]) -> Ints:
    """Sum what lies on the window's side of each query; ``values`` are 0 at keys left out."""
    if window.side == "everywhere":
        return _total(values)
    upto = np.cumsum(values, axis=1, dtype=np.int32)
    if window.side == "upto":
        return upto
    return upto - values if window.side == "before" else upto[:, -1:] - upto


def _running_extreme(window: Window, values: Ints, extreme: np.ufunc, neutral: np.int32) -> Ints:
    """Accumulate a minimum or maximum on the window's side of each query; left-out keys hold ``neutral``."""
    if window.side == "everywhere":
        return np.asarray(extreme.reduce(values, axis=1, keepdims=True))
    if window.side == "upto":
        return np.asarray(extreme.accumulate(values, axis=1))
    edge = np.full((len(values), 1), neutral, dtype=np.int32)
    if window.side == "before":
        return np.concatenate([edge, extreme.accumulate(values[:, :-1], axis=1)], axis=1)
    reversed_tail = extreme.accumulate(values[:, :0:-1], axis=1)
    return np.concatenate([reversed_tail[:, ::-1], edge], axis=1)


def window_width(window: Window) -> Ints:
    """Return how many keys each query picks. Shape: [input, query]."""
    return _running_sum(window, window.keys)


def _sum_over(window: Window, values: Ints) -> Ints:
    return _running_sum(window, np.where(window.keys, values, 0))


def _mean(window: Window, values: Ints) -> Ints:
    return exact_mean(_sum_over(window, values), window_width(window))


def exact_mean(sums: NDArray[Any], widths: NDArray[Any]) -> Ints:
    """Return means in units of 1/720720 rounded down, 0 where nothing was picked."""
    scaled = sums.astype(np.int64) * MEAN_SCALE // np.maximum(widths, 1)
    return np.where(widths > 0, scaled, 0).astype(np.int32)


def exact_mean_of(total: int, width: int) -> int:
    """Return one mean in units of 1/720720 rounded down, 0 where nothing was picked."""
    return MEAN_SCALE * total // width if width else 0


def _extreme(window: Window, values: Ints, default: Ints, extreme: np.ufunc, neutral: np.int32) -> Ints:
    masked = np.where(window.keys, values, neutral)
    found = _running_extreme(window, masked, extreme, neutral)
    return np.where(found == neutral, default, found)


def _picked(window: Window, values: Ints, default: Ints, *, last: bool) -> Ints:
    index = np.arange(values.shape[1], dtype=np.int32)[None, :]
    extreme, neutral = (np.maximum, np.int32(-1)) if last else (np.minimum, _LARGEST)
    where = _running_extreme(window, np.where(window.keys, index, neutral), extreme, neutral)
    missing = where == neutral
    found = np.take_along_axis(values, np.where(missing, 0, where).astype(np.intp), axis=1)
    return np.where(missing, default, found)


def aggregate_window(name: str, window: Window, values: Ints, default: Ints) -> NDArray[Any]:
    """Return an aggregate over a window.

    Shape:   ``values`` [input, key], ``default`` [input, query] or broadcast to it; the result [input, query].
    """
    if name == "exists":
        return np.asarray(window_width(window) > 0)
    if name == "selector_width":
        return window_width(window)
    if name in ("min_over", "max_over"):
        extreme, neutral = (np.minimum, _LARGEST) if name == "min_over" else (np.maximum, _SMALLEST)
        return _extreme(window, values, default, extreme, neutral)
    if name in ("first", "last"):
        return _picked(window, values, default, last=name == "last")
    plain: dict[str, Callable[[Window, Ints], Ints]] = {"sum_over": _sum_over, "mean": _mean}
    return plain[name](window, values)


def aggregate(name: str, selector: Bools, values: NDArray[Any], default: int | NDArray[Any] = 0) -> NDArray[Any]:
    """Return an aggregate over selectors that are spelled out; any leading axes broadcast.

    Shape:   ``selector`` [..., query, key], ``values`` [..., key] (ignored by ``exists`` and ``selector_width``),
             ``default`` a number or [..., query]; the result [..., query].
    Assumes: the selector is False at keys beyond the input's length.
    """
    if name == "exists":
        return np.asarray(selector.any(axis=-1))
    if name == "selector_width":
        return np.asarray(selector.sum(axis=-1, dtype=np.int32))
    keyed = np.asarray(values)[..., None, :]
    if name in ("sum_over", "mean"):
        sums = np.where(selector, keyed, 0).sum(axis=-1, dtype=np.int32)
        return sums if name == "sum_over" else exact_mean(sums, selector.sum(axis=-1, dtype=np.int32))
    if name == "min_over":
        found = np.where(selector, keyed, _LARGEST).min(axis=-1, initial=_LARGEST)
    elif name == "max_over":
        found = np.where(selector, keyed, _SMALLEST).max(axis=-1, initial=_SMALLEST)
    else:
        keys = selector[..., ::-1] if name == "last" else selector
        index = keys.argmax(axis=-1)[..., None]
        index = selector.shape[-1] - 1 - index if name == "last" else index
        spread = np.broadcast_to(keyed, np.broadcast_shapes(selector.shape, keyed.shape))
        index = np.broadcast_to(index, (*spread.shape[:-1], 1))
        found = np.take_along_axis(spread, index, axis=-1)[..., 0]
    return np.where(selector.any(axis=-1), found, np.asarray(default, dtype=np.int32))
