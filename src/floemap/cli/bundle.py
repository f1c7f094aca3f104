"""``floemap bundle``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from floemap.bundle.settings import BundleSettings
from floemap.cli.app import command, print_result
from floemap.cli.many import describe_made
from floemap.cli.out_option import folder_named
from floemap.cli.settings_options import FromOptions


@command("bundle")
def bundle(
    chart: Annotated[
        Path,
        typer.Argument(
            metavar="CHART",
            help="Folder of `floemap chart` or of `floemap publish`, or a chart: GeoPackage, SIGRID-3 (.shp), GeoJSON, "
            "S-411, or an archive of one.",
        ),
    ],
    out: Annotated[Path, folder_named("of the bundle")],
    settings: Annotated[
        BundleSettings,
        FromOptions(
            {
                "area": "--area AREA",
                "max": "--max SIZE",
                "only": "--only PARTS,...",
                "valid": "--valid TIME",
                "s411_axes": "--s411-axes",
                "s411_lake": "--s411-lake/--no-s411-lake",
                "layer": "--layer",
                "crs": "--crs",
            },
            config=True,
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name of the bundle. (default: made of time and place)"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make a finished bundle again; also replace one of another chart.")
    ] = False,
) -> None:
    """Make a bundle for a ship: a part of a chart in one zip of at most the size asked for.

    The chart is cropped to the area, and simplified as far as the size demands: small polygons join a neighbour,
    borders get fewer vertices, common borders stay common. What that changed is measured and written into the bundle.
    If not even the simplest fits, nothing is written, and the error has the smallest size and the parts that would fit.

    DIR gets a folder with NAME.zip, the file to send, and beside it, to look at, what is in the zip:

    - NAME.txt: status, ice by sector and the ice edge as positions, in plain ASCII for e-mail;

    - NAME.png: a map in WMO colours with its legend;

    - NAME.geojson or NAME.kml: polygons for map viewers (--only geojson, --only kml);

    - S411_....zip: an exchange set of S-411 for electronic chart systems;

    - about.json: how far the simplification moved the ice edge, areas by type before and after.

    A bundle is not for navigation. Each part says so, with its time, its source, and its status.

        floemap bundle published/dmi_... --area 77-30N,12-15W,60nm --max 100kB --out for_ship

        floemap bundle charts/S1A_... --area=-25,76,-5,80 --max 30kB --only picture --out for_ship

        floemap bundle chart.gpkg --valid 2018-01-16T07:54Z --area area.geojson --out for_ship
    """
    from floemap.bundle.bundle import make_bundle
    from floemap.cli.bars import bar

    with bar(chart.name) as progress:
        done = make_bundle(chart, out, settings, name=name, overwrite=overwrite, progress=progress)
    print_result(done.folder, skipped=done.skipped)
    describe_made(done.folder)
