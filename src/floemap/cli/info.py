"""``floemap info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from floemap.cli.app import command, stderr, stdout


@command("info")
def info(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A Sentinel-1 product or a prepared one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the JSON to this file.")] = None,
) -> None:
    """Say what something is, and what is wrong with it.

    Nothing is written but with --out. The exit code is 1 where something is wrong with it.

        floemap info S1A_EW_GRDM_1SDH_20180116T075430_20180116T075530_020177_0226B9_9FE3.zip
    """
    from rich.table import Table

    from floemap.info import describe
    from floemap.stage import write_json

    description = describe(path)
    if out is not None:
        write_json(out, description.facts)
    if as_json:
        print(json.dumps(description.facts, indent=2, default=str))  # noqa: T201  plain, for pipes
    else:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, words in description.lines:
            table.add_row(name, words)
        stdout.print(table, highlight=False, soft_wrap=False)
    for problem in description.problems:
        stderr.print(f"problem: {problem}", style="bold red", highlight=False, markup=False)
    if description.problems:
        raise typer.Exit(1)
