"""``floemap chart``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import typer

from floemap.cli.app import command
from floemap.cli.many import AsJson, run_each
from floemap.cli.out_option import OutForEach
from floemap.cli.predict import Device, Engine, Precision
from floemap.cli.settings_options import FromOptions
from floemap.inference.draftchart.settings import OUTPUTS, ChartSettings

#: Options of all commands that make charts.
Model = Annotated[
    list[Path] | None,
    typer.Option(
        "--model",
        metavar="CHECKPOINT",
        help="A trained model, .safetensors. Give the option several times to average models' probabilities."
        " (default: the one that comes with floemap, trained on simulated scenes only, unfit for use)",
    ),
]
ChartOptions = Annotated[
    ChartSettings,
    FromOptions(
        {
            "only": f"--only WHAT,...: Write only these of {', '.join(OUTPUTS)}. (default: all)",
            "min_area_km2": "--min-area KM2",
            "tolerance_m": "--tolerance METRES",
            "smoothing_m": "--smooth METRES",
            "polygons": "--polygons types|mixtures",
            "eggs": "--eggs/--no-eggs",
            "cell_m": "--cell METRES",
            "ice_class": "--ice-class CLASS,...: Also write the risk to ships of these ice classes by POLARIS,"
            " advisory: PC1 to PC7, IA_super, IA, IB, IC, none.",
            "s411_axes": "--s411-axes",
            "s411_lake": "--s411-lake/--no-s411-lake",
            "prepare.resolution_m": "--resolution METRES: Pixel size. (default: the model's)",
            "prepare.crs": "--crs",
            "prepare.noise": "--noise",
        },
        config=True,
    ),
]
LandMask = Annotated[
    Path | None,
    typer.Option("--land-mask", metavar="FILE", help="Polygons of land, or an ice chart with land. (default: none)"),
]
Prepared = Annotated[
    Path | None, typer.Option("--prepared", metavar="FOLDER", help="Keep the prepared products in this folder.")
]
ProductMinutes = Annotated[
    float | None,
    typer.Option(
        "--product-minutes",
        min=0.1,
        max=7 * 24 * 60,
        metavar="MIN",
        help="End the process of a product that takes longer, and try it again as after an error of the system. "
        "(default: no limit)",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Make finished charts again; also replace others of the same name.")
]


@command("chart")
def chart(
    products: Annotated[
        list[str],
        typer.Argument(
            metavar="PRODUCT",
            help="Sentinel-1 GRD products in HH+HV: folders, zips, or prepared ones; addresses of zips (https://), "
            "zips and folders in object stores (s3://, gs://, az://). Also files of AI4Arctic (.nc).",
        ),
    ],
    out: OutForEach,
    *,
    model: Model = None,
    settings: ChartOptions,
    land_mask: LandMask = None,
    prepared: Prepared = None,
    engine: Engine = "torch",
    precision: Precision = "auto",
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make a draft ice chart of each product, in the formats that analysts and ships' systems read.

    For each PRODUCT, DIR gets a folder of its name with:

    - classes.tif, probabilities.tif, uncertainty.tif: of every pixel (cloud-optimised GeoTIFFs);

    - chart.gpkg with its style chart.qml; a SIGRID-3 shapefile with metadata; chart.geojson: polygons, each with
      estimated concentrations of up to three ice types, its confidence, and its place in the order of review;

    - S411_SERVICE_NAME: an exchange set of S-411 for electronic chart systems, with the ice edge as a line;

    - chart.qgz: a project for QGIS with radar.tif, chart.gpkg and review.gpkg, for corrections;

    - with --ice-class PC7: polaris_PC7.tif and polaris_PC7_polygons.gpkg, the risk index outcome and the level of
      operation by POLARIS, with styles: advisory;

    - chart.nc: CF NetCDF; grid.nc: concentrations on a polar grid that all charts share, CF NetCDF;

    - quicklook.png: a picture; item.json: a STAC item; chart.json: how it was made.

    At the end it shows the area of each type, the places to review first and the warnings; --json is for programs.

    Charts are drafts for an analyst, not for navigation. Without --land-mask, land is charted as ice. A finished
    chart is skipped. A product that cannot be charted does not stop the others; the exit code is then 1.

        floemap chart S1A_EW_GRDM_1SDH_*.zip --model model.safetensors --out charts
    """
    from floemap.inference.draftchart.chart import make_charts

    work = functools.partial(
        make_charts,
        products,
        model,
        out,
        settings,
        land_mask=land_mask,
        prepared=prepared,
        engine=engine,
        precision=precision,
        device=device,
        overwrite=overwrite,
    )
    run_each(products, "charted", work, charts_as_json=as_json)
