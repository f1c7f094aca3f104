"""``floemap label``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from floemap.cli.app import command, print_result, stderr, stdout
from floemap.cli.settings_options import FromOptions
from floemap.icechart.label.settings import LabelSettings
from floemap.legend import LEGENDS


@command("label")
def label(
    chart: Annotated[
        Path,
        typer.Argument(
            metavar="CHART",
            help="Ice chart in SIGRID-3: shapefile (.shp), GeoPackage, GeoJSON, or an archive of one of these.",
        ),
    ],
    like: Annotated[
        Path,
        typer.Option("--like", metavar="PRODUCT", help="Prepared product, or any raster: use its grid and mask."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder that gets a folder of the chart's name.")],
    settings: Annotated[
        LabelSettings,
        FromOptions(
            {
                "legend": f"--legend NAME|FILE: One of the legends {', '.join(LEGENDS)}, or a TOML file with your "
                "own legend.",
                "unmapped": "--unmapped",
                "without_parts": "--without-parts",
                "fractions": "--fractions/--no-fractions",
                "border_distance": "--border-distance/--no-border-distance",
                "layer": "--layer",
                "crs": "--crs",
            }
        ),
    ],
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Make a finished result again; also replace one of another chart or grid."),
    ] = False,
) -> None:
    """Rasterise an ice chart's classes on the grid of a product.

    DIR gets a folder of the chart's name with:

    - labels.tif: the class of each pixel's dominant ice type, 255 where there is none (a cloud-optimised GeoTIFF);

    - polygons.tif and polygons.csv: the id of each pixel's polygon, and for each id the chart's codes, the share of
      each class, the dominant class and the area;

    - border_distance.tif: distance to the nearest polygon border in pixels;

    - fractions.tif, with --fractions: the share of each class in the polygon;

    - label.json: how it was made, pixels by class, the rule that decided each polygon, oddities.

    A finished result is skipped.

        floemap label seaice_s1_20180116t075430.shp --like prepared/S1A_.../product.tif --out labels
    """
    from rich.table import Table

    from floemap.cli.bars import bar
    from floemap.icechart.label.label import label_chart, notes_of
    from floemap.results.stage import as_written, read_json

    with bar(chart.name) as progress:
        result = label_chart(chart, like, out, settings, overwrite=overwrite, progress=progress)
    record = read_json(result.record)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    with as_written(result.record, "floemap label"):
        total = sum(record["pixels"].values())
        for name, count in record["pixels"].items():
            table.add_row(name.replace("_", " "), f"{100 * count / total:.2f} %")
        simulated = record["simulated"] or record["chart"].get("simulated")
        notes = notes_of(record) if result.skipped else []  # they were logged when it was made
    print_result(result.folder, skipped=result.skipped)
    stdout.print(table, soft_wrap=False)
    if simulated:
        stdout.print("SIMULATED")
    for note in notes:
        stderr.print(f"{chart}: {note}", style="yellow")
