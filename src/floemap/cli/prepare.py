"""``floemap prepare``."""

from __future__ import annotations

import functools
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from floemap.cli.app import command
from floemap.cli.many import run_each
from floemap.cli.out_option import OutForEach
from floemap.cli.settings_options import FromOptions
from floemap.errors import ConfigError
from floemap.progress import Progress
from floemap.sentinel1.settings import PrepareSettings

if TYPE_CHECKING:
    from floemap.remote.copies import Known


@command("prepare")
def prepare(
    products: Annotated[
        list[str],
        typer.Argument(
            metavar="PRODUCT",
            help="Sentinel-1 GRD products in HH+HV: folders or zips; addresses of zips (https://), zips and folders "
            "in object stores (s3://, gs://, az://). Also files of AI4Arctic (.nc).",
        ),
    ],
    out: OutForEach,
    settings: Annotated[
        PrepareSettings,
        FromOptions(
            {
                "resolution_m": "--resolution METRES",
                "crs": "--crs",
                "grid": "--grid",
                "noise": "--noise",
                "surface": "--surface",
                "sea_level_m": "--sea-level geoid|METRES",
                "verify": "--verify/--no-verify",
            },
            config=True,
        ),
    ],
    like: Annotated[
        Path | None, typer.Option("--like", metavar="RASTER", help="Take the grid of this raster instead.")
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

    Files of AI4Arctic take --resolution, --crs, --grid and --like, and are refused with the other options: their noise
    is subtracted already, and tie points locate their pixels. --grid image keeps their lines and samples, for scores on
    the pixels of the AutoICE challenge; a draft chart and what else needs a map takes polar.

    A finished product is skipped. A product that cannot be read does not stop the others; the exit code is then 1.

        floemap prepare S1A_EW_GRDM_1SDH_*.zip --out prepared

        floemap prepare ai4arctic/ready/*_prep.nc --out prepared
    """
    from floemap.datasets.ai4arctic.form import PREPARE_SETTINGS
    from floemap.outcomes import each_product
    from floemap.remote.address import paths_and_addresses
    from floemap.remote.work import with_copies
    from floemap.sentinel1.prepare import PreparedProduct, finished_product, prepare

    def one(product: Path, made: Collection[Path], progress: Progress) -> PreparedProduct:
        if product.suffix != ".nc":
            return prepare(product, out, settings, like=like, overwrite=overwrite, made=made, progress=progress)
        from floemap.datasets.ai4arctic.prepare import prepare_scene

        if other := sorted(settings.model_fields_set - {*PREPARE_SETTINGS}):
            raise ConfigError(
                f"{product.name} is a file of AI4Arctic, which takes no {' or '.join(other)}.",
                hint="Its noise is subtracted already, and tie points locate its pixels. Leave the option out.",
            )
        return prepare_scene(product, out, settings, like=like, overwrite=overwrite, made=made, progress=progress)

    def finished(known: Known) -> PreparedProduct | None:
        if overwrite or known.path.suffix == ".nc":
            return None
        return finished_product(out / known.name, known.inputs, settings, like)

    paths, addresses = paths_and_addresses(products)
    work = with_copies(one, finished, out, addresses)
    run_each(paths, "prepared", functools.partial(each_product, paths, work))
