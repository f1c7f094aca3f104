"""``floemap report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from floemap.cli.app import command, stdout


@command("report")
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `floemap compare` made.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder of the report, which takes the place of nothing but a report. (default: report in RUN)",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the intervals: the same seed, the same numbers.")] = 0,
) -> None:
    """Say which loss makes charts one can trust: a page with maps, physical checks, risk, and how sure all of it is.

    DIR gets:

    - report.html: everything in one file, which needs no network and prints well;

    - figures/: each figure as PNG and SVG;

    - numbers.json and tables/: every number, as JSON and CSV.

    Physical checks that RUN lacks are made and kept there. The report is made anew each time; one that stood there
    before is replaced when the new one is whole.

        floemap report demo/small
    """
    from floemap.cli.bars import bar
    from floemap.report.report import make_report

    with bar("report") as progress:
        made = make_report(run, out, seed=seed, progress=progress)
    for sentence in made.findings:
        stdout.print(f"- {sentence}", soft_wrap=False)
    stdout.print(f"report  {made.page}")
    if made.simulated:
        stdout.print("Scenes and charts are simulated: nothing here says anything about real ice.")
