"""``floemap chart``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from floemap.cli.app import command
from floemap.cli.many import run_each
from floemap.cli.predict import EngineChoice, PrecisionChoice
from floemap.cli.prepare import NoiseChoice


@command("chart")
def chart(
    products: Annotated[
        list[Path],
        typer.Argument(metavar="PRODUCT...", help="Sentinel-1 GRD products in HH+HV: folders, zips, or prepared ones."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder that gets one folder for each product.")],
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "--model",
            metavar="CHECKPOINT",
            help="A trained model, .safetensors. Give the option several times to average models' probabilities."
            " (default: the one that comes with floemap, trained on simulated scenes only, unfit for use)",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings as a TOML file; options take precedence.")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            metavar="WHAT,...",
            help="Write only these of classes, probabilities, uncertainty, chart, review, sigrid3, geojson, netcdf,"
            " quicklook. (default: all)",
        ),
    ] = None,
    min_area: Annotated[
        float | None,
        typer.Option("--min-area", metavar="KM2", help="Merge smaller polygons into neighbours. (default: 10)"),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance", metavar="METRES", help="Largest shift of simplified borders. (default: two pixels)"
        ),
    ] = None,
    smooth: Annotated[
        float | None,
        typer.Option(
            "--smooth", metavar="METRES", help="Width of the filter that smooths classes before drawing. (default: 0)"
        ),
    ] = None,
    land_mask: Annotated[
        Path | None,
        typer.Option(
            "--land-mask", metavar="FILE", help="Polygons of land, or an ice chart with land. (default: none)"
        ),
    ] = None,
    resolution: Annotated[
        float | None, typer.Option("--resolution", metavar="METRES", help="Pixel size. (default: the model's)")
    ] = None,
    crs: Annotated[
        str | None,
        typer.Option("--crs", help="CRS of the grid. (default: EPSG:3413 in the north, EPSG:3031 in the south)"),
    ] = None,
    noise: Annotated[
        NoiseChoice | None, typer.Option("--noise", help="Thermal noise; see floemap prepare. (default: annotated)")
    ] = None,
    prepared: Annotated[
        Path | None, typer.Option("--prepared", metavar="FOLDER", help="Keep the prepared products in this folder.")
    ] = None,
    engine: Annotated[
        EngineChoice, typer.Option("--engine", help="Library that runs the network.")
    ] = EngineChoice.torch,
    precision: Annotated[
        PrecisionChoice, typer.Option("--precision", help="auto is bf16 where the processor or GPU has it.")
    ] = PrecisionChoice.auto,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make finished charts again; also replace others of the same name.")
    ] = False,
) -> None:
    """Make a draft ice chart of each product, in the formats that analysts and ships' systems read.

    For each PRODUCT, DIR gets a folder of its name with:

    - classes.tif, probabilities.tif, uncertainty.tif: of every pixel (cloud-optimised GeoTIFFs);

    - chart.gpkg with its style chart.qml; a SIGRID-3 shapefile with metadata; chart.geojson: polygons, each with its
      confidence, its second most likely type, and its place in the order of review;

    - chart.nc: CF NetCDF; quicklook.png: a picture; item.json: a STAC item; chart.json: how it was made.

    Charts are drafts for an analyst, not for navigation. Without --land-mask, land is charted as ice. A finished
    chart is skipped. A product that cannot be charted does not stop the others; the exit code is then 1.

        floemap chart S1A_EW_GRDM_1SDH_*.zip --model model.safetensors --out charts
    """
    from floemap.inference.draftchart.chart import make_charts
    from floemap.inference.draftchart.settings import ChartSettings

    base = ChartSettings() if config is None else ChartSettings.from_toml(config)
    settings = ChartSettings.checked(
        **_merged(
            base.model_dump(exclude_unset=True),
            {
                "only": None if only is None else [part.strip() for part in only.split(",") if part.strip()],
                "min_area_km2": min_area,
                "tolerance_m": tolerance,
                "smoothing_m": smooth,
                "prepare": {
                    "resolution_m": resolution,
                    "crs": crs,
                    "noise": None if noise is None else noise.value,
                },
            },
        )
    )
    work = functools.partial(
        make_charts,
        products,
        model,
        out,
        settings,
        land_mask=land_mask,
        prepared=prepared,
        engine=engine.value,
        precision=precision.value,
        device=device,
        overwrite=overwrite,
    )
    run_each(products, "charted", work)


def _merged(base: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `given` that are not None; nested tables are merged the same way."""
    merged = dict(base)
    for key, value in given.items():
        if isinstance(value, dict):
            merged[key] = _merged(base.get(key, {}), value)
        elif value is not None:
            merged[key] = value
    return merged
