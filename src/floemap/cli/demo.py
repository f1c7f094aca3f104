"""``floemap demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from floemap.cli.app import command, stdout
from floemap.cli.out_option import OutForAll


@command("demo", resumes=True)
def demo(
    out: OutForAll = Path("demo"),
    size: Annotated[
        Literal["small", "smallest"], typer.Option("--size", help="Size of the scenes; smallest is for a quick check.")
    ] = "small",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the simulation: another seed gives another ice.")] = 0,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Train again, even if finished, or begun by another version of floemap."),
    ] = False,
) -> None:
    """Run all steps on simulated scenes: no download, no account, a few minutes.

    Simulates a year of Sentinel-1 products and ice charts off East Greenland, prepares and labels them, trains the same
    model with three losses, predicts January and July, scores the predictions against charts and truth, and ends with a
    report. Finished parts are kept; an interrupted run is resumed.

        floemap demo --out demo
    """
    from floemap.cli.bars import bar
    from floemap.cli.tables import print_summary
    from floemap.demo import run_demo

    with bar("demo") as progress:
        made = run_demo(out, size, seed=seed, overwrite=overwrite, progress=progress)
    print_summary(made.summary, whole=False)
    for sentence in made.findings:
        stdout.print(f"- {sentence}", soft_wrap=False)
    stdout.print(f"results  {made.folder / 'results.json'}")
    stdout.print(f"report   {made.report}")
    stdout.print("All of it is simulated and says nothing about real ice.")
