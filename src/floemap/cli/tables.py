"""Tables of scores on the terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from floemap.cli.app import stdout
from floemap.cli.terminal import printable

if TYPE_CHECKING:
    from floemap.evaluation.scoring.table import Table
    from floemap.study.dry_run import DryRun

#: Characters of a line of a column's header: four such columns fit into a terminal.
_HEADER_WIDTH = 18
#: A mean of one value, whose minimum and maximum are the same.
_ALONE = re.compile(r"(-?\d\.\d+) \(\1, \1\)")


def print_summary(summary: Mapping[str, Any], *, whole: bool = True) -> None:
    """Print the tables of a summary; if not `whole`, only the losses and what is missing. Titles say "simulated"."""
    from floemap.evaluation.scoring.tables import tables

    made = tables(summary)
    for table in made if whole else [made[0], *(t for t in made[1:] if t.title.startswith("Missing"))]:
        _print(table)


def print_scores(evaluation: Mapping[str, Any], scene: str) -> None:
    """Print the scores of one class map: no loss, no repeats, one scene."""
    from floemap.evaluation.scoring.tables import tables
    from floemap.evaluation.statistics.summary import summarise

    one = {"loss": "", "repeat": 0, "scene": scene, "evaluation": evaluation}
    summary = summarise([one])
    for table in tables(summary)[1:]:  # the first compares losses
        kept = [i for i, name in enumerate(table.header) if name not in ("loss", "model")]
        rows = tuple(tuple(row[i] for i in kept) for row in table.rows)
        notes = tuple(n for n in table.notes if "repeats" not in n)
        _print(replace(table, header=tuple(table.header[i] for i in kept), rows=rows, notes=notes))
    stdout.print(summary["note"], style="dim", soft_wrap=False)


def print_dry_run(found: DryRun) -> None:
    """Print the trainings of a comparison with the time and disk space that they need."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table as RichTable

    shown = RichTable(title="Trainings", title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for name in ("cell", "steps of an epoch", "seconds of a step", "minutes of an epoch", "epochs at most"):
        shown.add_column(name, justify="left" if name == "cell" else "right", no_wrap=name == "cell")
    for cell in found.cells:
        name = cell.name
        numbers = (f"{found.steps[name]}", f"{found.step_s[name]:.2f}", f"{found.epoch_s(name) / 60:.1f}")
        shown.add_row(escape(name), *numbers, f"{found.epochs[name]}")
    stdout.print(shown, highlight=False, soft_wrap=False)
    uses = {role: [p for p, r in found.roles.items() if r == role] for role in ("train", "validation", "test")}
    lines = [
        f"scenes     {len(found.scenes)}, {found.mpx:,.0f} million pixels",
        *(f"{role:<10} {', '.join(parts)}" for role, parts in uses.items()),
        f"computing  {found.precision} on {found.device}",
        f"training   {found.hours_at_most:,.1f} h at most, one after the other, without validation and prediction",
        f"disk       some {found.disk_gb:,.1f} GB",
    ]
    for line in lines:
        stdout.print(line, highlight=False, markup=False)


def _print(table: Table) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    # A terminal is narrow: a column that is the same in every row is left out, and a spread goes below its mean.
    kept = [
        i
        for i, name in enumerate(table.header)
        if not name.startswith("means of repeats")
        and not (name == "cells" and all("*" not in r[i] for r in table.rows))
    ]
    shown = RichTable(
        title=table.title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for i in kept:
        name = printable(table.header[i]).replace(": mean (min, max)", "\n(min, max)").replace(" on real", " on\nreal")
        name = "\n".join(line for part in name.split("\n") for line in wrap(part, _HEADER_WIDTH))
        shown.add_column(Text(name), justify="left" if i == 0 else "right", no_wrap=i == 0 or len(kept) < 6)
    for row in table.rows:
        shown.add_row(*(Text(_ALONE.sub(r"\1", printable(row[i])).replace(" (", "\n(")) for i in kept))
    stdout.print(shown, soft_wrap=False)
    for note in table.notes:
        stdout.print(note, style="dim", soft_wrap=False)
    stdout.print()
