"""``floemap label``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from floemap.cli.app import command, print_result, stderr, stdout
from floemap.cli.out_option import folder_named
from floemap.cli.settings_options import FromOptions
from floemap.errors import ConfigError
from floemap.icechart.label.settings import LabelSettings
from floemap.legend import LEGENDS
from floemap.progress import Progress

if TYPE_CHECKING:
    from floemap.icechart.label.label import LabelledChart


@command("label")
def label(
    chart: Annotated[
        Path,
        typer.Argument(
            metavar="CHART",
            help="Ice chart in SIGRID-3: shapefile (.shp), GeoPackage, GeoJSON, or S-411 (.gml), or an archive of one. "
            "Also a file of AI4Arctic (.nc).",
        ),
    ],
    like: Annotated[
        Path,
        typer.Option("--like", metavar="PRODUCT", help="Prepared product, or any raster: use its grid and mask."),
    ],
    out: Annotated[Path, folder_named("of the chart")],
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
    rule: Annotated[
        Literal["starter", "correct"],
        typer.Option(
            "--rule",
            help="For raw files of AI4Arctic: add parts of equal types as the published charts do, or all of them.",
        ),
    ] = "starter",
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

    A file of AI4Arctic has the legend ai4arctic, and takes --rule and no other option on classes. --like is the product
    that `floemap prepare` made of the scene.

    A finished result is skipped.

        floemap label seaice_s1_20180116t075430.shp --like prepared/S1A_.../product.tif --out labels
    """
    from rich.table import Table

    from floemap.cli.bars import bar
    from floemap.icechart.label.label import notes_of
    from floemap.results.stage import as_written, read_json

    with bar(chart.name) as progress:
        result = _labelled(chart, like, out, settings, rule, overwrite=overwrite, progress=progress)
    record = read_json(result.record)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    with as_written(result.record, "floemap label"):
        if chart.suffix == ".nc" and record["configuration"]["rule"] != rule:
            stderr.print(f"{chart}: the rule of its chart is {record['configuration']['rule']}", style="yellow")
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


def _labelled(
    chart: Path,
    like: Path,
    out: Path,
    settings: LabelSettings,
    rule: Literal["starter", "correct"],
    *,
    overwrite: bool,
    progress: Progress,
) -> LabelledChart:
    if chart.suffix == ".nc":
        from floemap.datasets.ai4arctic.prepare import label_scene

        given = settings.model_dump(exclude_defaults=True)
        if other := [name for name in given if (name, given[name]) != ("legend", "ai4arctic")]:
            hint = "The file's chart has the legend ai4arctic, and its own rule."
            raise ConfigError(f"{chart.name} is a file of AI4Arctic, which takes no {' or '.join(other)}.", hint=hint)
        return label_scene(chart, like, out, rule=rule, overwrite=overwrite, progress=progress)
    from floemap.icechart.label.label import label_chart

    if rule != "starter":
        raise ConfigError("--rule is for files of AI4Arctic.", hint="Other charts take --without-parts and --unmapped.")
    return label_chart(chart, like, out, settings, overwrite=overwrite, progress=progress)
