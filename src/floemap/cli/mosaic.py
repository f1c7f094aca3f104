"""``floemap mosaic``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from floemap.cli.app import command, print_result
from floemap.cli.out_option import folder_named


@command("mosaic")
def mosaic(
    charts: Annotated[
        list[Path],
        typer.Argument(metavar="CHART", help="Folders of `floemap chart`, or their grid.nc, of one legend and grid."),
    ],
    out: Annotated[Path, folder_named("of the mosaic")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the mosaic.")] = "mosaic",
    prefer: Annotated[
        Literal["newest", "certain"],
        typer.Option(
            "--prefer",
            help="Where scenes overlap, take the newest, or the one whose classes are the most certain.",
        ),
    ] = "newest",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make a finished mosaic again; also replace one of other charts.")
    ] = False,
) -> None:
    """Put the concentrations of several draft charts together on their common polar grid.

    DIR gets a folder of the mosaic's name with:

    - mosaic.nc: total concentration, concentration of each ice type, confidence and coverage, scene and time of each
      cell (CF NetCDF);

    - mosaic.json: how it was made, and how many cells each scene gives.

    Each cell has the values of one scene. A finished mosaic is skipped.

        floemap mosaic charts/S1A_* --out mosaics --name week_03 --prefer newest
    """
    from floemap.inference.draftchart.mosaic import make_mosaic

    made = make_mosaic(charts, out, name=name, prefer=prefer, overwrite=overwrite)
    print_result(made.folder, skipped=made.skipped)
