"""A table of text, and tables as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Stands for a number that is not there.
NONE = "–"


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes
    ----------
    title
        The title, with the word "SIMULATED" where a scene is simulated.
    header, rows
        The cells; all rows are as long as the header.
    notes
        Sentences that are shown below the table.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def in_markdown(title: str, note: str, tables: Sequence[Table]) -> str:
    """Return tables as Markdown below a title and a note; notes of tables that are the same are not repeated."""
    parts = [f"# {title}", _plain(note)]
    for table in tables:
        lines = [_line(table.header), _line(["---"] * len(table.header)), *map(_line, table.rows)]
        notes = [_plain(n) for n in table.notes if n != note]  # which is at the top already
        parts += [f"## {table.title}", "\n".join(lines), *notes]
    return "\n\n".join(parts) + "\n"


def _plain(text: str) -> str:
    return " ".join(text.split())


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_plain(c).replace("|", "\\|") for c in cells) + " |"
