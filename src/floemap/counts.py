"""Numbers of things in words."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """Return a number of things in words, as in "1 chart" and "2 charts"; `thing` is in the singular."""
    return f"{number:,} {thing if number == 1 else f'{thing}s'}"
