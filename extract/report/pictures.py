"""Pictures as inline SVG: agreement by length as stacked bars, margins by length as a line. No script, no network.

Colours are classes that the page's style gives meaning to, so that they follow light and dark; every bar has its
numbers as a title for those who cannot see it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from extract.report.report import LengthTally, number
from extract.report.screen import grouped

_HEIGHT, _LEFT, _BOTTOM = 84, 34, 14
#: A bar with its gap is so wide; with many lengths narrower, so that a picture fits a telephone.
_WIDEST_BAR, _WIDEST_PICTURE, _GAP = 17.0, 290.0, 0.18
#: Least distance of two labels.
_LABEL = 16.0
_MOST_BARS, _LEAST = 64, 2.0
_DOT = Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="2.5"><title>length {}: {:.3g}</title></circle>')


def agreement_picture(tallies: Sequence[LengthTally]) -> Markup:
    """Return one bar for each length: the shares of inputs that agree, differ, or are undecided."""
    lengths = _by_length(tallies)[:_MOST_BARS]
    if not lengths:
        return Markup("")
    bars, pitch = Markup(""), _pitch(len(lengths))
    for i, (length, agree, disagree, undecided, _) in enumerate(lengths):
        total = agree + disagree + undecided
        if not total:
            continue
        x, y = _LEFT + i * pitch, 0.0
        title = f"length {length}: {grouped(agree)} agree, {grouped(disagree)} differ, {grouped(undecided)} undecided"
        parts = Markup("")
        # A part that is there is seen, however few its inputs are.
        spare = _HEIGHT - _LEAST * sum(count > 0 for count in (agree, disagree, undecided))
        for kind, count in (("undecided", undecided), ("differ", disagree), ("agree", agree)):
            height = _LEAST + spare * (count / total) if count else 0.0
            if height:
                parts += Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
                    kind, x, y, pitch * (1 - _GAP), height
                )
            y += height
        bars += Markup("<g><title>{}</title>{}</g>").format(title, parts)
        bars += _label(i, length, len(lengths))
    axis = Markup('<text class="axis" x="{0}" y="9">all</text><text class="axis" x="{0}" y="{1}">0</text>').format(
        _LEFT - 6, _HEIGHT
    )
    return _picture(len(lengths), "inputs that agree, by length", bars + axis)


def margin_picture(tallies: Sequence[LengthTally]) -> Markup:
    """Return the least margin of each length in logits, on a logarithmic axis; nothing where none is known."""
    points = [(length, margin) for length, _, _, _, margin in _by_length(tallies) if margin is not None and margin > 0]
    points = points[:_MOST_BARS]
    if not points:
        return Markup("")
    high = math.ceil(math.log10(max(margin for _, margin in points)) + 1e-9)
    low = min(high - 1, math.floor(math.log10(min(margin for _, margin in points))))
    marks, path, pitch = Markup(""), [], _pitch(len(points))
    for i, (length, margin) in enumerate(points):
        x = _LEFT + (i + 0.5) * pitch
        y = _HEIGHT * (high - math.log10(margin)) / (high - low)
        path.append(f"{x:.1f},{y:.1f}")
        marks += _DOT.format(x, y, length, margin)
        marks += _label(i, length, len(points))
    line = Markup('<polyline class="line" points="{}"/>').format(" ".join(path))
    axis = Markup(
        '<text class="axis" x="{0}" y="9">{1:g}</text><text class="axis" x="{0}" y="{2}">{3:g}</text>'
    ).format(_LEFT - 6, 10.0**high, _HEIGHT, 10.0**low)
    return _picture(len(points), "least margin in logits, by length", line + marks + axis)


def _by_length(tallies: Sequence[LengthTally]) -> list[tuple[int, int, int, int, float | None]]:
    """Return length, agree, disagree, undecided and least margin, offsets added up."""
    found: dict[int, tuple[int, int, int, float | None]] = {}
    for tally in tallies:
        agree, disagree, undecided, margin = found.get(tally.length, (0, 0, 0, None))
        margins = [m for m in (margin, tally.min_margin) if m is not None]
        found[tally.length] = (
            agree + number(tally.agree),
            disagree + number(tally.disagree),
            undecided + number(tally.undecided),
            min(margins) if margins else None,
        )
    return [(length, *found[length]) for length in sorted(found)]


def _pitch(n: int) -> float:
    """Return the width of one of n bars with its gap."""
    return min(_WIDEST_BAR, _WIDEST_PICTURE / n)


def _label(i: int, length: int, n: int) -> Markup:
    pitch = _pitch(n)
    if i % next(step for step in (1, 2, 4, 5, 10) if step * pitch >= _LABEL):
        return Markup("")
    return Markup('<text class="axis middle" x="{:.1f}" y="{}">{}</text>').format(
        _LEFT + (i + 0.5) * pitch, _HEIGHT + _BOTTOM - 2, length
    )


def _picture(n: int, label: str, inside: Markup) -> Markup:
    width, height = math.ceil(_LEFT + n * _pitch(n)), _HEIGHT + _BOTTOM
    return Markup('<svg role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}">{}</svg>').format(
        label, width, height, width, height, inside
    )
