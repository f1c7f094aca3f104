"""Small diagrams in the rows of tables: each contender's number with its interval and repeats, on one scale.

Vertical lines are the charts' own number (dashed) and the truth's (solid), if they are near enough to be shown.
"""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from floemap.report.figures.style import HAIR, INK, PALE_INK, Mark
from floemap.report.measures import Row

_WIDTH, _LINE, _EDGE = 176, 13, 7


def strip_of(row: Row, look: Mapping[str, Mark]) -> Markup:
    """Return the diagram as SVG for the page, which shows the numbers beside it. Empty if there is nothing to show."""
    known = {k: s for k, s in row.spreads.items() if s.value is not None}
    numbers = [v for s in known.values() for v in (s.value, s.low, s.high, *s.points) if v is not None]
    if not numbers:
        return Markup("")
    # Distant anchors would compress the scale: only anchors within one more range of the numbers are shown.
    beside = max(numbers) - min(numbers) or abs(max(numbers)) or 1.0
    anchors = [
        (v, dashes)
        for v, dashes in ((row.chart, "2 2"), (row.truth, ""))
        if v is not None and min(numbers) - beside <= v <= max(numbers) + beside
    ]
    numbers += [v for v, _ in anchors]
    low, high = min(numbers), max(numbers)
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return round(_EDGE + (value - low) / span * (_WIDTH - 2 * _EDGE), 1)

    height = _LINE * len(row.spreads) + 4
    parts = [_line(x(v), 0, x(v), height, PALE_INK, 1.2, dashes) for v, dashes in anchors]
    for i, (key, s) in enumerate(row.spreads.items()):
        y = 2 + _LINE * (i + 0.5)
        parts.append(_line(_EDGE, y, _WIDTH - _EDGE, y, HAIR, 0.7))
        if s.value is None:
            continue
        if s.low is not None and s.high is not None:
            parts.append(_line(x(s.low), y, x(s.high), y, look[key].colour, 2.4))
        if len(s.points) > 1:
            parts += [_line(x(p), y - 3.6, x(p), y + 3.6, INK, 0.9) for p in s.points if p is not None]
        parts.append(f'<g transform="translate({x(s.value)} {y})">{mark_shape(look[key])}</g>')
    content = "".join(parts)
    return Markup(  # contains only numbers and fixed words, so nothing needs escaping
        f'<svg width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}" aria-hidden="true">{content}</svg>'
    )


def mark_shape(mark: Mark) -> Markup:
    """Return a contender's mark as SVG, centred on 0, 0 and some 9 pixels wide."""
    shape = {
        "o": '<circle r="4.3"/>',
        "s": '<rect x="-3.9" y="-3.9" width="7.8" height="7.8"/>',
        "^": '<path d="M0-4.8 4.7 3.7H-4.7Z"/>',
        "D": '<path d="M0-5.2 5.2 0 0 5.2-5.2 0Z"/>',
        "v": '<path d="M0 4.8 4.7-3.7H-4.7Z"/>',
        "P": '<path d="M-1.7-4.8h3.4v3.1h3.1v3.4h-3.1v3.1h-3.4v-3.1h-3.1v-3.4h3.1Z"/>',
    }[mark.marker]
    return Markup(f'<g fill="{mark.colour}" stroke="#fff" stroke-width=".8">{shape}</g>')


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<path d="M{x1} {y1}L{x2} {y2}" stroke="{colour}" stroke-width="{width}"{dashed} fill="none"/>'
