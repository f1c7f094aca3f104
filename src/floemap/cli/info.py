"""``floemap info``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from floemap.cli.app import command, stderr, stdout
from floemap.cli.out_option import out_option
from floemap.cli.terminal import json_text


@command("info")
def info(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="A Sentinel-1 product, an ice chart, a trained model, or the result of a command."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    layer: Annotated[
        str | None,
        typer.Option("--layer", help="Layer of a chart's file, or file of its archive, if there are several."),
    ] = None,
    crs: Annotated[
        str | None,
        typer.Option("--crs", help="CRS of a chart whose file has none, or one without a position on the earth."),
    ] = None,
    out: Annotated[
        Path | None,
        out_option("Also write info.json, and for a chart map.png, to this folder."),
    ] = None,
) -> None:
    """Describe a file or folder, and what is wrong with it.

    - Sentinel-1 product: time, footprint, sub-swaths, noise floor; prepared, also the grid and the noise that is left
      at seams and in stripes.

    - Ice chart: area by stage of development, and oddities.

    - AI4Arctic file: scene, ice service, official use, classes.

    - Trained model: training scenes, classes, pixel size.

    - Labels, predictions, draft charts, trainings, comparisons and reports, as folders or files in them: their record.

    - Settings: the command that reads them, and errors in them.

    - Another folder: the things of these kinds in it.

    Nothing is written without --out. The exit code is 1 if something is wrong with it.

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
