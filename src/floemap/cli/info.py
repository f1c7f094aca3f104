"""``floemap info``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from floemap.cli.app import command, stderr, stdout
from floemap.cli.terminal import json_text


@command("info")
def info(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="A Sentinel-1 product, an ice chart, a trained model, or what a command has made."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    layer: Annotated[
        str | None,
        typer.Option("--layer", help="Of a chart: layer of the file, or file of the archive, where there are several."),
    ] = None,
    crs: Annotated[
        str | None,
        typer.Option("--crs", help="Of a chart, where its file says none, or one that tells no place on the earth."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Also write info.json here, and for a chart map.png.")
    ] = None,
) -> None:
    """Say what something is, and what is wrong with it.

    Of a Sentinel-1 product: time, place, sub-swaths, noise floor. Of a prepared one: grid, and the noise that is left
    at seams and in stripes. Of a chart: area by stage of development, and what is odd in it. Of a model: what it learnt
    from, which classes and which pixel size. Of labels, predictions, draft charts, trainings, comparisons and reports,
    folders or files in them: what their record says. Of settings: which command takes them, and what is wrong in them.
    Of a folder of such things: which.

    Nothing is written but with --out. The exit code is 1 where something is wrong with it.

        floemap info S1A_EW_GRDM_1SDH_20180116T075430_20180116T075530_020177_0226B9_9FE3.zip

        floemap info seaice_s1_20180116t075430.shp --out about
    """
    from floemap.info import describe, write_description

    description = describe(path, layer=layer, crs=crs)
    if out is not None:
        write_description(description, out)
    if as_json:
        print(json_text(description.facts))  # noqa: T201  plain, for pipes
    else:
        stdout.print_facts(description.lines)
    for problem in description.problems:
        stderr.print(f"problem: {problem}", style="bold red")
    if description.problems:
        raise typer.Exit(1)
