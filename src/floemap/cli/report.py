"""``floemap report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from floemap.cli.app import command, stdout
from floemap.cli.out_option import out_option


@command("report")
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `floemap compare` made.")],
    out: Annotated[
        Path | None,
        out_option("Folder of the report; only an earlier report is replaced. (default: report in RUN)"),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of the confidence intervals: the same seed gives the same numbers.")
    ] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make the report again, even if nothing that it is made of has changed.")
    ] = False,
) -> None:
    """Report which loss makes charts one can trust: maps, physical checks, risk, and confidence intervals.

    DIR gets:

    - report.html: everything in one file, which needs no network and prints well;

    - figures/: each figure as PNG and SVG;

    - numbers.json and tables/: every number, as JSON and CSV.

    Physical checks that RUN lacks are made and kept in RUN. A report of the same files and settings is kept; another
    one is replaced when the new one is finished.

        floemap report demo/small
    """
    from floemap.cli.bars import bar
    from floemap.report.report import make_report

    with bar("report") as progress:
        made = make_report(run, out, seed=seed, overwrite=overwrite, progress=progress)
    for sentence in made.findings:
        stdout.print(f"- {sentence}", soft_wrap=False)
    stdout.print(f"report  {made.page}")
    if made.simulated:
        stdout.print("Scenes and charts are simulated and say nothing about real ice.")
