"""``floemap prepare``."""

from __future__ import annotations

import functools
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from floemap.cli.app import command
from floemap.cli.many import run_each


class NoiseChoice(StrEnum):
    """See :class:`floemap.sentinel1.settings.PrepareSettings`."""

    annotated = "annotated"
    scaled = "scaled"
    none = "none"


class SurfaceChoice(StrEnum):
    """See :class:`floemap.sentinel1.settings.PrepareSettings`."""

    sea = "sea"
    annotated = "annotated"


@command("prepare")
def prepare(
    products: Annotated[
        list[Path], typer.Argument(metavar="PRODUCT...", help="Sentinel-1 GRD products in HH+HV: folders or zips.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder that gets one folder for each product.")],
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings as a TOML file; options take precedence.")
    ] = None,
    resolution: Annotated[
        float | None, typer.Option("--resolution", metavar="METRES", help="Pixel size of the grid. (default: 80)")
    ] = None,
    crs: Annotated[
        str | None,
        typer.Option("--crs", help="CRS of the grid. (default: EPSG:3413 in the north, EPSG:3031 in the south)"),
    ] = None,
    like: Annotated[
        Path | None, typer.Option("--like", metavar="RASTER", help="Take the grid of this raster instead.")
    ] = None,
    noise: Annotated[
        NoiseChoice | None,
        typer.Option(
            "--noise",
            help="Thermal noise: as annotated; scaled (experimental): the same, adjusted to the scene itself against"
            " seams and stripes; none: left in. (default: annotated)",
        ),
    ] = None,
    surface: Annotated[
        SurfaceChoice | None,
        typer.Option(
            "--surface",
            help="Locate pixels at sea level everywhere (right for ice, also near mountains), or at the annotation's"
            " terrain heights. (default: sea)",
        ),
    ] = None,
    sea_level: Annotated[
        str | None,
        typer.Option(
            "--sea-level",
            metavar="geoid|METRES",
            help="Height of the sea above the WGS84 ellipsoid: the geoid's (EGM2008), or a number; 0 is the ellipsoid."
            " (default: geoid)",
        ),
    ] = None,
    verify: Annotated[
        bool | None, typer.Option("--verify/--no-verify", help="Check the pixel files' checksums. (default: verify)")
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Make finished products again; also replace others of the same name."),
    ] = False,
) -> None:
    """Turn Sentinel-1 products into calibrated 80 m bands on a map grid.

    For each PRODUCT, DIR gets a folder of its name with:

    - product.tif: HH and HV sigma nought in dB with thermal noise subtracted, incidence angle in degrees, mask
      (a cloud-optimised GeoTIFF);

    - quicklook.png: a picture; item.json: a STAC item; product.json: how it was made, and how much noise is left.

    A finished product is skipped. A product that cannot be read does not stop the others; the exit code is then 1.

        floemap prepare S1A_EW_GRDM_1SDH_*.zip --out prepared
    """
    from floemap.sentinel1.batch import prepare_all
    from floemap.sentinel1.settings import PrepareSettings

    settings = PrepareSettings() if config is None else PrepareSettings.from_toml(config)
    given = {
        "resolution_m": resolution,
        "crs": crs,
        "noise": None if noise is None else noise.value,
        "surface": None if surface is None else surface.value,
        "sea_level_m": sea_level,
        "verify": verify,
    }
    settings = PrepareSettings.checked(**(settings.model_dump() | {k: v for k, v in given.items() if v is not None}))

    work = functools.partial(
        prepare_all,
        products,
        out,
        settings,
        like=like,
        overwrite=overwrite,
    )
    run_each(products, "prepared", work)
