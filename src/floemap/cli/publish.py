"""``floemap publish``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from floemap.cli.app import command, print_result, stderr
from floemap.cli.many import chart_document, describe_made
from floemap.cli.out_option import folder_named
from floemap.cli.settings_options import FromOptions
from floemap.cli.terminal import json_text
from floemap.publishing.settings import PublishSettings


@command("publish")
def publish(
    chart: Annotated[
        Path,
        typer.Argument(
            metavar="CHART",
            help="Draft chart or its correction: GeoPackage, SIGRID-3 shapefile (.shp), GeoJSON, or an archive of one.",
        ),
    ],
    out: Annotated[
        Path,
        folder_named("that the standard gives the chart"),
    ],
    analyst: Annotated[
        str, typer.Option("--analyst", metavar="NAME", help="Analyst who is responsible for the chart.")
    ],
    settings: Annotated[
        PublishSettings,
        FromOptions(
            {
                "valid": "--valid TIME",
                "service": "--service NAME",
                "region": "--region NAME",
                "issue": "--issue LETTER",
                "contact": "--contact TEXT",
                "s411_axes": "--s411-axes",
                "s411_lake": "--s411-lake/--no-s411-lake",
                "page": "--page pdf|jpeg",
                "repair": "--repair/--no-repair",
                "sliver_m": "--sliver METRES",
                "minutes": "--minutes MINUTES",
                "layer": "--layer",
                "crs": "--crs",
            },
            config=True,
        ),
    ],
    draft: Annotated[
        Path | None,
        typer.Option(
            "--draft",
            metavar="DRAFT",
            help="Draft that was corrected: a file, or the folder of `floemap chart`."
            " (default: looked for beside the chart)",
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON document for programs: what was published, or all problems."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Publish again, and replace another publication of the same name.")
    ] = False,
) -> None:
    """Check a corrected chart, and publish it in every format.

    The polygons must cover the footprint of the draft without gaps and overlaps, and their eggs must be right: codes of
    SIGRID-3, types from the thickest to the thinnest, partial concentrations that sum to the total. Each problem is
    listed with its polygon and its place, and the exit code is then 1. --repair repairs what loses nothing.

    DIR gets a folder with the chart's standard name, such as dmi_EastGreenland_20180116T0754Z_pl_a, with:

    - NAME.gpkg with its style NAME.qml, NAME.geojson, NAME.zip: polygons; the zip is SIGRID-3 with its metadata;

    - S411_SERVICE_REGION-TIME: an exchange set of S-411 for electronic chart systems;

    - NAME.pdf or NAME.jpg: a page of less than 100 kB for ships;

    - changes.html, changes.json: what was changed in the draft, if it is known;

    - publication.json: how it was made, areas by type, what was repaired.

    CHART is only read. A publication is not replaced: the next one has another --issue.

        floemap publish charts/S1A_.../chart.gpkg --out published --analyst "A. Analyst" --repair
    """
    from floemap.cli.bars import bar
    from floemap.publishing.problems import ProblemsError
    from floemap.publishing.publish import publish_chart

    try:
        with bar(chart.name) as progress:
            done = publish_chart(chart, out, analyst, settings, draft=draft, overwrite=overwrite, progress=progress)
    except ProblemsError as e:
        if as_json:
            print(json_text({"published": False, "problems": [p.facts() for p in e.problems]}))  # noqa: T201
        for problem in e.problems:
            stderr.print(f"{'repairable' if problem.safe else 'problem'}: {problem.in_words()}", style="yellow")
        raise e.in_short() from None
    if as_json:
        print(json_text({"published": True} | chart_document(done.folder, skipped=done.skipped)))  # noqa: T201
        return
    print_result(done.folder, skipped=done.skipped)
    describe_made(done.folder)
