"""``floemap route``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from floemap.cli.app import command, print_result, stderr, stdout
from floemap.cli.out_option import folder_named
from floemap.cli.terminal import json_text
from floemap.progress import Progress, silent


@command("route")
def route(
    chart: Annotated[
        Path,
        typer.Argument(
            metavar="CHART",
            help="Folder of `floemap chart` or `floemap publish`, or any ice chart: SIGRID-3 or S-411.",
        ),
    ],
    route: Annotated[
        Path,
        typer.Argument(
            metavar="ROUTE", help="The route: GeoJSON with a LineString or MultiLineString, RTZ (IEC 61174), or GPX."
        ),
    ],
    ice_class: Annotated[
        str,
        typer.Option(
            "--ice-class",
            metavar="CLASS",
            help="Ice class of the ship: PC1 to PC7, IA_super, IA, IB, IC, or none (not ice strengthened).",
        ),
    ],
    out: Annotated[
        Path,
        folder_named("of the route and the class"),
    ],
    legs: Annotated[
        Literal["rhumb", "great-circle"],
        typer.Option(
            "--legs",
            help="Lines between waypoints where the file does not give them: rhumb, of constant course, as chart"
            " systems draw and autopilots steer them, or great-circle, the shortest.",
        ),
    ] = "rhumb",
    layer: Annotated[str | None, typer.Option("--layer", help="Layer of the chart's file, if it has several.")] = None,
    crs: Annotated[
        str | None, typer.Option("--crs", help="CRS of a chart whose file has none, such as EPSG:3413.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document for programs, and nothing else.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make it again; also replace that of another route of the same name.")
    ] = False,
) -> None:
    """Assess the risk along a ship's route by POLARIS, leg by leg: advisory, not for navigation.

    POLARIS (IMO MSC.1/Circ.1519) gives each polygon of the chart a risk index outcome (RIO) for the ship's ice class,
    from the tenths of its ice types: 0 and more is normal operation, below is elevated risk or special consideration.

    DIR gets a folder ROUTE_CLASS with:

    - legs.csv: for each leg the nautical miles at each level of operation, on land and without a chart, the mean and
      the worst outcome with its spread, and where the worst is;

    - pieces.csv, route.geojson: the same for each piece of a leg in one polygon, and as lines for GIS;

    - route.png: the outcome along the distance with its spread, the levels, the legs, and the ice beneath;

    - route.txt: a summary in words, with the worst leg; route.json: everything, and how it was made.

    The spread is what the chart leaves open: rounded tenths, coarse types, unknown ice, and for drafts the model's
    second choice and its probabilities along the line: 5 % and 95 % quantile of the outcome, rio_p05 and rio_p95, and
    its mean, rio_expected. The outcome itself, rio, is that of the whole polygon by its tenths and may lie outside of
    the two quantiles. Unknown ice counts as the worst that it may be. Where there is no chart,
    nothing is known: such parts are named, and never count as open water.

        floemap route charts/S1A_... voyage.rtz --ice-class PC7 --out routes
    """
    from floemap.cli.bars import bar
    from floemap.routes.route import assess_route

    def work(progress: Progress) -> Any:
        options: dict[str, Any] = {"lines": legs, "layer": layer, "crs": crs, "overwrite": overwrite}
        return assess_route(chart, route, ice_class, out, progress=progress, **options)

    if as_json:
        done = work(silent)
        print(json_text({"folder": str(done.folder), "finished_before": done.skipped} | done.facts))  # noqa: T201
        return
    with bar(route.name) as progress:
        done = work(progress)
    print_result(done.folder, skipped=done.skipped)
    if done.facts.get("simulated"):
        stderr.print("SIMULATED", style="bold yellow")
    lines = (done.folder / "route.txt").read_text(encoding="utf-8").split("\n")
    stdout.print_lines("\n".join(line for line in lines if not line.startswith("Warning: ")))  # those are on stderr
