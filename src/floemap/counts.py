"""Numbers of things in words."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """Return a number of things in words, as in "1 chart" and "2 charts".

    `thing` is in the singular; where more than an s tells it from its plural, both: "polygon has|polygons have".
    """
    one, _, several = thing.partition("|")
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def millions(number: int) -> str:
    """Return a number in millions with two digits after the point, as in "4.04 M", and one below 100,000 as it is."""
    return f"{number:,}" if number < 100_000 else f"{number / 1e6:.2f} M"
