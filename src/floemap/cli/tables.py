"""Tables of scores on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from floemap.cli.app import stdout


def print_summary(summary: Mapping[str, Any]) -> None:
    """Print the tables of a summary, simulated scenes said in every title."""
    from rich.markup import escape
    from rich.table import Table

    from floemap.evaluation.tables import tables

    for table in tables(summary):
        shown = Table(title=escape(table.title), title_justify="left", header_style="bold")
        for i, name in enumerate(table.header):
            shown.add_column(escape(name), justify="left" if i == 0 else "right")
        for row in table.rows:
            shown.add_row(*map(escape, row))
        stdout.print(shown, highlight=False, soft_wrap=False)
        for note in table.notes:
            stdout.print(note, style="dim", highlight=False, markup=False, soft_wrap=False)
        stdout.print()
