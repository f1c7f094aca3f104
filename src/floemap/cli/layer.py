"""``floemap layer``: further layers of prepared products, which a model may learn from."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import typer

from floemap.cli.app import command, group, print_result
from floemap.cli.many import describe_made, run_each
from floemap.cli.out_option import out_option
from floemap.cli.settings_options import FromOptions
from floemap.datasets.ai4arctic.form import BAND_GROUPS
from floemap.errors import ConfigError
from floemap.layers.settings import DistanceSettings, RasterSettings

layer = group("layer", "Add layers to prepared products, from which models learn beside the radar bands.")

_Out = Annotated[
    Path | None,
    out_option(
        "Folder for the layer. The default is PRODUCT's own folder, the only one from which models read layers."
    ),
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Make finished layers again.")]


@command("distance-to-land", layer)
def distance_to_land(
    products: Annotated[
        list[Path], typer.Argument(metavar="PRODUCT", help="Prepared products: folders, or their product.tif.")
    ],
    land: Annotated[Path, typer.Option("--land", metavar="FILE", help="Polygons of land, or an ice chart with land.")],
    settings: Annotated[DistanceSettings, FromOptions({"cap_km": "--cap KM"})],
    out: _Out = None,
    overwrite: _Overwrite = False,
) -> None:
    """Add the distance to the nearest land to prepared products.

    The folder of each PRODUCT gets layers/distance_to_land_km with:

    - layer.tif: the distance in km on the product's grid, 0 on land (a cloud-optimised GeoTIFF); land beyond the
      edge of the scene counts;

    - layer.json: how it was made.

    To learn from it, add "distance_to_land_km" to [data] bands of a study. A finished layer is skipped. A product that
    fails does not stop the others; the exit code is then 1.

        floemap layer distance-to-land prepared/S1A_EW_GRDM_1SDH_* --land land.gpkg
    """
    from floemap.layers.distance_to_land import layer_distance_to_land_all

    work = functools.partial(layer_distance_to_land_all, products, land, settings, out=out, overwrite=overwrite)
    run_each(products, "given the layer", work)


@command("from-raster", layer)
def from_raster(
    product: Annotated[
        Path, typer.Argument(metavar="PRODUCT", help="A prepared product: the folder, or its product.tif.")
    ],
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A raster with a CRS: GeoTIFF, NetCDF, GRIB, HDF5 and others.")
    ],
    name: Annotated[str, typer.Option("--name", help="Name of the layer, such as air_temperature_k.")],
    settings: Annotated[
        RasterSettings,
        FromOptions(
            {
                "variable": "--variable",
                "band": "--band N",
                "unit": "--unit",
                "step": "--step",
                "missing": "--missing",
                "resampling": "--resampling",
            }
        ),
    ],
    out: _Out = None,
    overwrite: _Overwrite = False,
) -> None:
    """Add a raster of yours to a prepared product: temperature, wind, passive microwave.

    The folder of PRODUCT gets layers/NAME with:

    - layer.tif: the values on the product's grid, int16 in steps (a cloud-optimised GeoTIFF);

    - layer.json: how it was made, with the step and the number of pixels without a value.

    To learn from it, add NAME to [data] bands of a study; give the layers of all its scenes the same unit and the
    same --missing. A finished layer is skipped.

        floemap layer from-raster prepared/S1A_... era5.nc --variable t2m --name air_temperature_k --unit K
    """
    from floemap.cli.bars import bar
    from floemap.layers.from_raster import layer_from_raster

    with bar(product.name) as progress:
        made = layer_from_raster(product, file, name, settings, out=out, overwrite=overwrite, progress=progress)
    print_result(made.folder, skipped=made.skipped)
    describe_made(made.folder)


@command("from-ai4arctic", layer)
def from_ai4arctic(
    product: Annotated[
        Path, typer.Argument(metavar="PRODUCT", help="A prepared product: the folder, or its product.tif.")
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file of AI4Arctic (.nc) of the same scene.")],
    bands: Annotated[
        str | None,
        typer.Option(
            "--bands",
            metavar="NAME,...",
            help="Bands to add, by their names in studies: amsr2 and era5 stand for all of theirs. (default: all)",
        ),
    ] = None,
    out: _Out = None,
    overwrite: _Overwrite = False,
) -> None:
    """Add passive microwaves, weather, distance to land, month and place from a file of AI4Arctic.

    The folder of PRODUCT gets layers/NAME for each band, with:

    - layer.tif: the values on the product's grid, or in cells of 2 km of it (a cloud-optimised GeoTIFF);

    - layer.json: how it was made.

    A study makes the layers that its bands name by itself; this is for scenes outside of a study. A finished layer is
    skipped.

        floemap layer from-ai4arctic prepared/20180607T184326_dmi ready/20180607T184326_dmi_prep.nc --bands amsr2,month
    """
    from floemap.cli.bars import bar
    from floemap.layers.of_ai4arctic import BANDS, layers_of_ai4arctic

    given = [part.strip() for part in bands.split(",") if part.strip()] if bands is not None else list(BANDS)
    names = [name for one in given for name in BAND_GROUPS.get(one, (one,))]
    if not names:
        raise ConfigError(f"--bands {bands!r} names no band.", hint="Leave it out for all of them.")
    with bar(product.name) as progress:
        made = layers_of_ai4arctic(product, file, names, out=out, overwrite=overwrite, progress=progress)
    for one in made:
        print_result(one.folder, skipped=one.skipped)
